//! GitLab and its object store as the origin of archives.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use http::response::Parts;
use http::{Response, StatusCode};

use super::{ArchiveOrigin, Asking, ByteRequest, ByteSource, NoBytes, OriginResponse, Relayed, StoreSource};
use crate::access::Access;
use crate::gitlab::grant::judge::{self, Parted, Span, content_length};
use crate::gitlab::grant::{Facts, Opening};
use crate::telemetry::Metrics;
use crate::upstream::{Error, FailureKind, Fetched, Upstream};

/// How often a store may send on to another place of its own: a bucket's region is one such step.
const MOVES: usize = 3;

/// GitLab, and the store to which it leads.
#[derive(Debug)]
pub(crate) struct GitLabOrigin {
    upstream: Arc<Upstream>,
    access: Arc<Access>,
    metrics: Arc<Metrics>,
}

impl ArchiveOrigin for GitLabOrigin {
    fn locate<'a>(&'a self, request: ByteRequest<'a>) -> Asking<'a, ByteSource> {
        Box::pin(self.ask(request))
    }

    fn read<'a>(&'a self, from: &'a StoreSource, request: ByteRequest<'a>) -> Asking<'a, OriginResponse> {
        Box::pin(self.read_store(from, request))
    }

    fn fell_silent(&self, from: &StoreSource) {
        self.upstream.store_failed(from.location.uri(), FailureKind::ReadTimeout);
    }
}

impl GitLabOrigin {
    /// GitLab as it is asked by `upstream`, in the names that `access` knows.
    pub(crate) const fn new(upstream: Arc<Upstream>, access: Arc<Access>, metrics: Arc<Metrics>) -> Self {
        Self { upstream, access, metrics }
    }

    async fn ask(&self, request: ByteRequest<'_>) -> Result<ByteSource, NoBytes> {
        let (range, unchanged) = request.conditions()?;
        let (caller, question) = (&request.requester.caller, &request.requester.question);
        let head = caller.sent().range(range).if_range(unchanged);
        let (head, body) = match self.upstream.fetch(&question.target, head, caller.address()).await {
            Ok(answer) => answer.into_parts(),
            Err(error) => {
                self.access.unheard(question.class, &error).await;
                self.metrics.upstream_error(error.kind().as_str());
                return Err(NoBytes::Unanswered(error));
            }
        };
        self.access.heard(Some(question.class), head.status);
        if head.status == StatusCode::UNAUTHORIZED {
            self.access.revoke(caller, question.target.query());
        }
        match self.judge(&head, request) {
            Parted::Body(yes, facts, range) => {
                let response = OriginResponse::new(yes, facts, range, (head, body), None);
                Ok(ByteSource::Answer(Box::new(response)))
            }
            Parted::Elsewhere(yes, location) => {
                let from = StoreSource::new(yes, location, head.headers.clone());
                let redirect = Relayed { head, first: Bytes::new(), rest: body };
                Ok(ByteSource::Store(Box::new(from), Box::new(redirect)))
            }
            Parted::Neither => Err(declined(head, body, request.span)),
        }
    }

    /// What GitLab's answer deps.
    fn judge(&self, head: &Parts, request: ByteRequest<'_>) -> Parted {
        let (rules, sent) = (self.access.rules(), request.requester.sent());
        if request.span.is_some() {
            return judge::open_part(head.status, &head.headers, rules, sent);
        }
        match judge::open(head.status, &head.headers, rules, sent) {
            Opening::Body(yes, facts) => {
                let range = all(&facts);
                Parted::Body(yes, facts, range)
            }
            Opening::Elsewhere(yes, location) => Parted::Elsewhere(yes, location),
            Opening::Relay => Parted::Neither,
        }
    }

    /// Asks the store, with nothing of the client's.
    async fn read_store(
        &self,
        from: &StoreSource,
        request: ByteRequest<'_>,
    ) -> Result<OriginResponse, NoBytes> {
        let (head, body) = match self.follow(from, request).await {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Err(self.store_down(&error, request.span)),
        };
        match given(&head, from, request.span) {
            Some((facts, range)) => {
                let yes = from.yes.clone();
                Ok(OriginResponse::new(yes, facts, range, (head, body), Some(&from.led_by)))
            }
            None => Err(store_declined(head.status, request.span)),
        }
    }

