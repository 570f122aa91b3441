//! An archive: one object for all of its life, while it arrives, while some chunks are missing, and when it is whole.
//!
//! It knows its file and what was said of it, not the store that it is in. Whoever holds it can read it, also after it has
//! left the store.

pub(super) mod bitmap;
pub(super) mod chunks;
mod claim;
mod digest;
mod error;
mod gate;
mod life;
mod reader;

pub(crate) use chunks::Availability;
pub(crate) use claim::ChunkClaim;
pub(crate) use error::{ReadError, Unsound};
pub(super) use gate::ReadGate;
pub(crate) use life::Remainder;
pub use life::State;
pub(super) use life::{Life, Placement};
pub use reader::Reader;

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use self::bitmap::ChunkBitmap;
use self::chunks::{ChunkStates, is_sound};
use self::digest::RunningDigest;
use super::disk::data::FileData;
use super::disk::layout::Layout;
use super::disk::trial::Trial;
use super::lru::account::BytesLease;
use super::record::{CHUNK, Record, chunks_of};
use crate::base::key::{ArchiveId, Key};
use crate::base::num::{to_u64, to_usize};
use crate::gitlab::grant::facts::TAIL;
use crate::gitlab::grant::{Face, Facts, Grant, RecentCallers};
use crate::gitlab::route::Class;
use crate::http::fields::StoredHeaders;
use crate::http::{Etag, Sha256};

/// An archive that is open.
#[derive(Debug)]
pub struct Archive {
    /// What was said of it when it began. Its length, its chunks and its end are told elsewhere.
    record: Record,
    /// The fields it was filled with.
    filled: Arc<StoredHeaders>,
    /// Those of them that hold for each of its entries.
    protecting: Arc<StoredHeaders>,
    data: Arc<FileData>,
    chunks: ChunkStates,
    digest: RunningDigest,
    life: Life,
    /// Its last bytes, once they are known.
    tail: OnceLock<Bytes>,
    faces: OnceLock<Vec<Face>>,
    layout: Layout,
    lease: BytesLease,
    gate: Arc<ReadGate>,
    trial: Trial,
    visitors: RecentCallers,
    learned: Mutex<Learned>,
    /// By what it is recognised where all that was learned isn't enough, while anybody refers to that.
    recognised: tokio::sync::Mutex<Weak<Facts>>,
}

/// What GitLab said of it after it was filled.
#[derive(Debug)]
struct Learned {
    facts: Arc<Facts>,
    /// By route, once GitLab has described it there.
    kept: [Option<Arc<StoredHeaders>>; Class::ALL.len()],
}

/// What an archive is made with beside its record.
pub(super) struct Parts {
    pub(super) data: FileData,
    /// `None`: what arrives tells.
    pub(super) length: Option<u64>,
    pub(super) life: Life,
    pub(super) layout: Layout,
    pub(super) lease: BytesLease,
    pub(super) gate: Arc<ReadGate>,
    pub(super) trial: Trial,
}

impl Archive {
    pub(super) fn new(mut record: Record, parts: Parts) -> Self {
        let filled = Arc::new(record.kept.clone());
        let protecting = Arc::new(StoredHeaders::protecting(record.kept.fields()));
        let Parts { data, length, life, layout, lease, gate, trial } = parts;
        let here = record.present.take().unwrap_or_else(|| match length {
            Some(length) => ChunkBitmap::all(length),
            None => ChunkBitmap::open_ended(),
        });
        let chunks = ChunkStates::new(length, here, std::mem::take(&mut record.chunks), false);
        let learned = Mutex::new(Learned { facts: Arc::new(record.facts.clone()), kept: Default::default() });
        let tail = record.facts.tail.clone().map_or_else(OnceLock::new, OnceLock::from);
        let faces = std::mem::take(&mut record.faces);
        let faces = if faces.is_empty() { OnceLock::new() } else { OnceLock::from(faces) };
        Self {
            record,
            filled,
            protecting,
            data: Arc::new(data),
            chunks,
            digest: RunningDigest::default(),
            life,
            tail,
            faces,
            layout,
            lease,
            gate,
            trial,
            visitors: RecentCallers::default(),
            learned,
            recognised: tokio::sync::Mutex::default(),
        }
    }

    /// What it is stored under.
    pub(crate) const fn key(&self) -> Key {
        self.record.key
    }

    /// Its name.
    pub const fn id(&self) -> ArchiveId {
        self.record.id
    }

    /// The route on which it was asked for.
    pub(crate) const fn class(&self) -> Class {
        self.record.class
    }

    /// When its fill began, seconds since the Unix epoch.
    pub(crate) const fn filled_at(&self) -> u64 {
        self.record.filled_at
    }

    /// The entity tag clients get, now and when it is stored.
    pub(crate) const fn etag(&self) -> Option<&Etag> {
        self.record.etag.as_ref()
    }

