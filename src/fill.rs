//! One transfer an archive, however many ask.
//!
//! Owns the fills under way: each is a task of its own, begun for a leader, followed by whoever has a yes of his own
//! for the same archive. Knows GitLab, the store and access; knows nothing of clients or of how anything is served.
//! What isn't an archive belongs to the leader alone.

mod backoff;
mod conclude;
mod flight;
mod open;
mod origin;
mod span;
mod sparse;
mod strangers;
mod transfer;
mod waiters;
mod whole;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

pub(crate) use flight::{Fill, FillBody, FillFollower, Stage};
pub(crate) use origin::{
    ArchiveOrigin, ByteRequest, ByteSource, GitLabOrigin, NoBytes, OriginResponse, Relayed, Requester,
    StoreSource,
};
pub(crate) use strangers::Strangers;

use crate::access::{Access, Caller};
use crate::base::clock::Clock;
use crate::base::key::{ArchiveId, Key};
use crate::base::memory::Memory;
use crate::base::num::to_u64;
use crate::gitlab::grant::{Facts, Grant};
use crate::gitlab::route::Question;
use crate::http::Etag;
use crate::store::Store;
use crate::telemetry::{Metrics, metrics};
use crate::upstream::{self, Upstream};

/// Fills that bring an archive at once: each holds up to 1.5 MiB between the network and the disk. One more brings its
/// archive to its leader alone. A leader takes its place once GitLab has let it in: strangers take none.
const RUNNING: usize = 128;

/// Fills that are begun at once, of which most wait for GitLab's first word, and hold nothing but a task. One more is passed.
const BEGUN: usize = 1024;

/// Archives remembered as too large, and for how long: until the next pipeline's are of more interest.
const REMEMBERED: u64 = 4096;
const FOR: Duration = Duration::from_secs(600);

/// What a fill works with.
#[derive(Debug)]
pub(crate) struct Deps {
    /// Where archives come from.
    pub origin: Arc<dyn ArchiveOrigin>,
    /// GitLab.
    pub upstream: Arc<Upstream>,
    /// Where archives go.
    pub store: Arc<Store>,
    /// Who may have them.
    pub access: Arc<Access>,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What may be held in memory.
    pub memory: Arc<Memory>,
    /// The instance's name, part of entity tags.
    pub instance: String,
}

/// The fills under way.
#[derive(Debug)]
pub(crate) struct Fills {
    deps: Deps,
    flights: Mutex<HashMap<Key, Arc<Fill>>>,
    begun: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    /// Held by each part under way.
    parts: Arc<()>,
    /// Whom GitLab didn't let in.
    strangers: Strangers,
    /// Lengths of archives that weren't worth fetching for the sake of an entry.
    too_large: Cache<Key, u64>,
}

/// Who begins a fill, and with which question.
#[derive(Debug, Clone)]
pub(crate) struct Leader {
    /// In whose name.
    pub caller: Caller,
    /// The question.
    pub question: Question,
    /// Whether the client would take a redirect to the object store for an answer.
    pub takes_redirect: bool,
    /// The longest archive that is worth it; `None`: any.
    pub longest: Option<u64>,
    /// Whether only a part of the archive is wanted: it is begun with its end then, if it can be had in parts.
    pub part: bool,
    /// Whether GitLab has let it in already, on a question of its own.
    pub let_in: bool,
}

/// What a leader gets.
#[derive(Debug)]
pub(crate) enum LeaderResult {
    /// An archive, as it grows, what opens it, and the fields that belong to this very answer.
    Growing(Arc<FillBody>, Arc<Grant>, HeaderMap),
    /// GitLab's own answer, which is his alone, and why it is.
    Relay(Relayed, metrics::FillLabel),
    /// It is held by now, or some of it: look again.
    Joined,
    /// It is arriving already, under another key.
    DuplicateOf(Arc<Fill>),
    /// His own request must be passed on as it is.
    Pass(metrics::FillLabel),
    /// GitLab couldn't be asked.
    Failed(upstream::Error),
}

/// What to do about a key.
#[derive(Debug)]
pub(crate) enum JoinResult {
    /// Somebody leads.
    Follow(Arc<Fill>),
    /// The fill has begun; this is what it brings its leader.
    Lead(oneshot::Receiver<LeaderResult>),
    /// There is an archive now: look again.
    Landed,
    /// Somebody has led lately whom GitLab didn't let in, or places are rare, or the disk is to be tried; who leads now must have
    /// been let in: ask, then try again.
    AskFirst,
    /// Too many fills are under way.
    Full,
    /// The disk refuses archives, and was tried a moment ago.
    Refusing,
}

impl Leader {
    fn requester(&self) -> Requester {
        Requester { caller: self.caller.clone(), question: self.question.clone() }
    }
}

