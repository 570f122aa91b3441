//! One archive, whoever brings its bytes in whatever order, and whoever reads them meanwhile.

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::base::num::to_usize;
use crate::gitlab::grant::facts::TAIL;
use crate::store::record::CHUNK;

const LENGTH: u64 = 3 * CHUNK + 5000;

/// One thing that happens to the archive. Numbers choose among the claims and readers that there are.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody takes on what is missing of a range.
    Claim(Range<u64>),
    /// So many bytes come for a claim.
    Bytes(usize, u64),
    /// A claim's transfer broke off and is taken up again so many bytes before.
    Cut(usize, u64),
    /// A claim is given up.
    Leave(usize),
    /// Somebody reads what is in the store.
    Read(Range<u64>),
    /// Somebody follows what arrives.
    Follow(Range<u64>),
    /// A reader takes its next slice.
    Take(usize),
}

fn range() -> impl Strategy<Value = Range<u64>> {
    let place = || prop_oneof![0..=LENGTH, (0..=3_u64).prop_map(|chunk| chunk * CHUNK), Just(LENGTH)];
    (place(), place()).prop_map(|(one, other)| one.min(other)..one.max(other))
}

fn event() -> impl Strategy<Value = Event> {
    let count = || prop_oneof![0..200_u64, 0..CHUNK, Just(CHUNK), Just(2 * CHUNK)];
    prop_oneof![
        3 => range().prop_map(Event::Claim),
        8 => (any::<usize>(), count()).prop_map(|(claim, bytes)| Event::Bytes(claim, bytes)),
        1 => (any::<usize>(), count()).prop_map(|(claim, back)| Event::Cut(claim, back)),
        1 => any::<usize>().prop_map(Event::Leave),
        1 => range().prop_map(Event::Read),
        2 => range().prop_map(Event::Follow),
        8 => any::<usize>().prop_map(Event::Take),
    ]
}

/// What becomes of the byte at a place.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Here,
    Coming,
    Missing,
}

struct OpenReader {
    reader: Reader,
    at: u64,
    end: u64,
    follows: bool,
}

struct Scene {
    bench: Bench,
    _dir: tempfile::TempDir,
    archive: Arc<Archive>,
    /// All bytes that it should have.
    bytes: Vec<u8>,
    claims: Vec<ChunkClaim>,
    readers: Vec<OpenReader>,
    here: BTreeSet<u64>,
    guarded: bool,
}

