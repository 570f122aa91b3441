//! The beginning of a fill: the leader's question, at most one redirect, and a look at the first bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::origin::first_bytes;
use super::{
    ByteRequest, ByteSource, Fills, Leader, LeaderResult, NoBytes, OriginResponse, Relayed, Requester,
    StoreSource,
};
use crate::base::key::ArchiveId;
use crate::base::num::to_u64;
use crate::gitlab::grant::{Face, Facts};
use crate::http::fields::StoredHeaders;
use crate::telemetry::metrics::FillLabel;
use crate::upstream;
use crate::zip::begins_as_zip;

/// How often GitLab is asked again where it first shows what was found not to be there.
const ANOTHER_FACE: usize = 2;

/// A body that begins as an archive, with all that was said of it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) response: OriginResponse,
    pub(super) first: Bytes,
    /// What led to the body, if GitLab's own answer isn't it.
    redirect: Option<Relayed>,
    /// What is held of the key, whole.
    pub(super) before: Option<Before>,
}

/// An archive that GitLab was found not to have any more, or to show under another face.
#[derive(Debug)]
pub(super) struct Before {
    facts: Arc<Facts>,
    faces: Vec<Face>,
}

impl Before {
    /// The other faces of what has come now.
    pub(super) fn faces(&self, now: &Facts) -> Vec<Face> {
        Face::besides(now, &self.facts, &self.faces)
    }
}

impl Opened {
    /// The same if its first bytes are an archive's; else the answer as its leader's alone.
    fn zip(self, takes_redirect: bool) -> Result<Self, Refused> {
        let length = self.response.facts.length;
        let short = length.is_some_and(|length| length < to_u64(self.first.len()));
        if begins_as_zip(&self.first) && !short {
            return Ok(self);
        }
        Err(refused(self.relay(takes_redirect, FillLabel::NotArchive), FillLabel::NotArchive))
    }

    /// The answer as its leader's alone: GitLab's body, or GitLab's redirect for a client that takes one.
    pub(super) fn relay(self, takes_redirect: bool, why: FillLabel) -> LeaderResult {
        let OriginResponse { head, body, .. } = self.response;
        match self.redirect {
            None => LeaderResult::Relay(Relayed { head, first: self.first, rest: body }, why),
            Some(redirect) => redirected(redirect, takes_redirect, why),
        }
    }
}

/// GitLab's redirect, for a client that asked for one; whoever didn't asks GitLab as it did.
fn redirected(redirect: Relayed, takes_redirect: bool, why: FillLabel) -> LeaderResult {
    if takes_redirect { LeaderResult::Relay(redirect, why) } else { LeaderResult::Pass(why) }
}

type Refused = (Box<LeaderResult>, FillLabel);

fn refused(led: LeaderResult, why: FillLabel) -> Refused {
    (Box::new(led), why)
}

impl Fills {
    /// Asks in the leader's name, and reads where that leads.
    pub(super) async fn open(&self, leader: &Leader, known: Option<ArchiveId>) -> Result<Opened, Refused> {
        let before = self.before(leader, known).await;
        let requester = leader.requester();
        let request = ByteRequest::all(&requester);
        let mut source = self.locate(request).await?;
        for _ in 0..ANOTHER_FACE {
            // It was found to be another one a moment ago: nodes that answer in turn show it under two faces.
            if !before.as_ref().is_some_and(|before| before.facts.looks_like(source.facts())) {
                break;
            }
            source = self.locate(request).await?;
        }
        self.is_new(leader, source.facts(), known).await?;
        let mut opened = Box::pin(self.opened(leader, request, source)).await?;
        opened.before = before;
        Ok(opened)
    }

    /// What is held of the key, if that is what GitLab was found not to have now, and all of it is here.
    async fn before(&self, leader: &Leader, known: Option<ArchiveId>) -> Option<Before> {
        let known = known?;
        let held = self.deps.store.find(leader.question.key).await?;
        let is_it = held.id() == known && held.facts().sha256.is_some();
        is_it.then(|| Before { facts: held.facts(), faces: held.faces().to_vec() })
    }

