//! Invalidation that can't be outrun.
//!
//! An answer of GitLab's is true for the state of things when the question was sent. Each invalidation raises an
//! epoch; what was begun under an older one (a grant, a fill's commit) is void when it arrives. Nothing is looked up
//! by its name here, so nothing can be forgotten: jobs share a fixed number of stripes, and sharing one costs a
//! question too many, never one too few.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::base::key::Key;
use crate::base::num::to_u64;
use crate::gitlab::grant::Epoch;

/// Stripes that jobs share: 32 KiB, and with 100 deletions a second one question too many in 40 s for a given job.
/// One more is shared by all refs: which of them led to an archive that is gone isn't known.
const STRIPES: usize = 4096;

/// A key's epoch, which doesn't end while this is kept.
#[derive(Debug)]
#[must_use]
pub struct EpochGuard<'a>(#[expect(dead_code, reason = "it is kept for its drop")] MutexGuard<'a, u64>);

/// The epochs of all keys.
#[derive(Debug)]
pub struct Epochs {
    global: AtomicU64,
    keys: Vec<Mutex<u64>>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { global: AtomicU64::new(0), keys: (0..=STRIPES).map(|_| Mutex::new(0)).collect() }
    }
}

impl Epochs {
    /// The present epoch of a key.
    pub fn now(&self, key: Key) -> Epoch {
        Epoch { key: *self.stripe(key).lock(), global: self.global.load(Ordering::SeqCst) }
    }

    /// Ends the present epoch of a key and does `also` before anyone can see the next one.
    pub fn invalidate(&self, key: Key, also: impl FnOnce()) {
        let mut epoch = self.stripe(key).lock();
        *epoch += 1;
        also();
    }

    /// Ends the present epoch of every ref: an archive that some of them may have led to is gone.
    pub(crate) fn invalidate_refs(&self) {
        if let Some(refs) = self.keys.last() {
            *refs.lock() += 1;
        }
    }

    /// Ends the present epoch of every key.
    pub fn invalidate_all(&self) {
        self.global.fetch_add(1, Ordering::SeqCst);
    }

    /// Holds a key's epoch, if nothing has happened to its archive since `epoch`: nothing does while this is kept. Global
    /// invalidations concern grants, not archives, and don't count.
    pub fn hold(&self, key: Key, epoch: Epoch) -> Option<EpochGuard<'_>> {
        let now = self.stripe(key).lock();
        (*now == epoch.key).then_some(EpochGuard(now))
    }

    fn stripe(&self, key: Key) -> &Mutex<u64> {
        let index = match key {
            Key::Job(job) => usize::try_from(job.get() % to_u64(STRIPES)).unwrap_or_default(),
            Key::Ref(_) => STRIPES,
        };
        // The index is inside by construction; the first stripe stands in for the impossible.
        self.keys.get(index).unwrap_or(&self.keys[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{JobId, RefId};

    #[test]
    fn what_began_before_an_invalidation_is_void_after_it() {
        let epochs = Epochs::default();
        let job = |n| Key::Job(JobId::parse(n).unwrap());
        let (by_ref, job, other) = (Key::Ref(RefId::of([b"main".as_slice()])), job("1"), job("2"));
        let (before, before_other) = (epochs.now(job), epochs.now(other));
        assert!(epochs.hold(job, before).is_some());
        epochs.invalidate(job, || ());
        assert!(epochs.hold(job, before).is_none(), "void");
        assert_ne!(epochs.now(job), before);
        assert_eq!(epochs.now(other), before_other);
        let before_ref = epochs.now(by_ref);
        epochs.invalidate_refs();
        assert_ne!(epochs.now(by_ref), before_ref);
        assert_eq!(epochs.now(other), before_other);
        epochs.invalidate_all();
        assert_ne!(epochs.now(other), before_other);
        assert!(epochs.hold(other, before_other).is_some(), "grants end, archives stay");
    }
}
