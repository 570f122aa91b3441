//! Somebody wants an archive.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use http::{Response, header};

use super::body::Body;
use super::entry::Turn;
use super::learn::{kept, learn};
use super::mend::{Mender, Sound};
use super::serve::{self, Entity};
use super::{Exchange, Proxy, answer, entry, is_head, pass};
use crate::access::{Admission, Caller, Described, Granted, Other, Refusal, Said, Subject};
use crate::fill::{Arrival, Asker, Flight, Joined, Leader, Led, Stage};
use crate::grant::Relation;
use crate::key::ArchiveId;
use crate::route::{Class, Question};
use crate::store::{Archive, Have};
use crate::telemetry::{Outcome, metrics};
use crate::upstream;

/// How often a request looks again because something happened to its archive while it asked. Then it is passed on.
const LOOKS: usize = 4;

pub(super) type Answer = (Outcome, Response<Body>);

/// Ranges of an answer of which not all is here.
type Lacked = RefCell<Vec<Range<u64>>>;

/// What one look came to.
pub(super) enum Step {
    Answer(Box<Answer>),
    /// The caller's own request goes to GitLab.
    Pass(Outcome),
    /// Something has happened: look again.
    Again,
    /// GitLab has another archive than this one.
    Other(ArchiveId),
    /// An entry of an archive that isn't held, or of another one than is.
    Missed(Option<ArchiveId>),
}

impl From<Answer> for Step {
    fn from(answer: Answer) -> Self {
        Self::Answer(Box::new(answer))
    }
}

/// One request for an archive.
pub(super) struct Asking<'a> {
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) exchange: &'a Exchange,
    pub(super) question: Question,
    pub(super) caller: Caller,
    /// An archive that we hold and GitLab no longer has.
    pub(super) known: Option<ArchiveId>,
    /// Whether it has waited for another request for a file of it.
    pub(super) waited: bool,
}

/// Answers a request for an archive, or for an entry of one.
pub(super) async fn answer(proxy: &Arc<Proxy>, exchange: Exchange, question: Question) -> Answer {
    let caller = Caller::new(Arc::clone(&exchange.fields), exchange.client);
    let mut asking = Asking { proxy, exchange: &exchange, question, caller, known: None, waited: false };
    for _ in 0..LOOKS {
        match asking.look().await {
            Step::Answer(answer) => return *answer,
            Step::Pass(outcome) => return Box::pin(pass::read(proxy, exchange, outcome)).await,
            Step::Missed(known) => {
                asking.known = known;
                let Turn::Now(first) = asking.turn().await else { continue };
                let Asking { question, caller, .. } = asking;
                let miss = entry::Miss { question, caller, known, first };
                return Box::pin(entry::missed(proxy, exchange, miss)).await;
            }
            Step::Again => {}
            Step::Other(id) => asking.known = Some(id),
        }
    }
    Box::pin(pass::read(proxy, exchange, Outcome::Changed)).await
}

