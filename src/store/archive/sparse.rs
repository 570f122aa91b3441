//! An archive of which some chunks are missing, as those see it who read and who fetch.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Archive;
use crate::grant::{Facts, Sha256, Visitors};
use crate::num::to_u64;
use crate::store::chunks::{Chunks, sum_of};
use crate::store::claim::Claim;
use crate::store::gaps::{Gaps, Have};
use crate::store::record::{self, CHUNK, Record};
use crate::store::{Error, presence::Presence};

/// What is asked for isn't here, or isn't known to be right yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// This chunk isn't here.
    #[error("the archive's MiB {0} isn't here yet")]
    Chunk(u64),
    /// All of it may be here, and hasn't been found right: nobody who reads all of it gets to its end before.
    #[error("the archive hasn't been found right yet")]
    Proof,
}

impl Archive {
    /// Whether some of it is missing, or isn't known to be right yet.
    pub fn is_sparse(&self) -> bool {
        self.gaps.is_some() && self.whole.get().is_none()
    }

    /// How much of some bytes is here.
    pub fn have(&self, range: &Range<u64>) -> Have {
        self.gaps.as_ref().map_or(Have::All, |gaps| gaps.have(chunks_of(range)))
    }

    /// Whether a chunk is here.
    pub(in crate::store) fn has(&self, chunk: u64) -> bool {
        self.gaps.as_ref().is_none_or(|gaps| gaps.have(chunk..chunk + 1) == Have::All)
    }

    /// An error unless all of some bytes are here.
    pub(in crate::store) fn is_here(&self, range: &Range<u64>) -> io::Result<()> {
        match self.have(range) {
            Have::All => Ok(()),
            Have::Coming | Have::Missing => Err(io::Error::other(Absent::Chunk(Chunks::of(range.start)))),
        }
    }

    /// Takes on the first missing bytes of a range that nobody fetches.
    pub fn claim(self: &Arc<Self>, range: &Range<u64>) -> Option<Claim> {
        let run = self.gaps.as_ref()?.claim(chunks_of(range))?;
        if let Some(seams) = &mut *self.seams.lock() {
            seams.extend([run.start, run.end].map(|chunk| self.chunks.bytes(chunk).start));
        }
        Some(Claim::new(Arc::clone(self), run))
    }

    /// Bytes that are here or on their way, in MiB begun, and those in all.
    pub fn wanted(&self) -> (u64, u64) {
        self.gaps.as_ref().map_or((1, 1), Gaps::wanted)
    }

    /// Waits until bytes are here; an error if some are missing and nobody fetches them.
    pub async fn arrived(&self, range: &Range<u64>) -> io::Result<()> {
        let Some(gaps) = &self.gaps else {
            return Ok(());
        };
        let mut changes = gaps.subscribe();
        loop {
            changes.mark_unchanged();
            match gaps.have(chunks_of(range)) {
                Have::All => return Ok(()),
                Have::Missing => return Err(io::Error::other("a part of the archive couldn't be fetched")),
                // The sender lives as long as the archive.
                Have::Coming => drop(changes.changed().await),
            }
        }
    }

    /// Waits until it was found right, or has left the store.
    pub async fn proven(&self) -> io::Result<()> {
        let Some(gaps) = &self.gaps else {
            return Ok(());
        };
        let mut changes = gaps.subscribe();
        loop {
            changes.mark_unchanged();
            if self.whole.get().is_some() {
                return Ok(());
            }
            if self.is_retired() || !self.is_finishing() {
                return Err(io::Error::other("the archive wasn't found right"));
            }
            drop(changes.changed().await);
        }
    }

    /// Begins to find out whether it is right, once: `true` for whoever is to do it, when all of its chunks are here.
    pub fn begin_to_finish(&self) -> bool {
        let all = 0..self.record.length;
        self.is_sparse() && self.have(&all) == Have::All && !self.finishing.swap(true, Ordering::SeqCst)
    }

