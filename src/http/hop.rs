//! Which fields travel on.
//!
//! Owns the rules of RFC 9110, 7.6 for intermediaries: hop-by-hop fields stay, `Via` and the forwarding fields are
//! added. Pure; knows nothing of caches or credentials.

mod claims;
mod forwarded;
mod head;
mod ignored;
mod names;

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

pub(crate) use claims::NoAddress;
pub use claims::{Peer, admit, is_forwarding};
pub use forwarded::{Way, forward};
pub(crate) use head::REQUEST_ID;
pub use head::{Head, Sent};
pub use ignored::Ignored;
pub(crate) use ignored::may_be_ignored;
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

/// What larder goes by in `Via`.
const PSEUDONYM: &str = "1.1 larder";

/// A field's name as Rack reads it, to which `_` and `-` are one (the specification of `rack.env`'s `HTTP_` variables):
/// nginx drops names with `_` unless it is told not to, and may not be there. What decides by a name decides by this one.
pub fn read_name(name: &HeaderName) -> Cow<'_, str> {
    let text = name.as_str();
    if text.contains('_') { Cow::Owned(text.replace('_', "-")) } else { Cow::Borrowed(text) }
}

/// Removes the fields that concern one connection, and those that `Connection` names.
pub fn strip(fields: &mut HeaderMap) {
    for name in named_by_connection(fields).iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
}

/// The fields that `Connection` names as its own (RFC 9110, 7.6.1).
pub fn named_by_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    let values = fields.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// Removes from an answer what concerns one connection, and what only GitLab's own parts say to each other; the trailers
/// that it announces are sent on. What stays keeps its order: a map's own removal puts its last field in the gap, so that
/// what was removed would show.
pub(crate) fn strip_answer(fields: &mut HeaderMap) {
    let named = named_by_connection(fields);
    let goes = |name: &HeaderName| is_hop_by_hop(name.as_str()) || is_internal(name) || named.contains(name);
    leave_out(fields, |name| name != header::TRAILER && goes(name));
}

/// Removes the fields that are meant, and keeps the order of the others.
pub(crate) fn leave_out(fields: &mut HeaderMap, out: impl Fn(&HeaderName) -> bool) {
    if !fields.keys().any(&out) {
        return;
    }
    let mut kept = HeaderMap::with_capacity(fields.len());
    let mut name = None;
    for (next, value) in std::mem::take(fields) {
        // A further value of a field comes without its name.
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|name| !out(name)) {
            kept.append(name, value);
        }
    }
    *fields = kept;
}

/// The protocol that a client wants its connection changed to (RFC 9110, 7.8): what `Upgrade` says, where `Connection`
/// names it. HTTP/2 in the clear is not offered on: in such a tunnel a client would say itself where it comes from.
pub(crate) fn upgrade(fields: &HeaderMap) -> Option<HeaderValue> {
    if !names(fields, &header::CONNECTION, "upgrade") {
        return None;
    }
    let protocols: Vec<&[u8]> = fields.get_all(header::UPGRADE).iter().map(HeaderValue::as_bytes).collect();
    let all = HeaderValue::from_bytes(&protocols.join(b", ".as_slice())).ok()?;
    (!all.is_empty() && !names(fields, &header::UPGRADE, "h2c")).then_some(all)
}

/// Says that the connection changes to `protocol`, or is wanted to.
pub(crate) fn set_upgrade(fields: &mut HeaderMap, protocol: HeaderValue) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, protocol);
}

/// Whether a body comes in no coding but `chunked`, said once (RFC 9112, 6.1). hyper looks at the last one alone and takes
/// chunks apart; what was coded besides would go on without its name.
pub(crate) fn is_plainly_coded(fields: &HeaderMap) -> bool {
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
pub(crate) struct Trailing {
    taken: bool,
    announced: Vec<HeaderValue>,
}

impl Trailing {
    /// Reads `TE` and `Trailer`; both are to be said again for the next hop.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let announced = fields.get_all(header::TRAILER).iter().cloned().collect();
        Self { taken: names(fields, &header::TE, "trailers"), announced }
    }

    /// Says it again. Other codings in `TE` are not ours to promise.
    pub(crate) fn say(self, fields: &mut HeaderMap) {
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
pub(crate) fn strip_trailers(fields: &mut HeaderMap) {
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
            let read = read_name(name);
            BEFORE.iter().any(|before| *before == *read)
                || is_hop_by_hop(&read)
                || is_forwarding(&read)
                || is_internal(name)
                || read.starts_with("content-")
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

fn is_internal(name: &HeaderName) -> bool {
    let read = read_name(name);
    INTERNAL.iter().any(|prefix| read.starts_with(prefix))
}

/// Whether a field, by its [name as it is read](read_name), concerns one connection only.
pub fn is_hop_by_hop(read: &str) -> bool {
    HOP_BY_HOP.iter().any(|name| *name == *read)
}

/// Adds this hop to `Via` (RFC 9110, 7.6.3).
pub(crate) fn add_via(fields: &mut HeaderMap) {
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
    pub(crate) fn add(&self, fields: &mut HeaderMap) {
        fields.append(header::VIA, self.0.clone());
    }

    /// Whether a request has been here before.
    pub(crate) fn is_in(&self, fields: &HeaderMap) -> bool {
        let name = self.0.as_bytes();
        let mut values = fields.get_all(header::VIA).iter();
        values.any(|value| value.as_bytes().windows(name.len()).any(|window| window == name))
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
    fn what_stays_of_an_answer_keeps_its_order() {
        let mut fields = map(&[
            ("server", "nginx"),
            ("connection", "keep-alive, x-mine"),
            ("x-accel-buffering", "no"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-mine", "1"),
            ("gitlab-workhorse-send-data", "x"),
            ("keep-alive", "timeout=5"),
            ("x-request-id", "r"),
            ("date", "d"),
        ]);
        strip_answer(&mut fields);
        let left: Vec<_> =
            fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let kept = [("server", "nginx"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-request-id", "r")];
        assert_eq!(left, [&kept[..], &[("date", "d")]].concat());
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
        leave_out(&mut fields, is_internal);
        assert_eq!(fields, map(&[("private-token", "t")]));
    }
}
