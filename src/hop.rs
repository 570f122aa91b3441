//! Which fields travel on.
//!
//! Owns the rules of RFC 9110, 7.6 for intermediaries: hop-by-hop fields stay, `Via` and the forwarding fields are
//! added. Pure; knows nothing of caches or credentials.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Fields that concern one connection only (RFC 9110, 7.6.1), whether `Connection` names them or not. `TE` and
/// `Trailer` go as well: trailers are not passed on.
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

/// Fields that Workhorse sets itself and must not be told by a client
/// (`workhorse/internal/secret`, `workhorse/internal/senddata`).
const WORKHORSE: &str = "gitlab-workhorse";

/// The name larder goes by in `Via`.
const PSEUDONYM: &str = "1.1 larder";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
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
}

impl Peer {
    /// The client's address: the peer's own, or what a trusted peer says of the client (the last entry, which the
    /// peer itself added).
    pub fn client(self, fields: &HeaderMap) -> IpAddr {
        let claimed = || {
            let value = fields.get_all(&X_FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
            value.rsplit(',').next()?.trim().parse().ok()
        };
        if self.trusted { claimed().unwrap_or(self.address) } else { self.address }
    }
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

/// Removes what only Workhorse may say.
pub fn strip_internal(fields: &mut HeaderMap) {
    let internal: Vec<HeaderName> = fields
        .keys()
        .filter(|name| name.as_str().starts_with(WORKHORSE) || name.as_str() == "x-sendfile-type")
        .cloned()
        .collect();
    for name in internal {
        fields.remove(name);
    }
}

/// Whether a field is about the way a request came rather than about what it asks.
pub fn is_forwarding(name: &HeaderName) -> bool {
    name == header::FORWARDED
        || name == header::VIA
        || name == header::HOST
        || name == X_REAL_IP
        || name.as_str().starts_with("x-forwarded-")
}

/// Whether a field concerns one connection only.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Adds this hop to `Via` (RFC 9110, 7.6.3).
pub fn add_via(fields: &mut HeaderMap) {
    fields.append(header::VIA, HeaderValue::from_static(PSEUDONYM));
}

/// Tells GitLab for whom, under which name and by which scheme a request came. What an untrusted peer claimed is
/// overwritten; a trusted one's claims stay, with its own address added to the list.
pub fn forward(fields: &mut HeaderMap, peer: Peer, host: Option<&HeaderValue>) {
    let chain = match fields.get(&X_FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
        Some(claimed) if peer.trusted => format!("{claimed}, {}", peer.address),
        _ => peer.address.to_string(),
    };
    if !peer.trusted {
        strip_claims(fields);
    }
    let client = peer.client(fields);
    set(fields, X_FORWARDED_FOR, HeaderValue::try_from(chain).ok());
    set(fields, X_REAL_IP, HeaderValue::try_from(client.to_string()).ok());
    for (name, value) in
        [(X_FORWARDED_HOST, host.cloned()), (X_FORWARDED_PROTO, Some(HeaderValue::from_static("http")))]
    {
        if !fields.contains_key(&name) {
            set(fields, name, value);
        }
    }
}

/// Tells GitLab only for whom a question is asked: no client-made name gets into what it answers.
pub fn forward_address(fields: &mut HeaderMap, client: IpAddr) {
    let value = HeaderValue::try_from(client.to_string()).ok();
    set(fields, X_FORWARDED_FOR, value.clone());
    set(fields, X_REAL_IP, value);
}

fn strip_claims(fields: &mut HeaderMap) {
    let claims: Vec<HeaderName> =
        fields.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).cloned().collect();
    for name in claims.iter().chain(&[header::FORWARDED, X_REAL_IP, X_FORWARDED_SSL]) {
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
    fn only_a_trusted_peer_is_believed() {
        let fields = map(&[
            ("x-forwarded-for", "6.6.6.6, 10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "6.6.6.6"),
        ]);
        let address = "10.0.0.1".parse().unwrap();
        for (trusted, chain, client, proto) in [
            (false, "10.0.0.1", "10.0.0.1", "http"),
            (true, "6.6.6.6, 10.1.1.1, 10.0.0.1", "10.1.1.1", "https"),
        ] {
            let peer = Peer { address, trusted };
            let mut sent = fields.clone();
            forward(&mut sent, peer, Some(&HeaderValue::from_static("larder.example.com")));
            assert_eq!(peer.client(&fields).to_string(), client);
            assert_eq!(sent[&X_FORWARDED_FOR], chain);
            assert_eq!(sent[&X_REAL_IP], client);
            assert_eq!(sent[&X_FORWARDED_PROTO], proto);
            assert_eq!(sent[&X_FORWARDED_HOST], "larder.example.com");
        }
    }

    #[test]
    fn workhorse_fields_are_not_a_clients_to_send() {
        let mut fields = map(&[
            ("gitlab-workhorse-api-request", "x"),
            ("gitlab-workhorse", "v"),
            ("x-sendfile-type", "x"),
            ("private-token", "t"),
        ]);
        strip_internal(&mut fields);
        assert_eq!(fields, map(&[("private-token", "t")]));
    }
}
