//! The store against a real directory.

mod recovery;
mod sparse;

use std::fs;

use super::error::NoRoom;
use super::*;
use crate::base::clock::Moment;
use crate::base::key::JobId;
use crate::base::num::to_u64;
use crate::gitlab::grant::{Epoch, Grant, Yes};

mod full;
mod object;
mod planted;
mod refusals;
mod scrubs;
mod sim;

fn settings(dir: &std::path::Path, max_size: u64) -> Settings {
    Settings {
        dir: dir.to_owned(),
        max_size: max_size.into(),
        max_object: None,
        min_free: 0,
        max_age: Duration::from_secs(1000),
        instance: None,
        read: ReadMode::Mapped,
        scrub: TimeShare::NONE,
    }
}

fn key(n: u64) -> Key {
    Key::Job(JobId::parse(&n.to_string()).unwrap())
}

fn grant(id: ArchiveId, now: Moment) -> Grant {
    Grant::new(Yes::for_test(), id, now, Epoch { key: 0, global: 0 }, None)
}

struct Bench {
    store: Arc<Store>,
    clock: Clock,
}

impl Bench {
    fn new(dir: &std::path::Path, max_size: u64) -> Self {
        let bench = Self::unchecked(dir, max_size);
        bench.check();
        bench
    }

    /// One that hasn't looked at its files.
    fn unchecked(dir: &std::path::Path, max_size: u64) -> Self {
        let clock = Clock::manual(1_000_000);
        Self { store: Arc::new(Store::open(&settings(dir, max_size), "test", clock.clone()).unwrap()), clock }
    }

    /// Looks at all files, or the rest of them.
    fn check(&self) {
        while self.store.check_some() {}
    }

    /// Begins an archive.
    async fn begin(&self, job: u64, length: Option<u64>) -> Result<(Arc<Archive>, ChunkClaim), Error> {
        let filled_at = self.clock.now().unix_seconds();
        self.store.begin(Record { filled_at, ..record::tests::record(job, 0, 0) }, length).await
    }

    async fn fill(&self, job: u64, bytes: &[u8]) -> Option<Arc<Archive>> {
        let begun = self.begin(job, Some(to_u64(bytes.len()))).await.unwrap();
        self.write(begun, bytes, still)
    }

    fn write(
        &self,
        (archive, claim): (Arc<Archive>, ChunkClaim),
        bytes: &[u8],
        still: impl FnOnce() -> Option<()>,
    ) -> Option<Arc<Archive>> {
        write_all(claim, bytes).unwrap();
        self.store.commit(&archive, still).unwrap().then_some(archive)
    }

    /// All bytes of an archive, as a plain socket and as anything else gets them.
    async fn read(&self, job: u64) -> Option<Vec<u8>> {
        let archive = self.store.find(key(job)).await?;
        let grant = grant(archive.id(), self.clock.now());
        let mut read = [Vec::new(), Vec::new()];
        for (plain, bytes) in [true, false].into_iter().zip(&mut read) {
            let mut slices = archive.read(&grant, 0..archive.stored_length()).unwrap();
            if plain {
                slices.allow_mapped();
            }
            while let Some(slice) = std::future::poll_fn(|cx| slices.poll_next(cx)).await {
                let slice = slice.unwrap();
                assert!(plain || archive.data().place(&slice).is_none(), "a slice of the mapping");
                bytes.extend(slice);
            }
        }
        let [plain, copied] = read;
        assert!(plain == copied);
        Some(copied)
    }
}

/// Nothing has overtaken it.
#[expect(clippy::unnecessary_wraps, reason = "as the store asks")]
const fn still() -> Option<()> {
    Some(())
}

/// Writes all that was claimed, and finds it right.
fn write_all(mut claim: ChunkClaim, bytes: &[u8]) -> Result<(), Error> {
    for piece in bytes.chunks(100_000) {
        claim.write(piece)?;
    }
    let archive = Arc::clone(claim.archive());
    claim.finish()?;
    prove(&archive);
    Ok(())
}