impl Asking<'_> {
    async fn look(&self) -> Step {
        let found = self.proxy.store.find(self.question.key).await;
        let found = found.filter(|archive| Some(archive.id()) != self.known);
        if self.question.entry.is_some() {
            return self.entry(found).await;
        }
        match found {
            Some(archive) => self.held(&archive).await,
            None => Box::pin(self.missing()).await,
        }
    }

    /// The archive isn't held, or not by what GitLab has.
    async fn missing(&self) -> Step {
        if is_head(&self.exchange.parts) {
            return self.head().await;
        }
        if let Some(step) = self.is_held_elsewhere().await {
            return step;
        }
        let leader = Leader {
            caller: self.caller.clone(),
            question: self.question.clone(),
            takes_redirect: self.takes_redirect(),
            longest: None,
            part: self.wants_part(),
        };
        match self.proxy.fills.join_or_lead(leader, self.known) {
            Joined::Landed => Step::Again,
            Joined::Full | Joined::Refusing => Step::Pass(Outcome::NoRoom),
            Joined::Follow(flight) => self.follow(&flight).await,
            Joined::Lead(led) => match led.await {
                Ok(Led::Under(flight)) => self.follow(&flight).await,
                Ok(led) => self.lead(led),
                // The fill's task died before it had a word for its leader.
                Err(_) => Step::Pass(Outcome::NoRoom),
            },
        }
    }

    /// Most archives that a ref leads to were fetched by job before. One question tells which it is, before a transfer
    /// is begun only to be thrown away; and so it is while one is on its way for a ref.
    async fn is_held_elsewhere(&self) -> Option<Step> {
        let (fills, key) = (&self.proxy.fills, self.question.key);
        let may_be = self.question.class.is_by_ref() || fills.is_ref_under_way();
        if !may_be || self.known.is_some() || fills.is_under_way(key) {
            return None;
        }
        match self.proxy.access.inquire(&self.caller, &self.question).await {
            Admission::Other(other) if self.is_held_as(&other).await => Some(Step::Again),
            Admission::Other(other) => {
                let flight = fills.under_way_as(key, &other.facts)?;
                Some(self.follow(&flight).await)
            }
            admission => Some(self.turned(admission).await),
        }
    }

    /// Whether what GitLab has is held under another key.
    async fn is_held_as(&self, other: &Other) -> bool {
        self.proxy.store.join(self.question.key, &other.facts, self.known).await
    }

    /// Whether the client asked for less than all of the archive.
    fn wants_part(&self) -> bool {
        let range = self.exchange.fields.get(header::RANGE).and_then(|range| range.to_str().ok());
        range.is_some_and(|range| range.starts_with("bytes=") && range != "bytes=0-")
    }

    /// Whether a redirect to the object store is an answer that this client could have got from GitLab.
    fn takes_redirect(&self) -> bool {
        let query = self.exchange.parts.uri.query().unwrap_or_default();
        self.question.class != Class::Runner || query.split('&').any(|pair| pair == "direct_download=true")
    }

    /// The archive is in the store.
    async fn held(&self, archive: &Arc<Archive>) -> Step {
        let facts = self.recognised(archive).await;
        let subject = Subject {
            id: archive.id(),
            facts: &facts,
            visitors: archive.visitors(),
            described: archive.is_described(self.question.class),
            entry: None,
        };
        match self.admit(subject).await {
            Ok(granted) => self.hit(archive, granted).await,
            Err(Turned::Other(other)) => Box::pin(self.replaced(archive, &other)).await,
            Err(Turned::Step(step)) => step,
        }
    }

    /// GitLab has another archive than the one that is held: perhaps one that is held as well.
    pub(super) async fn replaced(&self, archive: &Arc<Archive>, other: &Other) -> Step {
        let known = Some(archive.id());
        if self.proxy.store.join(self.question.key, &other.facts, known).await {
            return Step::Again;
        }
        Step::Other(archive.id())
    }

    /// An archive's answer; what it lacks of that is on its way then. Where there is no room for it, GitLab's own.
    async fn hit(&self, archive: &Arc<Archive>, granted: Granted) -> Step {
        let lacked = Lacked::default();
        let answer = self.stored(archive, granted, &lacked);
        for range in lacked.into_inner() {
            let begun = Box::pin(self.proxy.fills.begin_span(&self.asker(), archive, &range)).await;
            if let Err(error) = begun {
                tracing::debug!(%error, "a part of an archive is left to GitLab");
                return Step::Pass(Outcome::NoRoom);
            }
        }
        answer.into()
    }

    fn stored(&self, archive: &Arc<Archive>, granted: Granted, lacked: &Lacked) -> Answer {
        let class = self.question.class;
        let fresh = granted.said.map(|said| learn(archive, class, said));
        let record = archive.record();
        let entity = Entity {
            etag: record.etag.as_ref(),
            modified: record.facts.modified,
            length: Some(record.length),
            fields: archive.kept(class).fields().clone(),
            fresh,
            age: Some(self.exchange.started.since(granted.grant.asked_at())),
            ranges: true,
        };
        let source = |range: serve::Span| {
            let range = range.within(record.length);
            if archive.have(&range) != Have::All {
                lacked.borrow_mut().push(range.clone());
            }
            let slices = archive.slices(&granted.grant, range)?;
            // Nothing is left to be found damaged where all was compared.
            let mender = (!archive.is_compared()).then(|| Box::new(self.mender()));
            Some(Body::Slices(Sound::new(slices, mender)))
        };
        let response = serve::respond(self.exchange.request(), entity, source);
        (if lacked.borrow().is_empty() { Outcome::Hit } else { Outcome::Partial }, response)
    }

    /// What is damaged of an archive is fetched again in this caller's name.
    pub(super) fn mender(&self) -> Mender {
        Mender { proxy: Arc::clone(self.proxy), asker: self.asker() }
    }

    /// In whose name, and with which question, bytes of the archive are asked for.
    pub(super) fn asker(&self) -> Asker {
        Asker { caller: self.caller.clone(), question: self.question.of_archive() }
    }

    /// Nothing is held: the answer to a HEAD comes from GitLab's facts, and starts no fill.
    async fn head(&self) -> Step {
        match self.proxy.access.inquire(&self.caller, &self.question).await {
            Admission::Other(other) if self.is_held_as(&other).await => Step::Again,
            Admission::Other(other) => {
                let described =
                    serve::describe(self.proxy, self.exchange.request(), self.question.key, other).await;
                described
                    .map_or(Step::Pass(Outcome::NotArchive), |response| (Outcome::Described, response).into())
            }
            Admission::Down(error) => down(&error),
            // GitLab answers a HEAD otherwise than a GET where it refuses: the client gets the answer to his own.
            _ => Step::Pass(Outcome::Refused),
        }
    }

    /// What the leader's own request brought.
    fn lead(&self, led: Led) -> Step {
        match led {
            Led::Growing(arrival, grant, fresh) => {
                let described = Described::By(arrival.kept().clone());
                let said = Said { facts: arrival.facts().clone(), described, fresh };
                self.growing(&arrival, Granted { grant, said: Some(said) }, Outcome::Stored)
            }
            Led::Relay(relayed, why) => (outcome(why), answer::relayed(relayed)).into(),
            Led::Joined | Led::Under(_) => Step::Again,
            Led::Pass(why) => Step::Pass(outcome(why)),
            Led::Failed(error) => (Outcome::Refused, answer::failed(&error)).into(),
        }
    }

    /// Somebody else leads: this caller asks for himself, once there is something to ask about.
    async fn follow(&self, flight: &Arc<Flight>) -> Step {
        match flight.answered().await {
            Stage::Growing(arrival) | Stage::Whole(arrival) => self.join(flight, &arrival).await,
            Stage::Under(other) => Box::pin(self.follow(&other)).await,
            Stage::Landed => Step::Again,
            Stage::Ended { no_room: true } => Step::Pass(Outcome::NoRoom),
            Stage::Ended { no_room: false } | Stage::Asking => self.inquire().await,
        }
    }

    async fn join(&self, flight: &Flight, arrival: &Arc<Arrival>) -> Step {
        if arrival.is_all_here() && !arrival.is_complete() {
            // In a moment it is known whether it is an archive, and how it ends.
            flight.settled().await;
            return Step::Again;
        }
        // Of such a one what is still missing is what it would be recognised by.
        let unnamed = self.question.class.is_by_ref() && !arrival.facts().identifies();
        let by_ref = unnamed.then(|| arrival.facts().by_ref());
        let subject = Subject {
            id: arrival.id(),
            facts: by_ref.as_ref().unwrap_or(arrival.facts()),
            visitors: arrival.visitors(),
            described: arrival.class().is_web() == self.question.class.is_web(),
            entry: None,
        };
        match self.admit(subject).await {
            // Nothing of what follows crosses from GitLab any more.
            Ok(granted) if arrival.is_complete() => self.growing(arrival, granted, Outcome::Hit),
            Ok(granted) => self.growing(arrival, granted, Outcome::Collapsed),
            Err(Turned::Other(other)) if other.relation == Relation::Unproven => {
                // Nothing says that it is another one, and its end will say whether it is this one.
                if unnamed {
                    flight.landed().await;
                } else {
                    flight.settled().await;
                }
                Step::Again
            }
            Err(Turned::Other(_)) if arrival.is_complete() => {
                // It will be in the store in a moment, as one that GitLab no longer has: then a new fill replaces it.
                flight.landed().await;
                Step::Again
            }
            Err(Turned::Other(_)) => Step::Pass(Outcome::Changed),
            Err(Turned::Step(step)) => step,
        }
    }

    fn growing(&self, arrival: &Arc<Arrival>, granted: Granted, outcome: Outcome) -> Step {
        let (described, fresh) = granted.said.map(|said| (said.described, said.fresh)).unzip();
        let kept = described.and_then(|described| kept(described, self.question.class, arrival.kept()));
        let entity = Entity {
            etag: arrival.etag(),
            modified: arrival.facts().modified,
            length: arrival.facts().length,
            fields: kept.as_ref().unwrap_or(arrival.kept()).fields().clone(),
            fresh,
            age: (outcome != Outcome::Stored).then(|| self.exchange.started.since(arrival.began())),
            ranges: true,
        };
        let source = |span: serve::Span| {
            let growing = arrival.draft().follow(&granted.grant, span.start, span.end)?;
            Some(Body::Growing(growing, arrival.awaited_by(self.asker())))
        };
        (outcome, serve::respond(self.exchange.request(), entity, source)).into()
    }

    /// A fill came to nothing: those whom GitLab refuses go, the others contend for the lead.
    async fn inquire(&self) -> Step {
        match self.proxy.access.inquire(&self.caller, &self.question).await {
            Admission::Other(_) => Step::Again,
            admission => self.turned(admission).await,
        }
    }

    pub(super) async fn admit(&self, subject: Subject<'_>) -> Result<Granted, Turned> {
        match self.proxy.access.admit(&self.caller, &self.question, subject).await {
            Admission::Granted(granted) => Ok(granted),
            Admission::Other(other) => Err(Turned::Other(Box::new(other))),
            admission => Err(Turned::Step(Box::pin(self.turned(admission)).await)),
        }
    }

    /// What to do where nothing was granted.
    async fn turned(&self, admission: Admission) -> Step {
        match admission {
            Admission::Refused(refusal) => self.refused(refusal).await,
            Admission::NotOurs => Step::Pass(Outcome::NotArchive),
            Admission::Down(error) => down(&error),
            Admission::Other(_) | Admission::Granted(_) | Admission::Overtaken => Step::Again,
        }
    }

    async fn refused(&self, refusal: Refusal) -> Step {
        if refusal.gone {
            self.proxy.fills.invalidate(self.question.key).await;
        }
        if is_head(&self.exchange.parts) {
            return Step::Pass(Outcome::Refused);
        }
        (Outcome::Refused, answer::refusal(refusal)).into()
    }
}

/// Why a leader gets GitLab's own answer.
fn outcome(why: metrics::Fill) -> Outcome {
    match why {
        metrics::Fill::Refused => Outcome::Refused,
        metrics::Fill::NoRoom => Outcome::NoRoom,
        _ => Outcome::NotArchive,
    }
}

pub(super) fn down(error: &upstream::Error) -> Step {
    (Outcome::Refused, answer::failed(error)).into()
}

/// Why a caller wasn't let in to a subject.
pub(super) enum Turned {
    /// GitLab has something else for him, or something that isn't proven to be the subject.
    Other(Box<Other>),
    Step(Step),
}
