//! The end of a transfer that blocks: what has come, to the disk.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::store::{ChunkClaim, Error, Store};

/// How much of an archive that arrives may be lost to a kill: a hundredth of that is written for it at most.
const NOTE_EVERY: u64 = 16 << 20;

/// What the writer is given.
pub(super) enum Item {
    Frame(Bytes),
    /// The next frame belongs here: the transfer was taken up again.
    Seam(u64),
}

/// Why the writer has stopped, and what it has been given and not written.
pub(super) struct Stop {
    pub(super) error: Error,
    pub(super) unwritten: Vec<Bytes>,
    /// What follows was had before in part: nobody can go on from here.
    pub(super) is_seamed: bool,
}

/// The writer's side. It blocks.
pub(super) struct Writer {
    pub(super) store: Arc<Store>,
    pub(super) claim: ChunkClaim,
    pub(super) noted: bool,
    pub(super) stop: Option<Stop>,
}

impl Writer {
    pub(super) fn write(mut self, mut items: mpsc::Receiver<Item>) -> Self {
        let mut noted = self.claim.written();
        while let Some(item) = items.blocking_recv() {
            match item {
                Item::Frame(frame) => {
                    if let Err(error) = self.claim.write(&frame) {
                        let unwritten = self.claim.unwritten(&frame);
                        self.stop = Some(stopped(error, unwritten, items));
                        return self;
                    }
                    if self.claim.written().saturating_sub(noted) >= NOTE_EVERY {
                        noted = self.claim.written();
                        self.note();
                    }
                }
                Item::Seam(at) => self.claim.go_on_at(at),
            }
        }
        self
    }

    fn note(&self) {
        if self.noted
            && let Err(error) = self.store.note(self.claim.archive())
        {
            tracing::debug!(%error, "an archive that is arriving isn't written down");
        }
    }
}

/// The writer stops: what it was given and what is queued goes back to the source's end.
fn stopped(error: Error, frame: Bytes, mut items: mpsc::Receiver<Item>) -> Stop {
    items.close();
    let (mut unwritten, mut is_seamed) = (vec![frame], false);
    while let Some(item) = items.blocking_recv() {
        match item {
            Item::Frame(frame) => unwritten.push(frame),
            Item::Seam(_) => is_seamed = true,
        }
    }
    Stop { error, unwritten, is_seamed }
}
