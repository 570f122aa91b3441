//! Somebody wants an archive.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::body::Body;
use super::lead::{self, Arriving};
use super::lookup::{AbsentArchive, ArchiveFound, Lookup};
use super::missed;
use super::repair::Sound;
use super::request::{Admitted, Answered, ArtifactRequest, NextStep, Retry};
use super::respond::{self, Entity, Ranges};
use super::{Exchange, Proxy};
use crate::access::Admission;
use crate::gitlab::route::Question;
use crate::store::{Archive, Availability};
use crate::telemetry::Outcome;
use crate::upstream::Insists;

/// Answers a request for an archive.
pub(super) async fn archive_request(proxy: &Arc<Proxy>, exchange: Exchange, question: Question) -> Answered {
    let request = ArtifactRequest::new(proxy, &exchange, question);
    let mut lookup = Lookup::new(&request);
    let outcome = loop {
        match look(&mut lookup).await {
            NextStep::Answer(answer) => return *answer,
            NextStep::Pass(outcome) => break outcome,
            NextStep::Retry(why) if lookup.again(&why) => {}
            NextStep::Retry(_) => break Outcome::Changed,
        }
    };
    let question = request.question;
    Box::pin(missed::passed(proxy, exchange, &question, outcome)).await
}

async fn look(lookup: &mut Lookup<'_>) -> NextStep {
    let request = lookup.request;
    match lookup.find().await {
        ArchiveFound::Held(held) => match held.recognise().await.admit().await {
            Ok(admitted) => stored(request, admitted).await,
            Err(next) => next,
        },
        ArchiveFound::Absent(absent) => Box::pin(absent_step(absent)).await,
    }
}

/// The archive isn't held.
async fn absent_step(absent: AbsentArchive<'_, '_>) -> NextStep {
    let request = absent.request();
    if request.is_head() {
        return head(absent).await;
    }
    match lead::lead_or_follow(absent).await {
        Ok(arriving) => growing(request, arriving).into(),
        Err(next) => next,
    }
}

/// An archive's answer; what it lacks of that is on its way then. Where there is no room for it, GitLab's own.
async fn stored(request: &ArtifactRequest<'_>, admitted: Admitted<Arc<Archive>>) -> NextStep {
    let archive = Arc::clone(admitted.archive());
    let missing_ranges = RefCell::default();
    let answer = from_store(request, admitted, &missing_ranges);
    for range in missing_ranges.into_inner() {
        let fills = &request.proxy.fills;
        let begun = Box::pin(fills.begin_span(&request.requester(), &archive, &range, Insists::Yes)).await;
        if let Err(error) = begun {
            tracing::debug!(%error, "a part of an archive is left to GitLab");
            return NextStep::Pass(Outcome::NoRoom);
        }
    }
    answer.into()
}

fn from_store(
    request: &ArtifactRequest<'_>,
    mut admitted: Admitted<Arc<Archive>>,
    missing_ranges: &RefCell<Vec<Range<u64>>>,
) -> Answered {
    let class = request.class();
    let fresh = admitted.learn(class);
    let (archive, grant) = (admitted.archive(), admitted.grant());
    let length = archive.stored_length();
    let entity = Entity {
        etag: archive.etag(),
        modified: archive.modified(),
        length: Some(length),
        fields: archive.kept(class).fields().clone(),
        fresh,
        age: Some(request.exchange.started.since(grant.asked_at())),
        ranges: Ranges::Any,
    };
    let source = |range: respond::ServedSpan| {
        let range = range.within(length);
        if archive.have(&range) != Availability::All {
            missing_ranges.borrow_mut().push(range.clone());
        }
        let slices = archive.read(grant, range)?;
        // Nothing is left to be found damaged where all was compared.
        let repairer = (!archive.is_compared()).then(|| Box::new(request.repairer()));
        Some(Body::Slices(Sound::new(slices, repairer)))
    };
    let response = respond::respond(request.exchange.request(), entity, source);
    (if missing_ranges.borrow().is_empty() { Outcome::Hit } else { Outcome::Partial }, response)
}

/// The answer to a HEAD about what isn't held comes from GitLab's facts, and starts no fill.
async fn head(absent: AbsentArchive<'_, '_>) -> NextStep {
    let request = absent.request();
    match request.inquire().await {
        Admission::Other(mismatch) if absent.is_held_as(&mismatch).await => Retry::Changed.into(),
        Admission::Other(mismatch) if !mismatch.shows_archive() => NextStep::Pass(Outcome::NotArchive),
        Admission::Other(mismatch) => {
            let (asked, requester) = (request.exchange.request(), request.as_asked());
            let described = Box::pin(respond::describe(request.proxy, asked, &requester, mismatch)).await;
            let none = NextStep::Pass(Outcome::NotArchive);
            described.map_or(none, |response| (Outcome::Described, response).into())
        }
        // GitLab answers a HEAD otherwise than a GET where it refuses: the client gets the answer to its own.
        admission => request.rejected(admission).await,
    }
}

/// The answer from an archive that arrives.
fn growing(request: &ArtifactRequest<'_>, arriving: Arriving) -> Answered {
    let Arriving { mut admitted, outcome } = arriving;
    let (kept, fresh) = admitted.told(request.class());
    let (arrival, grant) = (admitted.archive(), admitted.grant());
    let archive = arrival.archive();
    let entity = Entity {
        etag: archive.etag(),
        modified: archive.modified(),
        length: archive.length(),
        fields: kept.as_ref().unwrap_or(&archive.kept(archive.class())).fields().clone(),
        fresh,
        age: (outcome != Outcome::Stored).then(|| request.exchange.started.since(arrival.began())),
        ranges: Ranges::Any,
    };
    let source = |span: respond::ServedSpan| {
        let growing = archive.follow(grant, span.start, span.end)?;
        Some(Body::Growing(growing, arrival.awaited_by(request.requester())))
    };
    (outcome, respond::respond(request.exchange.request(), entity, source))
}