/// Finds it right, whatever it is.
fn prove(archive: &Archive) {
    assert!(archive.begin_to_prove());
    archive.complete(archive.sha256().unwrap()).unwrap();
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect()
}

#[tokio::test]
async fn what_was_stored_is_read_back_now_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = pattern(3_500_000);
    let bench = Bench::new(dir.path(), 100 << 20);
    bench.fill(42, &bytes).await.unwrap();
    assert_eq!(bench.read(42).await.as_deref(), Some(&bytes[..]));
    bench.store.close();
    drop(bench);
    for damage in ["nothing", "delete", "garbage"] {
        let index = dir.path().join("test/index");
        match damage {
            "delete" => fs::remove_dir_all(&index).unwrap(),
            "garbage" => fs::write(index.join("db"), vec![0xa5; 100_000]).unwrap(),
            _ => {}
        }
        let bench = Bench::new(dir.path(), 100 << 20);
        assert_eq!(bench.read(42).await.as_deref(), Some(&bytes[..]), "{damage}");
        bench.store.close();
    }
}

#[tokio::test]
async fn a_grant_for_another_archive_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    let archive = bench.fill(42, &pattern(1000)).await.unwrap();
    let other = grant(ArchiveId::new(archive.id().get() ^ 1), bench.clock.now());
    assert!(archive.read(&other, 0..10).is_none());
    let right = grant(archive.id(), bench.clock.now());
    assert!(archive.read(&right, 0..1001).is_none(), "beyond the end");
    assert!(archive.read(&right, 0..1000).is_some());
}

#[tokio::test]
async fn an_overtaken_archive_is_not_stored_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    let begun = bench.begin(42, Some(1000)).await.unwrap();
    assert!(bench.write(begun, &pattern(1000), || None).is_none());
    assert_eq!(bench.read(42).await, None);
    assert_eq!(fs::read_dir(dir.path().join("test/incoming")).unwrap().count(), 0);
    let empty = Totals { archives: 0, bytes: 0, evicted: 0, unchecked: 0, writable: true };
    assert_eq!(bench.store.totals(), empty);
}

#[tokio::test]
async fn of_a_frame_that_comes_again_in_part_only_the_rest_is_unwritten() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { max_object: Some(1_000), ..settings(dir.path(), 100 << 20) };
    let store = Store::open(&settings, "test", Clock::manual(1)).unwrap();
    let (_archive, mut writer) = store.begin(record::tests::record(1, 0, 0), None).await.unwrap();
    let bytes = pattern(1_200);
    writer.write(&bytes[..600]).unwrap();
    writer.go_on_at(500);
    let frame = bytes::Bytes::copy_from_slice(&bytes[500..]);
    assert!(matches!(writer.write(&frame), Err(Error::NoRoom(_))), "longer than any may be");
    assert_eq!(writer.written(), 600);
    assert_eq!(writer.unwritten(&frame), bytes[600..], "what was written before isn't sent twice");
    writer.go_on_at(550);
    writer.write(&bytes[550..700]).unwrap();
    assert_eq!(writer.written(), 700);
    writer.go_on_at(600);
    let other = vec![0; 50];
    assert!(matches!(writer.write(&other), Err(Error::OtherBytes)));
}

/// Again and again: what a cache lets go of when it comes round to it is there most of the time.
#[tokio::test]
async fn the_room_of_what_nobody_reads_is_free_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 15_000);
    for job in 1..200 {
        drop(bench.fill(job, &pattern(10_000)).await.unwrap());
        assert!(bench.store.find(key(job)).await.is_some());
    }
}

