//! The beginning of a fill: the leader's question, at most one redirect, and a look at the first bytes.

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;

use super::{Fills, Leader, Led};
use crate::archive::{MAGIC, begins_as_zip};
use crate::fields::{self, Kept};
use crate::grant::judge::{self, content_length};
use crate::grant::{Facts, Location, Opening, Yes};
use crate::key::ArchiveId;
use crate::num::to_u64;
use crate::telemetry::metrics::Fill;
use crate::upstream::{self, Fetched};

/// GitLab's answer for one client: its head, what was read of its body already, and the rest.
#[derive(Debug)]
pub struct Relayed {
    /// Status and fields.
    pub head: Parts,
    /// The first bytes, if any were read.
    pub first: Bytes,
    /// The rest.
    pub rest: Fetched,
}

/// A body that begins as an archive, with all that was said of it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) yes: Yes,
    pub(super) facts: Facts,
    pub(super) kept: Kept,
    pub(super) first: Bytes,
    pub(super) body: Fetched,
    /// Whether the body's end can be told from a cut.
    pub(super) delimited: bool,
    /// What a question for the rest of the body can be made conditional on.
    pub(super) validator: Option<HeaderValue>,
    /// The head of the answer that had the body; for the object store's, GitLab's redirect and its body.
    head: Parts,
    redirect: Option<(Parts, Fetched)>,
}

impl Opened {
    /// What belongs to the leader's own answer alone.
    pub(super) fn fresh(&self) -> HeaderMap {
        fields::fresh(self.redirect.as_ref().map_or(&self.head.headers, |(redirect, _)| &redirect.headers))
    }

    /// The answer as its leader's alone: GitLab's body, or GitLab's redirect for a client that takes one.
    pub(super) fn relay(self, takes_redirect: bool, why: Fill) -> Led {
        match self.redirect {
            None => Led::Relay(Relayed { head: self.head, first: self.first, rest: self.body }, why),
            Some((head, rest)) if takes_redirect => {
                Led::Relay(Relayed { head, first: Bytes::new(), rest }, why)
            }
            Some(_) => Led::Pass(why),
        }
    }
}

type Refused = (Box<Led>, Fill);

impl Fills {
    /// Asks in the leader's name and follows GitLab's redirect to its object store.
    pub(super) async fn open(&self, leader: &Leader, known: Option<ArchiveId>) -> Result<Opened, Refused> {
        let asked = self.means.upstream.fetch(&leader.question.target, leader.caller.sent()).await;
        let (head, body) = asked.map_err(|error| self.failed(error))?.into_parts();
        if head.status == StatusCode::UNAUTHORIZED {
            self.means.access.revoke(&leader.caller, leader.question.target.query());
        }
        let rules = self.means.access.rules();
        match judge::open(head.status, &head.headers, rules, leader.caller.host()) {
            Opening::Body(yes, facts) => {
                self.is_new(leader, &facts, known).await?;
                let kept = Kept::of(&head.headers, &head.headers);
                let opened = Opened {
                    yes,
                    facts,
                    kept,
                    first: Bytes::new(),
                    body,
                    delimited: is_delimited(&head.headers),
                    validator: judge::validator(&head.headers),
                    head,
                    redirect: None,
                };
                self.peek(opened, leader.takes_redirect).await
            }
            Opening::Elsewhere(yes, location) => {
                let facts = Facts { object: Some(location.object()), ..Facts::default() };
                self.is_new(leader, &facts, known).await?;
                self.follow(leader, yes, location, head, body).await
            }
            // A redirect of GitLab's own names the host it was asked under: the client must ask under his.
            Opening::Relay if head.status.is_redirection() => {
                Err((Box::new(Led::Pass(Fill::NotArchive)), Fill::NotArchive))
            }
            Opening::Relay => {
                let refused = head.status.is_client_error() || head.status.is_server_error();
                let result = if refused { Fill::Refused } else { Fill::NotArchive };
                Err((Box::new(Led::Relay(Relayed { head, first: Bytes::new(), rest: body }, result)), result))
            }
        }
    }

