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
}

impl Claim {
    pub(super) const fn new(archive: Arc<Archive>, chunks: Range<u64>) -> Self {
        Self { archive, left: chunks }
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
        let next = self.left.start..(self.left.start + 1).min(self.left.end);
        self.left.start = next.end;
        Self { archive: Arc::clone(&self.archive), left: next }
    }

    /// Puts the next chunk in, all of it. Blocks.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.archive.put(self.left.start, bytes)?;
        self.left.start = (self.left.start + 1).min(self.left.end);
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.archive.let_go(self.left.clone());
    }
}
