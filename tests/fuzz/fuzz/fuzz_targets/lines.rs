//! libFuzzer's binary of the target `lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tideline_fuzz::run_for_libfuzzer("lines", data));
