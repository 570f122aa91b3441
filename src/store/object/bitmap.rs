//! Which chunks of an archive are here. Pure.

use std::ops::Range;

use crate::base::num::{to_u64, to_usize};

/// Bytes an archive's checksums cover each.
pub(crate) const CHUNK: u64 = 1 << 20;

/// How many chunks cover a length.
pub fn chunks_of(length: u64) -> usize {
    crate::base::num::to_usize(length.div_ceil(CHUNK))
}

/// Bits in a word.
const WORD: u64 = 64;

/// A bit for each chunk of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkBitmap {
    words: Vec<u64>,
    chunks: u64,
}

impl ChunkBitmap {
    /// Of an archive of any length, nothing of which is here: it grows with what comes.
    pub(in crate::store) const fn open_ended() -> Self {
        Self { words: Vec::new(), chunks: u64::MAX }
    }

    /// Of an archive of `length` bytes, all of which are here.
    pub(in crate::store) fn all(length: u64) -> Self {
        let mut all = Self::none(length);
        for chunk in 0..all.chunks {
            all.set(chunk, true);
        }
        all
    }

    /// Of an archive of `length` bytes, nothing of which is here.
    pub(crate) fn none(length: u64) -> Self {
        let chunks = to_u64(chunks_of(length));
        Self { words: vec![0; to_usize(chunks.div_ceil(WORD))], chunks }
    }

    /// From a record; `None` if it isn't of an archive of `length` bytes.
    pub(in crate::store) fn from_bytes(bytes: &[u8], length: u64) -> Option<Self> {
        let mut bitmap = Self::none(length);
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || words.len() != bitmap.words.len() {
            return None;
        }
        bitmap.words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let beyond = bitmap.chunks..to_u64(words.len()) * WORD;
        (!beyond.into_iter().any(|chunk| bitmap.bit(chunk))).then_some(bitmap)
    }

    pub(in crate::store) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Whether a chunk is here.
    pub(crate) fn has(&self, chunk: u64) -> bool {
        chunk < self.chunks && self.bit(chunk)
    }

    fn bit(&self, chunk: u64) -> bool {
        self.words.get(to_usize(chunk / WORD)).is_some_and(|word| word >> (chunk % WORD) & 1 == 1)
    }

    /// Notes whether a chunk is here.
    pub(crate) fn set(&mut self, chunk: u64, here: bool) {
        if chunk >= self.chunks {
            return;
        }
        let word = to_usize(chunk / WORD);
        if self.chunks == u64::MAX && here && word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            let bit = 1 << (chunk % WORD);
            *word = if here { *word | bit } else { *word & !bit };
        }
    }

    /// How many chunks are here.
    pub(crate) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The place behind the last chunk that is here.
    pub(super) fn end(&self) -> u64 {
        let last = self.words.iter().rposition(|word| *word != 0);
        last.map_or(0, |last| {
            let word = self.words.get(last).copied().unwrap_or_default();
            to_u64(last) * WORD + WORD - u64::from(word.leading_zeros())
        })
    }

    /// How many there are in all.
    pub(crate) const fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The first run of chunks within `wanted` that are neither here nor among the `others`.
    pub(super) fn first_gap(&self, others: impl Fn(u64) -> bool, wanted: Range<u64>) -> Option<Range<u64>> {
        let wanted = wanted.start..wanted.end.min(self.chunks);
        let is_gap = |chunk: &u64| !self.bit(*chunk) && !others(*chunk);
        let first = wanted.clone().find(is_gap)?;
        let end = (first..wanted.end).find(|chunk| !is_gap(chunk)).unwrap_or(wanted.end);
        Some(first..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(chunks: u64, here: &[u64]) -> ChunkBitmap {
        let mut bitmap = ChunkBitmap::none(chunks * CHUNK);
        for chunk in here {
            bitmap.set(*chunk, true);
        }
        bitmap
    }

    #[test]
    fn bits_are_bytes_and_back_and_none_stand_beyond_the_end() {
        for (chunks, here) in
            [(0, vec![]), (1, vec![0]), (64, vec![0, 63]), (65, vec![64]), (200, vec![3, 150])]
        {
            let bitmap = of(chunks, &here);
            assert_eq!(bitmap.count(), to_u64(here.len()));
            assert_eq!(bitmap.end(), here.iter().max().map_or(0, |last| last + 1));
            assert_eq!(ChunkBitmap::from_bytes(&bitmap.to_bytes(), chunks * CHUNK), Some(bitmap));
        }
        assert_eq!(ChunkBitmap::from_bytes(&[0xff; 8], 63 * CHUNK), None, "a bit beyond the end");
        assert_eq!(ChunkBitmap::from_bytes(&[0; 8], 65 * CHUNK), None);
        assert_eq!(ChunkBitmap::from_bytes(&[0; 9], 64 * CHUNK), None);
        let mut bitmap = of(3, &[]);
        bitmap.set(3, true);
        assert!(!bitmap.has(3) && bitmap.count() == 0);
    }

    proptest::proptest! {
        #[test]
        fn a_gap_is_the_first_run_that_a_naive_look_finds(
            here in proptest::collection::vec(0_u64..150, 0..80),
            others in proptest::collection::vec(0_u64..150, 0..80),
            from in 0_u64..160,
            span in 0_u64..160,
        ) {
            let (bitmap, other) = (of(150, &here), of(150, &others));
            let missing: Vec<u64> = (from..from + span)
                .filter(|chunk| *chunk < 150 && !here.contains(chunk) && !others.contains(chunk))
                .collect();
            let run = missing.iter().zip(missing.first().copied().unwrap_or(0)..).take_while(|(a, b)| **a == *b).count();
            let expected = missing.first().map(|first| *first..first + to_u64(run));
            proptest::prop_assert_eq!(bitmap.first_gap(|chunk| other.has(chunk), from..from + span), expected);
        }
    }
}
