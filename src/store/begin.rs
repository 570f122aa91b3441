//! The beginning of an archive: its name, its file and its room. Everything here blocks.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::Error;
use super::disk::data::FileData;
use super::disk::layout::Folder;
use super::lru::account::BytesLease;
use super::object::bitmap::ChunkBitmap;
use super::object::{Archive, ChunkClaim, Life, Parts};
use super::record::{Record, chunks_of};
use super::room::{NAME, StoreInner};

/// Archives from this length on are written down while they arrive, so that a larder that is killed goes on where it was:
/// some seconds of a slow line.
const NOTED_FROM: u64 = 16 << 20;

impl StoreInner {
    /// Makes an archive with a new name that nobody can find yet, of which all bytes are coming now, and takes room for them.
    /// What it is claimed by is the one way to write it.
    pub(super) fn begin(
        self: &Arc<Self>,
        mut record: Record,
        length: Option<u64>,
    ) -> Result<(Arc<Archive>, ChunkClaim), Error> {
        let fail = |reason| Error::io("begin", reason);
        record.id = self.files().new_name().map_err(fail)?;
        let folder = match length {
            Some(length) if length >= NOTED_FROM => Folder::Partial,
            _ => Folder::Incoming,
        };
        // Before anything is evicted for it: on a disk that takes no file that would be in vain, and can't be undone.
        let file = self.create(folder, &record)?;
        (record.chunks, record.present) = nothing(length);
        let archive = self.arriving(record, file, length, folder);
        if let Some(length) = length {
            self.limits.admit(length)?;
        }
        let mut claim = self.claim_all(&archive);
        claim.reserve()?;
        if let Some(length) = length {
            let file = archive.data().file();
            let allocate = || {
                // Some file systems keep what they could set aside.
                self.files().allocate(file, length).inspect_err(|_| drop(self.files().set_length(file, 0)))
            };
            self.fitting(length, allocate).map_err(fail)?;
        }
        Ok((archive, claim))
    }

    /// Makes an archive with a new name that nobody can find yet, whose bytes come in parts, as they are wanted.
    pub(super) fn begin_in_parts(self: &Arc<Self>, mut record: Record) -> Result<Arc<Archive>, Error> {
        let (length, fail) = (record.length, |reason| Error::io("begin", reason));
        self.limits.admit(length)?;
        record.id = self.files().new_name().map_err(fail)?;
        let file = self.create(Folder::Partial, &record).inspect_err(|error| self.disk.failed(error))?;
        (record.chunks, record.present) = nothing(Some(length));
        let archive = self.arriving(record, file, Some(length), Folder::Partial);
        let set = self.fitting(NAME, || self.files().set_length(archive.data().file(), length));
        set.map_err(|reason| archive.trial().failed(fail(reason)))?;
        Ok(archive)
    }

    fn create(&self, folder: Folder, record: &Record) -> Result<File, Error> {
        let path = self.layout.arriving_zip(folder, record.key, record.id);
        self.fitting(NAME, || self.files().create_new(&path)).map_err(|reason| Error::io("begin", reason))
    }

    fn arriving(
        self: &Arc<Self>,
        record: Record,
        file: File,
        length: Option<u64>,
        folder: Folder,
    ) -> Arc<Archive> {
        Arc::new(self.made(record, file, length, Life::begins(folder)))
    }

    /// An archive of this store.
    pub(super) fn made(&self, record: Record, file: File, length: Option<u64>, life: Life) -> Archive {
        let parts = Parts {
            data: FileData::new(file, length, self.mode),
            length,
            life,
            layout: self.layout.clone(),
            lease: BytesLease::of_taken(&self.account, 0),
            gate: Arc::clone(&self.gate),
            trial: self.disk.trial(),
        };
        Archive::new(record, parts)
    }

    /// Takes on the first missing bytes of a range that nobody fetches.
    pub(super) fn claim(self: &Arc<Self>, archive: &Arc<Archive>, range: &Range<u64>) -> Option<ChunkClaim> {
        let (number, run) = archive.chunks().claim(range)?;
        let span = archive.chunks().span(&run);
        archive.meet(span.start);
        archive.meet(span.end);
        Some(ChunkClaim::new(Arc::clone(archive), Arc::clone(self), number, span))
    }

    /// Takes on all of an archive that begins.
    fn claim_all(self: &Arc<Self>, archive: &Arc<Archive>) -> ChunkClaim {
        let all = 0..archive.length().unwrap_or(u64::MAX);
        self.claim(archive, &all).unwrap_or_else(|| {
            // One without a byte has no chunk either.
            ChunkClaim::new(Arc::clone(archive), Arc::clone(self), u64::MAX, 0..0)
        })
    }

    /// Makes bytes that are taken an archive's.
    pub(super) fn grow(&self, archive: &Archive, bytes: u64) {
        let mut shelved = self.shelf.lock();
        if !shelved.shelf.grow(archive.key(), archive.id(), bytes) {
            archive.lease().add(bytes);
        }
    }

    /// Gives bytes back that were taken and came to nothing.
    pub(super) fn release(&self, bytes: u64) {
        self.account.release(bytes);
    }
}

/// Of an archive, nothing.
fn nothing(length: Option<u64>) -> (Vec<u128>, Option<ChunkBitmap>) {
    let sums = length.map_or_else(Vec::new, |length| vec![0; chunks_of(length)]);
    let here = length.map_or_else(ChunkBitmap::open_ended, ChunkBitmap::none);
    (sums, Some(here))
}

/// The disk's refusal of what was tried.
pub(super) fn io(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |reason| Error::io(doing, reason)
}
