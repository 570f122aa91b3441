//! The grants that are remembered, and those that no longer count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};

use crate::clock::Moment;
use crate::grant::Grant;
use crate::secret::Fingerprint;

/// Grants remembered at once, some 30 MB; the least recently used goes first, which costs a question.
const REMEMBERED: u64 = 65_536;

/// Revocations remembered at once; at one more, all grants go.
const REVOCATIONS: usize = 4_096;

/// A grant and what revokes it.
#[derive(Debug)]
struct Entry {
    grant: Arc<Grant>,
    revoked_by: Vec<Fingerprint>,
}

/// Grants by caller and question. Nothing in it outlives the process.
#[derive(Debug)]
pub(super) struct Grants {
    cache: Cache<Fingerprint, Arc<Entry>>,
    revoked: Mutex<HashMap<Fingerprint, Moment>>,
    /// Length of `revoked`, so that the common case takes no lock.
    revocations: AtomicUsize,
    life: Arc<Life>,
    /// When that was last made longer.
    lengthened: RwLock<Option<Moment>>,
}

/// How long grants are remembered at most, milliseconds.
#[derive(Debug)]
struct Life(AtomicU64);

impl Life {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn set(&self, life: Duration) {
        self.0.store(u64::try_from(life.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

/// For the cache, which asks when something is put in.
struct Broom(Arc<Life>);

impl Broom {
    fn bound(&self) -> Duration {
        self.0.now().max(Duration::from_secs(1))
    }
}

impl Expiry<Fingerprint, Arc<Entry>> for Broom {
    fn expire_after_create(&self, _: &Fingerprint, _: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(self.bound())
    }

    fn expire_after_update(
        &self,
        _: &Fingerprint,
        _: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.bound())
    }
}

impl Grants {
    /// Remembers grants for at most `longest`. Age is judged by [`Grant::opens`]; this bound only cleans up.
    pub(super) fn new(longest: Duration) -> Self {
        let life = Arc::new(Life(AtomicU64::new(0)));
        life.set(longest);
        let cache = Cache::builder()
            .max_capacity(REMEMBERED)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Broom(Arc::clone(&life)))
            .build();
        let (revoked, revocations) = (Mutex::default(), AtomicUsize::new(0));
        Self { cache, revoked, revocations, life, lengthened: RwLock::default() }
    }

    /// Remembers grants for another time. If that is longer all go, and so does what is being asked now: revocations were
    /// kept for the shorter one only.
    pub(super) fn change(&self, longest: Duration, now: Moment) {
        let before = self.life.now();
        if longest > before {
            *self.lengthened.write() = Some(now);
            self.cache.invalidate_all();
        }
        self.life.set(longest);
    }

    /// Remembers a grant, and by which fingerprints it is revoked.
    pub(super) fn insert(&self, asking: Fingerprint, grant: Arc<Grant>, revoked_by: Vec<Fingerprint>) {
        if !self.life.now().is_zero() {
            self.cache.insert(asking, Arc::new(Entry { grant, revoked_by }));
        }
    }

    /// The grant remembered for a caller and question, unless something revoked it since its question was sent.
    pub(super) fn find(&self, asking: Fingerprint) -> Option<Arc<Grant>> {
        let entry = self.cache.get(&asking)?;
        let asked_at = entry.grant.asked_at();
        let outdated = self.lengthened.read().is_some_and(|at| is_not_after(asked_at, at));
        (!outdated && !self.is_revoked(&entry)).then(|| Arc::clone(&entry.grant))
    }

    /// Forgets what is remembered for a caller and question: its last answer was no yes.
    pub(super) fn forget(&self, asking: Fingerprint) {
        self.cache.invalidate(&asking);
    }

    /// Voids every grant whose question was sent before `now` with one of these fingerprints. Returns whether that
    /// could be remembered; if not, all grants must go.
    #[must_use]
    pub(super) fn revoke(&self, fingerprints: &[Fingerprint], now: Moment) -> bool {
        let mut revoked = self.revoked.lock();
        if revoked.len() + fingerprints.len() > REVOCATIONS {
            revoked.retain(|_, at| now.since(*at) < self.life.now());
        }
        let fits = revoked.len() + fingerprints.len() <= REVOCATIONS;
        if fits {
            revoked.extend(fingerprints.iter().map(|fingerprint| (*fingerprint, now)));
        } else {
            revoked.clear();
        }
        self.revocations.store(revoked.len(), Ordering::SeqCst);
        fits
    }

    /// Lets go of what has expired; the cache does so by itself only when it is used.
    pub(super) fn sweep(&self) {
        self.cache.run_pending_tasks();
    }

    /// Grants remembered now.
    pub(super) fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    fn is_revoked(&self, entry: &Entry) -> bool {
        if self.revocations.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let revoked = self.revoked.lock();
        let asked_at = entry.grant.asked_at();
        entry.revoked_by.iter().filter_map(|by| revoked.get(by)).any(|at| is_not_after(asked_at, *at))
    }
}

/// Whether a question was sent before something happened. Two readings of the same instant can't be told apart: then too.
fn is_not_after(asked_at: Moment, happened: Moment) -> bool {
    happened == asked_at || !happened.since(asked_at).is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::grant::{Epoch, Yes};
    use crate::key::ArchiveId;
    use crate::secret::Fingerprinter;

    fn grant(asked_at: Moment) -> Arc<Grant> {
        Arc::new(Grant::new(Yes::for_test(), ArchiveId::new(1), asked_at, Epoch { key: 0, global: 0 }, None))
    }

    #[test]
    fn a_revocation_ends_what_was_asked_before_it_and_nothing_after() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let [token, one, two] = ["t", "1", "2"].map(|text| key.of([text.as_bytes()]));
        let grants = Grants::new(Duration::from_secs(60));
        grants.insert(one, grant(clock.now()), vec![token]);
        grants.insert(two, grant(clock.now()), vec![]);
        clock.advance(Duration::from_secs(1));
        assert!(grants.find(one).is_some());
        assert!(grants.revoke(&[token], clock.now()));
        assert!(grants.find(one).is_none(), "asked before");
        assert!(grants.find(two).is_some(), "another credential");
        clock.advance(Duration::from_secs(1));
        grants.insert(one, grant(clock.now()), vec![token]);
        assert!(grants.find(one).is_some(), "asked after");
    }

