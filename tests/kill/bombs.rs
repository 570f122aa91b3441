//! Work that an archive makes doesn't keep the program from ending.

use std::time::{Duration, Instant};

use gitlab_standin::{Archive, Effect, Ending, Etag, Fault, Storage};

use crate::process::{Download, Process, Town, command};

/// Where nothing but a date says that two transfers were of one archive: all of it has to be checked.
const BY_DATE: Storage = Storage::Local { etag: Etag::Weak };

const DRAIN: Duration = Duration::from_secs(2);

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// 2 GiB to unpack, in an archive that is just short enough to be fetched as a whole, and just as much worth it.
fn heavy() -> Archive {
    let mut state = 0x9e37_79b9_u32;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    let mut some = move || (0..2560).map(|_| noise()).collect::<Vec<u8>>();
    let data: Vec<u8> = (0..64).flat_map(|_| some().repeat(50)).collect();
    Archive::alike(250, data)
}

fn unpacked(larder: &Process) -> u64 {
    larder.metric("larder_unpacked_bytes_total").map_or(0, |bytes| bytes.parse().unwrap())
}

/// A larder that has begun to find out whether an archive is right, and is told to end.
fn ends_in_the_middle(ask: impl FnOnce(&Town, &Process) -> Download) {
    let town = Town::new(BY_DATE, 0, 0);
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&town.gitlab.url(), dir.path());
    let larder = Process::run(command.env("LARDER__SERVER__DRAIN", "2s"));
    let asked = ask(&town, &larder);
    let begun = Instant::now();
    while unpacked(&larder) == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing is checked: {}", larder.metrics());
    }
    let told = Instant::now();
    larder.terminate();
    assert_eq!(larder.wait().code(), Some(0));
    // Bringing the beginning to the disk is the disk's time.
    assert!(told.elapsed() < DRAIN + Duration::from_secs(3), "{:?}", told.elapsed());
    drop(asked);
}

#[test]
fn told_to_end_while_parts_are_checked_it_ends_within_the_drain() {
    ends_in_the_middle(|town, larder| {
        let (job, _) = town.add(heavy());
        let target = format!("/api/v4/projects/{}/jobs/{job}/artifacts", town.project);
        let fields = [("Private-Token", town.token.as_str()), ("Range", "bytes=0-0")];
        Download::new(larder.address, "GET", &target, &fields)
    });
}

#[test]
fn told_to_end_while_a_transfer_that_was_cut_is_checked_it_ends_within_the_drain() {
    ends_in_the_middle(|town, larder| {
        let (job, archive) = town.add(heavy());
        let cut = Effect::Cut { after: archive.len() / 2, ending: Ending::Reset };
        town.gitlab.fault(Fault::new(cut).when(|seen| seen.header("range").is_none()).once());
        town.open(larder, job)
    });
}
