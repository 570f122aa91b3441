//! The store by itself: how fast it commits, what a look-up costs in a small and in a large one, and how soon larder
//! serves with as many archives as `LARDER_BENCH_ARCHIVES` says (1,000,000 if it doesn't say).
//!
//! A million take some 8 GB of disk, a block for each file, and 80 s to make. With `LARDER_BENCH_DIR` they are made there
//! and kept for the next time. It belongs on the file system that is meant: a commit costs what its `fsync` costs.

#![allow(missing_docs, reason = "criterion's macros make functions without")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

mod archives;
mod program;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group};
use larder::base::clock::Clock;
use larder::base::key::{ArchiveId, Key};
use larder::store::lru::{SizedLru, StoredMeta};
use larder::store::{ReadMode, Settings, Store, TimeShare};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const SMALL: u64 = 1_000;

/// Archives that are looked up again and again: fewer than larder keeps open.
const HOT: u64 = 1_000;

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        max_size: (1 << 50).into(),
        max_object: None,
        min_free: 0,
        max_age: Duration::from_secs(1 << 40),
        instance: None,
        scrub: TimeShare::NONE,
        read: ReadMode::Mapped,
    }
}

fn open(dir: &Path) -> Store {
    Store::open(&settings(dir), archives::INSTANCE, Clock::system()).unwrap()
}

/// Where stores are made: kept if the place is named.
struct Place {
    path: PathBuf,
    _made: Option<TempDir>,
}

impl Place {
    fn new() -> Self {
        if let Some(path) = std::env::var_os("LARDER_BENCH_DIR") {
            return Self { path: path.into(), _made: None };
        }
        let made = tempfile::tempdir().unwrap();
        Self { path: made.path().to_owned(), _made: Some(made) }
    }
}

/// A whole commit: reserved, written, synced with its record, renamed, the directory synced.
fn commit(criterion: &mut Criterion) {
    const LENGTH: u64 = 64 << 10;
    let mut group = criterion.benchmark_group("commit");
    group.throughput(Throughput::Bytes(LENGTH)).sample_size(50);
    let place = Place::new();
    let dir = tempfile::tempdir_in(&place.path).unwrap();
    let (runtime, store) = (Runtime::new().unwrap(), open(dir.path()));
    while store.check_some() {}
    let (bytes, mut job) = (vec![7; usize::try_from(LENGTH).unwrap()], 0);
    group.bench_function("64KiB", |bencher| {
        bencher.iter(|| {
            job += 1;
            let begun = runtime.block_on(store.begin(archives::record(job), Some(LENGTH)));
            let (archive, mut claim) = begun.unwrap();
            claim.write(&bytes).unwrap();
            claim.finish().unwrap();
            archive.complete(archive.sha256().unwrap()).unwrap();
            assert!(store.commit(&archive, || Some(())).unwrap());
        });
    });
    group.finish();
    store.close();
}

fn shelf(archives: u64) -> SizedLru {
    let mut shelf = SizedLru::new(u64::MAX);
    for n in 1..=archives {
        let marks = archives::record(n).facts.marks();
        shelf.adopt(
            archives::key(n),
            StoredMeta { id: ArchiveId::new(n), bytes: 1, filled_at: 1, used_at: 1, marks },
        );
    }
    shelf
}

/// Finding an archive, used at once again and used after a second, by its key and by its mark.
fn shelves(criterion: &mut Criterion, name: &str, archives: u64) {
    let mut group = criterion.benchmark_group(format!("shelf/{name}"));
    let mut shelf = shelf(archives);
    // Keys that a step prime to their number visits, far apart.
    let (mut at, mut now) = (0, 2);
    let mut next = move || {
        at = (at + 7_919) % archives;
        archives::key(at + 1)
    };
    group.bench_function("find", |bencher| bencher.iter(|| shelf.get(black_box(next())).unwrap()));
    let marks: Vec<[u64; 2]> = (1..=SMALL).map(|n| archives::record(n).facts.marks()).collect();
    let mut marks = marks.iter().cycle();
    group.bench_function("marked", |bencher| {
        bencher.iter(|| shelf.marked(black_box(*marks.next().unwrap())).unwrap());
    });
    group.bench_function("use", |bencher| {
        bencher.iter(|| {
            now += 1;
            shelf.touch(black_box(next()), now).unwrap()
        });
    });
    group.finish();
}

/// Finding an open archive in a store as a whole.
fn stores(criterion: &mut Criterion, name: &str, dir: &Path, archives: u64) {
    let (runtime, store) = (Runtime::new().unwrap(), Arc::new(open(dir)));
    while store.check_some() {}
    assert_eq!(store.totals().archives, usize::try_from(archives).unwrap());
    let keys: Vec<Key> = (1..=HOT).map(|n| archives::key(n * (archives / HOT))).collect();
    let mut keys = keys.iter().cycle();
    let mut group = criterion.benchmark_group(format!("store/{name}"));
    group.bench_function("find", |bencher| {
        bencher.iter(|| runtime.block_on(store.find(black_box(*keys.next().unwrap()))).unwrap());
    });
    group.finish();
    store.close();
}

fn sizes(criterion: &mut Criterion) {
    let large = std::env::var("LARDER_BENCH_ARCHIVES").map_or(1_000_000, |n| n.parse().unwrap());
    let place = Place::new();
    for (name, archives) in [("small", SMALL), ("large", large)] {
        shelves(criterion, name, archives);
        let dir = place.path.join(format!("{archives}-archives"));
        archives::make(&dir, archives);
        program::start(&dir, archives);
        stores(criterion, name, &dir, archives);
    }
}

criterion_group!(benches, commit, sizes);

/// `cargo test --all-targets` runs benches, too; these take minutes and gigabytes.
fn main() {
    if std::env::args().any(|argument| argument == "--bench") {
        benches();
        Criterion::default().configure_from_args().final_summary();
    }
}
