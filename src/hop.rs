//! Which fields travel on.
//!
//! Owns the rules of RFC 9110, 7.6 for intermediaries: hop-by-hop fields stay, `Via` and the forwarding fields are
//! added. Pure; knows nothing of caches or credentials.

mod names;

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

pub use names::{Front, Names};

/// Fields that concern one connection only (RFC 9110, 7.6.1), whether `Connection` names them or not. What goes on of
/// `TE`, `Trailer` and `Upgrade` is set anew.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How the fields begin that Workhorse and Rails (`workhorse/internal/secret`, `workhorse/internal/senddata`), or nginx
/// and what stands behind it, say to each other.
const INTERNAL: [&str; 3] = ["gitlab-workhorse", "x-sendfile", "x-accel-"];

/// How the fields begin by which a proxy says where a request came from.
const CLAIMS: [&str; 2] = ["x-forwarded-", "x-real-ip"];

/// What larder goes by in `Via`.
const PSEUDONYM: &str = "1.1 larder";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SSL: HeaderName = HeaderName::from_static("x-forwarded-ssl");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Who is at the other end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address that connected.
    pub address: IpAddr,
    /// Whether the operator trusts what it says about those behind it.
    pub trusted: bool,
    /// Whether it connected by TLS.
    pub secure: bool,
}

impl Peer {
    /// The client's address: the peer's own, or what a trusted peer says of the client (the last entry, which the
    /// peer itself added).
    pub fn client(self, fields: &HeaderMap) -> IpAddr {
        let claimed = || {
            let value = fields.get_all(&X_FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
            claim(value.rsplit(',').next()?.trim())
        };
        if self.trusted { claimed().unwrap_or(self.address) } else { self.address }
    }
}

/// An address as proxies write it, some with the port that the client came from. One of IPv4 in IPv6's clothes is what it
/// would be if it had connected here.
fn claim(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|with: SocketAddr| with.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Removes the fields that concern one connection, and those that `Connection` names.
pub fn strip(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
}

/// Removes what only GitLab's own parts say to each other: from requests, in which a client mustn't say it, and from
/// answers, which nginx would have acted on and not sent on.
pub fn strip_internal(fields: &mut HeaderMap) {
    let internal: Vec<HeaderName> = fields.keys().filter(|name| is_internal(name)).cloned().collect();
    for name in internal {
        fields.remove(name);
    }
}

/// The protocol that a client wants its connection changed to (RFC 9110, 7.8): what `Upgrade` says, where `Connection`
/// names it. HTTP/2 in the clear is not offered on: in such a tunnel a client would say itself where it comes from.
pub fn upgrade(fields: &HeaderMap) -> Option<HeaderValue> {
    if !names(fields, &header::CONNECTION, "upgrade") {
        return None;
    }
    let protocols: Vec<&[u8]> = fields.get_all(header::UPGRADE).iter().map(HeaderValue::as_bytes).collect();
    let all = HeaderValue::from_bytes(&protocols.join(b", ".as_slice())).ok()?;
    (!all.is_empty() && !names(fields, &header::UPGRADE, "h2c")).then_some(all)
}

/// Says that the connection changes to `protocol`, or is wanted to.
pub fn set_upgrade(fields: &mut HeaderMap, protocol: HeaderValue) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, protocol);
}

/// Whether a body comes in no coding but `chunked`, said once (RFC 9112, 6.1). hyper looks at the last one alone and takes
/// chunks apart; what was coded besides would go on without its name.
pub fn is_plainly_coded(fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => plain(coding),
        (Some(_), Some(_)) => false,
    }
}

/// What one side says of trailers (RFC 9110, 6.5): whether it takes them, and which ones it will send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailing {
    taken: bool,
    announced: Vec<HeaderValue>,
}

impl Trailing {
    /// Reads `TE` and `Trailer`; both are to be said again for the next hop.
    pub fn of(fields: &HeaderMap) -> Self {
        let announced = fields.get_all(header::TRAILER).iter().cloned().collect();
        Self { taken: names(fields, &header::TE, "trailers"), announced }
    }

