//! Object stores that were found failing, so that nobody waits for one again for a while.
//!
//! Counted by the store's authority where nothing comes from it, or where it says that it can't; by the object where it
//! refuses that one, which may be about that object alone until it has refused another one as well.

use std::collections::HashMap;
use std::time::Duration;

use http::{StatusCode, Uri};
use parking_lot::Mutex;

use super::error::{Error, FailureKind};
use crate::base::clock::{Clock, Moment};

/// Stores and objects that are remembered; one more isn't, which costs its callers the wait.
const MOST: usize = 1024;

/// What is known of a store, or of an object in it.
#[derive(Debug)]
struct Failing {
    kind: FailureKind,
    /// When it is tried again. Whoever does moves it, so that the others need not.
    until: Moment,
}

/// Those that fail.
#[derive(Debug)]
pub(super) struct Stores {
    clock: Clock,
    /// How long one is left alone; zero: not at all.
    rest: Duration,
    failing: Mutex<HashMap<String, Failing>>,
}

impl Stores {
    pub(super) fn new(clock: Clock, rest: Duration) -> Self {
        Self { clock, rest, failing: Mutex::default() }
    }

    /// Whether an object may be asked for now: the error otherwise. Of those who come when it is time to try again one may.
    pub(super) fn may_ask(&self, uri: &Uri) -> Result<(), Error> {
        let now = self.clock.now();
        let mut failing = self.failing.lock();
        for name in [store(uri), object(uri)] {
            let Some(known) = failing.get_mut(&name) else { continue };
            if now.since(known.until) < self.rest {
                return Err(Error::known(known.kind));
            }
            known.until = now;
        }
        Ok(())
    }

    /// Nothing has come from it.
    pub(super) fn failed(&self, uri: &Uri, kind: FailureKind) {
        if kind.may_be_outage() && kind != FailureKind::QueueTimeout {
            self.note(store(uri), kind);
        }
    }

    /// It has answered so.
    pub(super) fn answered(&self, uri: &Uri, status: StatusCode) {
        match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                let others = {
                    let failing = self.failing.lock();
                    let begins = format!("{}/", store(uri));
                    failing.keys().any(|name| name.starts_with(&begins) && *name != object(uri))
                };
                self.note(if others { store(uri) } else { object(uri) }, FailureKind::Unavailable);
            }
            status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                self.note(store(uri), FailureKind::Unavailable);
            }
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                let mut failing = self.failing.lock();
                if !failing.is_empty() {
                    let (store, object) = (store(uri), object(uri));
                    failing.retain(|name, _| *name != store && *name != object);
                }
            }
            _ => {}
        }
    }

    fn note(&self, name: String, kind: FailureKind) {
        let now = self.clock.now();
        let mut failing = self.failing.lock();
        if failing.len() >= MOST {
            failing.retain(|_, known| now.since(known.until) < self.rest);
        }
        if !self.rest.is_zero() && (failing.len() < MOST || failing.contains_key(&name)) {
            failing.insert(name, Failing { kind, until: now });
        }
    }
}

/// Scheme and authority.
fn store(uri: &Uri) -> String {
    let authority = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), authority.unwrap_or_default())
}

/// The same and the path; never the query, which is a credential.
fn object(uri: &Uri) -> String {
    format!("{}{}", store(uri), uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(30);

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_store_of_which_nothing_comes_is_left_alone_and_then_tried_by_one() {
        let clock = Clock::manual(0);
        let stores = Stores::new(clock.clone(), REST);
        let [one, two, other] = ["http://s/b/1?a", "http://S/b/2", "http://t/b/1"].map(uri);
        for fails in [
            |stores: &Stores, at: &Uri| stores.failed(at, FailureKind::ConnectTimeout),
            |stores: &Stores, at: &Uri| stores.answered(at, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            assert!(stores.may_ask(&one).is_ok());
            fails(&stores, &one);
            clock.advance(REST.checked_sub(Duration::from_secs(1)).unwrap());
            assert!(stores.may_ask(&one).is_err() && stores.may_ask(&two).is_err());
            assert!(stores.may_ask(&other).is_ok(), "another store");
            clock.advance(Duration::from_secs(1));
            assert!(stores.may_ask(&two).is_ok());
            assert!(stores.may_ask(&one).is_err(), "while one tries");
            stores.answered(&two, StatusCode::OK);
        }
    }

    #[test]
    fn an_object_that_is_refused_is_left_alone_and_its_store_once_another_one_is() {
        let clock = Clock::manual(0);
        let stores = Stores::new(clock, REST);
        let [one, two, three] = ["http://s/b/1", "http://s/b/2", "http://s/b/3"].map(uri);
        for _ in 0..2 {
            stores.answered(&one, StatusCode::FORBIDDEN);
            assert!(stores.may_ask(&one).is_err() && stores.may_ask(&two).is_ok());
        }
        stores.answered(&two, StatusCode::FORBIDDEN);
        assert!(stores.may_ask(&three).is_err());
        stores.answered(&three, StatusCode::NOT_FOUND);
        assert!(stores.may_ask(&three).is_err(), "which says nothing");
    }

    #[test]
    fn no_time_remembers_nothing() {
        let stores = Stores::new(Clock::manual(0), Duration::ZERO);
        stores.failed(&uri("http://s/b"), FailureKind::Refused);
        assert!(stores.may_ask(&uri("http://s/b")).is_ok());
    }
}
