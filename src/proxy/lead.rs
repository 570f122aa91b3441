//! Somebody wants an archive that isn't held: who leads its fill, who follows, and whose turn it is when that came to
//! nothing.
//!
//! Whoever comes first leads, and its own request is its question. One whom GitLab doesn't let in leaves the lead to those
//! whom GitLab lets in: they are asked for at once, and for a while nobody leads who wasn't ([`JoinResult::AskFirst`]). However
//! many strangers come, and however fast, others wait for one answer to one of them.

use std::sync::Arc;

use http::header;

use super::lookup::{AbsentArchive, Lookup};
use super::request::{Admitted, ArtifactRequest, NextStep, Rejected, Retry};
use super::{refs, relay};
use crate::access::{Admission, Candidate};
use crate::fill::{Fill, FillBody, JoinResult, Leader, LeaderResult, Relayed, Stage};
use crate::gitlab::grant::Relation;
use crate::gitlab::route::Class;
use crate::telemetry::{Outcome, metrics};

/// An archive that arrives, for a caller who is let in to it.
pub(super) struct Arriving {
    pub(super) admitted: Admitted<Arc<FillBody>>,
    pub(super) outcome: Outcome,
}

type LeadResult = Result<Arriving, NextStep>;

/// Leads the fill of an archive that isn't held, or follows whoever does.
pub(super) async fn lead_or_follow(absent: AbsentArchive<'_, '_>) -> LeadResult {
    Contender(absent.into_lookup()).run().await
}

/// One who wants an archive that isn't held.
struct Contender<'l, 'a>(&'l mut Lookup<'a>);

impl<'a> Contender<'_, 'a> {
    const fn request(&self) -> &'a ArtifactRequest<'a> {
        self.0.request
    }

    async fn run(&mut self) -> LeadResult {
        // Most archives that a ref leads to were fetched by job before.
        let asks = self.0.replaced().is_none() && !self.0.is_let_in();
        if asks && refs::may_be_had_otherwise(self.request().proxy, &self.request().question) {
            match self.ask().await? {
                Seen::Arriving(flight) => return self.follow(&flight).await,
                Seen::Nothing => {}
            }
        }
        let leader = self.leader();
        match self.request().proxy.fills.join_or_lead(leader, self.0.replaced()) {
            JoinResult::Landed => Err(Retry::Changed.into()),
            JoinResult::Full | JoinResult::Refusing => Err(NextStep::Pass(Outcome::NoRoom)),
            JoinResult::Follow(flight) => self.follow(&flight).await,
            JoinResult::AskFirst => Box::pin(self.ask_first()).await,
            JoinResult::Lead(led) => match led.await {
                Ok(LeaderResult::DuplicateOf(flight)) => self.follow(&flight).await,
                Ok(led) => self.led(led),
                // The fill's task died before it had a word for its leader.
                Err(_) => Err(NextStep::Pass(Outcome::NoRoom)),
            },
        }
    }

    fn leader(&self) -> Leader {
        let request = self.request();
        Leader {
            caller: request.caller.clone(),
            question: request.question.clone(),
            takes_redirect: takes_redirect(request),
            longest: None,
            part: wants_part(request),
            let_in: self.0.is_let_in(),
        }
    }

    /// Asks what GitLab has.
    async fn ask(&mut self) -> Result<Seen, NextStep> {
        let request = self.request();
        match request.inquire().await {
            Admission::Other(mismatch) if self.0.is_held_as(&mismatch).await => Err(Retry::Changed.into()),
            Admission::Other(mismatch) => {
                self.0.saw(&mismatch);
                let flight = refs::arriving_as(request.proxy, request.question.key, &mismatch);
                Ok(flight.map_or(Seen::Nothing, Seen::Arriving))
            }
            admission => Err(request.rejected(admission).await),
        }
    }

    /// Somebody whom GitLab didn't let in has led: this one asks before it leads, as everybody does then. So strangers don't
    /// come before those who are let in, one after the other.
    async fn ask_first(&mut self) -> LeadResult {
        match Box::pin(self.ask()).await? {
            Seen::Arriving(flight) => Box::pin(self.follow(&flight)).await,
            Seen::Nothing if self.0.is_let_in() => Err(Retry::AfterStranger.into()),
            // A page for which nobody needs to be let in.
            Seen::Nothing => Err(NextStep::Pass(Outcome::NotArchive)),
        }
    }

    /// What the leader's own request brought.
    fn led(&self, led: LeaderResult) -> LeadResult {
        match led {
            LeaderResult::Growing(arrival, grant, fresh) => {
                let admitted = Admitted::leader(arrival, grant, fresh);
                Ok(Arriving { admitted, outcome: Outcome::Stored })
            }
            LeaderResult::Relay(relayed, why) => Err(relay_to(self.request(), relayed, why)),
            LeaderResult::Joined | LeaderResult::DuplicateOf(_) => Err(Retry::Changed.into()),
            LeaderResult::Pass(why) => Err(NextStep::Pass(outcome(why))),
            LeaderResult::Failed(error) => Err(NextStep::down(&error)),
        }
    }

    /// Somebody else leads: this caller asks for itself, once there is something to ask about.
    async fn follow(&mut self, flight: &Arc<Fill>) -> LeadResult {
        match flight.answered().await {
            Stage::Growing(arrival) | Stage::Whole(arrival) => self.join(flight, &arrival).await,
            Stage::DuplicateOf(other) => Box::pin(self.follow(&other)).await,
            Stage::Landed => Err(Retry::Changed.into()),
            Stage::Ended(why) => self.after(flight, why).await,
            Stage::Asking => Err(self.contend().await),
        }
    }

    /// Asks whether this caller may have what arrives.
    async fn join(&self, flight: &Fill, arrival: &Arc<FillBody>) -> LeadResult {
        if arrival.is_all_here() && !arrival.is_complete() {
            // In a moment it is known whether it is an archive, and how it ends.
            flight.settled().await;
            return Err(Retry::Changed.into());
        }
        let request = self.request();
        let (archive, facts) = (arrival.archive(), arrival.archive().facts());
        let unnamed = refs::unnamed_while_arriving(request.class(), &facts);
        let candidate = Candidate {
            id: archive.id(),
            facts: unnamed.as_ref().unwrap_or(&facts),
            faces: &[],
            visitors: archive.visitors(),
            described: archive.class().is_web() == request.class().is_web(),
            entry: None,
        };
        match request.admit(Arc::clone(arrival), candidate).await {
            Ok(admitted) => {
                // Nothing of what follows crosses from GitLab any more once all of it is here.
                let outcome = if arrival.is_complete() { Outcome::Hit } else { Outcome::Collapsed };
                Ok(Arriving { admitted, outcome })
            }
            Err(Rejected::Mismatch(mismatch)) if mismatch.relation == Relation::Unproven => {
                // Nothing says that it is another one, and its end will say whether it is this one.
                if unnamed.is_some() {
                    flight.landed().await;
                } else {
                    flight.settled().await;
                }
                Err(Retry::Changed.into())
            }
            Err(Rejected::Mismatch(_)) if arrival.is_complete() => {
                // It will be in the store in a moment, as one that GitLab no longer has: then a new fill replaces it.
                flight.landed().await;
                Err(Retry::Changed.into())
            }
            // A page is told by itself, not by what it was asked about.
            Err(Rejected::Mismatch(mismatch)) if !mismatch.shows_archive() => {
                Err(NextStep::Pass(Outcome::NotArchive))
            }
            Err(Rejected::Mismatch(_)) => Err(NextStep::Pass(Outcome::Changed)),
            Err(Rejected::Next(next)) => Err(next),
        }
    }

    /// A flight has brought no archive.
    async fn after(&mut self, flight: &Fill, why: metrics::FillLabel) -> LeadResult {
        match why {
            metrics::FillLabel::NoRoom => Err(NextStep::Pass(Outcome::NoRoom)),
            metrics::FillLabel::Joined | metrics::FillLabel::Begun => Err(Retry::Changed.into()),
            // Nobody waits for the store again: GitLab sends everybody there itself.
            metrics::FillLabel::StoreDown => Err(NextStep::Pass(Outcome::NotArchive)),
            // It isn't one for anybody: all who waited are let go together.
            metrics::FillLabel::NotArchive if flight.was_let_in() => Err(NextStep::Pass(Outcome::NotArchive)),
            _ if flight.was_let_in() => Err(self.contend().await),
            _ if self.0.is_let_in() => Err(Retry::AfterStranger.into()),
            _ => Box::pin(self.ask_first()).await,
        }
    }

    /// A fill came to nothing: those whom GitLab refuses go, the others contend for the lead.
    async fn contend(&mut self) -> NextStep {
        match self.request().inquire().await {
            Admission::Other(mismatch) => {
                self.0.saw(&mismatch);
                Retry::Changed.into()
            }
            admission => self.request().rejected(admission).await,
        }
    }
}

