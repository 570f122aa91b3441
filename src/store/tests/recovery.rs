//! What a start finds, step by step, while the store is in use.

mod properties;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::lru::StoredMeta;

const ROOM: u64 = 100 << 20;

/// A step reads the index and lists the first shard; job 256's archive lies there.
const LISTED_FIRST: u64 = 256;

fn close(bench: Bench) {
    bench.store.close();
    drop(bench);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

/// The files of all archives.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let shards = fs::read_dir(dir.join("test/archives")).unwrap();
    let names = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
    names.map(|name| name.unwrap().path()).collect()
}

/// The files of what is on the shelf.
fn shelved(bench: &Bench) -> BTreeSet<PathBuf> {
    let layout = bench.shared_layout();
    let shelved = bench.store.inner.shelf.lock();
    let of = |(key, slot): (Key, StoredMeta)| [layout.zip(key, slot.id), layout.rec(key, slot.id)];
    shelved.shelf.iter().flat_map(of).collect()
}

/// Waits until the bytes taken are those of the archives on the shelf: the cache of open archives lets go of one that was
/// replaced a few rounds of its housekeeping later.
fn settled(bench: &Bench) {
    let bytes = bench.store.inner.shelf.lock().shelf.iter().map(|(_, slot)| slot.bytes).sum::<u64>();
    for _ in 0..100_000 {
        if bench.store.totals().bytes == bytes {
            return;
        }
        bench.store.sweep();
    }
    panic!("{} bytes are taken and not {bytes}", bench.store.totals().bytes);
}

/// A directory with archives of these jobs, filled a second apart.
async fn filled(jobs: impl IntoIterator<Item = u64>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), ROOM);
    for job in jobs {
        bench.fill(job, &pattern(1000)).await.unwrap();
        bench.clock.advance(Duration::from_secs(1));
    }
    close(bench);
    dir
}

fn lose_index(dir: &Path) {
    fs::remove_dir_all(dir.join("test/index")).unwrap();
}

#[tokio::test]
async fn archives_are_found_before_anything_was_looked_at_and_again_when_all_was() {
    let dir = filled([1, LISTED_FIRST]).await;
    for index in ["whole", "lost", "garbage"] {
        match index {
            "lost" => lose_index(dir.path()),
            "garbage" => fs::write(dir.path().join("test/index/db"), vec![0xa5; 100_000]).unwrap(),
            _ => {}
        }
        let bench = Bench::unchecked(dir.path(), ROOM);
        assert_eq!(
            bench.store.totals(),
            Totals { archives: 0, bytes: 0, evicted: 0, unchecked: 256, writable: true }
        );
        assert!(bench.read(3).await.is_none());
        assert_eq!(bench.read(1).await, Some(pattern(1000)), "{index}");
        assert_eq!(bench.store.totals().archives, 1, "{index}");
        bench.check();
        let totals = bench.store.totals();
        assert_eq!((totals.archives, totals.unchecked), (2, 0), "{index}");
        assert_eq!(bench.read(LISTED_FIRST).await, Some(pattern(1000)), "{index}");
        assert!(!bench.store.check_some(), "that was all");
        close(bench);
    }
}

#[tokio::test]
async fn what_was_adopted_is_in_the_index_of_the_next_start() {
    let dir = filled([1, 2]).await;
    lose_index(dir.path());
    close(Bench::new(dir.path(), ROOM));
    let bench = Bench::unchecked(dir.path(), ROOM);
    assert!(bench.store.check_some());
    assert_eq!(bench.store.totals().archives, 2, "the first step reads the index");
}

#[tokio::test]
async fn what_is_beyond_a_smaller_budget_goes_in_the_order_of_its_last_use() {
    let dir = filled(1..=200).await;
    let bench = Bench::new(dir.path(), ROOM);
    let one = bench.store.totals().bytes / 200;
    bench.clock.advance(Duration::from_secs(300));
    assert!(bench.read(7).await.is_some());
    close(bench);
    let full = tempfile::tempdir().unwrap();
    copy(dir.path(), full.path());
    lose_index(full.path());
    // Without an index, archives were used last when they were filled.
    for (dir, kept) in [(&dir, [199, 200, 7]), (&full, [198, 199, 200])] {
        let bench = Bench::new(dir.path(), 3 * one + one / 2);
        let left: Vec<Key> = bench.store.inner.shelf.lock().shelf.iter().map(|(key, _)| key).collect();
        assert_eq!(left, kept.map(key));
        assert_eq!(files(dir.path()), shelved(&bench));
        assert_eq!(bench.store.totals().evicted, 197);
    }
}

#[tokio::test]
async fn a_row_whose_files_are_gone_is_forgotten() {
    let dir = filled([1, 2]).await;
    let gone: Vec<PathBuf> =
        files(dir.path()).into_iter().filter(|path| path.to_str().unwrap().contains("/1-")).collect();
    for path in &gone {
        fs::remove_file(path).unwrap();
    }
    let bench = Bench::new(dir.path(), ROOM);
    assert_eq!(bench.store.totals().archives, 1);
    close(bench);
    let bench = Bench::unchecked(dir.path(), ROOM);
    bench.store.check_some();
    assert_eq!(bench.store.totals().archives, 1, "the index has forgotten it, too");
}

