//! Which chunks of an archive are here. Pure.

use std::ops::Range;

use super::record::chunks_of;
use crate::num::{to_u64, to_usize};

/// Bits in a word.
const WORD: u64 = 64;

/// A bit for each chunk of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    words: Vec<u64>,
    chunks: u64,
}

impl Presence {
    /// Of an archive of `length` bytes, nothing of which is here.
    pub fn none(length: u64) -> Self {
        let chunks = to_u64(chunks_of(length));
        Self { words: vec![0; to_usize(chunks.div_ceil(WORD))], chunks }
    }

    /// From a record; `None` if it isn't of an archive of `length` bytes.
    pub(super) fn from_bytes(bytes: &[u8], length: u64) -> Option<Self> {
        let mut presence = Self::none(length);
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || words.len() != presence.words.len() {
            return None;
        }
        presence.words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let beyond = presence.chunks..to_u64(words.len()) * WORD;
        (!beyond.into_iter().any(|chunk| presence.bit(chunk))).then_some(presence)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Whether a chunk is here.
    pub fn has(&self, chunk: u64) -> bool {
        chunk < self.chunks && self.bit(chunk)
    }

    fn bit(&self, chunk: u64) -> bool {
        self.words.get(to_usize(chunk / WORD)).is_some_and(|word| word >> (chunk % WORD) & 1 == 1)
    }

    /// Notes whether a chunk is here.
    pub fn set(&mut self, chunk: u64, here: bool) {
        if chunk >= self.chunks {
            return;
        }
        if let Some(word) = self.words.get_mut(to_usize(chunk / WORD)) {
            let bit = 1 << (chunk % WORD);
            *word = if here { *word | bit } else { *word & !bit };
        }
    }

    /// How many chunks are here.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many there are in all.
    pub const fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The first run of chunks within `wanted` that are neither here nor in `other`.
    pub(super) fn first_gap(&self, other: &Self, wanted: Range<u64>) -> Option<Range<u64>> {
        let wanted = wanted.start..wanted.end.min(self.chunks);
        let is_gap = |chunk: &u64| !self.bit(*chunk) && !other.bit(*chunk);
        let first = wanted.clone().find(is_gap)?;
        let end = (first..wanted.end).find(|chunk| !is_gap(chunk)).unwrap_or(wanted.end);
        Some(first..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::CHUNK;

    fn of(chunks: u64, here: &[u64]) -> Presence {
        let mut presence = Presence::none(chunks * CHUNK);
        for chunk in here {
            presence.set(*chunk, true);
        }
        presence
    }

    #[test]
    fn bits_are_bytes_and_back_and_none_stand_beyond_the_end() {
        for (chunks, here) in
            [(0, vec![]), (1, vec![0]), (64, vec![0, 63]), (65, vec![64]), (200, vec![3, 150])]
        {
            let presence = of(chunks, &here);
            assert_eq!(presence.count(), to_u64(here.len()));
            assert_eq!(Presence::from_bytes(&presence.to_bytes(), chunks * CHUNK), Some(presence));
        }
        assert_eq!(Presence::from_bytes(&[0xff; 8], 63 * CHUNK), None, "a bit beyond the end");
        assert_eq!(Presence::from_bytes(&[0; 8], 65 * CHUNK), None);
        assert_eq!(Presence::from_bytes(&[0; 9], 64 * CHUNK), None);
        let mut presence = of(3, &[]);
        presence.set(3, true);
        assert!(!presence.has(3) && presence.count() == 0);
    }

    proptest::proptest! {
        #[test]
        fn a_gap_is_the_first_run_that_a_naive_look_finds(
            here in proptest::collection::vec(0_u64..150, 0..80),
            others in proptest::collection::vec(0_u64..150, 0..80),
            from in 0_u64..160,
            span in 0_u64..160,
        ) {
            let (presence, other) = (of(150, &here), of(150, &others));
            let missing: Vec<u64> = (from..from + span)
                .filter(|chunk| *chunk < 150 && !here.contains(chunk) && !others.contains(chunk))
                .collect();
            let run = missing.iter().zip(missing.first().copied().unwrap_or(0)..).take_while(|(a, b)| **a == *b).count();
            let expected = missing.first().map(|first| *first..first + to_u64(run));
            proptest::prop_assert_eq!(presence.first_gap(&other, from..from + span), expected);
        }
    }
}
