//! An archive that is open.

mod sparse;

pub use sparse::Absent;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use super::chunks::{Chunks, is_sound};
use super::data::Data;
use super::gaps::Gaps;
use super::record::Record;
use super::room::Shared;
use super::slices::Slices;
use crate::fields::Kept;
use crate::grant::{Facts, Grant, Visitors};
use crate::key::{ArchiveId, Key};
use crate::num::{to_u64, to_usize};
use crate::route::Class;

/// An open archive. While anything refers to it, its bytes can be read, even after it has left the store.
#[derive(Debug)]
pub struct Archive {
    record: Record,
    /// The fields it was filled with.
    filled: Arc<Kept>,
    /// Those of them that hold for each of its entries.
    protecting: Arc<Kept>,
    /// Bytes of the budget.
    bytes: AtomicU64,
    data: Arc<Data>,
    chunks: Chunks,
    /// What is missing of it, if it is sparse.
    gaps: Option<Gaps>,
    /// Sparse, and never found by anybody: its file goes with it.
    unplaced: AtomicBool,
    /// Whether somebody finds out if it is right, all of its chunks being here.
    finishing: AtomicBool,
    /// Where transfers met since it was opened; `None`: anywhere.
    seams: Mutex<Option<Vec<u64>>>,
    /// The whole archive that it has become.
    whole: OnceLock<Arc<Archive>>,
    shared: Arc<Shared>,
    retired: AtomicBool,
    visitors: Arc<Visitors>,
    learned: Mutex<Learned>,
}

/// A chunk whose bytes aren't those that were written, or can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the archive's file is damaged in its MiB {chunk}{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct Unsound {
    chunk: u64,
    why: Option<io::Error>,
}

impl Unsound {
    /// Which chunk it is.
    pub const fn chunk(&self) -> u64 {
        self.chunk
    }
}

/// What GitLab said of it after it was filled.
#[derive(Debug)]
struct Learned {
    facts: Arc<Facts>,
    /// By route, once GitLab has described it there.
    kept: [Option<Arc<Kept>>; Class::ALL.len()],
}

impl Archive {
    pub(super) fn new(
        mut record: Record,
        bytes: u64,
        data: Arc<Data>,
        chunks: Chunks,
        visitors: Arc<Visitors>,
        shared: Arc<Shared>,
    ) -> Self {
        let filled = Arc::new(record.kept.clone());
        let protecting = Arc::new(Kept::protecting(record.kept.fields()));
        let gaps = record.present.clone().map(|present| Gaps::new(present, record.length));
        let is_new = record.present.as_ref().is_some_and(|present| present.count() == 0);
        // What changes while it is filled in is kept elsewhere.
        (record.chunks, record.present) = (Vec::new(), None);
        let learned = Mutex::new(Learned { facts: Arc::new(record.facts.clone()), kept: Default::default() });
        Self {
            record,
            filled,
            protecting,
            bytes: AtomicU64::new(bytes),
            data,
            chunks,
            gaps,
            unplaced: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            seams: Mutex::new(is_new.then(Vec::new)),
            whole: OnceLock::new(),
            shared,
            retired: AtomicBool::new(false),
            visitors,
            learned,
        }
    }

    /// What it is stored under.
    pub const fn key(&self) -> Key {
        self.record.key
    }

    /// Its name.
    pub const fn id(&self) -> ArchiveId {
        self.record.id
    }

    /// What stands beside it on disk.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Who was let in last.
    pub fn visitors(&self) -> &Visitors {
        &self.visitors
    }