fn chunks(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() { 0..0 } else { range.start / CHUNK..range.end.div_ceil(CHUNK) }
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::new(dir.path(), 100 << 20);
        let record = Record { filled_at: 1_000_000, ..record::tests::record(1, 0, LENGTH) };
        let archive = bench.store.begin_in_parts(record).unwrap();
        assert!(bench.store.place(&archive, still).unwrap());
        let bytes = pattern(to_usize(LENGTH));
        let (claims, readers, here) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { bench, _dir: dir, archive, bytes, claims, readers, here, guarded: false }
    }

    fn bytes(&self, range: Range<u64>) -> &[u8] {
        &self.bytes[to_usize(range.start)..to_usize(range.end)]
    }

    /// Which claim brings a chunk, if one does.
    fn brings(&self, chunk: u64) -> Option<&ChunkClaim> {
        let start = |claim: &ChunkClaim| claim.written() - claim.written() % CHUNK;
        let rest = |claim: &ChunkClaim| chunks(&(start(claim)..claim.left().end));
        self.claims.iter().find(|claim| !claim.left().is_empty() && rest(claim).contains(&chunk))
    }

    fn next(&self, at: u64) -> Next {
        let chunk = at / CHUNK;
        match self.brings(chunk) {
            _ if self.here.contains(&chunk) => Next::Here,
            Some(claim) if claim.written() > at => Next::Here,
            Some(_) => Next::Coming,
            None => Next::Missing,
        }
    }

    async fn act(&mut self, event: Event) {
        let nth = |number: usize, length: usize| number.checked_rem(length);
        match event {
            Event::Claim(range) => self.claim(&range),
            Event::Bytes(number, count) => {
                if let Some(number) = nth(number, self.claims.len()) {
                    self.bring(number, count);
                }
            }
            Event::Cut(number, back) => {
                if let Some(number) = nth(number, self.claims.len()) {
                    let claim = &mut self.claims[number];
                    claim.go_on_at(claim.written().saturating_sub(back));
                    self.guarded = true;
                }
            }
            Event::Leave(number) => {
                if let Some(number) = nth(number, self.claims.len()) {
                    drop(self.claims.swap_remove(number));
                }
            }
            Event::Read(range) => self.open(range, false),
            Event::Follow(range) => self.open(range, true),
            Event::Take(number) => {
                if let Some(number) = nth(number, self.readers.len()) {
                    self.take(number).await;
                }
            }
        }
    }

    fn claim(&mut self, range: &Range<u64>) {
        let free = |chunk: &u64| !self.here.contains(chunk) && self.brings(*chunk).is_none();
        let first = chunks(range).find(free);
        let claim = self.bench.store.claim(&self.archive, range);
        assert_eq!(claim.as_ref().map(|claim| claim.left().start), first.map(|chunk| chunk * CHUNK));
        let Some(claim) = claim else { return };
        let run = chunks(&claim.left());
        assert!(run.clone().all(|chunk| free(&chunk)), "nobody brings what another one does");
        assert!(run.end == chunks(range).end || !free(&run.end), "it is all of the run");
        self.claims.push(claim);
    }

    fn bring(&mut self, number: usize, count: u64) {
        let left = self.claims[number].left();
        let piece = left.start..left.end.min(left.start + count);
        let before = self.claims[number].written();
        let bytes = self.bytes(piece.clone()).to_vec();
        self.claims[number].write(&bytes).unwrap();
        let written = self.claims[number].written();
        assert_eq!(written, before.max(piece.end));
        self.here.extend((0..=3).filter(|chunk| {
            let end = ((chunk + 1) * CHUNK).min(LENGTH);
            (before + 1..=written).contains(&end)
        }));
    }

    fn open(&mut self, range: Range<u64>, follows: bool) {
        let grant = grant(self.archive.id(), self.bench.clock.now());
        let (at, end) = (range.start, range.end);
        let reader = if follows {
            self.archive.follow(&grant, at, Some(end)).unwrap()
        } else {
            self.archive.read(&grant, range).unwrap()
        };
        self.readers.push(OpenReader { reader, at, end, follows });
    }

    /// Up to where a reader may go before all was found right.
    fn limit(&self, open: &OpenReader) -> u64 {
        let all = !open.follows && open.at == 0 && open.end == LENGTH;
        let kept_back = if open.follows { self.guarded } else { all };
        if kept_back { LENGTH - TAIL } else { LENGTH }
    }

    async fn take(&mut self, number: usize) {
        let open = &self.readers[number];
        // Whether it began at 0 decides; it is remembered by its limit from then on.
        let (at, end, next) = (open.at, open.end, self.next(open.at));
        let limit = self.limit(open);
        let open = &mut self.readers[number];
        if at < end && at < limit && next == Next::Coming {
            let polled = open.reader.poll_next(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Pending), "at {at}: {polled:?}, and nobody has brought it yet");
            return;
        }
        if at >= limit && at < end {
            // What is kept back is waited for, or an error; either way no byte of it is seen.
            let polled = open.reader.poll_next(&mut Context::from_waker(Waker::noop()));
            assert!(!matches!(polled, Poll::Ready(Some(Ok(_)) | None)), "at {at}: {polled:?}");
            self.readers.swap_remove(number);
            return;
        }
        let slice: Option<Result<Bytes, ReadError>> =
            std::future::poll_fn(|cx| open.reader.poll_next(cx)).await;
        match slice {
            None => assert_eq!(at, end),
            Some(Ok(slice)) => {
                assert!(at < end && next == Next::Here, "at {at}: {next:?}");
                let range = at..at + to_u64(slice.len());
                assert!(!slice.is_empty() && range.end <= end);
                open.at = range.end;
                assert!(slice == self.bytes(range.clone()), "{range:?} are other bytes");
                return;
            }
            Some(Err(_)) => assert!(next != Next::Here, "at {at}, which is here"),
        }
        self.readers.swap_remove(number);
    }

    /// Whatever is missing comes, and all is right.
    async fn end(mut self) {
        self.claims.clear();
        while let Some(mut claim) = self.bench.store.claim(&self.archive, &(0..LENGTH)) {
            let bytes = self.bytes(claim.left()).to_vec();
            claim.write(&bytes).unwrap();
            claim.finish().unwrap();
        }
        prove(&self.archive);
        assert!(self.bench.store.commit(&self.archive, still).unwrap());
        assert!(self.bench.read(1).await.unwrap() == self.bytes);
        let taken = self.bench.store.totals().bytes;
        self.readers.clear();
        assert!((LENGTH..LENGTH + (64 << 10)).contains(&taken), "{taken} bytes are taken");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// In whatever order ranges are claimed, brought, cut off, taken up and given up, each reader gets the bytes that belong
    /// where it reads, all that are here and none that aren't, and in the end all of them are there.
    #[test]
    fn an_archive_is_its_bytes_whoever_brings_and_reads_them(events in prop::collection::vec(event(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut scene = Scene::new();
            for event in events {
                scene.act(event).await;
            }
            scene.end().await;
        });
    }
}

