//! What is known of each chunk of an archive: whether it is here, who fetches it, its checksum, and whether its bytes were
//! found to be as they were written.
//!
//! The checksum is XXH3-128: some 13 GB/s a core, where SHA-256 makes two at best, so that even the first reader of a chunk
//! doesn't wait for it. It tells decay, not an attacker: who can write to the store can write records as well, and what comes
//! from GitLab is compared with GitLab's own SHA-256. `twox-hash` is pure Rust and maintained.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use twox_hash::XxHash3_128;

use super::bitmap::ChunkBitmap;
use crate::base::num::{to_u64, to_usize};
use crate::store::record::{CHUNK, chunks_of};

/// Bits in a word.
const WORD: usize = 64;

/// The states of an archive's chunks. Each missing chunk is fetched by one at a time.
#[derive(Debug)]
pub(in crate::store) struct ChunkStates {
    length: OnceLock<u64>,
    states: Mutex<States>,
    /// A bit for each chunk: whether its bytes were compared with its checksum since the archive was opened. Without a
    /// length there are none yet: whatever is here was written a moment ago.
    compared: OnceLock<Vec<AtomicU64>>,
    /// Rises with all that those who wait may wait for.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct States {
    here: ChunkBitmap,
    /// The checksum of each chunk that is here; anything for the others.
    sums: Vec<u128>,
    claimed: Vec<Claimed>,
    next: u64,
    /// Nobody has read anything from this place on.
    reach: u64,
}

/// A run of chunks that somebody fetches.
#[derive(Debug)]
struct Claimed {
    number: u64,
    /// Those that aren't here yet.
    chunks: Range<u64>,
    /// Bytes of the first of them are here up to this place.
    watermark: u64,
    /// Nothing more comes by it, and what is written is still read.
    is_over: bool,
}

impl Claimed {
    /// Whether the bytes of its chunk `chunk` are here up to `end`.
    fn has(&self, chunk: u64, end: u64) -> bool {
        self.chunks.start == chunk && self.watermark >= end
    }
}

/// How much of some bytes is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    /// All.
    All,
    /// What isn't is on its way.
    Coming,
    /// Something that nobody fetches isn't.
    Missing,
}

/// What a reader finds at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// Bytes up to this place, all in one chunk, which is here as a whole.
    Chunk(u64),
    /// Bytes up to this place, in a chunk that is being written.
    Watermark(u64),
    /// Nothing yet.
    Coming,
    /// Nothing, and nobody fetches it.
    Missing,
}

impl States {
    fn claim_of(&self, chunk: u64) -> Option<&Claimed> {
        self.claimed.iter().find(|claimed| claimed.chunks.contains(&chunk))
    }
}

impl ChunkStates {
    /// Of an archive of a length, if that is known, with some chunks here. `compared`: those were written a moment ago.
    pub(in crate::store) fn new(
        length: Option<u64>,
        here: ChunkBitmap,
        sums: Vec<u128>,
        compared: bool,
    ) -> Self {
        let reach = here.end().saturating_mul(CHUNK);
        let states = Mutex::new(States { here, sums, claimed: Vec::new(), next: 0, reach });
        let changes = watch::Sender::new(0);
        let chunks = Self { length: OnceLock::new(), states, compared: OnceLock::new(), changes };
        if let Some(length) = length {
            chunks.set_length(length, compared);
        }
        chunks
    }

    fn set_length(&self, length: u64, compared: bool) {
        let word = if compared { u64::MAX } else { 0 };
        let words = chunks_of(length).div_ceil(WORD);
        // Both once, before anybody looks: when it is made, or by the one who writes.
        let _ = self.compared.set((0..words).map(|_| AtomicU64::new(word)).collect());
        let _ = self.length.set(length);
    }

    /// The length turned out to be this: all that came.
    pub(super) fn settle(&self, length: u64) {
        if self.length.get().is_none() {
            self.set_length(length, true);
            let mut states = self.states.lock();
            states.here = ChunkBitmap::all(length);
            states.sums.truncate(chunks_of(length));
        }
    }

