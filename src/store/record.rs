//! What stands beside each archive on disk.
//!
//! A record is self-contained: with it and the archive, everything else can be rebuilt. Its frame, which every version
//! shares, is `magic (8) | version (4, LE) | payload length (4, LE) | payload | XXH3-128 of all before it (16, LE)`.
//! The payload of version 1 is a `postcard` encoding of [`Record`].

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::presence::Presence;
use crate::fields::Kept;
use crate::grant::{Etag, Facts};
use crate::key::{ArchiveId, Key};
use crate::route::Class;

const MAGIC: &[u8; 8] = b"larder\0r";
const VERSION: u32 = 1;
const HEAD: usize = 16;
const CHECKSUM: usize = 16;

/// Bytes an archive's checksums cover each.
pub const CHUNK: u64 = 1 << 20;

/// Longest record that is read: checksums of a 4 TiB archive.
const LONGEST: usize = 72 << 20;

/// Why bytes aren't a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Written by another version of larder; it is left alone.
    #[error("record version {0} is not {VERSION}: written by another larder, left alone")]
    Version(u32),
    /// Cut, overwritten, or never one.
    #[error("not a whole record: {0}")]
    Damaged(&'static str),
}

/// What is known of an archive on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is stored under.
    pub key: Key,
    /// Its name.
    pub id: ArchiveId,
    /// Length, bytes.
    pub length: u64,
    /// When it was filled, seconds since the Unix epoch.
    pub filled_at: u64,
    /// By what it is recognised.
    pub facts: Facts,
    /// The entity tag clients get; fixed when the fill began.
    pub etag: Option<Etag>,
    /// The fields clients get.
    pub kept: Kept,
    /// The route on which GitLab gave them.
    pub class: Class,
    /// XXH3-128 of each [`CHUNK`], in order; anything where one isn't here.
    pub chunks: Vec<u128>,
    /// Which chunks are here; `None`: all, and the archive is whole.
    pub present: Option<Presence>,
}

/// The record as it is written: types whose form may not change within a version.
#[derive(Serialize, Deserialize)]
struct V1 {
    key: Vec<u8>,
    id: u64,
    length: u64,
    filled_at: u64,
    facts: Facts,
    etag: Option<Etag>,
    kept: Kept,
    class: u8,
    chunks: Vec<u128>,
    /// Which chunks are present, one bit each; absent: all.
    present: Option<Vec<u8>>,
}

impl Record {
    /// The record's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, BadRecord> {
        let v1 = V1 {
            key: self.key.to_bytes(),
            id: self.id.get(),
            length: self.length,
            filled_at: self.filled_at,
            facts: self.facts.clone(),
            etag: self.etag.clone(),
            kept: self.kept.clone(),
            class: u8::try_from(self.class.index()).unwrap_or(u8::MAX),
            chunks: self.chunks.clone(),
            present: self.present.as_ref().map(Presence::to_bytes),
        };
        let payload = postcard::to_stdvec(&v1).map_err(|_| BadRecord::Damaged("it can't be encoded"))?;
        let length = u32::try_from(payload.len()).map_err(|_| BadRecord::Damaged("it is too long"))?;
        let mut bytes = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &length.to_le_bytes(), &payload].concat();
        bytes.extend(XxHash3_128::oneshot(&bytes).to_le_bytes());
        Ok(bytes)
    }

    /// Reads a record. The checksum is looked at before anything is believed.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let payload = payload(bytes)?;
        let v1: V1 =
            postcard::from_bytes(payload).map_err(|_| BadRecord::Damaged("its payload can't be read"))?;
        let key = Key::from_bytes(&v1.key).ok_or(BadRecord::Damaged("its key is none"))?;
        let class = Class::at(v1.class.into()).ok_or(BadRecord::Damaged("its route is none"))?;
        let uncovered = BadRecord::Damaged("its chunks don't cover its length");
        if v1.chunks.len() != chunks_of(v1.length) {
            return Err(uncovered);
        }
        let present = match v1.present {
            Some(bits) => Some(Presence::from_bytes(&bits, v1.length).ok_or(uncovered)?),
            None => None,
        };
        Ok(Self {
            key,
            id: ArchiveId::new(v1.id),
            length: v1.length,
            filled_at: v1.filled_at,
            facts: v1.facts,
            etag: v1.etag,
            kept: v1.kept,
            class,
            chunks: v1.chunks,
            present,
        })
    }
}

/// How many chunks cover a length.
pub fn chunks_of(length: u64) -> usize {
    crate::num::to_usize(length.div_ceil(CHUNK))
}

fn payload(bytes: &[u8]) -> Result<&[u8], BadRecord> {
    if bytes.len() > LONGEST {
        return Err(BadRecord::Damaged("it is too long"));
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or(BadRecord::Damaged("it doesn't begin as one"))?;
    let (version, _) = rest.split_first_chunk::<4>().ok_or(BadRecord::Damaged("it is cut"))?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(BadRecord::Version(version));
    }
    let (covered, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(BadRecord::Damaged("it is cut"))?;
    if XxHash3_128::oneshot(covered) != u128::from_le_bytes(*checksum) {
        return Err(BadRecord::Damaged("its checksum is wrong"));
    }
    let (head, payload) = covered.split_at_checked(HEAD).ok_or(BadRecord::Damaged("it is cut"))?;
    let declared = head.last_chunk::<4>().map(|length| u32::from_le_bytes(*length));
    let fits = declared.is_some_and(|length| usize::try_from(length) == Ok(payload.len()));
    fits.then_some(payload).ok_or(BadRecord::Damaged("its length is wrong"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::key::JobId;

    pub(crate) fn record(job: u64, id: u64, length: u64) -> Record {
        Record {
            key: Key::Job(JobId::parse(&job.to_string()).unwrap()),
            id: ArchiveId::new(id),
            length,
            filled_at: 1_000,
            facts: Facts { length: Some(length), ..Facts::default() },
            etag: Etag::quoting("e"),
            kept: Kept::default(),
            class: Class::Job,
            chunks: vec![7; chunks_of(length)],
            present: None,
        }
    }

    #[test]
    fn records_round_trip() {
        for length in [0, 1, CHUNK, CHUNK + 1, 100 * CHUNK] {
            let record = record(42, 7, length);
            assert_eq!(Record::decode(&record.encode().unwrap()), Ok(record.clone()));
            let mut present = Presence::none(length);
            present.set(0, true);
            let sparse = Record { present: Some(present), ..record };
            assert_eq!(Record::decode(&sparse.encode().unwrap()), Ok(sparse));
        }
    }

    #[test]
    fn a_record_of_another_version_is_told_from_a_damaged_one() {
        let mut bytes = record(42, 7, 10).encode().unwrap();
        bytes[8] = 2;
        assert_eq!(Record::decode(&bytes), Err(BadRecord::Version(2)));
    }

    proptest::proptest! {
        #[test]
        fn no_flipped_bit_and_no_cut_is_believed(at in 0_usize..100, bit in 0_u8..8, cut in 0_usize..100) {
            let whole = record(42, 7, 5 * CHUNK).encode().unwrap();
            let mut flipped = whole.clone();
            let at = at % flipped.len();
            flipped[at] ^= 1 << bit;
            proptest::prop_assert!(Record::decode(&flipped).is_err());
            proptest::prop_assert!(Record::decode(&whole[..cut % whole.len()]).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
            let framed = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &bytes].concat();
            let _ = Record::decode(&framed);
        }
    }
}
