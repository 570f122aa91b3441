//! Which chunks of an open archive were found to be as they were written.
//!
//! The checksum is XXH3-128: some 13 GB/s a core, where SHA-256 makes two at best, so that even the first reader of a chunk
//! doesn't wait for it. It tells decay, not an attacker: who can write to the store can write records as well, and what comes
//! from GitLab is compared with GitLab's own SHA-256. `twox-hash` is pure Rust and maintained.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use twox_hash::XxHash3_128;

use super::record::{CHUNK, chunks_of};
use crate::num::{to_u64, to_usize};

/// Bits in a word.
const WORD: usize = 64;

/// A bit for each chunk: whether its bytes were compared with its checksum since the archive was opened.
#[derive(Debug)]
pub(super) struct Chunks {
    length: u64,
    compared: Vec<AtomicU64>,
    /// The checksum of each chunk that is here.
    sums: Mutex<Vec<u128>>,
}

impl Chunks {
    /// Of an archive of `length` bytes with these checksums. `compared`: all of them, as its bytes were written a moment
    /// ago.
    pub(super) fn new(length: u64, sums: Vec<u128>, compared: bool) -> Self {
        let word = if compared { u64::MAX } else { 0 };
        let words = chunks_of(length).div_ceil(WORD);
        let compared = (0..words).map(|_| AtomicU64::new(word)).collect();
        Self { length, compared, sums: Mutex::new(sums) }
    }

    /// The chunk that holds a byte.
    pub(super) const fn of(at: u64) -> u64 {
        at / CHUNK
    }

    /// The bytes of a chunk.
    pub(super) fn bytes(&self, chunk: u64) -> Range<u64> {
        let start = chunk.saturating_mul(CHUNK).min(self.length);
        start..start.saturating_add(CHUNK).min(self.length)
    }

    /// Whether a chunk was compared.
    pub(super) fn is_compared(&self, chunk: u64) -> bool {
        self.word(chunk).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Whether all chunks were.
    pub(super) fn are_compared(&self) -> bool {
        (0..to_u64(chunks_of(self.length))).step_by(WORD).all(|first| {
            let wanted = to_u64(chunks_of(self.length)).saturating_sub(first).min(to_u64(WORD));
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

    /// A chunk's checksum.
    pub(super) fn sum(&self, chunk: u64) -> Option<u128> {
        self.sums.lock().get(to_usize(chunk)).copied()
    }

    /// All checksums.
    pub(super) fn sums(&self) -> Vec<u128> {
        self.sums.lock().clone()
    }

    /// Notes the checksum of a chunk that has just come.
    pub(super) fn came(&self, chunk: u64, sum: u128) {
        if let Some(place) = self.sums.lock().get_mut(to_usize(chunk)) {
            *place = sum;
        }
        self.was_compared(chunk);
    }

    /// Notes that a chunk must be compared again.
    pub(super) fn doubt(&self, chunk: u64) {
        if let Some((word, bit)) = self.word(chunk) {
            word.fetch_and(!bit, Ordering::Release);
        }
    }

    fn word(&self, chunk: u64) -> Option<(&AtomicU64, u64)> {
        let word = self.compared.get(to_usize(chunk / to_u64(WORD)))?;
        Some((word, 1 << (chunk % to_u64(WORD))))
    }
}

/// Whether bytes have a chunk's checksum.
pub(super) fn is_sound(bytes: &[u8], checksum: u128) -> bool {
    sum_of(bytes) == checksum
}

/// The checksum of a chunk's bytes.
pub(super) fn sum_of(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_byte_once() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 130 * CHUNK + 7] {
            let chunks = Chunks::new(length, Vec::new(), false);
            let mut next = 0;
            for chunk in 0..to_u64(chunks_of(length)) {
                let bytes = chunks.bytes(chunk);
                assert_eq!((bytes.start, Chunks::of(bytes.start)), (next, chunk));
                assert_eq!(Chunks::of(bytes.end - 1), chunk);
                next = bytes.end;
            }
            assert_eq!(next, length);
        }
    }

    #[test]
    fn one_bit_a_chunk() {
        let chunks = Chunks::new(130 * CHUNK, Vec::new(), false);
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
        assert!((0..130).all(|chunk| Chunks::new(130 * CHUNK, Vec::new(), true).is_compared(chunk)));
        for last in [1, 64, 65, 130] {
            let chunks = Chunks::new(last * CHUNK, Vec::new(), false);
            for chunk in 0..last {
                assert!(!chunks.are_compared());
                chunks.was_compared(chunk);
            }
            assert!(chunks.are_compared() && Chunks::new(last * CHUNK, Vec::new(), true).are_compared());
        }
        assert!(Chunks::new(0, Vec::new(), false).are_compared(), "there is nothing to compare");
    }
}
