//! Corpus: `tests/corpus/forwarding`.
#![no_main]

#[path = "../../tests/corpus/requests.rs"]
#[allow(dead_code, reason = "the other targets' bodies")]
mod requests;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    requests::forwarding(bytes);
});
