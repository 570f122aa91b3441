//! The credentials that grants rest on.
//!
//! One is known for as long as a grant rests on it or a question with it is under way. So ending it reaches all of those,
//! and ending one that opened nothing is nothing to remember: nobody can fill a list of what has ended, and no grant but
//! its own ends by it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::base::clock::Moment;
use crate::base::secret::Fingerprint;

/// Those that are known now, each once: as many as grants and questions under way have together.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials(Arc<Mutex<HashMap<Fingerprint, Weak<Credential>>>>);

#[derive(Debug)]
struct Credential {
    fingerprint: Fingerprint,
    ended: Mutex<Option<Moment>>,
    known: Credentials,
}

/// All of one caller's, held.
#[derive(Debug, Clone, Default)]
pub(super) struct CallerCredentials(Arc<[Arc<Credential>]>);

impl Credentials {
    /// Holds a caller's credentials; to be done before a question is asked with them.
    pub(super) fn hold(&self, fingerprints: &[Fingerprint]) -> CallerCredentials {
        let mut known = self.0.lock();
        let held = fingerprints.iter().map(|fingerprint| {
            known.get(fingerprint).and_then(Weak::upgrade).unwrap_or_else(|| {
                let (fingerprint, ended) = (*fingerprint, Mutex::default());
                let credential = Arc::new(Credential { fingerprint, ended, known: self.clone() });
                known.insert(fingerprint, Arc::downgrade(&credential));
                credential
            })
        });
        CallerCredentials(held.collect())
    }

    /// Voids every yes that was asked for before `now` with one of these.
    pub(super) fn end(&self, fingerprints: &[Fingerprint], now: Moment) {
        // Let go of outside the lock, which the last one's end takes.
        let ended: Vec<Arc<Credential>> = {
            let known = self.0.lock();
            fingerprints.iter().filter_map(|fingerprint| known.get(fingerprint)?.upgrade()).collect()
        };
        for credential in &ended {
            *credential.ended.lock() = Some(now);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        let mut known = self.known.0.lock();
        // Somebody may have come with it anew meanwhile.
        if known.get(&self.fingerprint).is_some_and(|other| other.strong_count() == 0) {
            known.remove(&self.fingerprint);
        }
    }
}

impl CallerCredentials {
    /// Whether one of them ended when a question of `asked_at` had been sent. Two readings of one instant can't be told
    /// apart: then too.
    pub(super) fn ended_since(&self, asked_at: Moment) -> bool {
        self.0.iter().any(|credential| credential.ended.lock().is_some_and(|at| is_not_after(asked_at, at)))
    }
}

/// Whether a question was sent before something happened, or in the same instant.
pub(super) fn is_not_after(asked_at: Moment, happened: Moment) -> bool {
    happened == asked_at || !happened.since(asked_at).is_zero()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::clock::Clock;
    use crate::base::secret::Fingerprinter;

    #[test]
    fn what_is_known_is_what_is_held() {
        let (clock, key) = (Clock::manual(1_000), Fingerprinter::random().unwrap());
        let [token, other] = ["t", "o"].map(|text| key.of([text.as_bytes()]));
        let credentials = Credentials::default();
        credentials.end(&[token, other], clock.now());
        assert_eq!(credentials.len(), 0, "it opened nothing");
        let (one, two) = (credentials.hold(&[token, other]), credentials.hold(&[token]));
        assert_eq!(credentials.len(), 2);
        let asked_at = clock.now();
        assert!(!one.ended_since(asked_at));
        clock.advance(Duration::from_secs(1));
        credentials.end(&[token], clock.now());
        assert!(one.ended_since(asked_at) && two.ended_since(asked_at));
        assert!(one.ended_since(clock.now()), "the same instant");
        clock.advance(Duration::from_secs(1));
        assert!(!two.ended_since(clock.now()), "asked after");
        drop(one);
        assert_eq!(credentials.len(), 1);
        assert!(credentials.hold(&[token]).ended_since(asked_at), "as long as anybody holds it");
        drop(two);
        assert_eq!(credentials.len(), 0);
    }
}
