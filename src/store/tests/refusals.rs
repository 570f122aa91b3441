//! A disk that takes nothing, by what can be done to a directory without any rights.

use std::io;

use super::*;
use crate::telemetry::metrics::Unstored;

/// Takes the place from under a step of the store's, and gives it back.
struct Obstacle {
    what: &'static str,
    put: fn(&Layout),
    clear: fn(&Layout),
}

const OBSTACLES: [Obstacle; 3] = [
    Obstacle {
        what: "no draft can be made",
        put: |layout| fs::rename(layout.incoming(), aside(layout)).unwrap(),
        clear: |layout| fs::rename(aside(layout), layout.incoming()).unwrap(),
    },
    Obstacle {
        what: "no shard can be made",
        put: |layout| fs::write(layout.shard(key(1)), "in the way").unwrap(),
        clear: |layout| fs::remove_file(layout.shard(key(1))).unwrap(),
    },
    Obstacle {
        what: "no archive can be renamed",
        // Another file system.
        put: |layout| std::os::unix::fs::symlink("/proc", layout.shard(key(1))).unwrap(),
        clear: |layout| fs::remove_file(layout.shard(key(1))).unwrap(),
    },
];

fn aside(layout: &Layout) -> PathBuf {
    layout.archives().with_file_name("aside")
}

/// Tries to store an archive of 1000 bytes under a key.
async fn attempt(bench: &Bench) -> Result<(), Error> {
    let (archive, claim) = bench.begin(1, Some(1000)).await?;
    write_all(claim, &pattern(1000))?;
    bench.store.commit(&archive, still).map(drop)
}

#[tokio::test]
async fn a_refusal_at_each_step_leaves_nothing_and_ends_by_itself() {
    for Obstacle { what, put, clear } in OBSTACLES {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::new(dir.path(), 100 << 20);
        let layout = bench.shared_layout();
        put(&layout);
        assert!(bench.store.may_try(), "{what}");
        let refused = attempt(&bench).await.unwrap_err();
        assert_eq!(refused.unstored(), Some(Unstored::Disk), "{what}: {refused}");
        assert!(!bench.store.may_try(), "{what}");
        let totals = bench.store.totals();
        assert_eq!((totals.archives, totals.bytes, totals.writable), (0, 0, false), "{what}");
        clear(&layout);
        assert_eq!(fs::read_dir(layout.incoming()).unwrap().count(), 0, "{what}");
        bench.clock.advance(Duration::from_secs(5));
        assert!(bench.store.may_try(), "{what}");
        attempt(&bench).await.unwrap();
        assert!(bench.store.may_try() && bench.store.totals().writable, "{what}");
        assert_eq!(bench.read(1).await, Some(pattern(1000)), "{what}");
    }
}

#[tokio::test]
async fn an_archive_that_cannot_be_read_now_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    let zip = bench.shared_layout().zip(key(1), bench.fill(1, &pattern(1000)).await.unwrap().id());
    bench.store.close();
    drop(bench);
    let bench = Bench::unchecked(dir.path(), 100 << 20);
    let aside = zip.with_extension("aside");
    fs::rename(&zip, &aside).unwrap();
    // Too many links: an error like that of too many open files.
    std::os::unix::fs::symlink(&zip, &zip).unwrap();
    assert_eq!(bench.read(1).await, None);
    fs::rename(&aside, &zip).unwrap();
    assert_eq!(bench.read(1).await, Some(pattern(1000)));
    fs::remove_file(&zip).unwrap();
    drop(bench);
}

#[tokio::test]
async fn a_disk_that_takes_no_file_costs_no_stored_archive() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 1_500_000);
    drop(bench.fill(1, &pattern(1_000_000)).await.unwrap());
    let layout = bench.shared_layout();
    fs::rename(layout.incoming(), aside(&layout)).unwrap();
    assert!(bench.begin(2, Some(1_000_000)).await.is_err());
    assert_eq!(bench.read(1).await, Some(pattern(1_000_000)), "nothing was evicted for it");
}

#[tokio::test]
async fn an_archive_begun_before_the_refusal_is_stored_and_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    let layout = bench.shared_layout();
    let early = bench.begin(2, Some(1000)).await.unwrap();
    fs::rename(layout.incoming(), aside(&layout)).unwrap();
    assert!(bench.begin(1, Some(1000)).await.is_err());
    fs::rename(aside(&layout), layout.incoming()).unwrap();
    assert!(bench.write(early, &pattern(1000), still).is_some());
    assert!(!bench.store.totals().writable);
}

#[test]
fn a_file_that_is_too_long_for_the_disk_says_nothing_of_others() {
    let error = Error::io("write", io::ErrorKind::FileTooLarge.into());
    assert_eq!(error.unstored(), Some(Unstored::TooLong));
    let disk = Arc::new(Disk::new(Clock::manual(0)));
    disk.failed(&error);
    assert!(disk.may_try() && !disk.is_refusing());
}