    /// Says it again. Other codings in `TE` are not ours to promise.
    pub fn say(self, fields: &mut HeaderMap) {
        if self.taken {
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        for value in self.announced {
            fields.append(header::TRAILER, value);
        }
    }
}

/// Removes from trailers what may only be said before a body (RFC 9110, 6.5.1): framing, routing, credentials, what
/// describes the body, and what isn't a client's to say.
pub fn strip_trailers(fields: &mut HeaderMap) {
    const BEFORE: [HeaderName; 9] = [
        header::AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
        header::CACHE_CONTROL,
        header::EXPECT,
        header::LOCATION,
        header::RANGE,
        header::AGE,
        header::DATE,
    ];
    let early: Vec<HeaderName> = fields
        .keys()
        .filter(|name| {
            BEFORE.contains(name)
                || is_hop_by_hop(name)
                || is_forwarding(name)
                || is_internal(name)
                || name.as_str().starts_with("content-")
        })
        .cloned()
        .collect();
    for name in early {
        fields.remove(name);
    }
}

/// Whether a field that is a list of tokens holds `token`, whatever its case. A weight (`;q=`) is no part of a token.
fn names(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = values.flat_map(|value| value.split(','));
    tokens.any(|item| item.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(token))
}

/// Whether a field is about the way a request came rather than about what it asks.
pub fn is_forwarding(name: &HeaderName) -> bool {
    name == header::FORWARDED
        || name == header::VIA
        || name == header::HOST
        || name == X_REAL_IP
        || name.as_str().starts_with("x-forwarded-")
}

fn is_internal(name: &HeaderName) -> bool {
    INTERNAL.iter().any(|prefix| reads_as(name, prefix))
}

/// Whether a field's name begins so for Rack, to which `_` and `-` are one: nginx drops names with `_` unless it is told
/// not to, and may not be there.
fn reads_as(name: &HeaderName, prefix: &str) -> bool {
    let same = |(is, wanted): (u8, u8)| is == wanted || (is == b'_' && wanted == b'-');
    let name = name.as_str();
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(same)
}

/// Whether a field concerns one connection only.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Adds this hop to `Via` (RFC 9110, 7.6.3).
pub fn add_via(fields: &mut HeaderMap) {
    fields.append(header::VIA, HeaderValue::from_static(PSEUDONYM));
}

/// One larder in `Via`, told from others by a comment: one larder behind another is of use, one behind itself never
/// answers.
#[derive(Debug, Clone)]
pub struct Hop(HeaderValue);

impl Hop {
    /// `run` is this process's own.
    pub fn new(run: &str) -> Self {
        let named = HeaderValue::try_from(format!("{PSEUDONYM} ({run})"));
        Self(named.unwrap_or_else(|_| HeaderValue::from_static(PSEUDONYM)))
    }

    /// Adds it to a request's fields.
    pub fn add(&self, fields: &mut HeaderMap) {
        fields.append(header::VIA, self.0.clone());
    }

