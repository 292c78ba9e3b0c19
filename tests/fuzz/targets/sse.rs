//! See [`laws::sse`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::sse(bytes));
