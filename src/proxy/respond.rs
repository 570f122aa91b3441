//! An archive, or an entry of one, as an answer: preconditions, ranges, fields, body.

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use ring::rand::{SecureRandom, SystemRandom};

use super::Proxy;
use super::body::{Body, Chain};
use crate::access::Mismatch;
use crate::base::secret::hex;
use crate::fill::{Requester, StoreSource};
use crate::http::Etag;
use crate::http::conditional::{self, Decision, Validators};
use crate::http::fields::{self, StoredHeaders};
use crate::http::range::multipart::{Multipart, Piece};
use crate::http::range::{self, Asked};
use crate::telemetry::metrics::BodySource;

/// What is said of an archive, or of an entry.
pub(super) struct Entity<'a> {
    pub(super) etag: Option<&'a Etag>,
    pub(super) modified: Option<u64>,
    /// `None`: not known before its end.
    pub(super) length: Option<u64>,
    /// What describes it, and protects who opens it.
    pub(super) fields: HeaderMap,
    /// Fields of the answer that GitLab gave to this very request's question.
    pub(super) fresh: Option<HeaderMap>,
    /// How long ago GitLab vouched for it; `None` if it comes from GitLab now.
    pub(super) age: Option<Duration>,
    /// Which parts of it may be asked for.
    pub(super) ranges: Ranges,
}

/// Which parts of something may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranges {
    /// None: there is the whole alone.
    None,
    /// Any; several only in the order of its bytes, none of them twice. Otherwise the whole is sent (RFC 9110, 14.2): each
    /// step back would be another pass over all of it.
    InOrder,
    /// Any.
    Any,
}

/// What decides how much of an archive is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) fields: &'a HeaderMap,
    /// Whether a head alone is wanted.
    pub(super) head: bool,
}

/// A range, or everything from a byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServedSpan {
    pub(super) start: u64,
    pub(super) end: Option<u64>,
}

impl std::convert::From<Range<u64>> for ServedSpan {
    fn from(range: Range<u64>) -> Self {
        Self { start: range.start, end: Some(range.end) }
    }
}

impl ServedSpan {
    pub(super) fn within(self, length: u64) -> Range<u64> {
        self.start..self.end.unwrap_or(length)
    }
}