    /// Whether a request has been here before.
    pub fn is_in(&self, fields: &HeaderMap) -> bool {
        let name = self.0.as_bytes();
        let mut values = fields.get_all(header::VIA).iter();
        values.any(|value| value.as_bytes().windows(name.len()).any(|window| window == name))
    }
}

/// Tells GitLab for whom, under which name and by which scheme a request came, in the fields that GitLab's own nginx sets
/// or passes on. What an untrusted peer claimed is overwritten; a trusted one's claims stay, with its own address added to
/// the list, but for a scheme that isn't [GitLab's](Names::told).
pub fn forward(fields: &mut HeaderMap, peer: Peer, names: Names<'_>) {
    if !peer.trusted {
        strip_claims(fields);
    }
    let (client, chain) = (peer.client(fields), chain(peer.address, fields));
    set(fields, X_FORWARDED_FOR, chain);
    set(fields, X_REAL_IP, HeaderValue::try_from(client.to_string()).ok());
    let (host, scheme) = (names.front.host().cloned(), names.told());
    for (name, value) in [(X_FORWARDED_HOST, host), (X_FORWARDED_PORT, Some(names.told_port()))] {
        if !fields.contains_key(&name) {
            set(fields, name, value);
        }
    }
    let ssl = (scheme == "https").then_some(HeaderValue::from_static("on"));
    set(fields, X_FORWARDED_PROTO, Some(HeaderValue::from_static(scheme)));
    set(fields, X_FORWARDED_SSL, ssl);
}

/// Tells GitLab only for whom a question is asked: no client-made name gets into what it answers.
pub fn forward_address(fields: &mut HeaderMap, client: IpAddr) {
    let value = HeaderValue::try_from(client.to_string()).ok();
    set(fields, X_FORWARDED_FOR, value.clone());
    set(fields, X_REAL_IP, value);
}

/// Who a request came through, the last one at the end: all that is claimed, which may stand in several fields (a proxy
/// that adds one of its own leaves the client's before it), and the peer.
fn chain(peer: IpAddr, fields: &HeaderMap) -> Option<HeaderValue> {
    let peer = peer.to_string();
    let claimed = fields.get_all(&X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let all: Vec<&[u8]> =
        claimed.filter(|value| !value.is_empty()).chain(std::iter::once(peer.as_bytes())).collect();
    HeaderValue::from_bytes(&all.join(b", ".as_slice())).ok()
}

fn strip_claims(fields: &mut HeaderMap) {
    let claims: Vec<HeaderName> =
        fields.keys().filter(|name| CLAIMS.iter().any(|claim| reads_as(name, claim))).cloned().collect();
    for name in claims.iter().chain(&[header::FORWARDED]) {
        fields.remove(name);
    }
}

fn set(fields: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => {
            fields.insert(name, value);
        }
        None => {
            fields.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn hop_by_hop_fields_and_those_named_by_connection_stay() {
        let mut fields = map(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-too"),
            ("x-mine", "1"),
            ("x-too", "2"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("keep-alive", "1"),
            ("accept", "*/*"),
        ]);
        strip(&mut fields);
        assert_eq!(fields, map(&[("accept", "*/*")]));
    }

    #[test]
    fn a_protocol_is_wanted_only_where_connection_says_so() {
        for (pairs, wanted) in [
            (&[("connection", "Upgrade"), ("upgrade", "websocket")][..], Some("websocket")),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")], Some("WebSocket")),
            (
                &[("connection", "x"), ("connection", "upgrade"), ("upgrade", "a/1"), ("upgrade", "b")],
                Some("a/1, b"),
            ),
            (&[("upgrade", "websocket")], None),
            (&[("connection", "close"), ("upgrade", "websocket")], None),
            (&[("connection", "upgrade")], None),
            (&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")], None),
            (&[("connection", "upgrade"), ("upgrade", "websocket, H2C")], None),
        ] {
            let value = upgrade(&map(pairs));
            assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn a_body_is_chunked_once_or_not_at_all() {
        for (codings, plain) in [
            (&[][..], true),
            (&["chunked"], true),
            (&["Chunked "], true),
            (&["gzip"], false),
            (&["gzip, chunked"], false),
            (&["chunked, chunked"], false),
            (&[",chunked"], false),
            (&["chunked", "chunked"], false),
            (&["identity", "chunked"], false),
            (&[""], false),
        ] {
            let pairs: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            assert_eq!(is_plainly_coded(&map(&pairs)), plain, "{codings:?}");
        }
    }

    #[test]
    fn trailers_are_said_again_and_other_codings_are_not() {
        for (pairs, said) in [
            (&[("te", "trailers")][..], &[("te", "trailers")][..]),
            (&[("te", "gzip;q=0.5, Trailers;q=1")], &[("te", "trailers")]),
            (&[("te", "gzip")], &[]),
            (&[("trailer", "a"), ("trailer", "b, c")], &[("trailer", "a"), ("trailer", "b, c")]),
            (&[("x", "1")], &[]),
        ] {
            let mut fields = HeaderMap::new();
            Trailing::of(&map(pairs)).say(&mut fields);
            assert_eq!(fields, map(said), "{pairs:?}");
        }
    }

    #[test]
    fn trailers_hold_nothing_that_belongs_before_a_body() {
        let mut fields = map(&[
            ("grpc-status", "0"),
            ("x-checksum", "1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("host", "x"),
            ("authorization", "x"),
            ("set-cookie", "a=b"),
            ("x-forwarded-for", "6.6.6.6"),
            ("gitlab-workhorse-send-data", "x"),
        ]);
        strip_trailers(&mut fields);
        assert_eq!(fields, map(&[("grpc-status", "0"), ("x-checksum", "1")]));
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let fields = map(&[
            ("x-forwarded-for", "6.6.6.6, 10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "6.6.6.6"),
        ]);
        let address = "10.0.0.1".parse().unwrap();
        for (trusted, secure, chain, client, proto) in [
            (false, false, "10.0.0.1", "10.0.0.1", "http"),
            (false, true, "10.0.0.1", "10.0.0.1", "https"),
            (true, false, "6.6.6.6, 10.1.1.1, 10.0.0.1", "10.1.1.1", "https"),
        ] {
            let peer = Peer { address, trusted, secure };
            let mut sent = fields.clone();
            let front = Front::of(peer, &fields, &"http://larder.example.com/x".parse().unwrap());
            let authority = "gitlab.example.com".parse().unwrap();
            let names = Names { scheme: &http::uri::Scheme::HTTP, authority: &authority, front: &front };
            forward(&mut sent, peer, names);
            assert_eq!(peer.client(&fields).to_string(), client);
            assert_eq!(sent[&X_FORWARDED_FOR], chain);
            assert_eq!(sent[&X_REAL_IP], client);
            assert_eq!(sent[&X_FORWARDED_PROTO], proto);
            assert_eq!(sent[&X_FORWARDED_PORT], if proto == "https" { "443" } else { "80" });
            assert_eq!(sent.contains_key(&X_FORWARDED_SSL), proto == "https");
            assert_eq!(sent[&X_FORWARDED_HOST], "larder.example.com");
        }
    }

    #[test]
    fn a_trusted_peers_own_word_is_the_last_one_in_whatever_field() {
        let address = "10.0.0.1".parse().unwrap();
        let peer = Peer { address, trusted: true, secure: false };
        for (values, client, chain) in [
            // HAProxy leaves what the client claims, and adds a field of its own.
            (&["6.6.6.6", "192.0.2.7"][..], "192.0.2.7", "6.6.6.6, 192.0.2.7, 10.0.0.1"),
            (&["6.6.6.6, 7.7.7.7", "192.0.2.7"], "192.0.2.7", "6.6.6.6, 7.7.7.7, 192.0.2.7, 10.0.0.1"),
            (&["192.0.2.7:1234"], "192.0.2.7", "192.0.2.7:1234, 10.0.0.1"),
            (&["[2001:db8::1]:1234"], "2001:db8::1", "[2001:db8::1]:1234, 10.0.0.1"),
            (&["[2001:db8::1]"], "2001:db8::1", "[2001:db8::1], 10.0.0.1"),
            (&["2001:db8::1"], "2001:db8::1", "2001:db8::1, 10.0.0.1"),
            (&["::ffff:192.0.2.7"], "192.0.2.7", "::ffff:192.0.2.7, 10.0.0.1"),
            (&["unknown"], "10.0.0.1", "unknown, 10.0.0.1"),
            (&[""], "10.0.0.1", "10.0.0.1"),
            (&[], "10.0.0.1", "10.0.0.1"),
        ] {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
            }
            assert_eq!(peer.client(&fields).to_string(), client, "{values:?}");
            let front = Front::of(peer, &fields, &"http://larder.example.com/x".parse().unwrap());
            let authority = "gitlab.example.com".parse().unwrap();
            forward(
                &mut fields,
                peer,
                Names { scheme: &http::uri::Scheme::HTTP, authority: &authority, front: &front },
            );
            let sent: Vec<_> = fields.get_all(&X_FORWARDED_FOR).iter().collect();
            assert_eq!(sent, [chain], "{values:?}");
            assert_eq!(fields[&X_REAL_IP], client);
        }
    }

    #[test]
    fn a_trusted_peers_whole_list_goes_on_and_no_spelling_of_anothers() {
        let pairs = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x_forwarded_for", "7.7.7.7"),
            ("x_real-ip", "7.7.7.7"),
            ("x-forwarded_host", "evil"),
        ];
        let address = "10.0.0.1".parse().unwrap();
        for (trusted, chain) in [(true, "6.6.6.6, 10.1.1.1, 10.0.0.1"), (false, "10.0.0.1")] {
            let peer = Peer { address, trusted, secure: false };
            let mut fields = map(&pairs);
            let front = Front::of(peer, &fields, &"http://larder.example.com/x".parse().unwrap());
            let authority = "gitlab.example.com".parse().unwrap();
            let names = Names { scheme: &http::uri::Scheme::HTTP, authority: &authority, front: &front };
            forward(&mut fields, peer, names);
            let lists: Vec<_> = fields.get_all(&X_FORWARDED_FOR).iter().collect();
            assert_eq!(lists, [chain]);
            assert_eq!(fields.keys().any(|name| name.as_str().contains('_')), trusted);
        }
    }

    #[test]
    fn a_request_that_comes_back_is_known_by_its_own_hop_alone() {
        let (one, other) = (Hop::new("1f"), Hop::new("2e"));
        let mut fields = map(&[("via", "1.0 a, 1.1 larder")]);
        assert!(!one.is_in(&fields));
        one.add(&mut fields);
        fields.append("via", HeaderValue::from_static("1.1 nginx"));
        assert!(one.is_in(&fields) && !other.is_in(&fields));
        // Those on the way may join the values.
        assert!(one.is_in(&map(&[("via", "1.1 a, 1.1 larder (1f), 1.1 b")])));
    }

    #[test]
    fn workhorse_fields_are_not_a_clients_to_send() {
        let mut fields = map(&[
            ("gitlab-workhorse-api-request", "x"),
            ("gitlab-workhorse", "v"),
            ("x-sendfile-type", "x"),
            ("x-accel-redirect", "/x"),
            ("gitlab_workhorse_api_request", "x"),
            ("x_sendfile-type", "x"),
            ("private-token", "t"),
        ]);
        strip_internal(&mut fields);
        assert_eq!(fields, map(&[("private-token", "t")]));
    }
}
