#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = sealed_session_fuzz::device(data);
});
