//! A GitLab that is somewhere else than it was said to be.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{self, HeaderMap};
use http::uri::{PathAndQuery, Scheme};
use http::{StatusCode, Uri};

use crate::gitlab::urls::Origin;

/// Where an answer leads, seen from GitLab's URL: scheme, host and path. Never the query, which may hold a signature.
pub(crate) fn leads_to(url: &Origin, fields: &HeaderMap) -> Option<String> {
    let to = location(fields)?;
    let scheme = to.scheme().unwrap_or(url.scheme());
    let authority = to.authority().unwrap_or(url.authority());
    // What stands before an `@` may be a password.
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    Some(format!("{scheme}://{host}{}", to.path()))
}

fn location(fields: &HeaderMap) -> Option<Uri> {
    fields.get(header::LOCATION)?.to_str().ok()?.parse().ok()
}

/// Says once that GitLab's `http` leads to `https`: then every request is answered by a redirect, and none is cached.
#[derive(Debug, Default)]
pub(super) struct Moved(AtomicBool);

impl Moved {
    /// Looks at an answer.
    pub(super) fn look(&self, url: &Origin, asked: &PathAndQuery, status: StatusCode, fields: &HeaderMap) {
        if is_to_https(url, asked, status, fields) && !self.0.swap(true, Ordering::Relaxed) {
            let to = location(fields);
            let host = to
                .as_ref()
                .and_then(Uri::authority)
                .map_or("", |to| to.as_str().rsplit('@').next().unwrap_or_default());
            tracing::warn!(
                upstream = %url,
                "GitLab redirects from http to https, and so it does every client: upstream.url should be https://{host}{}",
                url.root()
            );
        }
    }
}

/// Whether an answer leads to the same by `https`: on the same host, or the same path on another one, which an object has
/// not.
fn is_to_https(url: &Origin, asked: &PathAndQuery, status: StatusCode, fields: &HeaderMap) -> bool {
    if *url.scheme() != Scheme::HTTP || !status.is_redirection() {
        return false;
    }
    let Some(to) = location(fields).filter(|to| to.scheme() == Some(&Scheme::HTTPS)) else { return false };
    let same_host = to.host().is_some_and(|host| host.eq_ignore_ascii_case(url.authority().host()));
    same_host || to.path_and_query() == Some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(url: &str, asked: &str, status: u16, location: &str) -> bool {
        let fields = [(header::LOCATION, location.parse().unwrap())].into_iter().collect();
        let status = StatusCode::from_u16(status).unwrap();
        is_to_https(&url.parse().unwrap(), &asked.parse().unwrap(), status, &fields)
    }

    #[test]
    fn the_same_by_https_is_told_from_an_object_and_a_page() {
        let http = "http://gitlab.example.com";
        assert!(is(http, "/a?b", 301, "https://gitlab.example.com/a?b"));
        assert!(is(http, "/a", 302, "https://GitLab.example.com:8443/users/sign_in"));
        assert!(is("http://10.0.0.1:80", "/a?b", 308, "https://gitlab.example.com/a?b"));
        assert!(!is(http, "/a", 302, "https://store.example.com/object?signature=x"));
        assert!(!is(http, "/a", 302, "http://gitlab.example.com/a"));
        assert!(!is(http, "/a", 302, "/a"));
        assert!(!is(http, "/a", 201, "https://gitlab.example.com/a"));
        assert!(!is("https://gitlab.example.com", "/a", 301, "https://gitlab.example.com/b"));
    }

    #[test]
    fn where_it_leads_is_said_without_secrets() {
        let to = |location: &str| {
            let fields = [(header::LOCATION, location.parse().unwrap())].into_iter().collect();
            leads_to(&"http://gitlab.example.com".parse().unwrap(), &fields)
        };
        assert_eq!(to("https://u:p@a.example:8/b?c=d").as_deref(), Some("https://a.example:8/b"));
        assert_eq!(to("/sign_in?c").as_deref(), Some("http://gitlab.example.com/sign_in"));
    }
}
