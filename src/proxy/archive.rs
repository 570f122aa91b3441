//! Somebody wants an archive.

use std::sync::Arc;

use http::Response;

use super::body::Body;
use super::serve::{self, Entity};
use super::{Exchange, Proxy, answer, is_head, pass};
use crate::access::{Admission, Caller, Granted, Refusal, Said, Subject};
use crate::fill::{Arrival, Flight, Joined, Leader, Led, Stage};
use crate::grant::Relation;
use crate::key::ArchiveId;
use crate::route::{Class, Question};
use crate::store::Archive;
use crate::telemetry::{Outcome, metrics};
use crate::upstream;

/// How often a request looks again because something happened to its archive while it asked. Then it is passed on.
const LOOKS: usize = 4;

type Answer = (Outcome, Response<Body>);

/// What one look came to.
enum Step {
    Answer(Box<Answer>),
    /// The caller's own request goes to GitLab.
    Pass(Outcome),
    /// Something has happened: look again.
    Again,
    /// GitLab has another archive than this one.
    Other(ArchiveId),
}

impl From<Answer> for Step {
    fn from(answer: Answer) -> Self {
        Self::Answer(Box::new(answer))
    }
}

/// One request for an archive.
struct Asking<'a> {
    proxy: &'a Arc<Proxy>,
    exchange: &'a Exchange,
    question: Question,
    caller: Caller,
    /// An archive that we hold and GitLab no longer has.
    known: Option<ArchiveId>,
}

/// Answers a request for an archive.
pub(super) async fn answer(proxy: &Arc<Proxy>, exchange: Exchange, question: Question) -> Answer {
    let caller = Caller::new(Arc::clone(&exchange.fields), exchange.client);
    let mut asking = Asking { proxy, exchange: &exchange, question, caller, known: None };
    for _ in 0..LOOKS {
        match asking.look().await {
            Step::Answer(answer) => return *answer,
            Step::Pass(outcome) => return pass::pass(proxy, exchange, outcome).await,
            Step::Again => {}
            Step::Other(id) => asking.known = Some(id),
        }
    }
    pass::pass(proxy, exchange, Outcome::Changed).await
}

