//! See [`laws::openai_stream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::openai_stream(bytes));
