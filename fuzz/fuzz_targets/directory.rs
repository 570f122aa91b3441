//! Corpus: `tests/corpus/directory`.
#![no_main]

#[path = "../../tests/corpus/files.rs"]
#[allow(dead_code, reason = "the other targets' bodies")]
mod files;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    files::directory(bytes);
});