    /// GitLab's yes to the leader's question, and where it leads.
    async fn locate(&self, request: ByteRequest<'_>) -> Result<ByteSource, Refused> {
        let route = Some(request.requester.question.class);
        if let Some(error) = self.deps.access.known_down(route).await {
            return Err(self.failed(error));
        }
        self.deps.origin.locate(request).await.map_err(|none| match none {
            NoBytes::Unanswered(error) => refused(LeaderResult::Failed(error), FillLabel::Refused),
            // A redirect of GitLab's own names the host it was asked under: the client must ask under its own.
            NoBytes::Refused(answer) if answer.head.status.is_redirection() => {
                refused(LeaderResult::Pass(FillLabel::NotArchive), FillLabel::NotArchive)
            }
            NoBytes::Refused(answer) => {
                let status = answer.head.status;
                let no = status.is_client_error() || status.is_server_error();
                let result = if no { FillLabel::Refused } else { FillLabel::NotArchive };
                refused(LeaderResult::Relay(*answer, result), result)
            }
            _ => refused(LeaderResult::Pass(FillLabel::StoreDown), FillLabel::StoreDown),
        })
    }

    /// What is there. Whatever isn't an archive in the store leaves the client with GitLab's redirect.
    async fn opened(
        &self,
        leader: &Leader,
        request: ByteRequest<'_>,
        source: ByteSource,
    ) -> Result<Opened, Refused> {
        let (from, redirect) = match source {
            ByteSource::Answer(response) => {
                return self.peek(*response, None).await?.zip(leader.takes_redirect);
            }
            ByteSource::Store(from, redirect) => (from, *redirect),
        };
        let Ok(response) = self.deps.origin.read(&from, request).await else {
            return Err(refused(
                redirected(redirect, leader.takes_redirect, FillLabel::StoreDown),
                FillLabel::StoreDown,
            ));
        };
        self.is_worth_it(leader, &response.facts)?;
        // Until its first bytes are there a store may still turn out to be silent.
        let wait = self.deps.upstream.answer_timeout();
        let Ok(opened) = tokio::time::timeout(wait, self.peek(response, Some(redirect))).await else {
            self.deps.origin.fell_silent(&from);
            return Err(refused(LeaderResult::Pass(FillLabel::StoreDown), FillLabel::StoreDown));
        };
        opened?.zip(leader.takes_redirect)
    }

    /// What a HEAD tells of an archive that is in a store; `None` if it isn't one there, as then a GET would get the
    /// redirect.
    pub(crate) async fn describe(
        &self,
        requester: &Requester,
        from: &StoreSource,
    ) -> Option<(Facts, StoredHeaders)> {
        let request = ByteRequest::beginning(requester);
        let mut response = self.deps.origin.read_as_asked(from, request).await.ok()?;
        let wait = self.deps.upstream.answer_timeout();
        let first = tokio::time::timeout(wait, first_bytes(&mut response.body)).await;
        // The rest of the body is cut off with its connection.
        first.is_ok_and(|(first, _)| begins_as_zip(&first)).then_some((response.facts, response.kept))
    }

    /// Whether these bytes must be fetched: they are neither held under another key, nor on their way, nor more than they are wanted for.
    async fn is_new(&self, leader: &Leader, facts: &Facts, known: Option<ArchiveId>) -> Result<(), Refused> {
        if self.deps.store.join(leader.question.key, facts, known).await {
            return Err(refused(LeaderResult::Joined, FillLabel::Joined));
        }
        if let Some(other) = self.announce(leader.question.key, facts) {
            return Err(refused(LeaderResult::DuplicateOf(other), FillLabel::Joined));
        }
        self.is_worth_it(leader, facts)
    }

    /// Whether an archive is no longer than what it is wanted for is worth.
    fn is_worth_it(&self, leader: &Leader, facts: &Facts) -> Result<(), Refused> {
        match (leader.longest, facts.length) {
            (Some(longest), Some(length)) if length > longest => {
                self.too_large.insert(leader.question.key, length);
                Err(refused(LeaderResult::Pass(FillLabel::TooLarge), FillLabel::TooLarge))
            }
            _ => Ok(()),
        }
    }

    /// Reads the first bytes.
    async fn peek(&self, mut response: OriginResponse, redirect: Option<Relayed>) -> Result<Opened, Refused> {
        match first_bytes(&mut response.body).await {
            (_, Some(error)) if redirect.is_none() => Err(self.failed(error)),
            // The object store broke off before its first bytes: GitLab's redirect is there for the client.
            (first, _) => Ok(Opened { response, first, redirect, before: None }),
        }
    }

    fn failed(&self, error: upstream::Error) -> Refused {
        self.deps.metrics.upstream_error(error.kind().as_str());
        refused(LeaderResult::Failed(error), FillLabel::Refused)
    }
}
