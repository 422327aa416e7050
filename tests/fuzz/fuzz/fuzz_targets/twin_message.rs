//! libFuzzer's binary of the target `twin_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tideline_fuzz::run_for_libfuzzer("twin_message", data));
