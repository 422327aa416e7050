//! libFuzzer's binary of the target `opcua`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tideline_fuzz::run_for_libfuzzer("opcua", data));
