//! libFuzzer's binary of the target `cbor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tideline_fuzz::run_for_libfuzzer("cbor", data));