#[tokio::test]
async fn the_budget_holds_and_readers_finish() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 3_000_000);
    let first = bench.fill(1, &pattern(1_000_000)).await.unwrap();
    drop(bench.fill(2, &pattern(1_000_000)).await);
    let grant = grant(first.id(), bench.clock.now());
    let mut slices = first.read(&grant, 0..1_000_000).unwrap();
    slices.allow_mapped();
    drop(first);
    drop(bench.fill(3, &pattern(1_500_000)).await);
    assert!(bench.store.find(key(2)).await.is_none(), "the least recently used of those not being read went");
    assert!(bench.store.find(key(1)).await.is_some());
    bench.store.remove(key(1), None).await;
    assert!(bench.store.find(key(1)).await.is_none());
    assert!(bench.store.totals().bytes > 2_400_000, "still read, still counted");
    let slice = std::future::poll_fn(|cx| slices.poll_next(cx)).await.unwrap().unwrap();
    assert_eq!(slice, pattern(1_000_000), "whoever reads finishes");
    drop(slices);
    assert!(bench.store.totals().bytes < 1_600_000);
    assert_eq!(bench.store.totals().evicted, 1);
    assert!(matches!(bench.begin(4, Some(4_000_000)).await, Err(Error::NoRoom(_))));
}

#[tokio::test]
async fn a_zip_without_its_record_and_a_record_without_its_zip_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    let mut ids = Vec::new();
    for job in [1, 2, 3] {
        ids.push(bench.fill(job, &pattern(1000)).await.unwrap().id());
    }
    let layout = bench.shared_layout();
    bench.store.close();
    drop(bench);
    fs::remove_file(layout.rec(key(1), ids[0])).unwrap();
    fs::remove_file(layout.zip(key(2), ids[1])).unwrap();
    fs::write(layout.incoming().join("9-0000000000000001.zip"), "half").unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    assert!(bench.read(1).await.is_none() && bench.read(2).await.is_none());
    assert_eq!(bench.read(3).await, Some(pattern(1000)));
    assert!(!layout.zip(key(1), ids[0]).exists() && !layout.rec(key(2), ids[1]).exists());
    assert_eq!(fs::read_dir(layout.incoming()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_cut_archive_is_dropped_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    let id = bench.fill(1, &pattern(1000)).await.unwrap().id();
    let layout = bench.shared_layout();
    bench.store.close();
    drop(bench);
    fs::File::options().write(true).open(layout.zip(key(1), id)).unwrap().set_len(999).unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    assert!(bench.read(1).await.is_none());
    assert_eq!(bench.store.totals().bytes, 0);
}

#[tokio::test]
async fn archives_end_with_their_age() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    bench.fill(1, &pattern(1000)).await.unwrap();
    bench.clock.advance(Duration::from_secs(999));
    assert!(bench.store.find(key(1)).await.is_some());
    bench.clock.advance(Duration::from_secs(1));
    assert!(bench.store.find(key(1)).await.is_none());
}

#[tokio::test]
async fn readers_of_what_arrives_get_what_is_there_and_never_an_end_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    for length in [Some(3000), None] {
        let (draft, mut writer) = bench.begin(1, length).await.unwrap();
        let grant = grant(draft.id(), bench.clock.now());
        let mut growing = draft.follow(&grant, 0, None).unwrap();
        writer.write(&pattern(3000)[..1000]).unwrap();
        let slice = std::future::poll_fn(|cx| growing.poll_next(cx)).await.unwrap().unwrap();
        assert_eq!(slice, pattern(3000)[..1000]);
        drop(writer);
        draft.break_off();
        let end = std::future::poll_fn(|cx| growing.poll_next(cx)).await;
        assert!(end.unwrap().is_err(), "a cut is not an end ({length:?})");
    }
}

