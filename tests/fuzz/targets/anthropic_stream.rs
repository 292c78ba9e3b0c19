//! See [`laws::anthropic_stream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::anthropic_stream(bytes));
