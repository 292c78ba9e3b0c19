//! See [`laws::peek`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::peek(bytes));
