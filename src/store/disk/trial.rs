//! Whether the disk takes archives.
//!
//! A full or read-only disk costs speed, never an answer, and not a line a request either: its refusal is said once,
//! its end once. While it lasts, an archive is tried every few seconds and all others pass.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::spell::Spell;
use crate::base::clock::{Clock, Moment};
use crate::store::Error;

/// The disk, as far as it has been tried.
#[derive(Debug)]
pub(in crate::store) struct Disk {
    spell: Mutex<Spell>,
    /// When archives went for others last, and it was no use.
    vain: Mutex<Option<Moment>>,
    clock: Clock,
}

/// How long no archive goes for another once that was no use: somebody else takes what is freed, or keeps it (a
/// snapshot does). Else one would go with every trial, until there is none.
const PAUSE: Duration = Duration::from_secs(600);

/// One archive's way to the disk.
#[derive(Debug, Clone)]
pub(in crate::store) struct Trial {
    disk: Arc<Disk>,
    refusals: u64,
}

impl Disk {
    /// A disk that takes archives, until it is found not to.
    pub(in crate::store) fn new(clock: Clock) -> Self {
        Self { spell: Mutex::default(), vain: Mutex::default(), clock }
    }

    /// Whether an archive may be brought to it now; while it refuses, one every few seconds.
    pub(in crate::store) fn may_try(&self) -> bool {
        self.spell.lock().may_try(self.clock.now())
    }

    /// Whether it refuses and may be tried again now.
    pub(in crate::store) fn is_to_be_tried(&self) -> bool {
        self.spell.lock().is_to_be_tried(self.clock.now())
    }

    /// Whether it refused an archive and has taken none since.
    pub(in crate::store) fn is_refusing(&self) -> bool {
        self.spell.lock().is_refusing()
    }

    /// Whether archives may go for others where it is full.
    pub(in crate::store) fn may_evict(&self) -> bool {
        let vain = *self.vain.lock();
        vain.is_none_or(|vain| self.clock.now().since(vain) >= PAUSE)
    }

    /// As much was freed as was needed, and it is full all the same.
    pub(in crate::store) fn evicted_in_vain(&self) {
        *self.vain.lock() = Some(self.clock.now());
    }

    /// An archive begins its way now.
    pub(in crate::store) fn trial(self: &Arc<Self>) -> Trial {
        Trial { disk: Arc::clone(self), refusals: self.spell.lock().refusals() }
    }

    /// Looks at what kept an archive from it: says so if that is the disk's refusal, and the first of its kind.
    pub(in crate::store) fn failed(&self, error: &Error) {
        if matches!(error, Error::Io { .. }) && self.spell.lock().refused(self.clock.now()) {
            tracing::warn!(
                %error,
                "the disk takes no archives: downloads are passed through, and it is tried again every few seconds"
            );
        }
    }
}

impl Trial {
    /// The archive is on the disk.
    pub(in crate::store) fn succeeded(&self) {
        let over = self.disk.spell.lock().took(self.refusals, self.disk.clock.now());
        if let Some(lasted) = over {
            tracing::info!(seconds = lasted.as_secs(), "the disk takes archives again");
        }
    }

    /// It isn't; returns why, as it was given.
    pub(in crate::store) fn failed(&self, error: Error) -> Error {
        self.disk.failed(&error);
        error
    }
}
