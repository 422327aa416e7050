//! libFuzzer's binary of the target `formats`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tideline_fuzz::run_for_libfuzzer("formats", data));
