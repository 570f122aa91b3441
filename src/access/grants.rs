//! The grants that are remembered, and those that no longer count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::RwLock;

use super::credentials::{CallerCredentials, Credentials, is_not_after};
use crate::base::clock::Moment;
use crate::base::secret::Fingerprint;
use crate::gitlab::grant::Grant;

/// Grants remembered at once, some 30 MB, with what GitLab says to pages of other origins three times that; the least recently used goes first, which costs a question.
const REMEMBERED: u64 = 65_536;

/// A grant and what it rests on.
#[derive(Debug)]
struct GrantEntry {
    grant: Arc<Grant>,
    held: CallerCredentials,
    readers: Option<Arc<HeaderMap>>,
}

/// A grant, and what GitLab said with it of [whose pages may read](crate::http::fields::readers) what it opens, if anything.
pub(super) type Remembered = (Arc<Grant>, Option<Arc<HeaderMap>>);

/// Grants by caller and question. Nothing in it outlives the process.
#[derive(Debug)]
pub(super) struct Grants {
    cache: Cache<Fingerprint, Arc<GrantEntry>>,
    credentials: Credentials,
    life: Arc<MaxTtl>,
    /// When that was last made longer.
    lengthened: RwLock<Option<Moment>>,
}

/// How long grants are remembered at most, milliseconds.
#[derive(Debug)]
struct MaxTtl(AtomicU64);

impl MaxTtl {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn set(&self, life: Duration) {
        self.0.store(u64::try_from(life.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

/// For the cache, which asks when something is put in.
struct Broom(Arc<MaxTtl>);

impl Broom {
    fn bound(&self) -> Duration {
        self.0.now().max(Duration::from_secs(1))
    }
}

impl Expiry<Fingerprint, Arc<GrantEntry>> for Broom {
    fn expire_after_create(&self, _: &Fingerprint, _: &Arc<GrantEntry>, _: Instant) -> Option<Duration> {
        Some(self.bound())
    }

    fn expire_after_update(
        &self,
        _: &Fingerprint,
        _: &Arc<GrantEntry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.bound())
    }
}

impl Grants {
    /// Remembers grants for at most `longest`. Age is judged by [`Grant::opens`]; this bound only cleans up.
    pub(super) fn new(longest: Duration) -> Self {
        let life = Arc::new(MaxTtl(AtomicU64::new(0)));
        life.set(longest);
        let cache = Cache::builder()
            .max_capacity(REMEMBERED)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Broom(Arc::clone(&life)))
            .build();
        Self { cache, credentials: Credentials::default(), life, lengthened: RwLock::default() }
    }

    /// Remembers grants for another time. If that is longer all go, and so does what is being asked now: it was promised
    /// for the shorter one only.
    pub(super) fn change(&self, longest: Duration, now: Moment) {
        let before = self.life.now();
        if longest > before {
            *self.lengthened.write() = Some(now);
            self.cache.invalidate_all();
        }
        self.life.set(longest);
    }

    /// Holds a caller's credentials while a question is asked with them, and a grant rests on them.
    pub(super) fn hold(&self, fingerprints: &[Fingerprint]) -> CallerCredentials {
        self.credentials.hold(fingerprints)
    }

    /// Remembers a grant that was asked for with what is held. One without all that GitLab said with it would be worth
    /// nothing to a page of another origin: it isn't remembered.
    pub(super) fn insert(
        &self,
        asking: Fingerprint,
        grant: Arc<Grant>,
        held: CallerCredentials,
        readers: Option<HeaderMap>,
    ) {
        match readers {
            _ if self.life.now().is_zero() => {}
            Some(readers) => {
                let readers = (!readers.is_empty()).then(|| Arc::new(readers));
                self.cache.insert(asking, Arc::new(GrantEntry { grant, held, readers }));
            }
            None => self.forget(asking),
        }
    }

    /// The grant remembered for a caller and question, unless something revoked it since its question was sent.
    pub(super) fn find(&self, asking: Fingerprint) -> Option<Remembered> {
        let entry = self.cache.get(&asking)?;
        let asked_at = entry.grant.asked_at();
        let outdated = self.lengthened.read().is_some_and(|at| is_not_after(asked_at, at));
        (!outdated && !entry.held.ended_since(asked_at))
            .then(|| (Arc::clone(&entry.grant), entry.readers.clone()))
    }

    /// Forgets what is remembered for a caller and question: its last answer was no yes.
    pub(super) fn forget(&self, asking: Fingerprint) {
        self.cache.invalidate(&asking);
    }

    /// Voids every grant whose question was sent before `now` with one of these fingerprints.
    pub(super) fn revoke(&self, fingerprints: &[Fingerprint], now: Moment) {
        self.credentials.end(fingerprints, now);
    }

    /// Lets go of what has expired; the cache does so by itself only when it is used.
    pub(super) fn sweep(&self) {
        self.cache.run_pending_tasks();
    }

    /// Grants remembered now.
    pub(super) fn len(&self) -> u64 {
        self.cache.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::base::key::ArchiveId;
    use crate::base::secret::Fingerprinter;
    use crate::gitlab::grant::{Epoch, Yes};

    fn grant(asked_at: Moment) -> Arc<Grant> {
        Arc::new(Grant::new(Yes::for_test(), ArchiveId::new(1), asked_at, Epoch { key: 0, global: 0 }, None))
    }

    #[test]
    fn a_yes_of_which_not_all_can_be_kept_is_not_remembered() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let asking = key.of([b"a".as_slice()]);
        let grants = Grants::new(Duration::from_secs(60));
        grants.insert(asking, grant(clock.now()), CallerCredentials::default(), Some(HeaderMap::new()));
        assert!(grants.find(asking).is_some_and(|(_, readers)| readers.is_none()));
        grants.insert(asking, grant(clock.now()), CallerCredentials::default(), None);
        assert!(grants.find(asking).is_none(), "nor what was before it");
    }

    #[test]
    fn a_revocation_ends_what_was_asked_before_it_and_nothing_after() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let [token, one, two] = ["t", "1", "2"].map(|text| key.of([text.as_bytes()]));
        let grants = Grants::new(Duration::from_secs(60));
        grants.insert(one, grant(clock.now()), grants.hold(&[token]), Some(HeaderMap::new()));
        grants.insert(two, grant(clock.now()), CallerCredentials::default(), Some(HeaderMap::new()));
        clock.advance(Duration::from_secs(1));
        assert!(grants.find(one).is_some());
        grants.revoke(&[token], clock.now());
        assert!(grants.find(one).is_none(), "asked before");
        assert!(grants.find(two).is_some(), "another credential");
        clock.advance(Duration::from_secs(1));
        grants.insert(one, grant(clock.now()), grants.hold(&[token]), Some(HeaderMap::new()));
        assert!(grants.find(one).is_some(), "asked after");
    }