    /// When GitLab last changed it, as it said when it was filled, seconds since the Unix epoch.
    pub(crate) const fn modified(&self) -> Option<u64> {
        self.record.facts.modified
    }

    /// Its length, bytes; `None` while it arrives and nobody said it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.chunks.length()
    }

    /// The length of one that is in the store, or comes in parts: of those it is known.
    pub(crate) fn stored_length(&self) -> u64 {
        self.length().unwrap_or_default()
    }

    /// By what else it is recognised: bytes that came again with other facts.
    pub(crate) fn faces(&self) -> &[Face] {
        self.faces.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Who was let in last.
    pub(crate) const fn visitors(&self) -> &RecentCallers {
        &self.visitors
    }

    /// All facts known of it.
    pub(crate) fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.learned.lock().facts)
    }

    /// By what it is recognised where `facts` aren't enough: what `otherwise` says, for all who ask at once.
    pub(crate) async fn recognised(
        &self,
        facts: &Facts,
        otherwise: impl Future<Output = Facts>,
    ) -> Arc<Facts> {
        let mut known = self.recognised.lock().await;
        let is_of = |known: &Arc<Facts>| known.modified == facts.modified && known.length == facts.length;
        if let Some(known) = known.upgrade().filter(is_of) {
            return known;
        }
        let made = Arc::new(otherwise.await);
        *known = Arc::downgrade(&made);
        made
    }

    /// Remembers facts that GitLab added, and the fields it gives on this route if it said so now. What is known of the
    /// archive's end and digest comes from its own bytes and stays.
    pub(crate) fn learn(&self, facts: Facts, class: Class, kept: Option<StoredHeaders>) {
        let mut learned = self.learned.lock();
        let (tail, sha256) = (learned.facts.tail.clone(), learned.facts.sha256);
        learned.facts = Arc::new(Facts { tail, sha256, ..facts });
        if let (Some(kept), Some(slot)) = (kept, learned.kept.get_mut(class.index())) {
            let kept = if class.is_entry() { StoredHeaders::protecting(kept.fields()) } else { kept };
            *slot = Some(Arc::new(kept));
        }
    }

    /// The fields GitLab gives on this route, or gave on another one when the archive was filled; of an entry's those
    /// that hold for all of them.
    pub(crate) fn kept(&self, class: Class) -> Arc<StoredHeaders> {
        let learned = self.learned.lock();
        let kept = learned.kept.get(class.index()).and_then(Option::as_ref);
        let filled = if class.is_entry() { &self.protecting } else { &self.filled };
        Arc::clone(kept.unwrap_or(filled))
    }

    /// Whether it is known how GitLab describes it on this route: the API's routes for whole archives agree.
    pub(crate) fn is_described(&self, class: Class) -> bool {
        let alike = self.record.class.is_web() == class.is_web();
        alike || self.learned.lock().kept.get(class.index()).is_some_and(Option::is_some)
    }

    /// Whether a grant names it, and was given for an archive that ends like this one.
    pub(crate) fn is_opened_by(&self, grant: &Grant) -> bool {
        grant.fits(self.id(), self.tail.get().map(|tail| &**tail))
    }

    /// Reads a range of it; nothing without a grant that names it, and nothing beyond its end. What isn't here and on
    /// nobody's way is an [error](ReadError::Absent).
    pub fn read(self: &Arc<Self>, grant: &Grant, range: Range<u64>) -> Option<Reader> {
        let inside = range.start <= range.end && self.length().is_some_and(|length| range.end <= length);
        (self.is_opened_by(grant) && inside).then(|| Reader::of_stored(Arc::clone(self), range))
    }

    /// Follows it while it arrives, from `from` to `end` (its own end if `None`); nothing without a grant that names it.
    pub(crate) fn follow(self: &Arc<Self>, grant: &Grant, from: u64, end: Option<u64>) -> Option<Reader> {
        let tail = grant.tail().map(<[u8]>::to_vec);
        grant.names(self.id()).then(|| Reader::following(Arc::clone(self), from, end, tail))
    }

    /// Reads its bytes for larder's own eyes: what is found there leaves only by a [reader](Self::read). An error where
    /// some aren't here. Blocks; never through a mapping.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.go_on()?;
        let inside = buffer.len().min(to_usize(self.stored_length().saturating_sub(at)));
        self.is_here(&(at..at.saturating_add(to_u64(inside))))?;
        self.data.read_some(buffer.get_mut(..inside).unwrap_or_default(), at)
    }

    /// An error once the program ends: what reads for long reads in pieces, and ends with the next one.
    fn go_on(&self) -> io::Result<()> {
        if self.gate.is_stopping() { Err(io::Error::other("larder ends")) } else { Ok(()) }
    }

    fn is_here(&self, range: &Range<u64>) -> io::Result<()> {
        match self.have(range) {
            Availability::All => Ok(()),
            Availability::Coming | Availability::Missing => {
                Err(ReadError::Absent(ChunkStates::of(range.start)).into())
            }
        }
    }

    /// Its last `span` bytes, or all if there are fewer, for larder's own eyes.
    pub(crate) async fn end(self: &Arc<Self>, span: u64) -> io::Result<Vec<u8>> {
        let archive = Arc::clone(self);
        crate::base::rt::blocking(move || archive.last(span)).await?
    }

    fn last(&self, span: u64) -> io::Result<Vec<u8>> {
        let length = self.stored_length();
        let from = length - span.min(length);
        self.is_here(&(from..length))?;
        let mut end = vec![0; to_usize(length - from)];
        self.data.read_into(&mut end, from)?;
        Ok(end)
    }

    pub(super) const fn data(&self) -> &Arc<FileData> {
        &self.data
    }

    pub(super) const fn chunks(&self) -> &ChunkStates {
        &self.chunks
    }

    const fn digest(&self) -> &RunningDigest {
        &self.digest
    }

    pub(super) const fn lease(&self) -> &BytesLease {
        &self.lease
    }

    pub(super) const fn trial(&self) -> &Trial {
        &self.trial
    }

    /// A chunk's bytes, compared with its checksum; what was not found sound is never handed out. Blocks.
    pub(super) fn sound(&self, chunk: u64) -> Result<Bytes, Unsound> {
        let range = self.chunks.bytes(chunk);
        let mut bytes = vec![0; to_usize(range.end - range.start)];
        let read = self.go_on().and_then(|()| self.data.read_into(&mut bytes, range.start));
        match (read, self.chunks.sum(chunk)) {
            (Ok(()), Some(checksum)) if is_sound(&bytes, checksum) => {
                self.chunks.was_compared(chunk);
                Ok(bytes.into())
            }
            (read, _) => Err(Unsound { chunk, why: read.err() }),
        }
    }

    /// Compares a chunk with its checksum, unless somebody has meanwhile.
    async fn compare(self: &Arc<Self>, chunk: u64) -> io::Result<Result<(), Unsound>> {
        let _turn = self.gate.to_compare().await;
        if self.chunks.is_compared(chunk) {
            return Ok(Ok(()));
        }
        let archive = Arc::clone(self);
        crate::base::rt::blocking(move || archive.sound(chunk).map(drop)).await
    }

    /// Whether all of its bytes are here and were compared with their checksums since it was opened.
    pub(crate) fn is_compared(&self) -> bool {
        self.is_whole() && self.chunks.are_compared()
    }

    /// Where an unsound chunk lies, to be fetched again.
    pub(crate) fn range_of(&self, unsound: &Unsound) -> Range<u64> {
        self.chunks.bytes(unsound.chunk)
    }

    /// Whether these are the bytes of a chunk.
    pub(super) fn is_chunk(&self, chunk: u64, bytes: &[u8]) -> bool {
        let range = self.chunks.bytes(chunk);
        let fits = to_u64(bytes.len()) == range.end - range.start;
        fits && self.chunks.sum(chunk).is_some_and(|checksum| is_sound(bytes, checksum))
    }

    /// The SHA-256 of all its bytes: of those that came in order, as they came; of the others each chunk compared with its
    /// checksum first, and one that is damaged is missing from then on. Blocks.
    pub fn sha256(&self) -> io::Result<Sha256> {
        let chunks = to_u64(chunks_of(self.stored_length()));
        let first = self.digest.at().div_ceil(CHUNK);
        for chunk in first..chunks {
            let bytes = self.sound(chunk).map_err(|unsound| {
                self.chunks.lost(chunk);
                io::Error::other(unsound)
            })?;
            let range = self.chunks.bytes(chunk);
            self.digest.came(range.start, &bytes);
            self.digest.is_committed(range.end);
        }
        Ok(self.digest.finish())
    }

    /// What stands beside it on disk now.
    pub(super) fn record_now(&self) -> Record {
        let present = (!self.is_whole()).then(|| self.chunks.here());
        Record {
            facts: (*self.facts()).clone(),
            faces: self.faces().to_vec(),
            length: self.stored_length(),
            chunks: self.chunks.sums(),
            present,
            ..self.record.clone()
        }
    }

    /// All of its bytes are here, and these facts are true of them. Its readers may go to its end.
    pub fn complete(&self, sha256: Sha256) -> io::Result<Facts> {
        let tail = Bytes::from(self.last(TAIL)?);
        let mut learned = self.learned.lock();
        let facts = Facts {
            length: self.length(),
            tail: Some(tail.clone()),
            sha256: Some(sha256),
            ..(*learned.facts).clone()
        };
        learned.facts = Arc::new(facts.clone());
        drop(learned);
        // Of one that began with its end it is known already.
        let _ = self.tail.set(tail);
        self.set_complete();
        Ok(facts)
    }

    /// By what else it is recognised; told once, before it is in the store.
    pub(crate) fn has_faces(&self, faces: Vec<Face>) {
        let _ = self.faces.set(faces);
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.clear_away();
    }
}
