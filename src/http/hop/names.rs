//! The names by which one GitLab goes: larder knows it by its URL, clients know it by larder's.
//!
//! Pure: what names GitLab's own URL in an answer's fields comes to name larder's, and the other way round in a
//! request's. Hostile input: an answer may hold anything.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Uri};

use super::Peer;
use super::claims::{X_FORWARDED_HOST, X_FORWARDED_PROTO};

const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// How a client reached larder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    secure: bool,
    host: Option<HeaderValue>,
}

impl Front {
    /// What the connection and `Host` (or a target in absolute form) say, or a trusted peer of the client before it: the
    /// last name in its list, as Rails reads it, and the first scheme, which is the client's own.
    pub fn of(peer: Peer, fields: &HeaderMap, uri: &Uri) -> Self {
        let claimed = |name: &HeaderName, last| if peer.trusted { end(fields, name, last) } else { None };
        let host = claimed(&X_FORWARDED_HOST, true).or_else(|| fields.get(header::HOST).cloned());
        let host = host.or_else(|| HeaderValue::try_from(uri.authority()?.as_str()).ok());
        let secure = claimed(&X_FORWARDED_PROTO, false)
            .map_or(peer.secure, |scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
        Self { secure, host: host.filter(|host| !host.is_empty()) }
    }

    /// The name.
    pub const fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// The first item of a list that may stand in several fields, or the last.
fn end(fields: &HeaderMap, name: &HeaderName, last: bool) -> Option<HeaderValue> {
    let mut values = fields.get_all(name).iter();
    let value = if last { values.next_back() } else { values.next() }?.as_bytes();
    let mut items = value.split(|byte| *byte == b',');
    let item = if last { items.next_back() } else { items.next() }?;
    HeaderValue::from_bytes(item.trim_ascii()).ok()
}

/// GitLab's names, to larder and to one client.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The scheme of GitLab's URL.
    pub scheme: &'a Scheme,
    /// Its host and port, which GitLab gets as `Host`.
    pub authority: &'a Authority,
    /// The origin by which GitLab knows itself (its `external_url`), of which it makes URLs whatever `Host` it is asked under.
    pub external: (&'a Scheme, &'a Authority),
    /// The client's way.
    pub front: &'a Front,
}

impl Names<'_> {
    /// The scheme that GitLab is told of. A GitLab behind `https` sends its session's cookie to `https` only, and its
    /// nginx says so whatever it was told; so `https` on either side is `https`.
    pub(crate) fn told(&self) -> &'static str {
        if self.front.secure || self.is_https() { "https" } else { "http" }
    }

    /// The port that GitLab is told of: the one in the client's name for larder, else the scheme's.
    pub(crate) fn told_port(&self) -> HeaderValue {
        let named = self.client().and_then(|authority| authority.port_u16());
        HeaderValue::from(named.unwrap_or_else(|| implied(self.told())))
    }

    /// Makes a browser's `Origin` agree with what GitLab is told: Rails compares it with the URL that it makes of
    /// `X-Forwarded-Proto` and `-Host` before it believes a form. Where the connection is to be changed (`upgrades`) Action
    /// Cable compares it with that scheme and `Host` itself, which is GitLab's own. An `Origin` that isn't the client's own
    /// name for larder stays what it is, and so does one that was said more than once.
    pub(crate) fn rename_request(&self, fields: &mut HeaderMap, upgrades: bool) {
        let (Some(client), told) = (self.client(), self.told()) else { return };
        let mut origins = fields.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return };
        let Some(origin) = split(origin.as_bytes()) else { return };
        let own = origin.scheme == self.front.scheme()
            && origin.rest.is_empty()
            && is_same(origin.scheme, &origin.authority, &client);
        let name = if upgrades { self.host() } else { client.to_string() };
        if own
            && (upgrades || told != self.front.scheme())
            && let Ok(renamed) = HeaderValue::try_from(format!("{told}://{name}"))
        {
            fields.insert(header::ORIGIN, renamed);
        }
    }

    /// What GitLab gets as `Host`: no port where it is its scheme's own.
    fn host(&self) -> String {
        let (host, port) = (self.authority.host(), self.authority.port_u16());
        match port.filter(|port| *port != implied(self.scheme.as_str())) {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Makes an answer's fields name larder where they name GitLab. `asked` is the target of a GET or HEAD: a redirect
    /// that would lead there again and differs in the scheme alone (a GitLab that wants `https`) stays as it is.
    pub fn rename_answer(&self, method: &Method, target: &str, fields: &mut HeaderMap) {
        let asked = (*method == Method::GET || *method == Method::HEAD).then_some(target.as_bytes());
        edit(fields, &header::LOCATION, |value| self.url(value, asked));
        edit(fields, &header::CONTENT_LOCATION, |value| self.url(value, None));
        edit(fields, &REFRESH, |value| self.refresh(value, asked));
        edit(fields, &header::LINK, |value| self.links(value));
        edit(fields, &header::SET_COOKIE, |value| self.cookie(value));
    }

    /// The same place under the client's name; `None` if it stays what it is.
    fn url(&self, value: &[u8], asked: Option<&[u8]>) -> Option<Vec<u8>> {
        if value.starts_with(b"//") {
            return self.relative(value);
        }
        let url = split(value)?;
        let leads_back = asked.is_some_and(|asked| asked == url.rest) && url.scheme != self.scheme.as_str();
        let Some(client) = self.client() else {
            // A client that gave no name gets a path.
            let slash: &[u8] = if url.rest.first() == Some(&b'/') { b"" } else { b"/" };
            return (self.is_gitlab(&url) && !leads_back).then(|| [slash, url.rest].concat());
        };
        // GitLab makes URLs of the name it was told, with the scheme that it takes for the client's.
        let of_client = url.scheme != self.front.scheme() && same_place(&url, self.told(), &client);
        if !of_client && (!self.is_gitlab(&url) || leads_back) {
            return None;
        }
        let renamed = [self.front.scheme().as_bytes(), b"://", client.as_str().as_bytes(), url.rest].concat();
        (renamed != value).then_some(renamed)
    }

    /// A URL that leaves the scheme to its reader (RFC 3986, 4.2): GitLab means its own.
    fn relative(&self, value: &[u8]) -> Option<Vec<u8>> {
        let under = |scheme: &Scheme| [scheme.as_str().as_bytes(), b":", value].concat();
        let wholes = [under(self.scheme), under(self.external.0)];
        let whole = wholes.iter().find(|whole| split(whole).is_some_and(|url| self.is_gitlab(&url)))?;
        let renamed = self.url(whole, None)?;
        let own = self.front.scheme().len() + 1;
        // Without a name for larder it is a path.
        if renamed.starts_with(b"/") { Some(renamed) } else { renamed.get(own..).map(<[u8]>::to_vec) }
    }

    /// Whether GitLab takes itself to be reached by `https`, by its own URL or by larder's.
    fn is_https(&self) -> bool {
        *self.scheme == Scheme::HTTPS || *self.external.0 == Scheme::HTTPS
    }

    fn is_gitlab(&self, url: &Url<'_>) -> bool {
        let (scheme, authority) = self.external;
        same_place(url, self.scheme.as_str(), self.authority) || same_place(url, scheme.as_str(), authority)
    }

    /// `5; url=https://gitlab.example.com/x`, with or without quotes.
    fn refresh(&self, value: &[u8], asked: Option<&[u8]>) -> Option<Vec<u8>> {
        let at = value.windows(4).position(|window| window.eq_ignore_ascii_case(b"url="))?;
        let (before, rest) = value.split_at_checked(at + 4)?;
        let (quote, rest) = match rest.split_first() {
            Some((quote @ (b'"' | b'\''), rest)) => (Some(*quote), rest),
            _ => (None, rest),
        };
        let end = rest.iter().position(|byte| Some(*byte) == quote).unwrap_or(rest.len());
        let (url, after) = rest.split_at_checked(end)?;
        let renamed = self.url(url, asked)?;
        Some([before, quote.as_slice(), &renamed, after].concat())
    }

    /// `<https://gitlab.example.com/x>; rel="next", <…>; rel="last"` (RFC 8288): what stands in angle brackets.
    fn links(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut changed, mut rest) = (Vec::with_capacity(value.len()), false, value);
        while let Some((byte, after)) = rest.split_first() {
            let length = match byte {
                b'"' => quoted(rest),
                b'<' => rest.iter().position(|byte| *byte == b'>').unwrap_or(rest.len()),
                _ => 1,
            };
            let (piece, next) = rest.split_at_checked(length)?;
            let renamed = (*byte == b'<').then(|| self.url(piece.get(1..)?, None)).flatten();
            if let Some(renamed) = renamed {
                out.push(b'<');
                out.extend(renamed);
                changed = true;
            } else {
                out.extend(piece);
            }
            rest = if length == 0 { after } else { next };
        }
        changed.then_some(out)
    }

    /// A cookie for GitLab's domain becomes one for larder's host, and one for `https` alone one for the client's way:
    /// a browser keeps neither otherwise. Names with a prefix promise both (RFC 6265bis, 4.1.3) and are left alone.
    fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let lower = value.to_ascii_lowercase();
        if lower.starts_with(b"__host-") || lower.starts_with(b"__secure-") {
            return None;
        }
        let plain = !self.front.secure && self.is_https();
        let mut parts = value.split(|byte| *byte == b';');
        let mut out = parts.next()?.to_vec();
        for part in parts {
            let attribute = part.to_ascii_lowercase();
            let attribute = attribute.trim_ascii();
            let foreign = attribute.strip_prefix(b"domain").is_some_and(|rest| self.is_gitlabs_domain(rest));
            if !foreign && !(plain && (attribute == b"secure" || attribute == b"samesite=none")) {
                out.push(b';');
                out.extend(part);
            }
        }
        (out != value).then_some(out)
    }

    /// Whether a cookie's domain (behind its name, in lower case) is GitLab's and not the client's as well.
    fn is_gitlabs_domain(&self, rest: &[u8]) -> bool {
        let domain = rest.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii);
        let domain = domain.map(|domain| domain.strip_prefix(b".").unwrap_or(domain));
        let Some(domain) = domain.and_then(|domain| std::str::from_utf8(domain).ok()) else { return false };
        [self.authority, self.external.1].iter().any(|own| within(own.host(), domain))
            && !self.client().is_some_and(|client| within(client.host(), domain))
    }

    /// The client's name for larder, if it is one.
    fn client(&self) -> Option<Authority> {
        let host = self.front.host.as_ref()?;
        Authority::try_from(host.as_bytes()).ok().filter(|authority| !authority.as_str().contains('@'))
    }
}