#[tokio::test]
async fn half_an_archive_is_deleted_unless_the_other_half_is_on_its_way() {
    let dir = filled([1, 2, LISTED_FIRST]).await;
    lose_index(dir.path());
    for path in files(dir.path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if (name.starts_with("1-") || name.starts_with("256-")) && name.ends_with("rec")
            || name.starts_with("2-") && name.ends_with("zip")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let left = files(dir.path());
    assert_eq!(left.len(), 3);
    let coming = left.iter().find(|path| path.to_str().unwrap().contains("/256-")).unwrap();
    let bench = Bench::unchecked(dir.path(), ROOM);
    let id = disk::layout::parse(coming.file_name().unwrap().to_str().unwrap()).unwrap().1;
    bench.store.inner.shelf.lock().unchecked.comes(id);
    bench.check();
    assert_eq!(files(dir.path()), BTreeSet::from([coming.clone()]));
}

#[tokio::test]
async fn a_commit_and_a_pass_that_meet_leave_the_archive_whole() {
    let dir = filled([LISTED_FIRST]).await;
    lose_index(dir.path());
    let bench = Bench::unchecked(dir.path(), ROOM);
    assert!(bench.store.check_some(), "the old archive is listed");
    let begun = bench.begin(LISTED_FIRST, Some(2000)).await.unwrap();
    let other = bench.begin(1, Some(2000)).await.unwrap();
    bench.write(begun, &pattern(2000), still).unwrap();
    bench.write(other, &pattern(2000), || {
        bench.check();
        Some(())
    });
    for job in [1, LISTED_FIRST] {
        assert_eq!(bench.read(job).await, Some(pattern(2000)), "{job}");
    }
    assert_eq!(files(dir.path()), shelved(&bench), "the older one is deleted");
    assert_eq!(files(dir.path()).len(), 4);
}

#[tokio::test]
async fn what_was_removed_before_it_was_looked_at_is_gone_and_stays_so() {
    for steps in [0, 1] {
        let dir = filled([LISTED_FIRST]).await;
        lose_index(dir.path());
        let bench = Bench::unchecked(dir.path(), ROOM);
        for _ in 0..steps {
            bench.store.check_some();
        }
        let taken = bench.store.take_out(key(LISTED_FIRST), None).expect("something may be there");
        assert!(bench.read(LISTED_FIRST).await.is_none(), "out of sight, though its files are there");
        bench.store.unlink(taken).await;
        assert!(files(dir.path()).is_empty(), "gone when this returns");
        bench.check();
        assert_eq!(bench.store.totals().archives, 0);
        assert!(bench.store.take_out(key(LISTED_FIRST), None).is_none(), "nothing can be there any more");
    }
}

#[tokio::test]
async fn what_is_taken_out_while_its_files_are_there_is_not_adopted_again() {
    for index in [true, false] {
        let dir = filled([LISTED_FIRST]).await;
        if !index {
            lose_index(dir.path());
        }
        let bench = Bench::unchecked(dir.path(), ROOM);
        bench.store.check_some();
        let taken = bench.store.take_out(key(LISTED_FIRST), None).unwrap();
        bench.check();
        assert_eq!(bench.store.totals().archives, 0);
        bench.store.unlink(taken).await;
        assert!(files(dir.path()).is_empty());
    }
}

#[tokio::test]
async fn what_a_look_up_found_is_not_adopted_after_it_was_removed_however_late() {
    for steps in [0, 1, usize::MAX] {
        let dir = filled([LISTED_FIRST]).await;
        lose_index(dir.path());
        let bench = Bench::unchecked(dir.path(), ROOM);
        let slot = bench.store.inner.newest(key(LISTED_FIRST)).unwrap();
        bench.store.remove(key(LISTED_FIRST), None).await;
        let _ = (0..steps).take_while(|_| bench.store.check_some()).count();
        bench.store.inner.adopt(key(LISTED_FIRST), slot);
        assert_eq!(bench.store.totals().archives, 0, "after {steps} steps");
    }
}

#[tokio::test]
async fn an_archive_that_was_given_up_by_its_name_is_not_adopted_again() {
    let dir = filled([LISTED_FIRST]).await;
    lose_index(dir.path());
    let bench = Bench::unchecked(dir.path(), ROOM);
    let id = bench.store.find(key(LISTED_FIRST)).await.unwrap().id();
    let taken = bench.store.take_out(key(LISTED_FIRST), Some(id)).unwrap();
    bench.check();
    assert_eq!((bench.store.totals().archives, files(dir.path()).len()), (0, 0));
    bench.store.unlink(taken).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_on_another_thread_and_the_stores_use_come_to_the_same_end() {
    let full = filled(1..=120).await;
    for index in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        copy(full.path(), dir.path());
        if !index {
            lose_index(dir.path());
        }
        let bench = Bench::unchecked(dir.path(), ROOM);
        let runtime = tokio::runtime::Handle::current();
        let uses = async |part: u64| {
            for job in (1..=120).filter(|job| job % 4 == part) {
                match job % 3 {
                    0 => bench.store.remove(key(job), None).await,
                    1 => drop(bench.fill(job, &pattern(2000)).await.unwrap()),
                    _ => assert_eq!(bench.read(job).await, Some(pattern(1000)), "{job}"),
                }
            }
        };
        tokio::task::block_in_place(|| {
            std::thread::scope(|threads| {
                threads.spawn(|| bench.check());
                for part in 0..4 {
                    let (uses, runtime) = (&uses, &runtime);
                    threads.spawn(move || runtime.block_on(uses(part)));
                }
            });
        });
        for job in 1..=120 {
            let expected = [None, Some(2000), Some(1000)][usize::try_from(job % 3).unwrap()];
            assert_eq!(bench.read(job).await, expected.map(pattern), "{job}");
        }
        assert_eq!(files(dir.path()), shelved(&bench));
        settled(&bench);
    }
}

#[tokio::test]
async fn an_archive_of_another_version_is_left_alone() {
    let dir = filled([1]).await;
    lose_index(dir.path());
    let before = files(dir.path());
    let rec = before.iter().find(|path| path.extension().unwrap() == "rec").unwrap();
    let mut bytes = fs::read(rec).unwrap();
    bytes[8] = 9;
    fs::write(rec, bytes).unwrap();
    let bench = Bench::unchecked(dir.path(), ROOM);
    assert!(bench.read(1).await.is_none());
    bench.check();
    assert_eq!((files(dir.path()), bench.store.totals().bytes), (before, 0));
}

#[tokio::test]
async fn of_two_archives_of_a_job_the_newer_stays_whatever_the_index_says() {
    let dir = filled([1]).await;
    let older = tempfile::tempdir().unwrap();
    copy(dir.path(), older.path());
    let bench = Bench::new(dir.path(), ROOM);
    bench.clock.advance(Duration::from_secs(100));
    bench.fill(1, &pattern(2000)).await.unwrap();
    close(bench);
    let newer = files(dir.path());
    for (index, older_files) in
        [("newer", true), ("older", true), ("none", true), ("older", false), ("none", false)]
    {
        if older_files {
            copy(&older.path().join("test/archives"), &dir.path().join("test/archives"));
        }
        if index != "newer" {
            lose_index(dir.path());
        }
        if index == "older" {
            copy(&older.path().join("test/index"), &dir.path().join("test/index"));
        }
        let bench = Bench::unchecked(dir.path(), ROOM);
        if index == "none" || !older_files {
            bench.store.check_some();
            assert_eq!(bench.read(1).await, Some(pattern(2000)), "{index}, found by a look-up");
        }
        bench.check();
        assert_eq!(bench.read(1).await, Some(pattern(2000)), "{index}");
        assert_eq!((files(dir.path()), shelved(&bench)), (newer.clone(), newer.clone()), "{index}");
        close(bench);
    }
}

#[tokio::test]
async fn another_instances_archives_are_neither_read_nor_swept() {
    let dir = filled([1]).await;
    let other = dir.path().join("other");
    copy(&dir.path().join("test"), &other);
    lose_index(dir.path());
    fs::write(other.join("incoming/9-0000000000000001.zip"), "half").unwrap();
    fs::write(other.join("archives/00"), "not even a directory").unwrap();
    let count = fs::read_dir(other.join("archives")).unwrap().count();
    let bench = Bench::new(dir.path(), ROOM);
    assert_eq!(bench.store.totals().archives, 1);
    assert_eq!(fs::read_dir(other.join("archives")).unwrap().count(), count);
    assert!(other.join("incoming/9-0000000000000001.zip").exists());
}

#[tokio::test]
async fn a_closed_store_looks_no_further_and_the_next_one_goes_on() {
    let dir = filled(1..=3).await;
    lose_index(dir.path());
    let bench = Bench::unchecked(dir.path(), ROOM);
    assert!(bench.store.check_some());
    bench.store.close();
    assert!(!bench.store.check_some());
    drop(bench);
    assert_eq!(Bench::new(dir.path(), ROOM).store.totals().archives, 3);
}

#[tokio::test]
async fn names_that_are_not_ours_stay_where_they_are() {
    let dir = filled([1]).await;
    let archives = dir.path().join("test/archives");
    fs::create_dir_all(archives.join("02")).unwrap();
    let strangers =
        [archives.join("01/notes.txt"), archives.join("02/1-0000000000000001.zip"), archives.join("stray")];
    for stranger in &strangers {
        fs::write(stranger, "x").unwrap();
    }
    let bench = Bench::new(dir.path(), ROOM);
    assert_eq!(bench.store.totals().archives, 1);
    assert!(strangers.iter().all(|stranger| stranger.exists()));
}