    /// Asks the store to which GitLab has led, and where that sends on to: by the same rules as GitLab's own redirects,
    /// and never from TLS to the clear.
    async fn follow(&self, from: &StoreSource, request: ByteRequest<'_>) -> Result<Response<Fetched>, Error> {
        let conditions: (Option<HeaderValue>, _) = request.conditions().unwrap_or_default();
        let whose = request.requester.caller.address();
        let mut at = from.location.clone();
        let mut steps = 0;
        loop {
            let asking = self.upstream.fetch_object(at.uri(), conditions.clone(), whose, request.insists);
            let answer = asking.await?;
            let (rules, sent) = (self.access.rules(), request.requester.sent());
            let moved = judge::moved(answer.status(), answer.headers(), rules, sent);
            match moved.filter(|to| steps < MOVES && to.is_as_safe_as(&at)) {
                Some(to) => (at, steps) = (to, steps + 1),
                None => return Ok(answer),
            }
        }
    }

    fn store_down(&self, error: &Error, span: Option<Span>) -> NoBytes {
        if span.is_none() {
            tracing::warn!(
                error = error.chain(),
                "the object store can't be asked: clients are sent there themselves"
            );
        }
        self.metrics.upstream_error(error.kind().as_str());
        NoBytes::StoreDown
    }
}

/// What a store's answer gives of its object.
fn given(head: &Parts, from: &StoreSource, span: Option<Span>) -> Option<(Facts, Range<u64>)> {
    if span.is_some() {
        return judge::object_part(head.status, &head.headers, &from.location);
    }
    // The store's own tag isn't GitLab's word; its place is.
    let facts = Facts {
        object: from.facts.object.clone(),
        length: content_length(&head.headers),
        etag: None,
        ..Facts::of_fields(&head.headers)
    };
    let range = all(&facts);
    (head.status == StatusCode::OK).then_some((facts, range))
}

fn all(facts: &Facts) -> Range<u64> {
    0..facts.length.unwrap_or(u64::MAX)
}

/// What an answer of GitLab's says that brings no bytes.
fn declined(head: Parts, body: Fetched, span: Option<Span>) -> NoBytes {
    match Declined::of(head.status) {
        Declined::NoPart if span.is_some() => NoBytes::NoPart,
        Declined::Later if span.is_some() => NoBytes::Later,
        _ => NoBytes::Refused(Box::new(Relayed { head, first: Bytes::new(), rest: body })),
    }
}

/// What a store's answer says that brings no bytes.
fn store_declined(status: StatusCode, span: Option<Span>) -> NoBytes {
    if span.is_none() {
        tracing::info!(status = status.as_u16(), "the object store refuses an archive");
    }
    match Declined::of(status) {
        // What one says that doesn't know how to give so many bytes from the end.
        Declined::Refused if status == StatusCode::BAD_REQUEST && matches!(span, Some(Span::Last(_))) => {
            NoBytes::NoPart
        }
        // It refuses once a signature has expired: GitLab makes another one.
        Declined::Refused => NoBytes::StoreRefused,
        Declined::NoPart => NoBytes::NoPart,
        Declined::Later => NoBytes::Later,
    }
}

/// What a status says that brings no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Declined {
    Refused,
    Later,
    NoPart,
}

impl Declined {
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::OK | StatusCode::PARTIAL_CONTENT => Self::NoPart,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::NOT_MODIFIED => {
                Self::Later
            }
            // A sign-in page, a moved project: this caller's question brings no bytes, however often it is asked.
            status if status.is_client_error() || status.is_redirection() => Self::Refused,
            _ => Self::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_bad_moment() {
        for (status, expected) in [
            (401, Declined::Refused),
            (403, Declined::Refused),
            (404, Declined::Refused),
            (408, Declined::Later),
            (429, Declined::Later),
            (500, Declined::Later),
            (502, Declined::Later),
            (301, Declined::Refused),
            (302, Declined::Refused),
            (304, Declined::Later),
            (416, Declined::NoPart),
            (200, Declined::NoPart),
        ] {
            assert_eq!(Declined::of(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
