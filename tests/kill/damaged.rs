//! Files that change under a larder that runs, or while none does: what is served is right all the same.

use std::fs;

use crate::killed::{Damage, HIT, LOCAL, STORED, all_are_hits, files, filled};
use crate::process::{Process, Town};

const SIZE: u64 = 300_000;

fn flip(was: &[u8]) -> Vec<u8> {
    let mut now = was.to_vec();
    let middle = now.len() / 2;
    now[middle] ^= 0x10;
    now
}

const DAMAGES: [(&str, Damage); 4] = [
    ("a flipped bit", flip),
    ("cut", |was| was[..was.len() * 2 / 3].to_vec()),
    ("garbage", |was| was.iter().map(|byte| !byte).collect()),
    ("empty", |_| Vec::new()),
];

/// Does something to every file below a directory whose name ends so.
fn damage(dir: &std::path::Path, ending: &str, damage: Damage) {
    let found = files(dir);
    let named = found.iter().filter(|path| path.to_str().unwrap().ends_with(ending));
    let mut count = 0;
    for file in named {
        // In place: whoever has it open sees it.
        fs::write(file, damage(&fs::read(file).unwrap())).unwrap();
        count += 1;
    }
    assert_ne!(count, 0, "no {ending} below {}", dir.display());
}

#[test]
fn a_bit_that_was_flipped_while_it_was_stopped_costs_a_part_or_a_fetch() {
    for (ending, expected) in [(".zip", HIT), (".rec", STORED)] {
        let town = Town::new(LOCAL, 3, SIZE);
        let dir = tempfile::tempdir().unwrap();
        filled(&town, dir.path());
        damage(&dir.path().join("test/archives"), ending, flip);
        let larder = Process::start(&town.gitlab.url(), dir.path());
        for (job, archive) in &town.jobs {
            assert_eq!(town.check(&larder, *job, archive), expected, "{ending}");
            assert_eq!(town.check(&larder, *job, archive), HIT, "{ending}");
        }
    }
}

#[test]
fn records_that_change_while_it_runs_matter_at_the_next_start() {
    for (what, change) in DAMAGES {
        let town = Town::new(LOCAL, 3, SIZE);
        let dir = tempfile::tempdir().unwrap();
        let larder = Process::start(&town.gitlab.url(), dir.path());
        for (job, archive) in &town.jobs {
            assert_eq!(town.check(&larder, *job, archive), STORED, "{what}");
        }
        while larder.metric("larder_fills_total{result=\"stored\"}").as_deref() != Some("3") {}
        damage(&dir.path().join("test/archives"), ".rec", change);
        for (job, archive) in &town.jobs {
            // The pass over all archives may have been there already.
            let cache = town.check(&larder, *job, archive);
            assert!([HIT, STORED].contains(&&*cache), "{what}: {cache}");
        }
        larder.terminate();
        assert_eq!(larder.wait().code(), Some(0), "{what}");
        let larder = Process::start(&town.gitlab.url(), dir.path());
        for (job, archive) in &town.jobs {
            town.check(&larder, *job, archive);
            assert_eq!(town.check(&larder, *job, archive), HIT, "{what}");
        }
    }
}

#[test]
fn an_index_that_is_overwritten_while_it_runs_costs_no_archive() {
    for (what, change) in DAMAGES {
        let mut town = Town::new(LOCAL, 4, SIZE);
        let dir = tempfile::tempdir().unwrap();
        let late = town.jobs.split_off(2);
        filled(&town, dir.path());
        let larder = Process::start(&town.gitlab.url(), dir.path());
        damage(&dir.path().join("test/index"), "", change);
        for (job, archive) in &town.jobs {
            assert_eq!(town.check(&larder, *job, archive), HIT, "{what}");
        }
        for (job, archive) in &late {
            assert_eq!(town.check(&larder, *job, archive), STORED, "{what}");
        }
        larder.terminate();
        assert_eq!(larder.wait().code(), Some(0), "{what}");
        town.jobs.extend(late);
        all_are_hits(&town, dir.path());
    }
}
