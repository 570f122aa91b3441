//! One request for an archive or a file of one: who makes it, and what comes of asking GitLab in its name.
//!
//! An answer is written from an [`Admitted`], which holds the grant and comes of asking alone. Whatever else asking comes to is
//! a [`NextStep`].

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response};

use super::body::Body;
use super::repair::Repairer;
use super::{Exchange, Proxy, answer, is_head, relay};
use crate::access::{Admission, Caller, Candidate, Described, Granted, Mismatch, ProbeInfo, Refusal};
use crate::base::key::ArchiveId;
use crate::fill::{FillBody, Requester};
use crate::gitlab::grant::Grant;
use crate::gitlab::route::{Class, Question};
use crate::http::fields::StoredHeaders;
use crate::store::Archive;
use crate::telemetry::Outcome;
use crate::upstream;

pub(super) type Answered = (Outcome, Response<Body>);

/// A request for an archive or for a file of one, and who makes it.
pub(super) struct ArtifactRequest<'a> {
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) exchange: &'a Exchange,
    pub(super) question: Question,
    pub(super) caller: Caller,
}

impl<'a> ArtifactRequest<'a> {
    pub(super) fn new(proxy: &'a Arc<Proxy>, exchange: &'a Exchange, question: Question) -> Self {
        Self { proxy, exchange, question, caller: exchange.caller() }
    }

    pub(super) const fn class(&self) -> Class {
        self.question.class
    }

    pub(super) fn is_head(&self) -> bool {
        is_head(&self.exchange.parts)
    }

    /// In whose name, and with which question, bytes of the archive are asked for.
    pub(super) fn requester(&self) -> Requester {
        Requester { caller: self.caller.clone(), question: self.question.of_archive() }
    }

    /// The same with the question as it was asked.
    pub(super) fn as_asked(&self) -> Requester {
        Requester { caller: self.caller.clone(), question: self.question.clone() }
    }

    /// What is damaged of an archive is fetched again in this caller's name.
    pub(super) fn repairer(&self) -> Repairer {
        Repairer { proxy: Arc::clone(self.proxy), requester: self.requester() }
    }

    /// Asks what GitLab has, of which nothing is held; never a grant.
    pub(super) async fn inquire(&self) -> Admission {
        self.proxy.access.inquire(&self.caller, &self.question).await
    }

    /// The same about the archive that a file is in.
    pub(super) async fn inquire_about_archive(&self) -> Admission {
        self.proxy.access.inquire(&self.caller, &self.question.of_archive()).await
    }

    /// Asks whether the caller may have a candidate.
    pub(super) async fn admit<T>(&self, to: T, candidate: Candidate<'_>) -> Result<Admitted<T>, Rejected> {
        match self.proxy.access.admit(&self.caller, &self.question, candidate).await {
            Admission::Granted(granted) => Ok(Admitted { to, granted }),
            Admission::Other(mismatch) => Err(Rejected::Mismatch(Box::new(mismatch))),
            admission => Err(Rejected::Next(Box::pin(self.rejected(admission)).await)),
        }
    }

    /// What to do where nothing was granted.
    pub(super) async fn rejected(&self, admission: Admission) -> NextStep {
        match admission {
            Admission::Refused(refusal) => self.refused(refusal).await,
            Admission::NotOurs => NextStep::Pass(Outcome::NotArchive),
            Admission::Down(error) => NextStep::down(&error),
            Admission::Other(_) | Admission::Granted(_) | Admission::Overtaken => Retry::Changed.into(),
        }
    }

    async fn refused(&self, refusal: Refusal) -> NextStep {
        if refusal.gone {
            self.proxy.fills.invalidate(self.question.key).await;
        }
        // GitLab answers a HEAD otherwise than a GET where it refuses.
        if self.is_head() || relay::may_differ(&self.exchange.fields) {
            return NextStep::Pass(Outcome::Refused);
        }
        (Outcome::Refused, relay::refusal(refusal)).into()
    }
}

