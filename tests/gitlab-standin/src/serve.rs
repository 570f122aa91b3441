//! Conditions and ranges as Go's `http.ServeContent` reads them (`net/http/fs.go`): what Workhorse's sendfile
//! answers with. The object store uses the same decisions in another dress.

mod conditions;
mod ranges;

use std::time::SystemTime;

use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::header::{CACHE_CONTROL, HeaderName, RANGE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, StatusCode};

use crate::archive::{Content, sha256_hex};
use crate::payload::Source;
use crate::reply::Reply;
use conditions::Verdict;
pub(crate) use ranges::Span;

/// What to send of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Whole,
    Part(Span),
    Parts(Vec<Span>),
    NotModified,
    PreconditionFailed,
    /// No range overlaps the file.
    Unsatisfiable,
    /// `Range` is no byte range.
    Malformed,
}

/// Decides in `ServeContent`'s order: conditions, then `If-Range`, then the ranges.
pub(crate) fn choose(
    method: &Method,
    headers: &HeaderMap,
    etag: Option<&str>,
    modified: SystemTime,
    len: u64,
) -> Choice {
    match conditions::check(method, headers, etag, modified) {
        Verdict::NotModified => return Choice::NotModified,
        Verdict::Failed => return Choice::PreconditionFailed,
        Verdict::Go => {}
    }
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
    let Some(range) = range.filter(|_| conditions::range_applies(headers, etag, modified)) else {
        return Choice::Whole;
    };
    match ranges::parse(range, len) {
        Err(ranges::Unparsable) => Choice::Malformed,
        Ok(ranges::Ranges::NoOverlap) if len == 0 => Choice::Whole,
        Ok(ranges::Ranges::NoOverlap) => Choice::Unsatisfiable,
        Ok(ranges::Ranges::Some(spans)) => of_spans(spans, len),
    }
}

/// Ranges that add up to more than the file are probably an attack, says Go, and sends it whole.
fn of_spans(mut spans: Vec<Span>, len: u64) -> Choice {
    let sum = spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.len));
    match spans.len() {
        0 => Choice::Whole,
        _ if sum > len => Choice::Whole,
        1 => Choice::Part(spans.remove(0)),
        _ => Choice::Parts(spans),
    }
}

/// The answer for a file on disk. `dress` has Rails' fields, whose `ETag` the conditions are compared with.
pub(crate) fn file(
    method: &Method,
    headers: &HeaderMap,
    dress: HeaderMap,
    content: &Content,
    modified: SystemTime,
) -> Reply {
    let etag = dress.get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let choice = choose(method, headers, etag.as_deref(), modified, content.len());
    let mut reply = Reply::new(StatusCode::OK);
    *reply.headers = dress;
    reply.set(LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    match choice {
        Choice::Whole => whole(reply, content),
        Choice::Part(span) => part(reply, content, span),
        Choice::Parts(spans) => parts(reply, content, &spans),
        Choice::NotModified => not_modified(reply),
        Choice::PreconditionFailed => status_only(reply, StatusCode::PRECONDITION_FAILED),
        Choice::Unsatisfiable => refused(reply, Some(content.len()), "invalid range: failed to overlap\n"),
        Choice::Malformed => refused(reply, None, "invalid range\n"),
    }
}

pub(crate) fn whole(reply: Reply, content: &Content) -> Reply {
    let mut reply = reply.with(ACCEPT_RANGES, "bytes");
    reply.source = Source::whole(content.clone());
    reply
}

pub(crate) fn part(reply: Reply, content: &Content, span: Span) -> Reply {
    let mut reply =
        reply.with(ACCEPT_RANGES, "bytes").with(CONTENT_RANGE, &span.content_range(content.len()));
    reply.status = StatusCode::PARTIAL_CONTENT;
    reply.source = Source::slice(content.clone(), span.start..span.start + span.len);
    reply
}

/// RFC 9110, section 14.6, laid out as Go's `mime/multipart` does.
fn parts(mut reply: Reply, content: &Content, spans: &[Span]) -> Reply {
    let seed = format!("{spans:?}");
    let boundary = sha256_hex(seed.as_bytes()).get(..60).unwrap_or_default().to_owned();
    let inner = reply.header(&CONTENT_TYPE).unwrap_or("application/octet-stream").to_owned();
    reply.source = Source::default();
    for (index, span) in spans.iter().enumerate() {
        let lead = if index == 0 { "" } else { "\r\n" };
        let range = span.content_range(content.len());
        let head = format!("{lead}--{boundary}\r\nContent-Range: {range}\r\nContent-Type: {inner}\r\n\r\n");
        reply.source.push(Source::bytes(head));
        reply.source.push(Source::slice(content.clone(), span.start..span.start + span.len));
    }
    reply.source.push(Source::bytes(format!("\r\n--{boundary}--\r\n")));
    reply.status = StatusCode::PARTIAL_CONTENT;
    reply
        .with(ACCEPT_RANGES, "bytes")
        .with(CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"))
}

/// Go's `writeNotModified`.
pub(crate) fn not_modified(mut reply: Reply) -> Reply {
    reply.headers.remove(CONTENT_TYPE);
    if reply.headers.contains_key(ETAG) {
        reply.headers.remove(LAST_MODIFIED);
    }
    status_only(reply, StatusCode::NOT_MODIFIED)
}

fn status_only(mut reply: Reply, status: StatusCode) -> Reply {
    reply.status = status;
    reply.source = Source::default();
    reply
}

/// Go's `serveError` takes back what described the file.
fn refused(mut reply: Reply, len: Option<u64>, text: &'static str) -> Reply {
    const TAKEN_BACK: [HeaderName; 3] = [CACHE_CONTROL, ETAG, LAST_MODIFIED];
    for name in TAKEN_BACK {
        reply.headers.remove(name);
    }
    if let Some(len) = len {
        reply.set(CONTENT_RANGE, &format!("bytes */{len}"));
    }
    reply.status = StatusCode::RANGE_NOT_SATISFIABLE;
    reply.source = Source::bytes(text);
    reply.with(CONTENT_TYPE, "text/plain; charset=utf-8").with(X_CONTENT_TYPE_OPTIONS, "nosniff")
}
