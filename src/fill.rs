//! One transfer an archive, however many ask.
//!
//! Owns the fills under way: each is a task of its own, begun for a leader, followed by whoever has a yes of his own
//! for the same archive. Knows GitLab, the store and access; knows nothing of clients or of how anything is served.
//! What isn't an archive belongs to the leader alone.

mod flight;
mod open;
mod part;
mod patience;
mod pump;
mod resume;
mod span;
mod sparse;
mod waiters;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

pub use flight::{Arrival, Awaited, Flight, Stage};
pub use open::Relayed;
pub use part::Asker;

use crate::access::{Access, Caller};
use crate::clock::Clock;
use crate::grant::{Etag, Facts, Grant};
use crate::key::{ArchiveId, Key};
use crate::num::to_u64;
use crate::route::Question;
use crate::store::{self, Store};
use crate::telemetry::{Metrics, metrics};
use crate::upstream::{self, Upstream};

/// Fills under way at once: each holds up to 1.5 MiB between the network and the disk. At one more, a leader's request
/// is passed through.
const RUNNING: usize = 128;

/// Archives remembered as too large, and for how long: until the next pipeline's are of more interest.
const REMEMBERED: u64 = 4096;
const FOR: Duration = Duration::from_secs(600);

/// What a fill works with.
#[derive(Debug)]
pub struct Means {
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
    /// The instance's name, part of entity tags.
    pub instance: String,
}

/// The fills under way.
#[derive(Debug)]
pub struct Fills {
    means: Means,
    flights: Mutex<HashMap<Key, Arc<Flight>>>,
    permits: Arc<Semaphore>,
    /// Lengths of archives that weren't worth fetching for the sake of an entry.
    too_large: Cache<Key, u64>,
}

/// Who begins a fill, and with which question.
#[derive(Debug, Clone)]
pub struct Leader {
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
}

/// What a leader gets.
#[derive(Debug)]
pub enum Led {
    /// An archive, as it grows, what opens it, and the fields that belong to this very answer.
    Growing(Arc<Arrival>, Arc<Grant>, HeaderMap),
    /// GitLab's own answer, which is his alone, and why it is.
    Relay(Relayed, metrics::Fill),
    /// It is held by now, or some of it: look again.
    Joined,
    /// It is arriving already, under another key.
    Under(Arc<Flight>),
    /// His own request must be passed on as it is.
    Pass(metrics::Fill),
    /// GitLab couldn't be asked.
    Failed(upstream::Error),
}

/// What to do about a key.
#[derive(Debug)]
pub enum Joined {
    /// Somebody leads.
    Follow(Arc<Flight>),
    /// The fill has begun; this is what it brings its leader.
    Lead(oneshot::Receiver<Led>),
    /// There is an archive now: look again.
    Landed,
    /// Too many fills are under way.
    Full,
    /// The disk refuses archives, and was tried a moment ago.
    Refusing,
}

impl Fills {
    /// No fills yet.
    pub fn new(means: Means) -> Arc<Self> {
        let too_large = Cache::builder().max_capacity(REMEMBERED).time_to_live(FOR).build();
        let permits = Arc::new(Semaphore::new(RUNNING));
        Arc::new(Self { means, flights: Mutex::default(), permits, too_large })
    }

