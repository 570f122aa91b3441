//! The way out: straight, or through a proxy that makes tunnels.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use crate::gitlab::grant::storage::special::Host;
use crate::gitlab::urls::Origin;

/// What the operator decides about the way out.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    /// The proxy, spoken to in the clear; what goes through it is a tunnel (CONNECT).
    pub url: Option<Origin>,
    /// A file that holds `user:password` for it.
    pub auth_file: Option<PathBuf>,
    /// Hosts, domains and networks that are reached without it.
    pub no_proxy: Vec<String>,
}

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
#[error(
    "upstream.proxy_auth_file {path}: {reason}; give a readable file with one line user:password",
    path = path.display()
)]
pub struct ProxyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, without a word of its contents.
    pub reason: String,
}

/// Which way a connection takes.
#[derive(Debug, Clone)]
pub(super) struct Egress(Option<Arc<Matcher>>);

/// A proxy, and what it is told.
#[derive(Debug, Clone)]
pub(super) struct Via {
    pub(super) proxy: Uri,
    pub(super) credentials: Option<HeaderValue>,
}

impl Egress {
    pub(super) fn new(settings: &ProxySettings) -> Result<Self, ProxyError> {
        let Some(url) = &settings.url else {
            if settings.auth_file.is_some() {
                tracing::warn!("upstream.proxy_auth_file is not used, as there is no upstream.proxy");
            }
            return Ok(Self(None));
        };
        let credentials = settings.auth_file.as_deref().map(credentials).transpose()?;
        let user = credentials.map_or_else(String::new, |text| format!("{text}@"));
        let proxy = format!("http://{user}{}", url.authority());
        let matcher = Matcher::builder().all(proxy).no(settings.no_proxy.join(",")).build();
        Ok(Self(Some(Arc::new(matcher))))
    }

    /// The proxy on the way to `to`; `None`: straight. This machine is never reached from another one.
    pub(super) fn of(&self, to: &Uri) -> Option<Via> {
        let found = self.0.as_ref().filter(|_| !is_here(to))?.intercept(to)?;
        Some(Via { proxy: found.uri().clone(), credentials: found.basic_auth().cloned() })
    }
}

/// Whether a file holds credentials for a proxy.
pub(super) fn check_file(path: &Path) -> Result<(), ProxyError> {
    credentials(path).map(drop)
}

/// The file's `user:password`, fit for a URL.
fn credentials(path: &Path) -> Result<String, ProxyError> {
    let wrong = |reason: String| ProxyError { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let line = text.trim_end_matches(['\r', '\n']);
    match line.split_once(':') {
        Some((user, password)) if !user.is_empty() && !line.contains(char::is_control) => {
            Ok(format!("{}:{}", encoded(user), encoded(password)))
        }
        // What is wrong with it may be all of a password.
        _ => Err(wrong("it isn't one line user:password".to_owned())),
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn is_here(to: &Uri) -> bool {
    match Host::read(to.host().unwrap_or_default()) {
        Host::Address(address) => address.is_loopback(),
        Host::Name(name) => name == "localhost",
        Host::Unclear => false,
    }
}

/// The same place with its port written: a tunnel is asked for by host and port.
pub(super) fn with_port(to: Uri) -> Uri {
    if to.port().is_some() || to.scheme() != Some(&Scheme::HTTP) {
        return to;
    }
    let mut parts = to.clone().into_parts();
    parts.authority = to.host().and_then(|host| Authority::try_from(format!("{host}:80")).ok());
    Uri::from_parts(parts).unwrap_or(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(no_proxy: &[&str], auth: Option<&str>) -> Egress {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth");
        std::fs::write(&path, auth.unwrap_or_default()).unwrap();
        Egress::new(&ProxySettings {
            url: Some("http://proxy.test:3128".parse().unwrap()),
            auth_file: auth.map(|_| path),
            no_proxy: no_proxy.iter().map(ToString::to_string).collect(),
        })
        .unwrap()
    }

    #[test]
    fn the_proxy_is_taken_but_to_those_excepted_and_this_machine() {
        let egress = egress(&["internal.test", ".corp.test", "10.0.0.0/8", "192.0.2.7"], None);
        for (to, through) in [
            ("https://gitlab.example.com/x", true),
            ("http://gitlab.example.com", true),
            ("https://internal.test", false),
            ("https://gitlab.internal.test:8443", false),
            ("https://a.corp.test", false),
            ("https://uninternal.test", true),
            ("http://10.1.2.3", false),
            ("http://192.0.2.7:9000", false),
            ("http://192.0.2.8", true),
            ("http://127.0.0.1:80", false),
            ("http://[::1]:80", false),
            ("http://LOCALHOST", false),
            ("http://localhost.", false),
            ("http://127.1:80", false),
            ("http://0x7f000001", false),
            ("http://[::ffff:127.0.0.1]", false),
        ] {
            let via = egress.of(&to.parse().unwrap());
            assert_eq!(via.is_some(), through, "{to}");
            if let Some(via) = via {
                assert_eq!(
                    (via.proxy.to_string().as_str(), via.credentials),
                    ("http://proxy.test:3128/", None)
                );
            }
        }
    }

    #[test]
    fn credentials_are_the_files_first_line_whatever_they_hold() {
        let via = egress(&[], Some("us er:p@:/ss%41\n")).of(&"https://g.test".parse().unwrap()).unwrap();
        // "us er:p@:/ss%41" by RFC 4648.
        assert_eq!(via.credentials.unwrap(), "Basic dXMgZXI6cEA6L3NzJTQx");
        let none = Egress::new(&ProxySettings::default()).unwrap();
        assert!(none.of(&"https://g.test".parse().unwrap()).is_none());
        for bad in ["", "user", ":password", "a:b\nc:d\n"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("auth");
            std::fs::write(&path, bad).unwrap();
            let error = credentials(&path).unwrap_err().to_string();
            assert!(error.contains("user:password") && !error.contains("b\n"), "{error}");
        }
    }

    #[test]
    fn a_tunnel_is_asked_for_by_port() {
        for (to, written) in [
            ("http://g.test/x", "http://g.test:80/x"),
            ("http://g.test:8080/x", "http://g.test:8080/x"),
            ("https://g.test/x", "https://g.test/x"),
        ] {
            assert_eq!(with_port(to.parse().unwrap()).to_string(), written);
        }
    }
}