impl Fills {
    /// No fills yet.
    pub(crate) fn new(deps: Deps) -> Arc<Self> {
        let too_large = Cache::builder().max_capacity(REMEMBERED).time_to_live(FOR).build();
        let [begun, permits] = [BEGUN, RUNNING].map(|most| Arc::new(Semaphore::new(most)));
        let (parts, strangers) = (Arc::default(), Strangers::default());
        Arc::new(Self { deps, flights: Mutex::default(), begun, permits, parts, strangers, too_large })
    }

    /// Joins the fill of the leader's archive, or begins one. `known` is the archive that the leader has seen in the
    /// store and found to be another than GitLab's.
    pub(crate) fn join_or_lead(self: &Arc<Self>, leader: Leader, known: Option<ArchiveId>) -> JoinResult {
        let key = leader.question.key;
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return JoinResult::Follow(Arc::clone(flight));
        }
        // A fill that has just ended put its archive in the store before it left this list.
        if self.deps.store.holds(key).is_some_and(|id| Some(id) != known) {
            return JoinResult::Landed;
        }
        if !leader.let_in && self.is_for_those_let_in(key) {
            return JoinResult::AskFirst;
        }
        let Ok(begun) = Arc::clone(&self.begun).try_acquire_owned() else {
            return JoinResult::Full;
        };
        if !self.deps.store.may_try() {
            self.deps.metrics.unstored(metrics::Unstored::Disk);
            return JoinResult::Refusing;
        }
        let flight = Arc::new(Fill::new(key, leader.let_in));
        flights.insert(key, Arc::clone(&flight));
        drop(flights);
        let (tell, led) = oneshot::channel();
        let fills = Arc::clone(self);
        crate::base::rt::spawn(async move {
            let _begun = begun;
            let listed = Deregister { fills: Arc::clone(&fills), flight };
            let result = fills.run(&listed.flight, leader, known, tell).await;
            fills.deps.metrics.fill(result);
        });
        JoinResult::Lead(led)
    }

    /// Whether nobody may lead now who wasn't let in before. The disk's next trial isn't a stranger's to spend either, nor is
    /// the second half of the places.
    fn is_for_those_let_in(&self, key: Key) -> bool {
        self.strangers.came_lately(key, self.deps.clock.now())
            || self.deps.store.is_to_be_tried()
            || self.begun.available_permits() <= BEGUN / 2
    }

    /// The entity tag that clients get for an archive with these facts.
    pub(crate) fn entity_tag(&self, key: Key, facts: &Facts) -> Option<Etag> {
        flight::entity_tag(&self.deps.instance, key, facts)
    }

    /// Waits until no fill is under way. None may begin meanwhile.
    pub(crate) async fn idle(&self) {
        for (places, most) in [(&self.begun, BEGUN), (&self.permits, RUNNING)] {
            let all = u32::try_from(most).unwrap_or(u32::MAX);
            // The semaphores are never closed.
            let _ = places.acquire_many(all).await;
        }
    }

    /// A fill under another key of the very archive that GitLab speaks of, if that is proven.
    pub(crate) fn under_way_as(&self, key: Key, seen: &Facts) -> Option<Arc<Fill>> {
        let flights = self.flights.lock();
        flights.values().find(|flight| flight.key() != key && flight.brings(seen)).map(Arc::clone)
    }

    /// Says which archive the fill of a key brings, or finds the one under another key that brings it already. Of two that
    /// begin at once, one waits for the other.
    fn announce(&self, key: Key, facts: &Facts) -> Option<Arc<Fill>> {
        let flights = self.flights.lock();
        let other = flights.values().find(|flight| flight.key() != key && flight.brings(facts));
        if let (None, Some(own)) = (other, flights.get(&key)) {
            own.announce(facts);
        }
        other.map(Arc::clone)
    }

    /// Whether a fill is under way for which some ref was asked.
    pub(crate) fn is_ref_under_way(&self) -> bool {
        self.flights.lock().keys().any(|key| key.job().is_none())
    }

    /// Waits for the archive of a key to be found in the store, or to be none, if its last byte is here; returns whether it
    /// arrives under another key. Of one that is still arriving nobody knows where a file lies in it.
    pub(crate) async fn lands(&self, key: Key) -> bool {
        let flight = self.flights.lock().get(&key).map(Arc::clone);
        match flight {
            Some(flight) => flight.lands().await,
            None => false,
        }
    }

    /// Whether a fill for a key is under way.
    pub(crate) fn is_under_way(&self, key: Key) -> bool {
        self.flights.lock().contains_key(&key)
    }

    /// Fills under way, those of parts among them.
    pub(crate) fn count(&self) -> u64 {
        to_u64(self.flights.lock().len() + Arc::strong_count(&self.parts) - 1)
    }

    /// Something has happened to a key's archive: what is stored of it is gone, grants and fills that began before are
    /// void, and nobody joins those fills any more. When this returns, no file of it is left.
    pub(crate) async fn invalidate(&self, key: Key) {
        let mut taken = None;
        self.deps.access.epochs().invalidate(key, || {
            taken = self.deps.store.take_out(key, None);
            self.flights.lock().remove(&key);
        });
        if let Some(taken) = taken {
            self.deps.store.unlink(taken).await;
        }
    }

    /// From the leader's question to the last byte.
    async fn run(
        self: &Arc<Self>,
        flight: &Arc<Fill>,
        leader: Leader,
        known: Option<ArchiveId>,
        tell: oneshot::Sender<LeaderResult>,
    ) -> metrics::FillLabel {
        // What is held of a job may turn out to be the same under another face, once all of it has come.
        let tell = if leader.part && (known.is_none() || leader.question.class.is_by_ref()) {
            match self.run_sparse(flight, &leader, known, tell).await {
                Ok(result) => return result,
                Err(tell) => tell,
            }
        } else {
            tell
        };
        let asked = self.deps.access.about_to_ask(&leader.caller, &leader.question);
        let opened = match self.open(&leader, known).await {
            Ok(opened) => opened,
            Err((led, result)) => match *led {
                LeaderResult::DuplicateOf(other) => return Self::wait_for(flight, &other, tell).await,
                led => return self.end(flight, tell, led, result),
            },
        };
        let Ok(_place) = Arc::clone(&self.permits).try_acquire_owned() else {
            let led = opened.relay(leader.takes_redirect, metrics::FillLabel::NoRoom);
            return self.end(flight, tell, led, metrics::FillLabel::NoRoom);
        };
        let begun = self
            .deps
            .store
            .begin(self.record(&leader.question, &opened.response), opened.response.facts.length);
        let (archive, claim) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                self.not_stored(&error);
                let led = opened.relay(leader.takes_redirect, metrics::FillLabel::NoRoom);
                return self.end(flight, tell, led, metrics::FillLabel::NoRoom);
            }
        };
        let access = &self.deps.access;
        let (yes, fresh) = (opened.response.yes.clone(), opened.response.said.clone());
        let grant = access.grant_leader(&leader.caller, &leader.question, yes, archive.id(), &asked, &fresh);
        access.note(&leader.caller, &leader.question, archive.visitors());
        let arrival = Arc::new(FillBody::new(&archive, leader.requester(), asked.at));
        if archive.facts().etag.as_ref().and_then(Etag::digest).is_some() {
            archive.guard();
        }
        // The leader may have left; the fill goes on.
        let _ = tell.send(LeaderResult::Growing(Arc::clone(&arrival), grant, fresh));
        flight.set(Stage::Growing(Arc::clone(&arrival)));
        self.bring_in(Arc::clone(flight), opened, claim, arrival, asked.epoch).await
    }

    /// Sends the leader, and whoever follows him, to the fill of another key, which doesn't wait for anyone's.
    async fn wait_for(
        flight: &Fill,
        other: &Arc<Fill>,
        tell: oneshot::Sender<LeaderResult>,
    ) -> metrics::FillLabel {
        flight.set(Stage::DuplicateOf(Arc::clone(other)));
        let _ = tell.send(LeaderResult::DuplicateOf(Arc::clone(other)));
        other.landed().await;
        metrics::FillLabel::Joined
    }

    fn end(
        &self,
        flight: &Arc<Fill>,
        tell: oneshot::Sender<LeaderResult>,
        led: LeaderResult,
        result: metrics::FillLabel,
    ) -> metrics::FillLabel {
        let refused = matches!(result, metrics::FillLabel::Refused | metrics::FillLabel::NotArchive);
        if refused && !flight.was_let_in() {
            // Before it is off the list: whoever leads next was let in.
            self.strangers.came(flight.key(), self.deps.clock.now());
        }
        // Off the list before the leader has his answer: whoever asks after him must not find this flight.
        self.leave(flight);
        flight.set(Stage::Ended(result));
        let _ = tell.send(led);
        result
    }

    fn leave(&self, flight: &Arc<Fill>) {
        let mut flights = self.flights.lock();
        if flights.get(&flight.key()).is_some_and(|listed| Arc::ptr_eq(listed, flight)) {
            flights.remove(&flight.key());
        }
    }
}

/// Takes a flight off the list when its task ends, or dies.
struct Deregister {
    fills: Arc<Fills>,
    flight: Arc<Fill>,
}

impl Drop for Deregister {
    fn drop(&mut self) {
        self.fills.leave(&self.flight);
        self.flight.end();
    }
}