    /// Joins the fill of the leader's archive, or begins one. `known` is the archive that the leader has seen in the
    /// store and found to be another than GitLab's.
    pub fn join_or_lead(self: &Arc<Self>, leader: Leader, known: Option<ArchiveId>) -> Joined {
        let key = leader.question.key;
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return Joined::Follow(Arc::clone(flight));
        }
        // A fill that has just ended put its archive in the store before it left this list.
        if self.means.store.holds(key).is_some_and(|id| Some(id) != known) {
            return Joined::Landed;
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Joined::Full;
        };
        if !self.means.store.may_try() {
            self.means.metrics.unstored(metrics::Unstored::Disk);
            return Joined::Refusing;
        }
        let flight = Arc::new(Flight::new(key));
        flights.insert(key, Arc::clone(&flight));
        drop(flights);
        let (tell, led) = oneshot::channel();
        let fills = Arc::clone(self);
        crate::rt::spawn(async move {
            let _permit = permit;
            let landing = Landing { fills: Arc::clone(&fills), flight };
            let result = fills.run(&landing.flight, leader, known, tell).await;
            fills.means.metrics.fill(result);
        });
        Joined::Lead(led)
    }

    /// Begins the archive of an entry that was just had from GitLab, for those who ask next, unless it is under way or known
    /// to be longer than the leader finds worth it. Returns whether some of it is held now.
    pub async fn begin_beside(self: &Arc<Self>, leader: Leader, known: Option<ArchiveId>) -> bool {
        let length = self.too_large.get(&leader.question.key);
        let is_worth_it = |longest| length.is_none_or(|length| length <= longest);
        if !leader.longest.is_none_or(is_worth_it) {
            return false;
        }
        match self.join_or_lead(leader, known) {
            Joined::Lead(led) => matches!(led.await, Ok(Led::Joined)),
            Joined::Follow(_) | Joined::Landed | Joined::Full | Joined::Refusing => false,
        }
    }

    /// The entity tag that clients get for an archive with these facts.
    pub fn entity_tag(&self, key: Key, facts: &Facts) -> Option<Etag> {
        flight::entity_tag(&self.means.instance, key, facts)
    }

    /// Waits until no fill is under way. None may begin meanwhile.
    pub async fn idle(&self) {
        let all = u32::try_from(RUNNING).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _ = self.permits.acquire_many(all).await;
    }

    /// A fill under another key of the very archive that GitLab speaks of, if that is proven.
    pub fn under_way_as(&self, key: Key, seen: &Facts) -> Option<Arc<Flight>> {
        let flights = self.flights.lock();
        flights.values().find(|flight| flight.key() != key && flight.brings(seen)).map(Arc::clone)
    }

    /// Says which archive the fill of a key brings, or finds the one under another key that brings it already. Of two that
    /// begin at once, one waits for the other.
    fn announce(&self, key: Key, facts: &Facts) -> Option<Arc<Flight>> {
        let flights = self.flights.lock();
        let other = flights.values().find(|flight| flight.key() != key && flight.brings(facts));
        if let (None, Some(own)) = (other, flights.get(&key)) {
            own.announce(facts);
        }
        other.map(Arc::clone)
    }

    /// Whether a fill is under way for which some ref was asked.
    pub fn is_ref_under_way(&self) -> bool {
        self.flights.lock().keys().any(|key| key.job().is_none())
    }

    /// Whether a fill for a key is under way.
    pub fn is_under_way(&self, key: Key) -> bool {
        self.flights.lock().contains_key(&key)
    }

    /// Fills under way.
    pub fn count(&self) -> u64 {
        to_u64(self.flights.lock().len())
    }

    /// Something has happened to a key's archive: what is stored of it is gone, grants and fills that began before are
    /// void, and nobody joins those fills any more. When this returns, no file of it is left.
    pub async fn invalidate(&self, key: Key) {
        let mut taken = None;
        self.means.access.epochs().invalidate(key, || {
            taken = self.means.store.take_out(key, None);
            self.flights.lock().remove(&key);
        });
        if let Some(taken) = taken {
            self.means.store.unlink(taken).await;
        }
    }

    /// From the leader's question to the last byte.
    async fn run(
        self: &Arc<Self>,
        flight: &Arc<Flight>,
        leader: Leader,
        known: Option<ArchiveId>,
        tell: oneshot::Sender<Led>,
    ) -> metrics::Fill {
        let tell = if leader.part {
            match self.run_sparse(flight, &leader, known, tell).await {
                Ok(result) => return result,
                Err(tell) => tell,
            }
        } else {
            tell
        };
        let asked = self.means.access.about_to_ask(leader.question.key);
        let opened = match self.open(&leader, known).await {
            Ok(opened) => opened,
            Err((led, result)) => match *led {
                Led::Under(other) => return Self::wait_for(flight, &other, tell).await,
                led => return self.end(flight, tell, led, result),
            },
        };
        let draft = match self.means.store.draft(leader.question.key, opened.facts.length).await {
            Ok(draft) => draft,
            Err(error) => {
                self.not_stored(&error);
                let led = opened.relay(leader.takes_redirect, metrics::Fill::NoRoom);
                return self.end(flight, tell, led, metrics::Fill::NoRoom);
            }
        };
        let access = &self.means.access;
        let grant =
            access.grant_leader(&leader.caller, &leader.question, opened.yes.clone(), draft.id(), asked);
        access.note(&leader.caller, &leader.question, draft.visitors());
        let led_by = Asker { caller: leader.caller, question: leader.question };
        let arrival = Arc::new(Arrival::new(&draft, &opened, led_by, &self.means, asked.at));
        if arrival.told().is_some() {
            draft.guard();
        }
        // The leader may have left; the fill goes on.
        let _ = tell.send(Led::Growing(Arc::clone(&arrival), grant, opened.fresh()));
        flight.set(Stage::Growing(Arc::clone(&arrival)));
        self.pump(Arc::clone(flight), opened, draft, arrival, asked.epoch).await
    }

    /// Sends the leader, and whoever follows him, to the fill of another key, which doesn't wait for anyone's.
    async fn wait_for(flight: &Flight, other: &Arc<Flight>, tell: oneshot::Sender<Led>) -> metrics::Fill {
        flight.set(Stage::Under(Arc::clone(other)));
        let _ = tell.send(Led::Under(Arc::clone(other)));
        other.landed().await;
        metrics::Fill::Joined
    }

    /// Counts an archive that isn't stored. What the disk has to do with it is said once, by the store.
    fn not_stored(&self, error: &store::Error) {
        tracing::debug!(%error, "an archive isn't stored");
        if let Some(why) = error.unstored() {
            self.means.metrics.unstored(why);
        }
    }

    fn end(
        &self,
        flight: &Arc<Flight>,
        tell: oneshot::Sender<Led>,
        led: Led,
        result: metrics::Fill,
    ) -> metrics::Fill {
        // Off the list before the leader has his answer: whoever asks after him must not find this flight.
        self.leave(flight);
        flight.set(Stage::Ended { no_room: result == metrics::Fill::NoRoom });
        let _ = tell.send(led);
        result
    }

    fn leave(&self, flight: &Arc<Flight>) {
        let mut flights = self.flights.lock();
        if flights.get(&flight.key()).is_some_and(|listed| Arc::ptr_eq(listed, flight)) {
            flights.remove(&flight.key());
        }
    }
}

/// Takes a flight off the list when its task ends, or dies.
struct Landing {
    fills: Arc<Fills>,
    flight: Arc<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.fills.leave(&self.flight);
        self.flight.end();
    }
}
