//! See [`laws::gossip`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::gossip(bytes));