impl Asking<'_> {
    async fn look(&self) -> Step {
        let found = self.proxy.store.find(self.question.key()).await;
        if let Some(archive) = found.filter(|archive| Some(archive.id()) != self.known) {
            return self.held(&archive).await;
        }
        if is_head(&self.exchange.parts) {
            return self.head().await;
        }
        let leader = Leader {
            caller: self.caller.clone(),
            question: self.question.clone(),
            takes_redirect: self.takes_redirect(),
        };
        match self.proxy.fills.join_or_lead(leader, self.known) {
            Joined::Landed => Step::Again,
            Joined::Full => Step::Pass(Outcome::NoRoom),
            Joined::Follow(flight) => self.follow(&flight).await,
            Joined::Lead(led) => match led.await {
                Ok(led) => self.lead(led),
                // The fill's task died before it had a word for its leader.
                Err(_) => Step::Pass(Outcome::NoRoom),
            },
        }
    }

    /// Whether a redirect to the object store is an answer that this client could have got from GitLab.
    fn takes_redirect(&self) -> bool {
        let query = self.exchange.parts.uri.query().unwrap_or_default();
        self.question.class == Class::Job || query.split('&').any(|pair| pair == "direct_download=true")
    }

    /// The archive is in the store.
    async fn held(&self, archive: &Arc<Archive>) -> Step {
        let facts = archive.facts();
        let subject = Subject { id: archive.id(), facts: &facts, visitors: archive.visitors() };
        match self.admit(subject).await {
            Ok(granted) => self.hit(archive, granted).into(),
            Err(Turned::Other(_)) => Step::Other(archive.id()),
            Err(Turned::Step(step)) => step,
        }
    }

    fn hit(&self, archive: &Arc<Archive>, granted: Granted) -> Answer {
        let class = self.question.class;
        let fresh = granted.said.map(|said| {
            archive.learn(said.facts, class, said.kept);
            said.fresh
        });
        let record = archive.record();
        let entity = Entity {
            etag: record.etag.as_ref(),
            modified: record.facts.modified,
            length: Some(record.length),
            kept: &archive.kept(class),
            fresh,
            age: Some(self.exchange.started.since(granted.grant.asked_at())),
        };
        let source = |range: serve::Span| {
            archive.slices(&granted.grant, range.within(record.length)).map(Body::Slices)
        };
        (Outcome::Hit, serve::respond(self.exchange.request(), entity, source))
    }

    /// Nothing is held: the answer to a HEAD comes from GitLab's facts, and starts no fill.
    async fn head(&self) -> Step {
        match self.proxy.access.inquire(&self.caller, &self.question).await {
            Admission::Other(other) => {
                let described =
                    serve::describe(self.proxy, self.exchange.request(), self.question.key(), other).await;
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
                let said = Said { facts: arrival.facts().clone(), kept: arrival.kept().clone(), fresh };
                self.growing(&arrival, Granted { grant, said: Some(said) }, Outcome::Stored)
            }
            Led::Relay(relayed, why) => (outcome(why), answer::relayed(relayed)).into(),
            Led::Pass(why) => Step::Pass(outcome(why)),
            Led::Failed(error) => (Outcome::Refused, answer::failed(&error)).into(),
        }
    }

    /// Somebody else leads: this caller asks for himself, once there is something to ask about.
    async fn follow(&self, flight: &Arc<Flight>) -> Step {
        match flight.answered().await {
            Stage::Growing(arrival) | Stage::Whole(arrival) => self.join(flight, &arrival).await,
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
        let subject = Subject { id: arrival.id(), facts: arrival.facts(), visitors: arrival.visitors() };
        match self.admit(subject).await {
            // Nothing of what follows crosses from GitLab any more.
            Ok(granted) if arrival.is_complete() => self.growing(arrival, granted, Outcome::Hit),
            Ok(granted) => self.growing(arrival, granted, Outcome::Collapsed),
            Err(Turned::Other(Relation::Unproven)) => {
                // Nothing says that it is another one, and its end will say whether it is this one.
                flight.settled().await;
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
        let (kept, fresh) = granted.said.map(|said| (said.kept, said.fresh)).unzip();
        let entity = Entity {
            etag: arrival.etag(),
            modified: arrival.facts().modified,
            length: arrival.facts().length,
            kept: kept.as_ref().filter(|kept| !kept.describes_nothing()).unwrap_or(arrival.kept()),
            fresh,
            age: (outcome != Outcome::Stored).then(|| self.exchange.started.since(arrival.began())),
        };
        let source = |span: serve::Span| {
            let growing = arrival.draft().follow(&granted.grant, span.start, span.end)?;
            Some(Body::Growing(growing, Arc::clone(arrival)))
        };
        (outcome, serve::respond(self.exchange.request(), entity, source)).into()
    }

    /// A fill came to nothing: those whom GitLab refuses go, the others contend for the lead.
    async fn inquire(&self) -> Step {
        match self.proxy.access.inquire(&self.caller, &self.question).await {
            Admission::Other(..) | Admission::Granted(_) | Admission::Overtaken => Step::Again,
            Admission::Refused(refusal) => self.refused(refusal).await,
            Admission::NotOurs => Step::Pass(Outcome::NotArchive),
            Admission::Down(error) => down(&error),
        }
    }

    async fn admit(&self, subject: Subject<'_>) -> Result<Granted, Turned> {
        match self.proxy.access.admit(&self.caller, &self.question, subject).await {
            Admission::Granted(granted) => Ok(granted),
            Admission::Other(other) => Err(Turned::Other(other.relation)),
            Admission::Refused(refusal) => Err(Turned::Step(self.refused(refusal).await)),
            Admission::NotOurs => Err(Turned::Step(Step::Pass(Outcome::NotArchive))),
            Admission::Down(error) => Err(Turned::Step(down(&error))),
            Admission::Overtaken => Err(Turned::Step(Step::Again)),
        }
    }

    async fn refused(&self, refusal: Refusal) -> Step {
        if refusal.gone {
            self.proxy.fills.invalidate(self.question.job).await;
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

fn down(error: &upstream::Error) -> Step {
    (Outcome::Refused, answer::failed(error)).into()
}

/// Why a caller wasn't let in to a subject.
enum Turned {
    /// GitLab has something else for him, or something that isn't proven to be the subject.
    Other(Relation),
    Step(Step),
}
