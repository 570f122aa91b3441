//! What must hold for any bytes that somebody may send, on those in the folders beside this file and on mutants of them.
//!
//! Each target is a plain function over bytes, so that a fuzzer can call the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod files;
mod requests;

use std::fs;
use std::path::Path;

use larder::gitlab::grant::Facts;
use larder::http::{Etag, Sha256};
use larder::store::Record;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Mutants of the corpus tried each time, the same ones.
const MUTANTS: u32 = 500;

/// The files of a target, by name.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Calls a target with the corpus and its mutants. A target returns whether an input got as far as being understood.
fn run(name: &str, target: fn(&[u8]) -> bool) {
    let seeds = corpus(name);
    let meaningful = seeds.iter().filter(|seed| target(seed)).count();
    assert!(meaningful > 0, "{name}: the corpus reaches something");
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: MUTANTS, failure_persistence: None, ..Config::default() };
    let mutant =
        (0..seeds.len(), proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6), any::<usize>());
    let mutants = mutant.prop_map(move |(seed, changes, cut)| mutate(&seeds[seed], &changes, cut));
    TestRunner::new_with_rng(config, rng)
        .run(&mutants, |bytes| {
            target(&bytes);
            Ok(())
        })
        .unwrap();
}

/// Overwrites, inserts or removes single bytes, and sometimes cuts the end off.
fn mutate(seed: &[u8], changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (place, byte) in changes {
        let at = (place >> 2) % (bytes.len() + 1);
        match place % 4 {
            0 => bytes.insert(at, *byte),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            // A byte that stands elsewhere in it is more telling than any.
            2 if at < bytes.len() => bytes[at] = bytes[usize::from(*byte) % bytes.len()],
            _ if at < bytes.len() => bytes[at] = *byte,
            _ => {}
        }
    }
    if cut.is_multiple_of(4) {
        bytes.truncate((cut >> 2) % (bytes.len() + 1));
    }
    bytes
}

#[test]
fn a_request_line_has_one_reading_or_passes() {
    run("route", requests::route);
}

#[test]
fn what_names_gitlab_is_renamed_once_and_for_all() {
    run("names", requests::names);
}

#[test]
fn where_a_request_came_from_is_said_once_and_not_by_its_sender() {
    run("forwarding", requests::forwarding);
}

#[test]
fn a_range_is_inside_or_none() {
    run("range", requests::byte_range);
}

#[test]
fn a_decision_has_its_precondition() {
    run("conditional", requests::preconditions);
}

#[test]
fn an_archive_is_whole_to_its_last_byte() {
    run("archive", files::zip);
}

#[test]
fn an_entry_is_what_its_directory_says_or_an_error() {
    run("directory", files::directory);
}

#[test]
fn a_record_is_believed_whole_or_not_at_all() {
    run("record", files::record);
}

#[test]
fn a_yes_is_on_the_closed_list() {
    run("judge", answers::answer);
}

#[test]
fn records_written_by_earlier_versions_are_read() {
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/record/v1-full")).unwrap();
    let record = Record::decode(&bytes).unwrap();
    assert_eq!((record.key.to_string(), record.id.get(), record.length), ("42".to_owned(), 7, 3_000_000));
    assert_eq!(record.filled_at, 1_800_000_000);
    assert_eq!(
        record.facts,
        Facts { length: Some(3_000_000), sha256: Some(Sha256::new([9; 32])), ..answers::stored() }
    );
    assert_eq!(record.etag, Etag::quoting("sha"));
    assert_eq!(record.chunks, [1, 2, 3]);
    assert_eq!(record.encode().unwrap(), bytes, "the form of a version doesn't change");
}
