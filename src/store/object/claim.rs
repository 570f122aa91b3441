//! Bytes of an archive that somebody brings: the one way in which any get there.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use twox_hash::xxhash3_128;

use super::Archive;
use super::chunks::ChunkStates;
use crate::base::num::{to_u64, to_usize};
use crate::store::Error;
use crate::store::record::CHUNK;
use crate::store::room::StoreInner;

/// Bytes that a full disk is freed of at once for an archive that grows, so that not each write has to.
const AHEAD: u64 = 1 << 20;

/// How much of the budget is taken at a time where the length isn't known; of a small budget a quarter.
const STEP: u64 = 64 << 20;

/// A run of chunks that are missing, to be written in order by whoever holds this, who is alone. Each byte may be read as
/// soon as it is written. What wasn't written to a chunk's end is free for others when this is dropped.
pub struct ChunkClaim {
    archive: Arc<Archive>,
    inner: Arc<StoreInner>,
    number: u64,
    /// What it was for; open-ended where the archive's length isn't known.
    span: Range<u64>,
    /// What comes before is written.
    at: u64,
    /// Where the next bytes belong: before `at` where some come again.
    next: u64,
    hasher: xxhash3_128::Hasher,
    /// Bytes of the budget that were taken and aren't the archive's yet.
    reserved: u64,
}

impl std::fmt::Debug for ChunkClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkClaim").field("span", &self.span).field("at", &self.at).finish_non_exhaustive()
    }
}

impl ChunkClaim {
    pub(in crate::store) fn new(
        archive: Arc<Archive>,
        inner: Arc<StoreInner>,
        number: u64,
        span: Range<u64>,
    ) -> Self {
        let (at, hasher) = (span.start, xxhash3_128::Hasher::new());
        Self { archive, inner, number, span, at, next: at, hasher, reserved: 0 }
    }

    /// Of which archive.
    pub(crate) const fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// The bytes that are still to be written. Without an end where the archive's length isn't known.
    pub(crate) const fn left(&self) -> Range<u64> {
        self.next..self.span.end
    }

    /// Bytes before this place are written.
    pub const fn written(&self) -> u64 {
        self.at
    }

    /// Takes room for all that is left, so that nobody begins to wait for what there won't be room for. Blocks.
    pub(crate) fn reserve(&mut self) -> Result<(), Error> {
        if self.is_open_ended() { self.cover(self.at.saturating_add(1)) } else { self.cover(self.span.end) }
    }

    const fn is_open_ended(&self) -> bool {
        self.span.end == u64::MAX
    }

    /// Takes room for the bytes up to `end`: those of the chunks that aren't the archive's yet.
    fn cover(&mut self, end: u64) -> Result<(), Error> {
        if self.is_open_ended() {
            self.inner.limits.admit(end)?;
        }
        let from = self.at - self.at % CHUNK;
        let to = end.div_ceil(CHUNK).saturating_mul(CHUNK).min(self.span.end);
        let lacking = (to - from).saturating_sub(self.reserved);
        if lacking == 0 {
            return Ok(());
        }
        let ahead = if self.is_open_ended() { STEP.min(self.inner.budget / 4) } else { 0 };
        let more = lacking.max(ahead);
        self.inner.make_room(more)?;
        self.reserved += more;
        Ok(())
    }

    /// Writes, and lets it be read. More than was claimed is an error, and so is a full store or disk, or that bytes which
    /// come again are others than before. Blocks.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.next.saturating_add(to_u64(bytes.len()));
        if end > self.span.end {
            return Err(Error::TooLong);
        }
        let (again, new) = bytes.split_at(to_usize(self.at.saturating_sub(self.next)).min(bytes.len()));
        self.compare(again)?;
        if !new.is_empty() {
            self.append(new)?;
        }
        // Not before: of what couldn't be written it is known where it belongs.
        self.next = end;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.cover(self.at.saturating_add(to_u64(bytes.len())))?;
        let data = self.archive.data();
        let write = || self.inner.files().write_at(data.file(), bytes, self.at);
        let written = self.inner.fitting(AHEAD.max(to_u64(bytes.len())), write);
        written.map_err(|reason| self.archive.trial().failed(Error::io("write", reason)))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.archive.chunks().bytes(ChunkStates::of(self.at)).end - self.at;
            let (now, later) = rest.split_at(to_usize(room).min(rest.len()));
            self.hasher.write(now);
            self.archive.digest().came(self.at, now);
            self.at += to_u64(now.len());
            if to_u64(now.len()) == room {
                self.finish_chunk(self.at - 1);
            }
            rest = later;
        }
        if !self.at.is_multiple_of(CHUNK) && self.at < self.span.end {
            self.archive.chunks().wrote(self.number, self.at);
        }
        Ok(())
    }

    /// The chunk with this last byte is here.
    fn finish_chunk(&mut self, last: u64) {
        let chunk = ChunkStates::of(last);
        let length = last + 1 - chunk * CHUNK;
        let sum = std::mem::replace(&mut self.hasher, xxhash3_128::Hasher::new()).finish_128();
        self.reserved = self.reserved.saturating_sub(length);
        self.inner.grow(&self.archive, length);
        self.archive.digest().is_committed(last + 1);
        self.archive.chunks().came(self.number, chunk, sum);
    }

    /// Bytes that come again must be those that are there.
    fn compare(&self, again: &[u8]) -> Result<(), Error> {
        let mut there = vec![0; again.len()];
        let read = self.archive.data().read_into(&mut there, self.next);
        read.map_err(|reason| Error::Io { doing: "read back", reason })?;
        if there == again { Ok(()) } else { Err(Error::OtherBytes) }
    }

    /// The transfer was taken up again: the next bytes belong at `at`, where some may have been written before. From now on
    /// the archive's end is kept back until all of it was found right.
    pub(crate) fn go_on_at(&mut self, at: u64) {
        self.archive.guard();
        self.archive.meet(self.at);
        self.next = at.clamp(self.span.start, self.at);
    }

    /// What of the frame that was to be written last isn't.
    pub(crate) fn unwritten(&self, frame: &Bytes) -> Bytes {
        frame.slice(to_usize(self.at.saturating_sub(self.next)).min(frame.len())..)
    }

    /// No more comes, by this or by anybody: what is written stays to be read.
    pub(super) fn end(self) {
        self.archive.chunks().end(self.number);
    }

    /// All bytes were written; where it wasn't known how many they are, it is now.
    pub fn finish(mut self) -> Result<(), Error> {
        if !self.is_open_ended() {
            return if self.at == self.span.end { Ok(()) } else { Err(Error::TooShort) };
        }
        if !self.at.is_multiple_of(CHUNK) {
            self.finish_chunk(self.at - 1);
        }
        self.archive.chunks().settle(self.at);
        self.span.end = self.at;
        Ok(())
    }
}

impl Drop for ChunkClaim {
    fn drop(&mut self) {
        self.archive.digest().is_released(self.at);
        self.archive.chunks().release(self.number);
        self.inner.release(self.reserved);
    }
}