    /// Fetches from the object store, with nothing of the client's. Whatever isn't an archive there leaves the client
    /// with GitLab's redirect.
    async fn follow(
        &self,
        leader: &Leader,
        yes: Yes,
        location: Location,
        redirect: Parts,
        redirect_body: Fetched,
    ) -> Result<Opened, Refused> {
        let found = self.means.upstream.fetch_object(location.uri(), None, None).await;
        let (head, body) = match found {
            Ok(found) if found.status() == StatusCode::OK => found.into_parts(),
            Ok(_) => return Err(as_asked(leader, redirect, redirect_body)),
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "the object store can't be asked: clients are sent there themselves"
                );
                self.means.metrics.upstream_error(error.kind().as_str());
                return Err(as_asked(leader, redirect, redirect_body));
            }
        };
        // The store's own tag isn't GitLab's word; its place is.
        let facts = Facts {
            object: Some(location.object()),
            length: content_length(&head.headers),
            etag: None,
            ..Facts::of_fields(&head.headers)
        };
        self.is_worth_it(leader, &facts)?;
        let kept = Kept::of(&head.headers, &redirect.headers);
        let delimited = is_delimited(&head.headers);
        let validator = judge::validator(&head.headers);
        let redirect = Some((redirect, redirect_body));
        let opened =
            Opened { yes, facts, kept, first: Bytes::new(), body, delimited, validator, head, redirect };
        self.peek(opened, leader.takes_redirect).await
    }

    /// Whether these bytes must be fetched: they are neither held under another key, nor on their way, nor more than they are wanted for.
    async fn is_new(&self, leader: &Leader, facts: &Facts, known: Option<ArchiveId>) -> Result<(), Refused> {
        if self.means.store.join(leader.question.key, facts, known).await {
            return Err((Box::new(Led::Joined), Fill::Joined));
        }
        if let Some(other) = self.announce(leader.question.key, facts) {
            return Err((Box::new(Led::Under(other)), Fill::Joined));
        }
        self.is_worth_it(leader, facts)
    }

    /// Whether an archive is no longer than what it is wanted for is worth.
    fn is_worth_it(&self, leader: &Leader, facts: &Facts) -> Result<(), Refused> {
        match (leader.longest, facts.length) {
            (Some(longest), Some(length)) if length > longest => {
                self.too_large.insert(leader.question.key, length);
                Err((Box::new(Led::Pass(Fill::TooLarge)), Fill::TooLarge))
            }
            _ => Ok(()),
        }
    }

    /// Reads the first bytes, and gives the answer to its leader if they aren't an archive's.
    async fn peek(&self, mut opened: Opened, takes_redirect: bool) -> Result<Opened, Refused> {
        let mut first = BytesMut::new();
        while first.len() < MAGIC {
            match opened.body.frame().await {
                Some(Ok(frame)) => first.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Some(Err(error)) if opened.redirect.is_none() => return Err(self.failed(error)),
                // The object store broke off before its first bytes: GitLab's redirect is there for the client.
                Some(Err(_)) | None => break,
            }
        }
        opened.first = first.freeze();
        let short = opened.facts.length.is_some_and(|length| length < to_u64(opened.first.len()));
        if begins_as_zip(&opened.first) && !short {
            return Ok(opened);
        }
        Err((Box::new(opened.relay(takes_redirect, Fill::NotArchive)), Fill::NotArchive))
    }

    fn failed(&self, error: upstream::Error) -> Refused {
        self.means.metrics.upstream_error(error.kind().as_str());
        (Box::new(Led::Failed(error)), Fill::Refused)
    }
}

/// GitLab's redirect, for a client that asked for one; whoever didn't asks GitLab as he did.
fn as_asked(leader: &Leader, head: Parts, rest: Fetched) -> Refused {
    let led = if leader.takes_redirect {
        Led::Relay(Relayed { head, first: Bytes::new(), rest }, Fill::NotArchive)
    } else {
        Led::Pass(Fill::NotArchive)
    };
    (Box::new(led), Fill::NotArchive)
}

/// Whether the end of a body is part of its framing (RFC 9112, 6.3): a length, or a last chunk.
fn is_delimited(fields: &HeaderMap) -> bool {
    fields.contains_key(header::CONTENT_LENGTH) || fields.contains_key(header::TRANSFER_ENCODING)
}
