//! The parts of a request that cost processor time: reading its target, finding its grant, judging an answer, reading
//! a record, checking an archive, finding and reading its entries.

#![allow(missing_docs, reason = "criterion's macros make functions without")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gitlab_standin::Member as Zipped;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use larder::access::{Caller, Epochs};
use larder::base::clock::Clock;
use larder::base::key::{ArchiveId, JobId, Key};
use larder::base::secret::Fingerprinter;
use larder::gitlab::grant::judge::{self, Condition};
use larder::gitlab::grant::{Answer, AskedPath, Facts, Grant, Opening, StorageRules, Verdict};
use larder::gitlab::route::{Class, Question, RequestLine, Route};
use larder::http::Etag;
use larder::http::fields::StoredHeaders;
use larder::http::hop::{Peer, Way};
use larder::store::Record;
use larder::zip::{Directory, Entry, Member, ReadAt, gzip};

const ARCHIVE: &str = "/api/v4/projects/group%2Fsub%2Fproject/jobs/4242424242/artifacts";
const RUNNER: &str = "/api/v4/jobs/4242424242/artifacts?direct_download=true";
const OTHER: &str = "/group/sub/project/-/pipelines/4242?scope=finished&page=2";
const LENGTH: u64 = 100 << 20;

fn read(target: &PathAndQuery) -> Route {
    Route::of("", RequestLine { method: &Method::GET, target, has_body: false })
}

fn question() -> Question {
    let Route::Read(question) = read(&PathAndQuery::from_static(ARCHIVE)) else { panic!("a question") };
    question
}

fn caller() -> Caller {
    let mut fields = HeaderMap::new();
    for (name, value) in [
        ("host", "larder.example.com:8080"),
        ("user-agent", "python-gitlab/4.4.0"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "*/*"),
        ("connection", "keep-alive"),
        ("private-token", "glpat-0123456789abcdefghij"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), trusted: false, secure: false };
    let way = Way::of(peer, peer.address, &fields);
    Caller::new(Arc::new(fields), way)
}

fn rules() -> StorageRules {
    StorageRules { gitlab: "https://gitlab.example.com".parse().unwrap(), external: None, hosts: None }
}

fn facts() -> Facts {
    Facts {
        etag: None,
        object: None,
        length: Some(LENGTH),
        modified: Some(1_800_000_000),
        tail: Some(vec![7; 1024].into()),
        sha256: None,
    }
}

/// Reading a request line.
fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for (name, target) in [("job_archive", ARCHIVE), ("runner_archive", RUNNER), ("pass", OTHER)] {
        let target = PathAndQuery::from_static(target);
        group.bench_function(name, |bencher| bencher.iter(|| read(black_box(&target))));
    }
    group.finish();
}

/// What a hit costs before its first byte: the caller's fingerprint, the epoch, the grant's age.
fn grant(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("grant");
    let (key, caller, question) = (Fingerprinter::random().unwrap(), caller(), question());
    group.bench_function("fingerprint", |bencher| {
        bencher.iter(|| black_box(&caller).asking(&key, black_box(&question)));
    });
    let Opening::Body(yes, _) =
        judge::open(StatusCode::OK, &HeaderMap::new(), &rules(), AskedPath::default())
    else {
        panic!("a body")
    };
    let (epochs, clock, archive) = (Epochs::default(), Clock::system(), ArchiveId::new(1));
    let given = Grant::new(yes, archive, clock.now(), epochs.now(question.key), None);
    group.bench_function("opens", |bencher| {
        let hour = Duration::from_secs(3600);
        bencher.iter(|| given.opens(black_box(archive), None, epochs.now(question.key), clock.now(), hour));
    });
    group.finish();
}

/// Judging GitLab's answers.
fn judgement(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("judge");
    let (held, rules) = (facts(), rules());
    let (first, last) = Condition::about(Some(&held)).range;
    let part = [
        (header::CONTENT_RANGE, format!("bytes {first}-{last}/{LENGTH}")),
        (header::LAST_MODIFIED, "Fri, 15 Jan 2027 08:00:00 GMT".to_owned()),
    ];
    let away = [(header::LOCATION, "https://bucket.s3.example.com/ab/cd/1?X-Amz-Signature=0123".to_owned())];
    let redirected = Facts { object: object(&away, &rules), ..facts() };
    for (name, held, status, fields) in [
        ("part", &held, StatusCode::PARTIAL_CONTENT, &part[..]),
        ("redirect", &redirected, StatusCode::FOUND, &away[..]),
    ] {
        let (fields, body) = (fields_of(fields), vec![7; 1024]);
        let answer = Answer { status, fields: &fields, body: Some(&body) };
        let asked = Condition::about(Some(held));
        let sent =
            AskedPath { own: Some("larder.example.com:8080"), path: "/api/v4/projects/7/jobs/42/artifacts" };
        let judge = || judge::judge(Some(black_box(held)), &asked, answer, &rules, sent);
        assert!(matches!(judge(), Verdict::Yes(..)), "{name}");
        group.bench_function(name, |bencher| bencher.iter(judge));
    }
    group.finish();
}

