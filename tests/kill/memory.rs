//! Bodies of any size pass in constant memory.

use std::io::{Read, Write};

use gitlab_standin::{Etag, Storage};

use crate::process::{Download, Process, Town};

/// Most memory the program may ever have had, KiB; an unoptimised build takes a little more than a release.
const MOST: u64 = 60 << 10;

const GIB: u64 = 1 << 30;

fn start() -> (Town, tempfile::TempDir, Process) {
    let town = Town::new(Storage::Local { etag: Etag::Sha256 }, 0, 0);
    let dir = tempfile::tempdir().unwrap();
    let larder = Process::start(&town.gitlab.url(), dir.path());
    (town, dir, larder)
}

#[test]
fn two_gibibytes_down_take_no_memory() {
    let (_town, _dir, larder) = start();
    let mut download = Download::new(larder.address, "GET", &format!("/bytes/{}", 2 * GIB), &[]);
    assert_eq!(download.head(), 200);
    let mut buffer = vec![0; 1 << 20];
    let mut left = 2 * GIB;
    while left > 0 {
        let read = download.stream().read(&mut buffer).unwrap();
        assert_ne!(read, 0, "{left} bytes are missing");
        left -= u64::try_from(read).unwrap();
    }
    assert!(larder.peak_memory() < MOST, "{} KiB", larder.peak_memory());
}

#[test]
fn an_upload_of_any_size_takes_no_memory() {
    let (_town, _dir, larder) = start();
    let gib = std::env::var("LARDER_TEST_UPLOAD_GIB").map_or(2, |gib| gib.parse::<u64>().unwrap());
    let length = (gib * GIB).to_string();
    let mut upload = Download::new(larder.address, "POST", "/sink", &[("Content-Length", &length)]);
    let piece = vec![7; 1 << 20];
    for _ in 0..gib * 1024 {
        upload.stream().get_mut().write_all(&piece).unwrap();
    }
    assert_eq!(upload.head(), 200);
    let told: serde_json::Value = serde_json::from_slice(&upload.rest().unwrap()).unwrap();
    assert_eq!(told["length"], gib * GIB);
    assert!(larder.peak_memory() < MOST, "{} KiB", larder.peak_memory());
}
