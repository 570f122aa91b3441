//! What a request must be before anything is made of it.

use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};

use std::net::IpAddr;

use crate::http::hop::{self, NoAddress, Peer};
use crate::http::target::{self, Part};

/// What keeps a request out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    /// It isn't HTTP, or not for here.
    Malformed(&'static str),
    /// Its body is in a coding that isn't known here.
    Coding,
}

impl From<NoAddress> for Invalid {
    fn from(NoAddress: NoAddress) -> Self {
        Self::Malformed("X-Forwarded-For of the trusted proxy doesn't end with an address")
    }
}

impl From<&'static str> for Invalid {
    fn from(why: &'static str) -> Self {
        Self::Malformed(why)
    }
}

/// Makes of a request what all that follows takes it for: one of HTTP/1.1, without what its peer may not say. Returns the
/// address of the client that it comes from.
pub(super) fn settle(parts: &mut Parts, peer: Peer) -> Result<IpAddr, Invalid> {
    hop::admit(&mut parts.headers, peer);
    as_http1(parts)?;
    Ok(peer.client(&parts.headers)?)
}

/// Makes an HTTP/2 request look like one of HTTP/1.1: `:authority` as `Host` (RFC 9113, 8.3.1), the parts of a cookie as
/// one field (8.2.3).
fn as_http1(parts: &mut Parts) -> Result<(), Invalid> {
    if parts.version != Version::HTTP_2 {
        return Ok(());
    }
    parts.version = Version::HTTP_11;
    // What came by HTTP/1 has its marks from where it was read.
    if let (_, Some(marked)) =
        target::marked(parts.uri.path_and_query().map_or("", PathAndQuery::as_str).as_bytes(), Part::Path)
    {
        let target = PathAndQuery::try_from(marked).map_err(|_| "the target is not one")?;
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(target);
        parts.uri = Uri::from_parts(uri).map_err(|_| "the target is not one")?;
    }
    if let Some(authority) = parts.uri.authority() {
        let same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
        if !parts.headers.get_all(header::HOST).iter().all(same) {
            return Err(Invalid::Malformed("Host is not the authority"));
        }
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_| "the authority is not a host")?;
        parts.headers.insert(header::HOST, host);
    }
    join_cookies(&mut parts.headers);
    Ok(())
}

fn join_cookies(fields: &mut HeaderMap) {
    let parts: Vec<&[u8]> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if parts.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&parts.join(b"; ".as_slice()))
    {
        fields.insert(header::COOKIE, whole);
    }
}

/// Checks what hyper leaves to us: exactly one good `Host` in HTTP/1.1 (RFC 9112, 3.2), a body in no other coding than
/// `chunked` (6.1), and a target with a path. Returns the target.
pub(super) fn check(parts: &Parts, fields: &HeaderMap) -> Result<PathAndQuery, Invalid> {
    if parts.method == Method::CONNECT {
        return Err(Invalid::Malformed("CONNECT is not served here"));
    }
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Invalid::Malformed("more than one Host")),
        (None, _) if parts.version == Version::HTTP_11 => return Err(Invalid::Malformed("no Host")),
        (Some(host), None) if !host.is_empty() && !is_host(host) => {
            return Err(Invalid::Malformed("Host is not a host"));
        }
        _ => {}
    }
    if parts.uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Invalid::Malformed("the target names a user"));
    }
    if !hop::is_plainly_coded(fields) {
        return Err(Invalid::Coding);
    }
    let target = parts.uri.path_and_query().cloned().ok_or("the target has no path")?;
    let starts =
        target.as_str().starts_with('/') || (parts.method == Method::OPTIONS && target.as_str() == "*");
    if starts { Ok(target) } else { Err(Invalid::Malformed("the target has no path")) }
}

/// A host and perhaps a port (RFC 9110, 7.2).
fn is_host(value: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(value.as_bytes()) else { return false };
    let (text, host) = (authority.as_str(), authority.host());
    let port = text.strip_prefix(host).map(|rest| rest.strip_prefix(':').unwrap_or(rest));
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = |port: &str| port.is_empty() || (digits(port) && port.parse::<u16>().is_ok());
    !host.is_empty() && port.is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn an_http2_request_becomes_one_of_http1() {
        for (uri, hosts, host) in [
            ("https://larder:1/x", vec![], Ok(Some("larder:1"))),
            ("https://larder/x", vec!["Larder"], Ok(Some("larder"))),
            ("/x", vec!["larder"], Ok(Some("larder"))),
            ("/x", vec![], Ok(None)),
            ("https://larder/x", vec!["other"], Err(())),
            ("https://larder/x", vec!["larder", "other"], Err(())),
        ] {
            let mut request = Request::builder().version(Version::HTTP_2).uri(uri);
            for host in &hosts {
                request = request.header(header::HOST, *host);
            }
            let cookies = request.header(header::COOKIE, "a=1").header(header::COOKIE, "b=2");
            let (mut parts, ()) = cookies.body(()).unwrap().into_parts();
            let settled = as_http1(&mut parts);
            let found = parts.headers.get(header::HOST).map(|host| host.to_str().unwrap());
            assert_eq!(settled.map(|()| found).map_err(|_| ()), host, "{uri} {hosts:?}");
            if host.is_ok() {
                assert_eq!(parts.headers.get_all(header::COOKIE).iter().count(), 1);
                assert_eq!(parts.headers[header::COOKIE], "a=1; b=2");
                assert_eq!(parts.version, Version::HTTP_11);
                assert_eq!(check(&parts, &parts.headers).is_ok(), host != Ok(None), "{uri} {hosts:?}");
            }
        }
    }

    #[test]
    fn one_good_host_and_a_path() {
        for (hosts, uri, good) in [
            (vec!["larder"], "/x", true),
            (vec!["larder:8080"], "/x", true),
            (vec!["[::1]:8080"], "/x", true),
            (vec![""], "/x", true),
            (vec![], "/x", false),
            (vec!["a", "a"], "/x", false),
            (vec!["x y"], "/x", false),
            (vec!["u@x"], "/x", false),
            (vec!["x/y"], "/x", false),
            (vec!["x:"], "/x", true),
            (vec!["x:y"], "/x", false),
            (vec!["x:65536"], "/x", false),
            (vec!["x:+1"], "/x", false),
            (vec!["larder"], "http://larder/x", true),
            (vec!["larder"], "http://u:p@larder/x", false),
            (vec!["larder"], "abc", false),
        ] {
            let mut request = Request::builder().uri(uri);
            for host in &hosts {
                request = request.header(header::HOST, *host);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(check(&parts, &parts.headers).is_ok(), good, "{hosts:?} {uri}");
        }
    }
}