/// Answers a GET or HEAD. `source` opens the bytes, for those that a grant opens them to.
pub(super) fn respond(
    request: Request<'_>,
    entity: Entity<'_>,
    mut source: impl FnMut(ServedSpan) -> Option<Body>,
) -> Response<Body> {
    let validators = Validators { etag: entity.etag, modified: entity.modified };
    let decision = conditional::decide(request.fields, validators);
    let length = entity.length;
    let ranges = entity.ranges;
    let mut fields = described(entity);
    let asked = match (decision, length) {
        (Decision::NotModified, _) => return without_body(StatusCode::NOT_MODIFIED, fields),
        (Decision::Failed, _) => return without_body(StatusCode::PRECONDITION_FAILED, fields),
        (Decision::Send, Some(length)) if !request.head => asked(request, length, ranges),
        _ => Asked::Whole,
    };
    if ranges != Ranges::None && length.is_some() {
        fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    if let (Some(length), true) = (length, request.head) {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        return answer(StatusCode::OK, fields, Body::empty());
    }
    let (status, body) = match asked {
        Asked::Whole => (StatusCode::OK, source(ServedSpan { start: 0, end: length })),
        Asked::Part(range) => {
            content_range(&mut fields, &format!("{}-{}", range.start, range.end - 1), length);
            (StatusCode::PARTIAL_CONTENT, source(ServedSpan::from(range)))
        }
        Asked::Parts(parts) => {
            let body = several(parts, length.unwrap_or_default(), &mut fields, source);
            (StatusCode::PARTIAL_CONTENT, body)
        }
        Asked::Nothing => {
            content_range(&mut fields, "*", length);
            return without_body(StatusCode::RANGE_NOT_SATISFIABLE, fields);
        }
    };
    match body {
        Some(body) => answer(status, fields, body),
        // A grant that doesn't name these bytes opens nothing; it got here by a mistake of ours.
        None => without_body(StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new()),
    }
}

/// Several ranges as one body (RFC 9110, 14.6).
fn several(
    parts: Vec<Range<u64>>,
    length: u64,
    fields: &mut HeaderMap,
    mut source: impl FnMut(ServedSpan) -> Option<Body>,
) -> Option<Body> {
    let kind = fields.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    let boundary = boundary();
    let multipart = Multipart::new(parts, length, kind.as_deref(), &boundary);
    fields.insert(header::CONTENT_TYPE, HeaderValue::try_from(multipart.content_type()).ok()?);
    let body = |piece| match piece {
        Piece::Text(text) => Some(Body::Whole(text)),
        Piece::Bytes(range) => source(ServedSpan::from(range)),
    };
    let bodies: Vec<Body> = multipart.pieces().into_iter().map(body).collect::<Option<_>>()?;
    let from = bodies.get(1).map_or(BodySource::Store, Body::from);
    Chain::new(bodies, from).map(Body::Chain)
}

/// A line that no archive holds but by a chance of 2^-120: 30 random hexadecimal digits.
fn boundary() -> String {
    let mut random = [0; 15];
    // Without random bytes the line is a constant one: still framing, as lengths are counted.
    let _ = SystemRandom::new().fill(&mut random);
    hex(&random)
}

fn asked(request: Request<'_>, length: u64, possible: Ranges) -> Asked {
    let mut ranges = request.fields.get_all(header::RANGE).iter();
    match (possible, ranges.next().map(HeaderValue::to_str), ranges.next()) {
        (Ranges::Any, Some(Ok(value)), None) => range::read(value, length),
        (Ranges::InOrder, Some(Ok(value)), None) => range::read(value, length).in_order(),
        _ => Asked::Whole,
    }
}

/// The fields of an answer with a body of its own.
fn described(entity: Entity<'_>) -> HeaderMap {
    let mut fields = entity.fields;
    if let Some(etag) = entity.etag.and_then(|etag| HeaderValue::try_from(etag.as_str()).ok()) {
        fields.insert(header::ETAG, etag);
    }
    fields::add_fresh(&mut fields, entity.fresh.unwrap_or_default());
    if let Some(age) = entity.age {
        fields.insert(header::AGE, HeaderValue::from(age.as_secs()));
    }
    fields
}

fn content_range(fields: &mut HeaderMap, span: &str, length: Option<u64>) {
    let total = length.map_or_else(|| "*".to_owned(), |length| length.to_string());
    if let Ok(value) = HeaderValue::try_from(format!("bytes {span}/{total}")) {
        fields.insert(header::CONTENT_RANGE, value);
    }
}

/// An answer whose fields describe a body that it doesn't have.
fn without_body(status: StatusCode, mut fields: HeaderMap) -> Response<Body> {
    for name in [header::CONTENT_TYPE, header::CONTENT_DISPOSITION] {
        fields.remove(name);
    }
    fields.remove("content-transfer-encoding");
    answer(status, fields, Body::empty())
}

fn answer(status: StatusCode, fields: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

/// Answers a HEAD about an archive that isn't held, from GitLab's answer to a probe. If that was a redirect, the
/// object store is asked for its first bytes; `None` if they aren't an archive's, as then a GET would get the redirect.
pub(super) async fn describe(
    proxy: &Proxy,
    request: Request<'_>,
    requester: &Requester,
    other: Mismatch,
) -> Option<Response<Body>> {
    let fresh = Some(fields::fresh(&other.fields));
    let (facts, kept) = match other.location {
        None => (other.facts, StoredHeaders::of(&other.fields, &other.fields)),
        Some((yes, location)) => {
            let from = StoreSource::new(yes, location, other.fields);
            proxy.fills.describe(requester, &from).await?
        }
    };
    let length = Some(facts.length?);
    let etag = proxy.fills.entity_tag(requester.question.key, &facts);
    let entity = Entity {
        etag: etag.as_ref(),
        modified: facts.modified,
        length,
        fields: kept.fields().clone(),
        fresh,
        age: None,
        ranges: Ranges::Any,
    };
    Some(respond(request, entity, |_| None))
}
