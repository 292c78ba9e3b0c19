//! See [`laws::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::config(bytes));