    /// Whether somebody finds out if it is right, or has.
    pub fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::SeqCst)
    }

    /// It couldn't be found out now.
    pub fn finish_later(&self) {
        self.finishing.store(false, Ordering::SeqCst);
        self.wake();
    }

    /// The places where it was joined from several transfers: all that are possible, where that isn't known.
    pub fn seams(&self) -> Vec<u64> {
        let known = self.seams.lock().clone();
        known.unwrap_or_else(|| {
            let chunks = self.record.length.div_ceil(CHUNK);
            (1..chunks).map(|chunk| self.chunks.bytes(chunk).start).collect()
        })
    }

    /// The SHA-256 of all its bytes, each chunk compared with its checksum on the way; one that is damaged is missing from
    /// then on. Blocks.
    pub fn digest(&self) -> io::Result<Sha256> {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for chunk in 0..to_u64(record::chunks_of(self.record.length)) {
            digest.update(&self.chunk(chunk)?);
        }
        Ok(Sha256::new(digest.finish().as_ref().try_into().unwrap_or_default()))
    }

    /// Compares a chunk with its checksum and returns its bytes. Blocks.
    pub(in crate::store) fn chunk(&self, chunk: u64) -> io::Result<bytes::Bytes> {
        self.sound(chunk).map_err(|unsound| {
            if let Some(gaps) = &self.gaps {
                gaps.lost(chunk);
            }
            io::Error::other(unsound)
        })
    }

    /// What stands beside it on disk now; with its digest once that is known.
    pub(in crate::store) fn record_now(&self, sha256: Option<Sha256>) -> Record {
        let facts = self.facts();
        let facts = Facts { sha256: sha256.or(facts.sha256), ..(*facts).clone() };
        let present = self.gaps.as_ref().map(Gaps::present);
        Record { facts, chunks: self.chunks.sums(), present, ..self.record.clone() }
    }

    /// Takes room for bytes to come. Blocks.
    pub(in crate::store) fn reserve(&self, bytes: u64) -> Result<(), Error> {
        self.shared.make_room(bytes)
    }

    pub(in crate::store) fn unreserve(&self, bytes: u64) {
        if bytes > 0 {
            self.shared.shelf.lock().shelf.release(bytes);
        }
    }

    /// Puts a claimed chunk in, for which room was taken: it is this archive's from now on, or given back. Blocks.
    pub(in crate::store) fn put(&self, chunk: u64, bytes: &[u8]) -> Result<(), Error> {
        let range = self.chunks.bytes(chunk);
        let length = range.end - range.start;
        let written = if to_u64(bytes.len()) == length {
            self.shared.files().write_at(self.data.file(), bytes, range.start)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        written.map_err(|reason| {
            self.unreserve(length);
            let error = Error::io("write", reason);
            self.shared.disk.failed(&error);
            error
        })?;
        self.shared.grow(self, length);
        self.chunks.came(chunk, sum_of(bytes));
        if let Some(gaps) = &self.gaps {
            gaps.came(chunk);
        }
        Ok(())
    }

    pub(in crate::store) fn let_go(&self, chunks: Range<u64>) {
        if let Some(gaps) = &self.gaps {
            gaps.give_up(chunks);
        }
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(in crate::store) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Nobody can find it yet: its bytes are given back, and its file removed, when it is dropped.
    pub(in crate::store) fn set_unplaced(&self) {
        self.unplaced.store(true, Ordering::SeqCst);
        self.retired.store(true, Ordering::SeqCst);
    }

    pub(in crate::store) fn set_placed(&self) {
        self.unplaced.store(false, Ordering::SeqCst);
        self.retired.store(false, Ordering::SeqCst);
    }

    /// Its bytes are another's from now on, who stays while this is read. Returns how many they were.
    pub(in crate::store) fn hand_over(&self, whole: &Arc<Self>) -> u64 {
        // Once: whoever finishes it is alone.
        let _ = self.whole.set(Arc::clone(whole));
        self.bytes.swap(0, Ordering::SeqCst)
    }

    pub(in crate::store) fn visitors_shared(&self) -> Arc<Visitors> {
        Arc::clone(&self.visitors)
    }

    /// Which chunks are here.
    pub fn present(&self) -> Option<Presence> {
        self.gaps.as_ref().map(Gaps::present)
    }

    pub(in crate::store) fn wake(&self) {
        if let Some(gaps) = &self.gaps {
            gaps.wake();
        }
    }
}

fn chunks_of(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    Chunks::of(range.start)..Chunks::of(range.end - 1) + 1
}
