//! Answers that larder makes itself. The one place where a failure becomes a status.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Body;
use super::validate::Invalid;
use crate::upstream::{self, FailureKind};

/// Seconds after which it is worth asking a busy GitLab again: a queue moves on in less, and clients that all come back
/// at once are what filled it.
const RETRY_AFTER: &str = "5";

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// An exchange with GitLab failed.
pub(super) fn failed(error: &upstream::Error) -> Response<Body> {
    tracing::warn!(error = error.chain(), "GitLab can't be asked");
    let kind = error.kind();
    let mut response = own(kind.status(), kind.as_str(), kind.for_client());
    if kind == FailureKind::QueueTimeout {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

/// Clients that read slowly hold all the memory there is for answers.
pub(super) fn crowded() -> Response<Body> {
    let why = "larder holds as much for clients that read slowly as it may";
    let mut response = own(StatusCode::SERVICE_UNAVAILABLE, "proxy_internal_response", why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    response
}

/// A body came too slowly.
pub(super) fn too_slow() -> Response<Body> {
    own(StatusCode::REQUEST_TIMEOUT, "http_request_error", "the request's body came too slowly")
}

/// The request isn't one that may be passed on.
pub(super) fn malformed(invalid: Invalid) -> Response<Body> {
    let (status, why) = match invalid {
        Invalid::Malformed(why) => (StatusCode::BAD_REQUEST, why),
        // RFC 9112, 6.1.
        Invalid::Coding => (StatusCode::NOT_IMPLEMENTED, "the body is in a coding that isn't known here"),
    };
    own(status, "http_request_error", why)
}

/// The request came back to where it was sent from.
pub(super) fn looped() -> Response<Body> {
    let why = "the request came back to larder: its upstream leads to itself";
    own(StatusCode::LOOP_DETECTED, "proxy_loop_detected", why)
}

/// The request's head has begun and didn't come in time.
pub(super) fn late() -> Response<Body> {
    own(StatusCode::REQUEST_TIMEOUT, "http_request_error", "the request's head came too slowly")
}

/// The request came as plain HTTP to a port that speaks TLS.
pub(super) fn unencrypted() -> Response<Body> {
    let sentence = "this port speaks HTTPS, and the request came as plain HTTP";
    own(StatusCode::BAD_REQUEST, "http_request_error", sentence)
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
        let page = page(malformed(Invalid::Malformed("no Host")));
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[PROXY_STATUS], "larder; error=http_request_error");
        let Body::Whole(text) = page.into_body() else { panic!("it is all here") };
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.contains("<h1>400 Bad Request</h1><p>no Host.</p>"), "{text}");
    }
}
