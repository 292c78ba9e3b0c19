//! See [`laws::watch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::watch(bytes));
