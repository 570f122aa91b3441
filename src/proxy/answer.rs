//! Answers that larder makes itself, and GitLab's that it relays. The one place where a failure becomes a status.

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Body;
use super::door::Wrong;
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
pub(super) fn malformed(wrong: Wrong) -> Response<Body> {
    let (status, why) = match wrong {
        Wrong::Malformed(why) => (StatusCode::BAD_REQUEST, why),
        // RFC 9112, 6.1.
        Wrong::Coding => (StatusCode::NOT_IMPLEMENTED, "the body is in a coding that isn't known here"),
    };
    own(status, "http_request_error", why)
}

/// The request came back to where it was sent from.
pub(super) fn looped() -> Response<Body> {
    let why = "the request came back to larder: its upstream leads to itself";
    own(StatusCode::LOOP_DETECTED, "proxy_loop_detected", why)
}

/// The request's head isn't one, is too large, or didn't come in time.
pub(super) fn unread(status: StatusCode) -> Response<Body> {
    let sentence = match status {
        StatusCode::REQUEST_TIMEOUT => "the request's head came too slowly",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the request's head is too large",
        StatusCode::URI_TOO_LONG => "the request's target is too long",
        _ => "the request is not HTTP",
    };
    own(status, "http_request_error", sentence)
}

/// An answer of larder's own as it goes over a connection that ends behind it (RFC 9112, 4 and 9.6).
pub(super) fn written(response: Response<Body>) -> Vec<u8> {
    let (mut parts, body) = response.into_parts();
    let body = if let Body::Whole(body) = body { body } else { Bytes::new() };
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(std::time::SystemTime::now())) {
        parts.headers.insert(header::DATE, now);
    }
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
    for (name, value) in &parts.headers {
        out.extend(title_case(name));
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
    out
}

/// As GitLab's nginx writes names.
fn title_case(name: &HeaderName) -> impl Iterator<Item = u8> {
    let mut first = true;
    name.as_str().bytes().map(move |byte| {
        let cased = if first { byte.to_ascii_uppercase() } else { byte };
        first = byte == b'-';
        cased
    })
}

/// What an answer of larder's own says.
#[derive(Debug, Clone, Copy)]
struct Own(&'static str);

/// Whether whoever asks reads pages: a browser, and not on a route that answers programs.
pub(super) fn reads_pages(root: &str, path: &str, fields: &HeaderMap) -> bool {
    let api = path.strip_prefix(root).is_some_and(|below| below.starts_with("/api/"));
    let accepted = fields.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    !api && kinds.any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        html && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Makes a page of an answer of larder's own; leaves others alone.
pub(super) fn page(mut response: Response<Body>) -> Response<Body> {
    let Some(Own(sentence)) = response.extensions_mut().remove() else { return response };
    let status = response.status();
    let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    // Nothing in it comes from a request.
    let text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
        <body><h1>{title}</h1><p>{sentence}.</p><hr><p>larder, in front of GitLab</p></body></html>\n"
    );
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    *response.body_mut() = Body::Whole(Bytes::from(text));
    response
}

/// An answer of larder's own: `Proxy-Status` (RFC 9209) and a body in the shape of GitLab's errors
/// (`lib/api/helpers.rb`, `render_api_error!`).
fn own(status: StatusCode, kind: &str, sentence: &'static str) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let message = format!("{} {reason} - {sentence}", status.as_u16());
    let text = serde_json::json!({ "message": message }).to_string();
    let mut response = Response::new(Body::Whole(Bytes::from(text)));
    *response.status_mut() = status;
    response.extensions_mut().insert(Own(sentence));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_pages_and_programs_json() {
        for (root, path, accept, pages) in [
            ("", "/users/sign_in", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", true),
            ("", "/x", "application/json, TEXT/HTML;q=0.1", true),
            ("", "/x", "text/html;q=0", false),
            ("", "/x", "*/*", false),
            ("", "/x", "", false),
            ("", "/api/v4/projects", "text/html", false),
            ("/gitlab", "/gitlab/api/v4/projects", "text/html", false),
            ("/gitlab", "/gitlab/apis", "text/html", true),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(reads_pages(root, path, &fields), pages, "{root} {path} {accept}");
        }
        let page = page(malformed(Wrong::Malformed("no Host")));
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[PROXY_STATUS], "larder; error=http_request_error");
        let Body::Whole(text) = page.into_body() else { panic!("it is all here") };
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.contains("<h1>400 Bad Request</h1><p>no Host.</p>"), "{text}");
    }
}