fn fields_of(pairs: &[(header::HeaderName, String)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

fn object(
    away: &[(header::HeaderName, String)],
    rules: &StorageRules,
) -> Option<larder::gitlab::grant::ObjectPath> {
    Some(rules.location(&fields_of(away), AskedPath::default())?.object())
}

/// A record of a 100 MiB archive.
fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let chunks = vec![7; larder::store::record::chunks_of(LENGTH)];
    let record = Record {
        key: Key::Job(JobId::parse("42").unwrap()),
        id: ArchiveId::new(1),
        length: LENGTH,
        filled_at: 1_800_000_000,
        faces: Vec::new(),
        facts: facts(),
        etag: Etag::quoting("0123456789abcdef"),
        kept: StoredHeaders::default(),
        class: Class::Job,
        chunks,
        present: None,
    };
    let encoded = record.encode().unwrap();
    group.throughput(Throughput::Bytes(encoded.len().try_into().unwrap()));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&record).encode()));
    group.bench_function("decode", |bencher| bencher.iter(|| Record::decode(black_box(&encoded))));
    group.finish();
}

struct InMemory(Bytes);

impl ReadAt for InMemory {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.0.len());
        let rest = self.0.slice(from..);
        let inside = rest.len().min(buffer.len());
        buffer[..inside].copy_from_slice(&rest[..inside]);
        Ok(inside)
    }
}

/// Most memory that a directory may take, in bytes.
const HEAVIEST: usize = 256 << 20;

/// The end of a fill: an archive's directory of 20,000 entries. Then its entries by name, and among a million.
fn archive(criterion: &mut Criterion) {
    const ENTRIES: u32 = 20_000;
    let mut group = criterion.benchmark_group("archive");
    let (source, length) = many(ENTRIES);
    group.throughput(Throughput::Elements(ENTRIES.into()));
    group.bench_function("check", |bencher| {
        bencher.iter(|| assert_eq!(larder::zip::check(&source, length).unwrap(), u64::from(ENTRIES)));
    });
    group.bench_function("directory", |bencher| {
        bencher.iter(|| Directory::read_within(&source, length, HEAVIEST).unwrap());
    });
    group.throughput(Throughput::Elements(1));
    for (name, entries) in [("find_20k", ENTRIES), ("find_1m", 1_000_000)] {
        let (source, length) = many(entries);
        let begun = std::time::Instant::now();
        let directory = Directory::read_within(&source, length, HEAVIEST).unwrap();
        println!("{entries} entries: {} bytes, read in {:?}", directory.weight(), begun.elapsed());
        let names: Vec<Vec<u8>> = directory.entries().step_by(17).map(|(name, _)| name.to_vec()).collect();
        // A step that is prime to their number visits all of them, far apart.
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 7919) % names.len();
                directory.find(black_box(&names[at])).unwrap()
            });
        });
    }
    group.finish();
}

fn many(entries: u32) -> (InMemory, u64) {
    let source = InMemory(gitlab_standin::Archive::many(entries).bytes().unwrap());
    let length = u64::try_from(source.0.len()).unwrap();
    (source, length)
}

/// A file out of an archive: found, located, read to its end; and a deflated one as gzip, without inflating it.
fn entry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("entry");
    for (name, length) in [("4k", 4 << 10), ("10m", 10 << 20)] {
        let (stored, deflated) = (Zipped::stored("f", text(length)), Zipped::file("f", text(length)));
        group.throughput(Throughput::Bytes(length.try_into().unwrap()));
        for (method, file) in [("stored", stored), ("deflated", deflated)] {
            let (source, directory) = of(file);
            group.bench_function(format!("{method}_{name}"), |bencher| {
                bencher.iter(|| assert_eq!(inflate(&source, &directory), length));
            });
            if method == "deflated" {
                group.bench_function(format!("gzip_{name}"), |bencher| {
                    bencher.iter(|| pass(&source, &directory));
                });
            }
        }
    }
    group.finish();
}

/// Lines of a log, no two of them alike.
fn text(length: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|n: u32| format!("[{n}] line {}\n", n.wrapping_mul(7919) % 1009).into_bytes());
    lines.take(length).collect()
}

fn of(file: Zipped) -> (InMemory, Directory) {
    let source = InMemory(gitlab_standin::Archive::runner([file]).bytes().unwrap());
    let directory = Directory::read_within(&source, source.0.len().try_into().unwrap(), HEAVIEST).unwrap();
    (source, directory)
}

fn locate(source: &InMemory, directory: &Directory) -> (Entry, Range<u64>) {
    let entry = directory.find(black_box(b"f")).unwrap();
    (entry, entry.locate(source, directory.begins_at()).unwrap())
}

fn inflate(source: &InMemory, directory: &Directory) -> usize {
    let (entry, data) = locate(source, directory);
    let mut member = Member::new(source, entry, data);
    let mut length = 0;
    while let Some(piece) = member.next().unwrap() {
        length += black_box(piece).len();
    }
    length
}

/// The same in pieces read into memory of their own, as they go out.
fn pass(source: &InMemory, directory: &Directory) {
    let (entry, data) = locate(source, directory);
    black_box(gzip::HEADER);
    for at in data.clone().step_by(larder::zip::PIECE) {
        let length = (data.end - at).min(larder::zip::PIECE.try_into().unwrap());
        let mut piece = vec![0; length.try_into().unwrap()];
        assert_eq!(source.read_at(&mut piece, at).unwrap(), piece.len());
        black_box(piece);
    }
    black_box(gzip::trailer(entry.crc32.unwrap(), entry.size));
}

criterion_group!(benches, route, grant, judgement, record, archive, entry);
criterion_main!(benches);