/// What a reader gets, piece by piece, to its end or its error.
async fn rest(reader: &mut Reader) -> (Vec<u8>, bool) {
    let mut read = Vec::new();
    loop {
        match std::future::poll_fn(|cx| reader.poll_next(cx)).await {
            Some(Ok(piece)) => read.extend(piece),
            Some(Err(_)) => return (read, false),
            None => return (read, true),
        }
    }
}

fn source(bytes: &[u8]) -> Remainder {
    let bytes = Bytes::copy_from_slice(bytes);
    Remainder::new(async move { Some((Ok(bytes), None)) })
}

#[tokio::test]
async fn what_the_disk_did_not_take_follows_what_it_took_for_whoever_gets_there() {
    let bytes = pattern(to_usize(LENGTH));
    for length in [Some(LENGTH), None] {
        for written in [to_usize(CHUNK) / 2, to_usize(CHUNK), to_usize(CHUNK) + 4321, 2 * to_usize(CHUNK)] {
            let dir = tempfile::tempdir().unwrap();
            let bench = Bench::new(dir.path(), 100 << 20);
            let (archive, mut claim) = bench.begin(1, length).await.unwrap();
            let grant = grant(archive.id(), bench.clock.now());
            // One is far behind, one a little, and one asked for what is beyond.
            let [mut slow, mut late] = [0, 1].map(|_| archive.follow(&grant, 0, length).unwrap());
            let mut beyond = archive.follow(&grant, 3 * CHUNK, length).unwrap();
            claim.write(&bytes[..written]).unwrap();
            let first = std::future::poll_fn(|cx| slow.poll_next(cx)).await.unwrap().unwrap();
            archive.leave(claim, source(&bytes[written..]));
            let (read, whole) = rest(&mut beyond).await;
            assert!(read.is_empty() && !whole, "{length:?}, {written}: it isn't there");
            let (read, whole) = rest(&mut slow).await;
            assert!(whole && [&first[..], &read].concat() == bytes, "{length:?}, {written}");
            // What is left at the source is there once.
            let (read, whole) = rest(&mut late).await;
            assert!(!whole && read == bytes[..written], "{length:?}, {written}: {}", read.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_is_there_inherits_at_whatever_moment_the_disk_gives_up() {
    let bytes = pattern(100_000);
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), 100 << 20);
    for round in 0..500 {
        let (archive, mut claim) = bench.begin(1, Some(to_u64(bytes.len()))).await.unwrap();
        let grant = grant(archive.id(), bench.clock.now());
        let mut reader = archive.follow(&grant, 0, None).unwrap();
        let reading = tokio::spawn(async move { rest(&mut reader).await });
        claim.write(&bytes[..50_000]).unwrap();
        archive.leave(claim, source(&bytes[50_000..]));
        let (read, whole) = reading.await.unwrap();
        assert!(whole && read == bytes, "{round}: {} bytes", read.len());
    }
}
