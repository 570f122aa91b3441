//! A disk with less room than its budget, whatever its file system says: as with a quota.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;

use super::*;
use crate::base::num::to_usize;

const MIB: u64 = 1 << 20;

/// So many bytes of blocks, records' included.
#[derive(Debug)]
struct Small {
    plain: Plain,
    room: Arc<AtomicU64>,
}

fn blocks(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let each = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() && entry.file_name() != "index" => blocks(&entry.path()),
        Ok(found) if found.is_file() => found.blocks() * 512,
        _ => 0,
    });
    each.sum()
}

impl Small {
    fn admit(&self, bytes: u64) -> io::Result<()> {
        let fits = blocks(self.plain.reach().path()) + bytes <= self.room.load(Ordering::SeqCst);
        if fits { Ok(()) } else { Err(Errno::DQUOT.into()) }
    }
}

impl Files for Small {
    fn reach(&self) -> &Reach {
        self.plain.reach()
    }

    fn create_new(&self, path: &Path) -> io::Result<fs::File> {
        self.admit(4096)?;
        self.plain.create_new(path)
    }

    fn allocate(&self, file: &fs::File, length: u64) -> io::Result<()> {
        self.admit(length)?;
        self.plain.allocate(file, length)
    }

    fn write_at(&self, file: &fs::File, bytes: &[u8], at: u64) -> io::Result<()> {
        let end = at + crate::base::num::to_u64(bytes.len());
        self.admit(end.saturating_sub(file.metadata()?.blocks() * 512))?;
        self.plain.write_at(file, bytes, at)
    }
}

fn bench(dir: &Path, room: u64) -> (Bench, Arc<AtomicU64>) {
    let (clock, room) = (Clock::manual(1_000_000), Arc::new(AtomicU64::new(room)));
    let files =
        |reach| -> Arc<dyn Files> { Arc::new(Small { plain: Plain(reach), room: Arc::clone(&room) }) };
    let store = Store::open_by(files, &settings(dir, 1 << 30), "test", clock.clone()).unwrap();
    let bench = Bench { store: Arc::new(store), clock };
    bench.check();
    (bench, room)
}

/// Stores an archive of a MiB; `told`: its length is known before.
async fn fill(bench: &Bench, job: u64, told: bool) -> Result<(), Error> {
    bench.clock.advance(Duration::from_secs(5));
    let (archive, claim) = bench.begin(job, told.then_some(MIB)).await?;
    write_all(claim, &pattern(to_usize(MIB)))?;
    bench.store.commit(&archive, still).map(drop)
}

fn held(bench: &Bench) -> Vec<u64> {
    (1..10).filter(|job| bench.store.holds(key(*job)).is_some()).collect()
}

#[tokio::test]
async fn what_was_used_least_recently_goes_until_it_fits() {
    for told in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (bench, _) = bench(dir.path(), 7 * MIB / 2);
        for job in [1, 2, 3] {
            fill(&bench, job, told).await.unwrap();
        }
        assert_eq!(bench.read(1).await, Some(pattern(to_usize(MIB))));
        fill(&bench, 4, told).await.unwrap();
        assert_eq!(held(&bench), [1, 3, 4], "the length was told: {told}");
        assert_eq!(bench.read(4).await, Some(pattern(to_usize(MIB))));
        let totals = bench.store.totals();
        assert_eq!((totals.evicted, totals.writable), (1, true));
    }
}

#[tokio::test]
async fn what_is_being_read_stays_and_the_disk_is_tried_again_as_soon_as_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, _) = bench(dir.path(), 3 * MIB / 2);
    fill(&bench, 1, true).await.unwrap();
    let reader = bench.store.find(key(1)).await.unwrap();
    assert!(fill(&bench, 2, true).await.is_err());
    assert_eq!((held(&bench), bench.store.totals().writable), (vec![1], false));
    drop(reader);
    fill(&bench, 2, true).await.unwrap();
    assert_eq!((held(&bench), bench.store.totals().writable), (vec![2], true));
}

#[tokio::test]
async fn a_disk_on_which_nothing_gets_free_does_not_empty_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, room) = bench(dir.path(), 100 * MIB);
    for job in 1..10 {
        fill(&bench, job, true).await.unwrap();
    }
    room.store(0, Ordering::SeqCst);
    for _ in 0..20 {
        assert!(fill(&bench, 10, true).await.is_err());
    }
    assert!(held(&bench).len() >= 6, "{:?} are left", held(&bench));
    // Somebody has made room meanwhile.
    room.store(100 * MIB, Ordering::SeqCst);
    fill(&bench, 10, true).await.unwrap();
    assert!(bench.store.totals().writable);
}
