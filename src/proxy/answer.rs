//! Answers that larder makes itself, and GitLab's that it relays. The one place where a failure becomes a status.

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Body;
use crate::access::Refusal;
use crate::fill::Relayed;
use crate::grant::judge::CONSTANT;
use crate::hop;
use crate::upstream::{self, Kind};

/// Seconds after which it is worth asking a busy GitLab again: a queue moves on in less, and clients that all come back
/// at once are what filled it.
const RETRY_AFTER: &str = "5";

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// An exchange with GitLab failed.
pub(super) fn failed(error: &upstream::Error) -> Response<Body> {
    tracing::warn!(error = error.chain(), "GitLab can't be asked");
    let kind = error.kind();
    let mut response = own(kind.status(), kind.as_str(), kind.for_client());
    if kind == Kind::QueueTimeout {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

/// A body came too slowly.
pub(super) fn too_slow() -> Response<Body> {
    own(StatusCode::REQUEST_TIMEOUT, "http_request_error", "the request's body came too slowly")
}

/// The request isn't one that may be passed on.
pub(super) fn malformed(why: &'static str) -> Response<Body> {
    own(StatusCode::BAD_REQUEST, "http_request_error", why)
}

/// An answer of larder's own: `Proxy-Status` (RFC 9209) and a body in the shape of GitLab's errors
/// (`lib/api/helpers.rb`, `render_api_error!`).
fn own(status: StatusCode, kind: &str, sentence: &str) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let message = format!("{} {reason} - {sentence}", status.as_u16());
    let text = serde_json::json!({ "message": message }).to_string();
    let mut response = Response::new(Body::Whole(Bytes::from(text)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::try_from(format!("larder; error={kind}")) {
        fields.insert(PROXY_STATUS, value);
    }
    response
}

/// GitLab's refusal, word for word.
pub(super) fn refusal(refusal: Refusal) -> Response<Body> {
    let mut response = Response::new(Body::Whole(refusal.body));
    *response.status_mut() = refusal.status;
    *response.headers_mut() = for_client(refusal.fields);
    super::leave_length_to_body(response.headers_mut());
    response
}

/// GitLab's answer to a leader's own request.
pub(super) fn relayed(relayed: Relayed) -> Response<Body> {
    let Parts { status, mut headers, extensions, .. } = relayed.head;
    hop::strip(&mut headers);
    forget_constant(&mut headers);
    super::leave_length_to_body(&mut headers);
    let mut response = Response::new(Body::Through(relayed.first, relayed.rest));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    *response.extensions_mut() = extensions;
    response
}

/// Whether a condition is one that older GitLab finds met whatever it has.
pub(super) fn asks_by_constant(fields: &HeaderMap) -> bool {
    let mut values = fields.get_all(header::IF_NONE_MATCH).iter();
    values.any(|value| value.to_str().is_ok_and(|value| value.contains(CONSTANT)))
}

/// Removes the tag that older GitLab gives to everything.
pub(super) fn forget_constant(fields: &mut HeaderMap) {
    if fields.get(header::ETAG).is_some_and(|tag| tag.as_bytes() == CONSTANT.as_bytes()) {
        fields.remove(header::ETAG);
    }
}

/// GitLab's fields without those of its connection.
fn for_client(mut fields: HeaderMap) -> HeaderMap {
    forget_constant(&mut fields);
    hop::strip(&mut fields);
    fields
}