#[tokio::test]
async fn a_reader_who_was_shown_another_tail_gets_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    for (tail, same) in [(pattern(3000)[1976..].to_vec(), true), (vec![0; 1024], false)] {
        let (draft, mut writer) = bench.begin(1, Some(3000)).await.unwrap();
        let grant = Grant::new(
            Yes::for_test(),
            draft.id(),
            bench.clock.now(),
            Epoch { key: 0, global: 0 },
            Some(tail.into()),
        );
        let mut growing = draft.follow(&grant, 0, None).unwrap();
        writer.write(&pattern(3000)).unwrap();
        let first = std::future::poll_fn(|cx| growing.poll_next(cx)).await.unwrap().unwrap();
        assert_eq!(first.len(), 1976, "the end is held back until it can be compared");
        writer.finish().unwrap();
        prove(&draft);
        let last = std::future::poll_fn(|cx| growing.poll_next(cx)).await.unwrap();
        assert_eq!(last.is_ok(), same);
    }
}

#[tokio::test]
async fn what_is_too_long_or_leaves_the_disk_too_little_has_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let open = |max_object, min_free| {
        let settings = Settings { max_object, min_free, ..settings(dir.path(), 200 << 20) };
        let clock = Clock::manual(1_000_000);
        Bench { store: Arc::new(Store::open(&settings, "test", clock.clone()).unwrap()), clock }
    };
    let bench = open(Some(1000), 0);
    assert!(bench.fill(1, &pattern(1000)).await.is_some());
    let long = bench.begin(2, Some(1001)).await;
    assert!(matches!(long, Err(Error::NoRoom(NoRoom::Object { wanted: 1001, longest: 1000 }))));
    let (draft, mut writer) = bench.begin(2, None).await.unwrap();
    writer.write(&pattern(1000)).unwrap();
    assert!(matches!(writer.write(b"x"), Err(Error::NoRoom(NoRoom::Object { .. }))));
    drop((writer, draft));
    bench.store.close();
    drop(bench);
    let bench = open(None, 1 << 60);
    let more = bench.begin(2, Some(10)).await;
    assert!(matches!(more, Err(Error::NoRoom(NoRoom::Disk { wanted: 10, .. }))));
    assert_eq!(bench.read(1).await, Some(pattern(1000)), "nothing goes in vain");
}

#[tokio::test]
async fn every_flipped_bit_is_found_and_removed_only_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    let mut ids = Vec::new();
    for (job, length) in [(1, 1000), (2, 3 << 20), (3, (2 << 20) + 1), (4, 10), (5, 0)] {
        ids.push(bench.fill(job, &pattern(length)).await.unwrap().id());
    }
    let layout = bench.shared_layout();
    let settings = settings(dir.path(), 100 << 20);
    assert!(matches!(scan::verify::verify(&settings, "test", false, |_| ()), Err(Error::InUse { .. })));
    bench.store.close();
    drop(bench);
    let mut steps = Vec::new();
    let sound = scan::verify::verify(&settings, "test", false, |step| steps.push(step.archives)).unwrap();
    assert_eq!((sound.sound, sound.damaged.len(), steps), (5, 0, vec![1, 2, 3, 4, 5]));
    let flip = |path: &std::path::Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 4;
        fs::write(path, bytes).unwrap();
    };
    flip(&layout.zip(key(2), ids[1]), (2 << 20) + 7);
    flip(&layout.zip(key(3), ids[2]), 2 << 20);
    flip(&layout.rec(key(4), ids[3]), 30);
    fs::write(layout.zip(key(5), ids[4]), "x").unwrap();
    for (repair, left) in [(false, 4), (true, 4), (false, 0)] {
        let found = scan::verify::verify(&settings, "test", repair, |_| ()).unwrap();
        assert_eq!((found.sound, found.damaged.len()), (1, left), "repair: {repair}");
        assert!(found.damaged.iter().all(|damaged| damaged.removed == repair));
    }
    let bench = Bench::new(dir.path(), 100 << 20);
    assert_eq!(bench.read(1).await, Some(pattern(1000)));
    assert!(bench.read(2).await.is_none() && bench.read(4).await.is_none());
}

impl Bench {
    fn shared_layout(&self) -> Layout {
        self.store.inner.layout.clone()
    }
}