    /// Bytes of the archive, once that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length.get().copied()
    }

    /// The chunk that holds a byte.
    pub(in crate::store) const fn of(at: u64) -> u64 {
        at / CHUNK
    }

    /// The bytes of a chunk.
    pub(in crate::store) fn bytes(&self, chunk: u64) -> Range<u64> {
        let end = self.length().unwrap_or(u64::MAX);
        let start = chunk.saturating_mul(CHUNK).min(end);
        start..start.saturating_add(CHUNK).min(end)
    }

    /// The bytes of a run of chunks; without end those of one without end.
    pub(in crate::store) fn span(&self, run: &Range<u64>) -> Range<u64> {
        let last = run.end.saturating_sub(1).max(run.start);
        self.bytes(run.start).start..if run.end == u64::MAX { u64::MAX } else { self.bytes(last).end }
    }

    /// How much of some bytes is here.
    pub(super) fn availability(&self, range: &Range<u64>) -> Availability {
        let states = self.states.lock();
        let mut availability = Availability::All;
        for chunk in chunks_within(range) {
            if states.here.has(chunk) {
                continue;
            }
            match states.claim_of(chunk) {
                // What is written of it may be all that is asked about.
                Some(claimed) if claimed.has(chunk, range.end) => {}
                Some(claimed) if !claimed.is_over => availability = Availability::Coming,
                Some(_) | None => return Availability::Missing,
            }
        }
        availability
    }

    /// What there is at a place.
    pub(super) fn readable(&self, at: u64) -> Readable {
        let (chunk, states) = (Self::of(at), self.states.lock());
        if states.here.has(chunk) {
            return Readable::Chunk(self.bytes(chunk).end);
        }
        match states.claim_of(chunk) {
            Some(claimed) if claimed.has(chunk, at.saturating_add(1)) => {
                Readable::Watermark(claimed.watermark)
            }
            Some(claimed) if !claimed.is_over => Readable::Coming,
            Some(_) | None => Readable::Missing,
        }
    }

    /// Takes the first run of chunks within `wanted` that are neither here nor fetched by anybody: its number, and which.
    pub(in crate::store) fn claim(&self, wanted: &Range<u64>) -> Option<(u64, Range<u64>)> {
        let mut states = self.states.lock();
        let is_open_ended = self.length().is_none();
        let run = if is_open_ended {
            // Whoever takes an archive without a length takes all of it.
            states.claimed.is_empty().then_some(0..u64::MAX)?
        } else {
            states.here.first_gap(|chunk| states.claim_of(chunk).is_some(), chunks_within(wanted))?
        };
        let number = states.next;
        states.next += 1;
        let watermark = run.start.saturating_mul(CHUNK);
        states.claimed.push(Claimed { number, chunks: run.clone(), watermark, is_over: false });
        Some((number, run))
    }

    /// Bytes of a claim's first chunk are here up to a place.
    pub(super) fn wrote(&self, number: u64, watermark: u64) {
        let mut states = self.states.lock();
        if let Some(claimed) = states.claimed.iter_mut().find(|claimed| claimed.number == number) {
            claimed.watermark = watermark;
        }
        states.reach = states.reach.max(watermark);
        drop(states);
        self.tell();
    }

    /// A claim's first chunk is here.
    pub(super) fn came(&self, number: u64, chunk: u64, sum: u128) {
        let mut states = self.states.lock();
        let place = to_usize(chunk);
        if states.sums.len() <= place {
            states.sums.resize(place + 1, 0);
        }
        if let Some(slot) = states.sums.get_mut(place) {
            *slot = sum;
        }
        states.here.set(chunk, true);
        if let Some(claimed) = states.claimed.iter_mut().find(|claimed| claimed.number == number) {
            claimed.chunks.start = chunk + 1;
            claimed.watermark = claimed.chunks.start.saturating_mul(CHUNK);
        }
        states.reach = states.reach.max((chunk + 1).saturating_mul(CHUNK));
        drop(states);
        self.was_compared(chunk);
        self.tell();
    }

    /// What is left of a claim won't come by it. Unless that [is over](Self::end) it is free for others, what is written of
    /// its first chunk included.
    pub(super) fn release(&self, number: u64) {
        self.states.lock().claimed.retain(|claimed| claimed.number != number || claimed.is_over);
        self.tell();
    }

    /// What is left of a claim won't come by anything. What is written of its first chunk stays to be read.
    pub(super) fn end(&self, number: u64) {
        let mut states = self.states.lock();
        if let Some(claimed) = states.claimed.iter_mut().find(|claimed| claimed.number == number) {
            claimed.is_over = true;
        }
    }

    /// A chunk that was here turned out to be damaged.
    pub(super) fn lost(&self, chunk: u64) {
        self.states.lock().here.set(chunk, false);
        self.tell();
    }

    /// Which chunks are here.
    pub(super) fn here(&self) -> ChunkBitmap {
        self.states.lock().here.clone()
    }

    /// Chunks that are here or on their way, and chunks in all.
    pub(super) fn wanted(&self) -> (u64, u64) {
        let states = self.states.lock();
        let coming = states.claimed.iter().map(|claimed| claimed.chunks.end - claimed.chunks.start);
        (coming.fold(states.here.count(), u64::saturating_add), states.here.chunks())
    }

    /// Nobody has read anything from this place on.
    pub(in crate::store) fn reach(&self) -> u64 {
        self.states.lock().reach
    }

    /// All checksums, of what isn't here as well.
    pub(super) fn sums(&self) -> Vec<u128> {
        self.states.lock().sums.clone()
    }

    /// A chunk's checksum.
    pub(super) fn sum(&self, chunk: u64) -> Option<u128> {
        self.states.lock().sums.get(to_usize(chunk)).copied()
    }

    /// For whoever waits: changes with each chunk that comes or is given up.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Those who wait look again.
    pub(super) fn tell(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Whether a chunk was compared.
    pub(in crate::store) fn is_compared(&self, chunk: u64) -> bool {
        self.length.get().is_none()
            || self.word(chunk).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Whether all chunks were.
    pub(super) fn are_compared(&self) -> bool {
        let chunks = self.length().map_or(0, |length| to_u64(chunks_of(length)));
        (0..chunks).step_by(WORD).all(|first| {
            let wanted = chunks.saturating_sub(first).min(to_u64(WORD));
            let mask = if wanted == to_u64(WORD) { u64::MAX } else { (1 << wanted) - 1 };
            self.word(first).is_some_and(|(word, _)| word.load(Ordering::Acquire) & mask == mask)
        })
    }

    /// Notes that a chunk was compared, and is as it should be.
    pub(super) fn was_compared(&self, chunk: u64) {
        if let Some((word, bit)) = self.word(chunk) {
            word.fetch_or(bit, Ordering::Release);
        }
    }

    /// Notes that a chunk must be compared again.
    pub(in crate::store) fn doubt(&self, chunk: u64) {
        if let Some((word, bit)) = self.word(chunk) {
            word.fetch_and(!bit, Ordering::Release);
        }
    }

    fn word(&self, chunk: u64) -> Option<(&AtomicU64, u64)> {
        let word = self.compared.get()?.get(to_usize(chunk / to_u64(WORD)))?;
        Some((word, 1 << (chunk % to_u64(WORD))))
    }
}

/// The chunks that some bytes lie in.
fn chunks_within(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    ChunkStates::of(range.start)..ChunkStates::of(range.end - 1) + 1
}

/// Whether bytes have a chunk's checksum.
pub(in crate::store) fn is_sound(bytes: &[u8], checksum: u128) -> bool {
    XxHash3_128::oneshot(bytes) == checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(length: u64, compared: bool) -> ChunkStates {
        ChunkStates::new(Some(length), ChunkBitmap::all(length), Vec::new(), compared)
    }

    #[test]
    fn chunks_cover_every_byte_once() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 130 * CHUNK + 7] {
            let chunks = of(length, false);
            let mut next = 0;
            for chunk in 0..to_u64(chunks_of(length)) {
                let bytes = chunks.bytes(chunk);
                assert_eq!((bytes.start, ChunkStates::of(bytes.start)), (next, chunk));
                assert_eq!(ChunkStates::of(bytes.end - 1), chunk);
                next = bytes.end;
            }
            assert_eq!(next, length);
        }
    }

    #[test]
    fn one_bit_a_chunk() {
        let chunks = of(130 * CHUNK, false);
        for chunk in [0, 63, 64, 129] {
            assert!(!chunks.is_compared(chunk));
            chunks.was_compared(chunk);
            assert!(chunks.is_compared(chunk));
            chunks.doubt(chunk);
            assert!(!chunks.is_compared(chunk));
            chunks.was_compared(chunk);
        }
        assert!([1, 62, 65, 128].iter().all(|chunk| !chunks.is_compared(*chunk)));
        assert!(!chunks.is_compared(1_000_000), "there is none");
        assert!((0..130).all(|chunk| of(130 * CHUNK, true).is_compared(chunk)));
        for last in [1, 64, 65, 130] {
            let chunks = of(last * CHUNK, false);
            for chunk in 0..last {
                assert!(!chunks.are_compared());
                chunks.was_compared(chunk);
            }
            assert!(chunks.are_compared() && of(last * CHUNK, true).are_compared());
        }
        assert!(of(0, false).are_compared(), "there is nothing to compare");
    }

    #[test]
    fn an_archive_without_a_length_is_taken_by_one_and_read_as_it_comes() {
        let chunks = ChunkStates::new(None, ChunkBitmap::open_ended(), Vec::new(), true);
        assert_eq!(chunks.readable(0), Readable::Missing);
        let (number, run) = chunks.claim(&(0..1)).unwrap();
        assert_eq!(run, 0..u64::MAX);
        assert_eq!(chunks.claim(&(0..1)), None);
        assert_eq!(chunks.readable(0), Readable::Coming);
        assert_eq!(
            chunks.readable(u64::MAX),
            Readable::Coming,
            "a client may ask for the last byte there can be"
        );
        chunks.wrote(number, 10);
        assert_eq!((chunks.readable(9), chunks.readable(10)), (Readable::Watermark(10), Readable::Coming));
        chunks.came(number, 0, 7);
        chunks.wrote(number, CHUNK + 5);
        assert_eq!(chunks.readable(3), Readable::Chunk(CHUNK));
        assert_eq!(chunks.readable(CHUNK), Readable::Watermark(CHUNK + 5));
        chunks.came(number, 1, 8);
        chunks.settle(CHUNK + 5);
        chunks.release(number);
        assert_eq!((chunks.length(), chunks.sums()), (Some(CHUNK + 5), vec![7, 8]));
        assert_eq!(chunks.availability(&(0..CHUNK + 5)), Availability::All);
        assert_eq!(chunks.readable(CHUNK), Readable::Chunk(CHUNK + 5));
    }

    proptest::proptest! {
        /// Whatever is wanted of whatever is here, exactly what is missing is claimed, each chunk once.
        #[test]
        fn any_ranges_on_any_bitmap_claim_exactly_what_is_missing(
            here in proptest::collection::vec(0_u64..100, 0..60),
            ranges in proptest::collection::vec((0_u64..100, 1_u64..100), 0..20),
        ) {
            let length = 100 * CHUNK;
            let mut bitmap = ChunkBitmap::none(length);
            for chunk in &here {
                bitmap.set(*chunk, true);
            }
            let chunks = ChunkStates::new(Some(length), bitmap.clone(), vec![0; 100], true);
            let bytes = |run: Range<u64>| run.start * CHUNK..run.end * CHUNK;
            let (mut claimed, mut claims) = (Vec::new(), Vec::new());
            for (from, span) in &ranges {
                while let Some((number, run)) = chunks.claim(&bytes(*from..(from + span).min(100))) {
                    proptest::prop_assert_eq!(chunks.availability(&bytes(run.clone())), Availability::Coming);
                    claimed.extend(run.clone());
                    claims.push((number, run));
                }
            }
            claimed.sort_unstable();
            let wanted = |chunk: &u64| ranges.iter().any(|(from, span)| (*from..from + span).contains(chunk));
            let missing: Vec<u64> = (0..100).filter(|chunk| wanted(chunk) && !bitmap.has(*chunk)).collect();
            proptest::prop_assert_eq!(&claimed, &missing);
            for (turn, (number, run)) in claims.into_iter().enumerate() {
                let came = run.start..run.start + if turn % 2 == 0 { run.end - run.start } else { (run.end - run.start) / 2 };
                for chunk in came.clone() {
                    chunks.came(number, chunk, u128::from(chunk));
                }
                chunks.release(number);
                for chunk in run {
                    let expected = if came.contains(&chunk) { Availability::All } else { Availability::Missing };
                    proptest::prop_assert_eq!(chunks.availability(&bytes(chunk..chunk + 1)), expected);
                }
            }
        }
    }
}