/// What a step comes to that found nothing to answer from.
pub(super) enum NextStep {
    Answer(Box<Answered>),
    /// The caller's own request goes to GitLab.
    Pass(Outcome),
    /// Look again.
    Retry(Retry),
}

impl NextStep {
    /// GitLab can't be asked.
    pub(super) fn down(error: &upstream::Error) -> Self {
        (Outcome::Refused, answer::failed(error)).into()
    }
}

impl From<Answered> for NextStep {
    fn from(answer: Answered) -> Self {
        Self::Answer(Box::new(answer))
    }
}

impl From<Retry> for NextStep {
    fn from(retry: Retry) -> Self {
        Self::Retry(retry)
    }
}

/// Why to look again.
pub(super) enum Retry {
    /// Something has happened to the archive.
    Changed,
    /// Somebody whom GitLab didn't let in was before this one.
    AfterStranger,
    /// GitLab has another archive than this one.
    Replaced(ArchiveId),
}

/// Why a caller wasn't let in to a candidate.
pub(super) enum Rejected {
    /// GitLab has something else for it, or something that isn't proven to be the candidate.
    Mismatch(Box<Mismatch>),
    Next(NextStep),
}

/// What a caller is let in to: nothing else is answered from.
pub(super) struct Admitted<T> {
    to: T,
    granted: Granted,
}

impl<T> Admitted<T> {
    /// The archive.
    pub(super) const fn archive(&self) -> &T {
        &self.to
    }

    /// What opens it.
    pub(super) fn grant(&self) -> &Grant {
        &self.granted.grant
    }

    /// The type of the very file that was asked about, if GitLab said it just now.
    pub(super) fn kind(&self) -> Option<&HeaderValue> {
        self.granted.said.as_ref()?.kind.as_ref()
    }
}

impl Admitted<Arc<Archive>> {
    /// Notes what GitLab said of the archive besides yes. Returns what that adds to this answer: what it said just now, or
    /// with a yes that was remembered.
    pub(super) fn learn(&mut self, class: Class) -> Option<HeaderMap> {
        let Some(said) = self.granted.said.take() else {
            return self.granted.readers.as_deref().cloned();
        };
        let kept = described_as(said.described, class, &self.to.kept(class));
        self.to.learn(said.facts, class, kept);
        Some(said.fresh)
    }
}

impl Admitted<Arc<FillBody>> {
    /// The leader itself is, by GitLab's answer to its own request; `fresh`: that answer's fields.
    pub(super) fn leader(arrival: Arc<FillBody>, grant: Arc<Grant>, fresh: HeaderMap) -> Self {
        let archive = arrival.archive();
        let described = Described::By((*archive.kept(archive.class())).clone());
        let said = Some(ProbeInfo { facts: (*archive.facts()).clone(), described, kind: None, fresh });
        Self { to: arrival, granted: Granted { grant, said, readers: None } }
    }

    /// What GitLab said of the archive besides yes: how it describes it, if it did, and what that adds to this answer.
    pub(super) fn told(&mut self, class: Class) -> (Option<StoredHeaders>, Option<HeaderMap>) {
        let Some(said) = self.granted.said.take() else {
            return (None, self.granted.readers.as_deref().cloned());
        };
        (
            described_as(said.described, class, &self.to.archive().kept(self.to.archive().class())),
            Some(said.fresh),
        )
    }
}

/// How GitLab describes an archive now, if it says so; `known` is how it did before.
fn described_as(described: Described, class: Class, known: &StoredHeaders) -> Option<StoredHeaders> {
    match described {
        Described::By(kept) if kept.describes_nothing() && !class.is_entry() => None,
        Described::Silent => None,
        Described::By(kept) => Some(kept),
        Described::Elsewhere(instead, protecting) => {
            Some(known.redirected(instead.disposition, instead.kind, &protecting))
        }
    }
}