/// A URL's beginning and all that follows it.
struct Url<'a> {
    scheme: &'static str,
    authority: Authority,
    rest: &'a [u8],
}

/// Splits an absolute `http` or `https` URL. What browsers read otherwise than others (backslashes, controls, user
/// names) isn't one.
fn split(value: &[u8]) -> Option<Url<'_>> {
    let (scheme, after) = ["https", "http"].into_iter().find_map(|scheme| {
        let (named, rest) = value.split_at_checked(scheme.len())?;
        let rest = rest.strip_prefix(b"://")?;
        named.eq_ignore_ascii_case(scheme.as_bytes()).then_some((scheme, rest))
    })?;
    let end = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after.len());
    let (authority, rest) = after.split_at_checked(end)?;
    let authority = Authority::try_from(authority).ok()?;
    (!authority.as_str().contains('@')).then_some(Url { scheme, authority, rest })
}

/// Whether a URL leads to this host: by the same port, or with none written where none is written here, which is the
/// same `Host` under either scheme.
fn same_place(url: &Url<'_>, scheme: &str, authority: &Authority) -> bool {
    let port = |scheme, authority: &Authority| authority.port_u16().unwrap_or_else(|| implied(scheme));
    let written =
        |scheme, authority: &Authority| authority.port_u16().filter(|port| *port != implied(scheme));
    url.authority.host().eq_ignore_ascii_case(authority.host())
        && (port(url.scheme, &url.authority) == port(scheme, authority)
            || written(url.scheme, &url.authority) == written(scheme, authority))
}

/// Whether two names are one under a scheme, its own port written or not.
fn is_same(scheme: &str, one: &Authority, other: &Authority) -> bool {
    let port = |authority: &Authority| authority.port_u16().unwrap_or_else(|| implied(scheme));
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

fn implied(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// Whether a host is a domain's (RFC 6265, 5.1.3).
fn within(host: &str, domain: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let outer = host.strip_suffix(domain);
    !domain.is_empty() && outer.is_some_and(|outer| outer.is_empty() || outer.ends_with('.'))
}

/// The length of the quoted string that `text` begins with; of all of it, if it isn't closed.
fn quoted(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Replaces those of a field's values that `change` has another for.
fn edit(fields: &mut HeaderMap, name: &HeaderName, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    if let header::Entry::Occupied(mut values) = fields.entry(name) {
        for value in values.iter_mut() {
            if let Some(changed) =
                change(value.as_bytes()).and_then(|bytes| HeaderValue::try_from(bytes).ok())
            {
                *value = changed;
            }
        }
    }
}

#[cfg(test)]
mod tests;