/// What a question shows where nothing is held.
enum Seen {
    /// It arrives under another key.
    Arriving(Arc<Fill>),
    /// Nothing that is held or on its way, as far as the answer tells.
    Nothing,
}

/// Whether the client asked for less than all of the archive.
fn wants_part(request: &ArtifactRequest<'_>) -> bool {
    let range = request.exchange.fields.get(header::RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with("bytes=") && range != "bytes=0-")
}

/// Whether a redirect to the object store is an answer that this client could have got from GitLab.
fn takes_redirect(request: &ArtifactRequest<'_>) -> bool {
    let query = request.exchange.parts.uri.query().unwrap_or_default();
    request.class() != Class::Runner || query.split('&').any(|pair| pair == "direct_download=true")
}

/// GitLab's own answer to a leader's request. What those get who aren't let in, this one gets only if it is the very
/// answer that its own request would have had, as it would have if the archive were held.
fn relay_to(request: &ArtifactRequest<'_>, relayed: Relayed, why: metrics::FillLabel) -> NextStep {
    let fields = &request.exchange.fields;
    let status = relayed.head.status;
    let is_let_in = why == metrics::FillLabel::NoRoom || status.is_redirection();
    let part = status.is_success() && relay::asks_for_part(fields);
    let may_differ = !is_let_in && (part || relay::may_differ(fields));
    match request.proxy.upstream.shares(request.exchange.parts.uri.path()) {
        shared if is_let_in => (outcome(why), relay::relayed(relayed, shared == Some(true))).into(),
        Some(shared) if !may_differ => (outcome(why), relay::relayed(relayed, shared)).into(),
        // It may be another, or it isn't known yet how it would come.
        _ => NextStep::Pass(outcome(why)),
    }
}

/// Why a leader gets GitLab's own answer.
const fn outcome(why: metrics::FillLabel) -> Outcome {
    match why {
        metrics::FillLabel::Refused => Outcome::Refused,
        metrics::FillLabel::NoRoom => Outcome::NoRoom,
        _ => Outcome::NotArchive,
    }
}
