//! Chunks of a sparse archive that somebody fetches.

use std::ops::Range;
use std::sync::Arc;

use super::Error;
use super::archive::Archive;

/// A run of chunks that are missing, to be put in by whoever holds this. What wasn't is free for others when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    archive: Arc<Archive>,
    left: Range<u64>,
    /// Bytes of the budget that were taken for what is left.
    reserved: u64,
}

impl Claim {
    pub(super) const fn new(archive: Arc<Archive>, chunks: Range<u64>) -> Self {
        Self { archive, left: chunks, reserved: 0 }
    }

    /// Of which archive.
    pub const fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// The bytes that are still to be put in.
    pub fn bytes(&self) -> Range<u64> {
        let chunks = self.archive.chunks();
        let end = self.left.end.checked_sub(1).map_or(0, |last| chunks.bytes(last).end);
        chunks.bytes(self.left.start).start.min(end)..end
    }

    /// Takes room for all that is left, so that nobody begins to wait for what there won't be room for. Blocks.
    pub fn reserve(&mut self) -> Result<(), Error> {
        let bytes = self.bytes();
        let wanted = (bytes.end - bytes.start).saturating_sub(self.reserved);
        self.archive.reserve(wanted)?;
        self.reserved += wanted;
        Ok(())
    }

    /// How many bytes the next chunk has; 0 after the last.
    pub fn next_length(&self) -> u64 {
        if self.left.is_empty() {
            return 0;
        }
        let next = self.archive.chunks().bytes(self.left.start);
        next.end - next.start
    }

    /// The next chunk alone, to be put in elsewhere.
    pub fn split(&mut self) -> Self {
        let reserved = self.reserved.min(self.next_length());
        let next = self.left.start..(self.left.start + 1).min(self.left.end);
        self.left.start = next.end;
        self.reserved -= reserved;
        Self { archive: Arc::clone(&self.archive), left: next, reserved }
    }

    /// Puts the next chunk in, all of it. Blocks.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let reserved = self.reserved.min(self.next_length());
        if reserved < self.next_length() {
            self.archive.reserve(self.next_length() - reserved)?;
        }
        self.reserved -= reserved;
        self.archive.put(self.left.start, bytes)?;
        self.left.start = (self.left.start + 1).min(self.left.end);
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.archive.unreserve(self.reserved);
        self.archive.let_go(self.left.clone());
    }
}