    /// All facts known of it.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.learned.lock().facts)
    }

    /// Remembers facts that GitLab added, and the fields it gives on this route if it said so now. What is known of the
    /// archive's end and digest comes from its own bytes and stays.
    pub fn learn(&self, facts: Facts, class: Class, kept: Option<Kept>) {
        let mut learned = self.learned.lock();
        let (tail, sha256) = (learned.facts.tail.clone(), learned.facts.sha256);
        learned.facts = Arc::new(Facts { tail, sha256, ..facts });
        if let (Some(kept), Some(slot)) = (kept, learned.kept.get_mut(class.index())) {
            let kept = if class.is_entry() { Kept::protecting(kept.fields()) } else { kept };
            *slot = Some(Arc::new(kept));
        }
    }

    /// The fields GitLab gives on this route, or gave on another one when the archive was filled; of an entry's those
    /// that hold for all of them.
    pub fn kept(&self, class: Class) -> Arc<Kept> {
        let learned = self.learned.lock();
        let kept = learned.kept.get(class.index()).and_then(Option::as_ref);
        let filled = if class.is_entry() { &self.protecting } else { &self.filled };
        Arc::clone(kept.unwrap_or(filled))
    }

    /// Whether it is known how GitLab describes it on this route: the API's routes for whole archives agree.
    pub fn is_described(&self, class: Class) -> bool {
        let alike = self.record.class.is_web() == class.is_web();
        alike || self.learned.lock().kept.get(class.index()).is_some_and(Option::is_some)
    }

    /// A range of its bytes; nothing without a grant that names it, and nothing beyond its end.
    pub fn slices(self: &Arc<Self>, grant: &Grant, range: Range<u64>) -> Option<Slices> {
        let inside = range.start <= range.end && range.end <= self.record.length;
        (self.is_opened_by(grant) && inside).then(|| Slices::new(Arc::clone(self), range))
    }

    /// Reads its bytes for larder's own eyes: what is found there leaves only as [slices](Self::slices) do. An error where
    /// some aren't here. Blocks; never through a mapping.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let inside = buffer.len().min(to_usize(self.record.length.saturating_sub(at)));
        self.is_here(&(at..at.saturating_add(to_u64(inside))))?;
        self.data.read_some(buffer.get_mut(..inside).unwrap_or_default(), at)
    }

    /// Its last `span` bytes, or all if there are fewer, for larder's own eyes.
    pub async fn end(self: &Arc<Self>, span: u64) -> io::Result<Vec<u8>> {
        let archive = Arc::clone(self);
        crate::rt::blocking(move || {
            let length = archive.record.length;
            archive.is_here(&(length - span.min(length)..length))?;
            let mut end = vec![0; to_usize(span.min(length))];
            archive.data.read_into(&mut end, length - span.min(length))?;
            Ok(end)
        })
        .await?
    }

    /// Whether a grant names it, and was given for an archive that ends like this one.
    pub fn is_opened_by(&self, grant: &Grant) -> bool {
        grant.fits(self.id(), self.record.facts.tail.as_deref())
    }

    /// Whether it has left the store.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Marks it as gone: its bytes stay taken until its last reader has left. Called under the shelf's lock.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) const fn data(&self) -> &Arc<Data> {
        &self.data
    }

    pub(super) const fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// A chunk's bytes, after they were compared with its checksum; what was not found sound is never handed out.
    /// Blocks.
    pub(super) fn sound(&self, chunk: u64) -> Result<Bytes, Unsound> {
        let range = self.chunks.bytes(chunk);
        let mut bytes = vec![0; to_usize(range.end - range.start)];
        let read = self.data.read_into(&mut bytes, range.start);
        match (read, self.chunks.sum(chunk)) {
            (Ok(()), Some(checksum)) if is_sound(&bytes, checksum) => {
                self.chunks.was_compared(chunk);
                Ok(bytes.into())
            }
            (read, _) => Err(Unsound { chunk, why: read.err() }),
        }
    }

    /// Whether all of its bytes are here and were compared with their checksums since it was opened.
    pub fn is_compared(&self) -> bool {
        !self.is_sparse() && self.chunks.are_compared()
    }

    /// Where an unsound chunk lies, to be fetched again.
    pub fn range_of(&self, unsound: &Unsound) -> Range<u64> {
        self.chunks.bytes(unsound.chunk)
    }

    /// Puts a chunk that was fetched again in the place of one that was unsound, if it is the right one. Until it is
    /// there its bit isn't set, so that nobody is handed half of it. Blocks.
    pub fn mend(&self, chunk: u64, bytes: &[u8]) -> io::Result<bool> {
        let range = self.chunks.bytes(chunk);
        let right = self.chunks.sum(chunk);
        let fits = to_u64(bytes.len()) == range.end - range.start;
        if !(fits && right.is_some_and(|checksum| is_sound(bytes, checksum))) {
            return Ok(false);
        }
        if self.gaps.is_some() {
            self.shared.files().write_at(self.data.file(), bytes, range.start)?;
        } else {
            self.shared.mend(self.record.key, self.record.id, range.start, bytes)?;
        }
        self.sound(chunk).map(|_| true).map_err(io::Error::other)
    }

    /// Takes it out of the store: it can't be mended. Blocks.
    pub fn give_up(&self) {
        let taken = self.shared.take_out(self.record.key, Some(self.record.id));
        self.shared.unlink(self.record.key, taken);
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if self.is_retired() {
            self.shared.shelf.lock().shelf.release(self.bytes());
        }
        if self.unplaced.load(Ordering::SeqCst) {
            self.shared.remove_partial(self.record.key, self.record.id);
        }
    }
}
