//! Reading stored archives: comparing every chunk of one with its checksum, and handing out the slices of one whose chunks
//! have all been compared.

#![allow(missing_docs, reason = "criterion's macros make functions without")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, StatusCode};
use larder::access::Epochs;
use larder::base::clock::Clock;
use larder::base::key::{ArchiveId, JobId, Key};
use larder::gitlab::grant::{AskedPath, Facts, Grant, Opening, StorageRules, judge};
use larder::gitlab::route::Class;
use larder::http::fields::StoredHeaders;
use larder::store::{Archive, ReadMode, Record, Settings, Store, TimeShare, scan};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Goal for comparing, bytes a second on one core.
const GOAL: u64 = 2_000_000_000;

fn settings(dir: &TempDir) -> Settings {
    Settings {
        dir: dir.path().to_owned(),
        max_size: (8 << 30).into(),
        max_object: None,
        min_free: 0,
        max_age: Duration::from_secs(86_400),
        instance: Some("bench".to_owned()),
        read: ReadMode::Mapped,
        scrub: TimeShare::NONE,
    }
}

fn key() -> Key {
    Key::Job(JobId::parse("42").unwrap())
}

/// A store with one archive.
async fn filled(dir: &TempDir, length: u64) -> (Store, Arc<Archive>) {
    let store = Store::open(&settings(dir), "bench", Clock::system()).unwrap();
    let record = Record {
        key: key(),
        id: ArchiveId::new(0),
        length,
        filled_at: Clock::system().now().unix_seconds(),
        faces: Vec::new(),
        facts: Facts::default(),
        etag: None,
        kept: StoredHeaders::default(),
        class: Class::Job,
        chunks: Vec::new(),
        present: None,
    };
    let (archive, mut claim) = store.begin(record, Some(length)).await.unwrap();
    let piece: Vec<u8> = (0..64 << 10).map(|n: u32| u8::try_from(n * 7 % 251).unwrap()).collect();
    while claim.written() < length {
        claim.write(&piece).unwrap();
    }
    claim.finish().unwrap();
    archive.complete(archive.sha256().unwrap()).unwrap();
    assert!(store.commit(&archive, || Some(())).unwrap());
    (store, archive)
}

fn grant(archive: &Archive) -> Grant {
    let rules =
        StorageRules { gitlab: "https://gitlab.example.com".parse().unwrap(), external: None, hosts: None };
    let Opening::Body(yes, _) = judge::open(StatusCode::OK, &HeaderMap::new(), &rules, AskedPath::default())
    else {
        panic!("a body")
    };
    Grant::new(yes, archive.id(), Clock::system().now(), Epochs::default().now(key()), None)
}

/// What `larder verify` and the scrub do with each chunk: read it, from memory here, and compare it.
fn compare(criterion: &mut Criterion) {
    const LENGTH: u64 = 256 << 20;
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let (store, archive) = runtime.block_on(filled(&dir, LENGTH));
    drop(archive);
    store.close();
    drop(store);
    let mut group = criterion.benchmark_group("compare");
    println!("goal: {GOAL} bytes a second on one core");
    group.throughput(Throughput::Bytes(LENGTH)).sample_size(20);
    group.bench_function("256MiB", |bencher| {
        bencher.iter(|| {
            let verified = scan::verify::verify(&settings(&dir), "bench", false, |_| ()).unwrap();
            assert_eq!((verified.sound, verified.bytes), (1, LENGTH));
        });
    });
    group.finish();
}

/// Every slice of an archive whose chunks have been compared: what remains of the comparison is one bit a slice.
fn slices(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("slices");
    for (name, length) in [("64KiB", 64 << 10), ("64MiB", 64 << 20)] {
        let dir = tempfile::tempdir().unwrap();
        let (_store, archive) = runtime.block_on(filled(&dir, length));
        let grant = grant(&archive);
        group.throughput(Throughput::Bytes(length));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let read = runtime.block_on(read(&archive, &grant, length));
                assert_eq!(read, length);
            });
        });
    }
    group.finish();
}

async fn read(archive: &Arc<Archive>, grant: &Grant, length: u64) -> u64 {
    let mut slices = archive.read(grant, 0..length).unwrap();
    let mut read = 0;
    while let Some(slice) = std::future::poll_fn(|cx| slices.poll_next(cx)).await {
        let slice: Bytes = black_box(slice.unwrap());
        read += u64::try_from(slice.len()).unwrap();
    }
    read
}

criterion_group!(benches, compare, slices);
criterion_main!(benches);
