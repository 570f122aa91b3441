//! The SHA-256 of an archive's bytes, as far as they came in order.

use parking_lot::Mutex;
use ring::digest::{Context, SHA256};

use crate::http::Sha256;

/// A digest that goes along with what is written at its front. Whatever comes elsewhere is read again in the end.
#[derive(Debug)]
pub(super) struct RunningDigest(Mutex<Running>);

#[derive(Clone)]
struct Running {
    context: Context,
    at: u64,
    /// The same where the last whole chunk ended: one that is given up half-way may come again with other bytes.
    sure: (Context, u64),
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Default for RunningDigest {
    fn default() -> Self {
        let context = Context::new(&SHA256);
        Self(Mutex::new(Running { context: context.clone(), at: 0, sure: (context, 0) }))
    }
}

impl RunningDigest {
    /// Bytes were written at a place.
    pub(super) fn came(&self, at: u64, bytes: &[u8]) {
        let mut running = self.0.lock();
        if running.at == at {
            running.context.update(bytes);
            running.at = at.saturating_add(crate::base::num::to_u64(bytes.len()));
        }
    }

    /// A chunk ends at a place, and is here as a whole.
    pub(super) fn is_committed(&self, end: u64) {
        let mut running = self.0.lock();
        if running.at == end {
            running.sure = (running.context.clone(), end);
        }
    }

    /// Nobody goes on writing the chunk that was written up to a place.
    pub(super) fn is_released(&self, at: u64) {
        let mut running = self.0.lock();
        if running.at == at && running.sure.1 < at {
            (running.context, running.at) = running.sure.clone();
        }
    }

    /// How far it has come, in whole chunks.
    pub(super) fn at(&self) -> u64 {
        self.0.lock().sure.1
    }

    /// The digest of what it went along with.
    pub(super) fn finish(&self) -> Sha256 {
        let digest = self.0.lock().sure.0.clone().finish();
        Sha256::new(digest.as_ref().try_into().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Sha256 {
        Sha256::new(ring::digest::digest(&SHA256, bytes).as_ref().try_into().unwrap())
    }

    #[test]
    fn it_goes_along_at_its_front_alone() {
        let digest = RunningDigest::default();
        assert_eq!((digest.at(), digest.finish()), (0, of(b"")));
        digest.came(0, b"ab");
        digest.came(7, b"elsewhere");
        digest.came(2, b"cd");
        digest.is_committed(4);
        assert_eq!((digest.at(), digest.finish()), (4, of(b"abcd")));
    }

    #[test]
    fn a_chunk_that_is_given_up_half_way_counts_as_it_comes_the_next_time() {
        let digest = RunningDigest::default();
        digest.came(0, b"abcd");
        digest.is_committed(4);
        digest.came(4, b"ef");
        digest.is_released(6);
        digest.came(4, b"gh");
        digest.is_committed(6);
        assert_eq!((digest.at(), digest.finish()), (6, of(b"abcdgh")));
    }
}