    #[test]
    fn no_flood_of_revocations_ends_a_grant_that_does_not_rest_on_them() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let [token, one] = ["t", "1"].map(|text| key.of([text.as_bytes()]));
        let grants = Grants::new(Duration::from_secs(60));
        grants.insert(one, grant(clock.now()), grants.hold(&[token]), Some(HeaderMap::new()));
        clock.advance(Duration::from_secs(1));
        for n in 0..100_000_u32 {
            grants.revoke(&[key.of([n.to_le_bytes().as_slice()])], clock.now());
        }
        assert!(grants.find(one).is_some());
        assert_eq!(grants.credentials.len(), 1, "and none of them is remembered");
    }

    #[test]
    fn what_was_asked_before_the_time_was_lengthened_is_not_remembered_whenever_its_answer_comes() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let asking = key.of([b"a".as_slice()]);
        let grants = Grants::new(Duration::from_secs(30));
        let before = grant(clock.now());
        clock.advance(Duration::from_secs(1));
        grants.change(Duration::from_secs(60), clock.now());
        grants.insert(asking, before, CallerCredentials::default(), Some(HeaderMap::new()));
        assert!(grants.find(asking).is_none());
        clock.advance(Duration::from_secs(1));
        grants.insert(asking, grant(clock.now()), CallerCredentials::default(), Some(HeaderMap::new()));
        grants.change(Duration::from_secs(20), clock.now());
        assert!(grants.find(asking).is_some(), "a shorter one ends nothing by itself");
    }

    #[test]
    fn nothing_is_remembered_for_no_time() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let asking = key.of([b"a".as_slice()]);
        let grants = Grants::new(Duration::ZERO);
        grants.insert(asking, grant(clock.now()), CallerCredentials::default(), Some(HeaderMap::new()));
        assert!(grants.find(asking).is_none());
    }
}