    #[test]
    fn more_revocations_than_fit_are_said_to_be_too_many() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let grants = Grants::new(Duration::from_secs(60));
        for n in 0..REVOCATIONS {
            assert!(grants.revoke(&[key.of([n.to_le_bytes().as_slice()])], clock.now()));
        }
        assert!(!grants.revoke(&[key.of([b"x".as_slice()])], clock.now()), "the caller must end all grants");
        assert!(grants.revoke(&[key.of([b"x".as_slice()])], clock.now()));
    }

    #[test]
    fn what_was_asked_before_the_time_was_lengthened_is_not_remembered_whenever_its_answer_comes() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let asking = key.of([b"a".as_slice()]);
        let grants = Grants::new(Duration::from_secs(30));
        let before = grant(clock.now());
        clock.advance(Duration::from_secs(1));
        grants.change(Duration::from_secs(60), clock.now());
        grants.insert(asking, before, vec![]);
        assert!(grants.find(asking).is_none());
        clock.advance(Duration::from_secs(1));
        grants.insert(asking, grant(clock.now()), vec![]);
        grants.change(Duration::from_secs(20), clock.now());
        assert!(grants.find(asking).is_some(), "a shorter one ends nothing by itself");
    }

    #[test]
    fn nothing_is_remembered_for_no_time() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let asking = key.of([b"a".as_slice()]);
        let grants = Grants::new(Duration::ZERO);
        grants.insert(asking, grant(clock.now()), vec![]);
        assert!(grants.find(asking).is_none());
    }
}
