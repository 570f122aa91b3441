//! What a request must be before anything is made of it.

use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, header};

/// Checks what hyper leaves to us: exactly one good `Host` in HTTP/1.1 (RFC 9112, 3.2), and a target with a path.
/// Returns the target.
pub(super) fn check(parts: &Parts, fields: &HeaderMap) -> Result<PathAndQuery, &'static str> {
    if parts.method == Method::CONNECT {
        return Err("CONNECT is not served here");
    }
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err("more than one Host"),
        (None, _) if parts.version == http::Version::HTTP_11 => return Err("no Host"),
        (Some(host), None) if !host.is_empty() => {
            let authority = Authority::try_from(host.as_bytes()).map_err(|_| "Host is not a host")?;
            if authority.as_str().contains('@') || authority.host().is_empty() {
                return Err("Host is not a host");
            }
        }
        _ => {}
    }
    let target = parts.uri.path_and_query().cloned().ok_or("the target has no path")?;
    let starts =
        target.as_str().starts_with('/') || (parts.method == Method::OPTIONS && target.as_str() == "*");
    if starts { Ok(target) } else { Err("the target has no path") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

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
            (vec!["larder"], "http://larder/x", true),
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
