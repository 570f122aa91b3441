//! A request as the routes look at it.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, Method};

use crate::net::Conn;
use crate::percent;
use crate::route::{Class, Route};
use crate::seen::Seen;

/// A request without its body.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query as received.
    pub(crate) target: String,
    pub(crate) route: Route,
    pub(crate) headers: HeaderMap,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) client: IpAddr,
    /// Scheme and authority as the client sees them.
    pub(crate) origin: String,
    /// The same with the relative root.
    pub(crate) base: String,
    pub(crate) seen: Seen,
}

impl Ask {
    /// A request to GitLab.
    pub(crate) fn to_gitlab(parts: &http::request::Parts, conn: &Conn, root: &str) -> Self {
        let mut ask = Self::new(parts, conn);
        let path = ask.path().strip_prefix(root).filter(|rest| rest.starts_with('/'));
        ask.route = path.map_or(Route::Unknown, |path| Route::parse(&parts.method, path));
        ask.seen.class = ask.route.class();
        ask.base = format!("{}{root}", ask.origin);
        ask
    }

    /// A request to the object store.
    pub(crate) fn to_store(parts: &http::request::Parts, conn: &Conn) -> Self {
        Self::new(parts, conn)
    }

    fn new(parts: &http::request::Parts, conn: &Conn) -> Self {
        let seen = seen(parts, conn);
        let query = seen.target.split_once('?').map_or("", |(_, query)| query);
        Self {
            method: parts.method.clone(),
            target: seen.target.clone(),
            route: Route::Unknown,
            headers: parts.headers.clone(),
            params: percent::parameters(query),
            client: client(&parts.headers, conn),
            origin: origin(&parts.headers, conn.secure),
            base: String::new(),
            seen,
        }
    }

    /// The raw path.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first parameter of this name that isn't blank, as Ruby's `presence`.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let named = self.params.iter().filter(|(param, _)| param == name);
        named.map(|(_, value)| value.as_str()).find(|value| !value.trim().is_empty())
    }

    /// A field's first value that isn't blank.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name)?.to_str().ok()?;
        if value.trim().is_empty() { None } else { Some(value) }
    }

    /// A Grape boolean: `true`, `t`, `on`, `1` count.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.param(name).is_some_and(|value| matches!(value, "true" | "t" | "on" | "1"))
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    pub(crate) fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    /// GET or HEAD.
    pub(crate) fn reads(&self) -> bool {
        self.is_get() || self.is_head()
    }
}

fn seen(parts: &http::request::Parts, conn: &Conn) -> Seen {
    let method = parts.method.as_str().to_owned();
    let parsed = || {
        let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        parts.headers.iter().map(|(name, text)| (name.as_str().to_owned(), value(text))).collect()
    };
    let (target, headers) = match conn.take_head(&method) {
        Some(raw) => (raw.target, raw.fields),
        None => (parts.uri.to_string(), parsed()),
    };
    // The absolute form (RFC 9112, section 3.2.2) is cut down to path and query.
    let target = match parts.uri.path_and_query() {
        Some(parsed) if !target.starts_with('/') => parsed.to_string(),
        _ => target,
    };
    Seen { class: Class::Object, method, target, headers, peer: conn.peer }
}

/// A proxy that GitLab is told to trust besides this machine, for tests with one more in between.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 1));

/// The client's address as the bundled nginx finds it (`real_ip_recursive`): of all that the request came through, the last
/// that isn't a trusted proxy.
fn client(headers: &HeaderMap, conn: &Conn) -> IpAddr {
    let lists = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let mut way: Vec<IpAddr> =
        lists.flat_map(|list| list.split(',')).filter_map(|text| text.trim().parse().ok()).collect();
    way.push(conn.peer.ip());
    let trusted = |ip: &IpAddr| ip.is_loopback() || *ip == PROXY;
    let client = way.iter().rev().find(|ip| !trusted(ip)).or(way.first());
    client.copied().unwrap_or_else(|| conn.peer.ip())
}

fn origin(headers: &HeaderMap, secure: bool) -> String {
    let scheme = first(headers, "x-forwarded-proto").unwrap_or(if secure { "https" } else { "http" });
    let host = first(headers, "x-forwarded-host").or_else(|| first(headers, "host"));
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
    if value.is_empty() { None } else { Some(value) }
}
