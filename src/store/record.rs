//! What stands beside each archive on disk.
//!
//! A record is self-contained: with it and the archive, everything else can be rebuilt. Its frame, which every version
//! shares, is `magic (8) | version (4, LE) | payload length (4, LE) | payload | XXH3-128 of all before it (16, LE)`.
//! The payload of version 1 is a `postcard` encoding of [`Record`] without faces. Version 2 is version 1 with the faces behind
//! it, and is written where there are any: what an older larder can read is left to it.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

pub(crate) use super::object::bitmap::CHUNK;
use super::object::bitmap::ChunkBitmap;
pub use super::object::bitmap::chunks_of;
use crate::base::key::{ArchiveId, Key};
use crate::gitlab::grant::{Face, Facts};
use crate::gitlab::route::Class;
use crate::http::Etag;
use crate::http::fields::StoredHeaders;

const MAGIC: &[u8; 8] = b"larder\0r";
const VERSION: u32 = 1;
const WITH_FACES: u32 = 2;
const HEAD: usize = 16;
const CHECKSUM: usize = 16;

/// Longest record that is read: checksums of a 4 TiB archive.
const LONGEST: usize = 72 << 20;

/// Why bytes aren't a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Written by another version of larder; it is left alone.
    #[error(
        "record version {0} is none of {VERSION} and {WITH_FACES}: written by another larder, left alone"
    )]
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
    /// By what else: bytes that came again with other facts.
    pub faces: Vec<Face>,
    /// The entity tag clients get; fixed when the fill began.
    pub etag: Option<Etag>,
    /// The fields clients get.
    pub kept: StoredHeaders,
    /// The route on which GitLab gave them.
    pub class: Class,
    /// XXH3-128 of each [`CHUNK`], in order; anything where one isn't here.
    pub chunks: Vec<u128>,
    /// Which chunks are here; `None`: all, and the archive is whole.
    pub present: Option<ChunkBitmap>,
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
    kept: StoredHeaders,
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
            present: self.present.as_ref().map(ChunkBitmap::to_bytes),
        };
        let version = if self.faces.is_empty() { VERSION } else { WITH_FACES };
        let unfit = |_| BadRecord::Damaged("it can't be encoded");
        let mut payload = postcard::to_stdvec(&v1).map_err(unfit)?;
        if version == WITH_FACES {
            payload.extend(postcard::to_stdvec(&self.faces).map_err(unfit)?);
        }
        let length = u32::try_from(payload.len()).map_err(|_| BadRecord::Damaged("it is too long"))?;
        let mut bytes = [MAGIC.as_slice(), &version.to_le_bytes(), &length.to_le_bytes(), &payload].concat();
        bytes.extend(XxHash3_128::oneshot(&bytes).to_le_bytes());
        Ok(bytes)
    }

    /// Reads a record. The checksum is looked at before anything is believed.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let (version, payload) = payload(bytes)?;
        let unread = |_| BadRecord::Damaged("its payload can't be read");
        let (v1, rest): (V1, _) = postcard::take_from_bytes(payload).map_err(unread)?;
        let faces =
            if version == WITH_FACES { postcard::from_bytes(rest).map_err(unread)? } else { Vec::new() };
        let key = Key::from_bytes(&v1.key).ok_or(BadRecord::Damaged("its key is none"))?;
        let class = Class::at(v1.class.into()).ok_or(BadRecord::Damaged("its route is none"))?;
        let uncovered = BadRecord::Damaged("its chunks don't cover its length");
        if v1.chunks.len() != chunks_of(v1.length) {
            return Err(uncovered);
        }
        let present = match v1.present {
            Some(bits) => Some(ChunkBitmap::from_bytes(&bits, v1.length).ok_or(uncovered)?),
            None => None,
        };
        Ok(Self {
            key,
            id: ArchiveId::new(v1.id),
            length: v1.length,
            filled_at: v1.filled_at,
            facts: v1.facts,
            faces,
            etag: v1.etag,
            kept: v1.kept,
            class,
            chunks: v1.chunks,
            present,
        })
    }
}

/// The version and the payload of a record.
fn payload(bytes: &[u8]) -> Result<(u32, &[u8]), BadRecord> {
    if bytes.len() > LONGEST {
        return Err(BadRecord::Damaged("it is too long"));
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or(BadRecord::Damaged("it doesn't begin as one"))?;
    let (version, _) = rest.split_first_chunk::<4>().ok_or(BadRecord::Damaged("it is cut"))?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION && version != WITH_FACES {
        return Err(BadRecord::Version(version));
    }
    let (covered, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(BadRecord::Damaged("it is cut"))?;
    if XxHash3_128::oneshot(covered) != u128::from_le_bytes(*checksum) {
        return Err(BadRecord::Damaged("its checksum is wrong"));
    }
    let (head, payload) = covered.split_at_checked(HEAD).ok_or(BadRecord::Damaged("it is cut"))?;
    let declared = head.last_chunk::<4>().map(|length| u32::from_le_bytes(*length));
    let fits = declared.is_some_and(|length| usize::try_from(length) == Ok(payload.len()));
    fits.then_some((version, payload)).ok_or(BadRecord::Damaged("its length is wrong"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::key::JobId;

    pub(crate) fn record(job: u64, id: u64, length: u64) -> Record {
        Record {
            key: Key::Job(JobId::parse(&job.to_string()).unwrap()),
            id: ArchiveId::new(id),
            length,
            filled_at: 1_000,
            facts: Facts { length: Some(length), ..Facts::default() },
            faces: Vec::new(),
            etag: Etag::quoting("e"),
            kept: StoredHeaders::default(),
            class: Class::Job,
            chunks: vec![7; chunks_of(length)],
            present: None,
        }
    }

    #[test]
    fn records_round_trip() {
        for length in [0, 1, CHUNK, CHUNK + 1, 100 * CHUNK] {
            let first = record(42, 7, length);
            let bytes = first.encode().unwrap();
            assert_eq!((bytes[8], Record::decode(&bytes)), (1, Ok(first.clone())));
            let mut present = ChunkBitmap::none(length);
            present.set(0, true);
            let sparse = Record { present: Some(present), ..first };
            assert_eq!(Record::decode(&sparse.encode().unwrap()), Ok(sparse));
            let faces = vec![Face::of(&Facts { modified: Some(7), ..Facts::default() }); 3];
            let shown = Record { faces, ..record(42, 7, length) };
            let bytes = shown.encode().unwrap();
            assert_eq!((bytes[8], Record::decode(&bytes)), (2, Ok(shown)));
        }
    }

    #[test]
    fn a_record_of_another_version_is_told_from_a_damaged_one() {
        let mut bytes = record(42, 7, 10).encode().unwrap();
        bytes[8] = 3;
        assert_eq!(Record::decode(&bytes), Err(BadRecord::Version(3)));
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
