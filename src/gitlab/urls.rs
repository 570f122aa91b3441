//! GitLab's base URL, parsed once.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// Why a text isn't a base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// Not a URL at all, or without a host.
    #[error("not a URL of the form http(s)://host[:port][/root]")]
    NotAUrl,
    /// Neither `http` nor `https`.
    #[error("the scheme must be http or https")]
    Scheme,
    /// A user name or password in the URL; it isn't repeated here.
    #[error("a URL with credentials in it is refused: clients bring their own")]
    Credentials,
    /// A query, a fragment, or a path that isn't canonical.
    #[error("the path must be a plain relative root: no query, no fragment, no empty or dot segment")]
    Root,
}

/// A base URL: scheme, authority, and the relative root under which GitLab lives (empty, or `/root` without a final
/// slash).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
    root: String,
}

impl Origin {
    /// `http` or `https`.
    pub(crate) const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Host and port as written.
    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The relative root: empty, or a path that begins with a slash and doesn't end with one.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Whether `uri` has this scheme, host and port (default ports filled in, host compared without case).
    pub(crate) fn is_origin_of(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return false;
        };
        *scheme == self.scheme
            && authority.host().eq_ignore_ascii_case(self.authority.host())
            && port(scheme, authority) == port(&self.scheme, &self.authority)
    }

    /// This origin with another path and query. The client's path carries the relative root already.
    pub(crate) fn uri(&self, target: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        // All three parts are present and each was parsed: there is no invalid combination left.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// The port in use, written or implied.
pub(crate) fn port(scheme: &Scheme, authority: &Authority) -> u16 {
    let implied = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    authority.port_u16().unwrap_or(implied)
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        if text.contains('#') {
            return Err(BadOrigin::Root);
        }
        let uri: Uri = text.parse().map_err(|_| BadOrigin::NotAUrl)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(BadOrigin::NotAUrl);
        };
        if authority.as_str().contains('@') {
            return Err(BadOrigin::Credentials);
        }
        // What is no port would be read as none, and credentials go where nobody meant them to.
        let written = authority.as_str().len() > authority.host().len();
        if written && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(BadOrigin::NotAUrl);
        }
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(BadOrigin::Scheme);
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let root = path.path().strip_suffix('/').unwrap_or(path.path());
        if path.query().is_some() || !is_plain(root) {
            return Err(BadOrigin::Root);
        }
        Ok(Self { scheme, authority, root: root.to_owned() })
    }
}

/// No empty or dot segment and nothing encoded: routes are compared with the root byte for byte.
fn is_plain(root: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    root.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(good))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_parsed_once() {
        for (text, shown, root) in [
            ("https://gitlab.example.com", "https://gitlab.example.com", ""),
            ("https://gitlab.example.com/", "https://gitlab.example.com", ""),
            ("http://10.0.0.1:8080/gitlab/", "http://10.0.0.1:8080/gitlab", "/gitlab"),
            ("http://[::1]:80/a/b", "http://[::1]:80/a/b", "/a/b"),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!((origin.to_string().as_str(), origin.root()), (shown, root), "{text}");
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        for (text, why) in [
            ("", BadOrigin::NotAUrl),
            ("gitlab.example.com", BadOrigin::NotAUrl),
            ("ftp://gitlab.example.com", BadOrigin::Scheme),
            ("http://gitlab.example.com:99999", BadOrigin::NotAUrl),
            ("http://gitlab.example.com:0", BadOrigin::NotAUrl),
            ("http://gitlab.example.com:/", BadOrigin::NotAUrl),
            ("http://[::1]:65536", BadOrigin::NotAUrl),
            ("https://user:secret@gitlab.example.com", BadOrigin::Credentials),
            ("https://gitlab.example.com/?x=1", BadOrigin::Root),
            ("https://gitlab.example.com/#x", BadOrigin::Root),
            ("https://gitlab.example.com//x", BadOrigin::Root),
            ("https://gitlab.example.com/a/../b", BadOrigin::Root),
            ("https://gitlab.example.com/%61", BadOrigin::Root),
        ] {
            assert_eq!(text.parse::<Origin>(), Err(why), "{text}");
        }
    }

    #[test]
    fn origins_compare_with_default_ports() {
        let origin: Origin = "https://GitLab.example.com/root".parse().unwrap();
        for (uri, same) in [
            ("https://gitlab.example.com/x", true),
            ("https://gitlab.example.com:443/x", true),
            ("http://gitlab.example.com/x", false),
            ("https://gitlab.example.com:8443/x", false),
            ("https://gitlab.example.com.evil.org/x", false),
            ("/x", false),
        ] {
            assert_eq!(origin.is_origin_of(&uri.parse().unwrap()), same, "{uri}");
        }
    }
}
