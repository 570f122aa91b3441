//! Invalidation that can't be outrun.
//!
//! An answer of GitLab's is true for the state of things when the question was sent. Each invalidation raises an
//! epoch; what was begun under an older one (a grant, a fill's commit) is void when it arrives. Nothing is looked up
//! by its name here, so nothing can be forgotten: jobs share a fixed number of stripes, and sharing one costs a
//! question too many, never one too few.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::grant::Epoch;
use crate::key::JobId;
use crate::num::to_u64;

/// Stripes that jobs share: 32 KiB, and with 100 deletions a second one question too many in 40 s for a given job.
const STRIPES: usize = 4096;

/// The epochs of all jobs.
#[derive(Debug)]
pub struct Epochs {
    global: AtomicU64,
    jobs: Vec<Mutex<u64>>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { global: AtomicU64::new(0), jobs: (0..STRIPES).map(|_| Mutex::new(0)).collect() }
    }
}

impl Epochs {
    /// The present epoch of a job.
    pub fn now(&self, job: JobId) -> Epoch {
        Epoch { job: *self.stripe(job).lock(), global: self.global.load(Ordering::SeqCst) }
    }

    /// Ends the present epoch of a job and does `also` before anyone can see the next one.
    pub fn invalidate(&self, job: JobId, also: impl FnOnce()) {
        let mut epoch = self.stripe(job).lock();
        *epoch += 1;
        also();
    }

    /// Ends the present epoch of every job.
    pub fn invalidate_all(&self) {
        self.global.fetch_add(1, Ordering::SeqCst);
    }

    /// Does `then` if nothing has happened to the job's archive since `epoch`, and lets nothing happen meanwhile.
    /// Global invalidations concern grants, not archives, and don't count.
    pub fn if_still(&self, job: JobId, epoch: Epoch, then: impl FnOnce()) -> bool {
        let now = self.stripe(job).lock();
        let still = *now == epoch.job;
        if still {
            then();
        }
        still
    }

    fn stripe(&self, job: JobId) -> &Mutex<u64> {
        let index = usize::try_from(job.get() % to_u64(STRIPES)).unwrap_or_default();
        // The index is below the length by construction; the first stripe stands in for the impossible.
        self.jobs.get(index).unwrap_or(&self.jobs[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_before_an_invalidation_is_void_after_it() {
        let epochs = Epochs::default();
        let (job, other) = (JobId::parse("1").unwrap(), JobId::parse("2").unwrap());
        let (before, before_other) = (epochs.now(job), epochs.now(other));
        assert!(epochs.if_still(job, before, || ()));
        epochs.invalidate(job, || ());
        assert!(!epochs.if_still(job, before, || panic!("void")));
        assert_ne!(epochs.now(job), before);
        assert_eq!(epochs.now(other), before_other);
        epochs.invalidate_all();
        assert_ne!(epochs.now(other), before_other);
        assert!(epochs.if_still(other, before_other, || ()), "grants end, archives stay");
    }
}
