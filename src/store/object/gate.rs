//! How much the archives of a store are read at once for larder's own sake.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// What all archives of a store read under.
#[derive(Debug)]
pub(in crate::store) struct ReadGate {
    /// Chunks that are compared at once for whoever reads them: each is a MiB of memory for a moment.
    comparing: Semaphore,
    /// Whoever reads archives for larder's own sake is to stop: the program ends.
    stopping: AtomicBool,
}

/// More than a disk answers at once.
const COMPARED_AT_ONCE: usize = 16;

impl Default for ReadGate {
    fn default() -> Self {
        Self { comparing: Semaphore::new(COMPARED_AT_ONCE), stopping: AtomicBool::new(false) }
    }
}

impl ReadGate {
    /// Lets no other read begin that blocks.
    pub(in crate::store) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to.
    pub(in crate::store) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Waits for a turn to compare a chunk.
    pub(super) async fn to_compare(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.comparing.acquire().await.ok()
    }
}
