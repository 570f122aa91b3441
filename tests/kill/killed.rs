//! kill -9 and damage: what was whole is a hit, what wasn't is fetched again, and nothing is ever wrong.

use std::fs;
use std::path::{Path, PathBuf};

use gitlab_standin::{Effect, Etag, Fault, Gate, JobId, Storage};

use crate::process::{Download, Process, Town};

const SIZE: u64 = 3 << 20;
pub(crate) const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };
pub(crate) const HIT: &str = "larder; hit";
pub(crate) const STORED: &str = "larder; fwd=miss; stored";

/// What becomes of a file's bytes.
pub(crate) type Damage = fn(&[u8]) -> Vec<u8>;

/// A larder's directory in which every archive of the town is.
pub(crate) fn filled(town: &Town, dir: &Path) {
    let larder = Process::start(&town.gitlab.url(), dir);
    for (job, archive) in &town.jobs {
        assert_eq!(town.check(&larder, *job, archive), STORED);
    }
    larder.terminate();
    assert_eq!(larder.wait().code(), Some(0));
}

/// Every archive is right, and none comes from GitLab.
pub(crate) fn all_are_hits(town: &Town, dir: &Path) {
    town.gitlab.reset_counters();
    let larder = Process::start(&town.gitlab.url(), dir);
    for (job, archive) in &town.jobs {
        assert_eq!(town.check(&larder, *job, archive), HIT);
    }
    let probes = 1024 * town.jobs.len();
    assert!(town.gitlab.counters().artifact_bytes() <= u64::try_from(probes).unwrap());
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Begins a download whose transfer stands still after `ninths` of the archive; returns when that much has been sent.
fn begin(town: &Town, larder: &Process, job: JobId, ninths: u64) -> (Download, Gate) {
    town.gitlab.clear_faults();
    let body = Gate::new();
    let slow = Fault::new(Effect::Slow(body.clone())).when(|seen| seen.header("range").is_none());
    town.gitlab.fault(if town.redirects { slow.on_store() } else { slow });
    body.release(SIZE / 9 * ninths);
    let mut download = town.open(larder, job);
    town.runtime.block_on(body.arrived(1));
    if ninths > 0 {
        assert_eq!(download.head(), 200);
    }
    (download, body)
}

#[test]
fn what_was_whole_when_it_was_killed_during_ten_fills_is_a_hit_and_the_rest_is_fetched_again() {
    for storage in [LOCAL, Storage::Redirect { job_id_in_path: false }] {
        let mut town = Town::new(storage, 20, SIZE);
        let dir = tempfile::tempdir().unwrap();
        let arriving = town.jobs.split_off(10);
        filled(&town, dir.path());

        let larder = Process::start(&town.gitlab.url(), dir.path());
        let begun: Vec<_> =
            arriving.iter().zip(0..).map(|((job, _), n)| begin(&town, &larder, *job, n)).collect();
        larder.kill();
        drop(begun);
        town.gitlab.clear_faults();

        all_are_hits(&town, dir.path());
        let larder = Process::start(&town.gitlab.url(), dir.path());
        for (job, archive) in &arriving {
            let cache = town.check(&larder, *job, archive);
            assert!([HIT, STORED].contains(&&*cache), "{cache}");
        }
        larder.terminate();
        assert_eq!(larder.wait().code(), Some(0));
        town.jobs.extend(arriving);
        all_are_hits(&town, dir.path());
    }
}

#[test]
fn fills_that_end_while_it_is_killed_are_whole_or_gone() {
    let town = Town::new(LOCAL, 10, SIZE);
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let larder = Process::start(&town.gitlab.url(), dir.path());
        let mut downloads: Vec<_> = town.jobs.iter().map(|(job, _)| town.open(&larder, *job)).collect();
        // Some have their last byte then and are about to be stored, some haven't.
        for download in downloads.drain(..2 * round) {
            let mut download = download;
            assert_eq!(download.head(), 200);
            assert_eq!(download.rest().unwrap().len(), usize::try_from(SIZE).unwrap());
        }
        larder.kill();
    }
    let larder = Process::start(&town.gitlab.url(), dir.path());
    for (job, archive) in &town.jobs {
        town.check(&larder, *job, archive);
    }
}

#[test]
fn an_index_that_is_lost_or_garbage_is_made_again() {
    let town = Town::new(LOCAL, 10, SIZE / 10);
    let dir = tempfile::tempdir().unwrap();
    filled(&town, dir.path());
    let index = dir.path().join("test/index");
    fs::remove_dir_all(&index).unwrap();
    all_are_hits(&town, dir.path());

    let damages: [Damage; 4] = [
        |_| Vec::new(),
        |was| was.iter().map(|byte| !byte).collect(),
        |was| was[..was.len() / 2].to_vec(),
        |_| b"garbage, and not even much of it".to_vec(),
    ];
    for damage in damages {
        let found = files(&index);
        assert!(!found.is_empty());
        for file in found {
            fs::write(&file, damage(&fs::read(&file).unwrap())).unwrap();
        }
        all_are_hits(&town, dir.path());
    }
    fs::remove_dir_all(&index).unwrap();
    fs::write(&index, b"not even a directory").unwrap();
    all_are_hits(&town, dir.path());
}

#[test]
fn a_record_or_an_archive_that_was_damaged_is_never_served() {
    let damages: [Damage; 3] = [|_| Vec::new(), |was| was[..was.len() / 2].to_vec(), |_| b"garbage".to_vec()];
    for (ending, damage) in damages.into_iter().flat_map(|damage| [("rec", damage), ("zip", damage)]) {
        let town = Town::new(LOCAL, 3, SIZE / 10);
        let dir = tempfile::tempdir().unwrap();
        filled(&town, dir.path());
        let archives = files(&dir.path().join("test/archives"));
        for file in archives.iter().filter(|file| file.extension().is_some_and(|end| end == ending)) {
            fs::write(file, damage(&fs::read(file).unwrap())).unwrap();
        }
        let larder = Process::start(&town.gitlab.url(), dir.path());
        for (job, archive) in &town.jobs {
            assert_eq!(town.check(&larder, *job, archive), STORED, "{ending}");
        }
    }
}
