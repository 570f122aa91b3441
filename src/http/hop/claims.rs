//! What is said of where a request comes from.
//!
//! A trusted peer's claims are believed and go on; anybody else's are removed, once, before anything is made of the
//! request. Pure. Hostile input: a field may hold any bytes.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{Names, is_internal, leave_out, read_name};

pub(super) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_SSL: HeaderName = HeaderName::from_static("x-forwarded-ssl");
pub(super) static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// How the fields begin by which a proxy says where a request came from.
const FORWARDED: &str = "x-forwarded-";

/// The others: RFC 7239's, nginx's, the one that Rails reads beside `X-Forwarded-For` (`ActionDispatch::RemoteIp`), and
/// those that content networks set and nginx's `real_ip_header` is pointed at.
const CLAIMS: [&str; 8] = [
    "forwarded",
    "x-real-ip",
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
];

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

/// A trusted peer's word for its client's address isn't one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAddress;

impl Peer {
    /// The client's address: the peer's own, or what a trusted peer says of the client (the last entry of the last field,
    /// which the peer itself added). A trusted peer that says nothing speaks for itself; one whose word is no address is
    /// [no reason](NoAddress) to take its own for its client's.
    pub fn client(self, fields: &HeaderMap) -> Result<IpAddr, NoAddress> {
        match fields.get_all(&X_FORWARDED_FOR).iter().next_back() {
            Some(claims) if self.trusted => last(claims.as_bytes()).and_then(claim).ok_or(NoAddress),
            _ => Ok(self.address),
        }
    }
}

/// What stands behind the last comma.
fn last(list: &[u8]) -> Option<&str> {
    let item = list.rsplit(|byte| *byte == b',').next()?;
    std::str::from_utf8(item.trim_ascii()).ok()
}

/// An address as proxies write it, some with the port that the client came from. One of IPv4 in IPv6's clothes is what it
/// would be if it had connected here.
fn claim(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|with: SocketAddr| with.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The way that a request came: by whom, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The client's address.
    pub client: IpAddr,
    forwarded_for: HeaderValue,
    real_ip: HeaderValue,
}

impl Way {
    /// Reads what is left of a request's claims after [`admit`].
    pub fn of(peer: Peer, client: IpAddr, fields: &HeaderMap) -> Self {
        Self { client, forwarded_for: chain(peer.address, fields), real_ip: text(client) }
    }

    /// The fields by which GitLab learns it, in every request that larder sends for this client: all that it came through,
    /// the last one at the end, and the client.
    pub(crate) fn fields(&self) -> [(&HeaderName, &HeaderValue); 2] {
        [(&X_FORWARDED_FOR, &self.forwarded_for), (&X_REAL_IP, &self.real_ip)]
    }
}

/// All that is claimed, which may stand in several fields (a proxy that adds one of its own leaves the client's before
/// it), and the peer.
fn chain(peer: IpAddr, fields: &HeaderMap) -> HeaderValue {
    let own = peer.to_string();
    let claimed = fields.get_all(&X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let claimed = claimed.filter(|value| !value.is_empty());
    let all: Vec<&[u8]> = claimed.chain([own.as_bytes()]).collect();
    // What was made of good values is a good value; the peer alone stands in for the impossible.
    HeaderValue::from_bytes(&all.join(b", ".as_slice())).unwrap_or_else(|_| text(peer))
}

fn text(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Removes from a request, before anything is made of it, what `peer` may not say: what only GitLab's own parts say to
/// each other, claims of whom it comes from unless the peer is trusted, and, from whomever, what Rack would [read](read_name)
/// as a claim though no proxy in between does.
pub fn admit(fields: &mut HeaderMap, peer: Peer) {
    leave_out(fields, |name| is_internal(name) || !is_fit(name, peer.trusted));
}

fn is_fit(name: &HeaderName, trusted: bool) -> bool {
    let read = read_name(name);
    !is_claim(&read) || (trusted && *name == *read)
}

fn is_claim(read: &str) -> bool {
    read.starts_with(FORWARDED) || CLAIMS.contains(&read)
}

/// Whether a field, by its [name as it is read](read_name), is about the way a request came rather than about what it asks.
pub fn is_forwarding(read: &str) -> bool {
    is_claim(read) || read == header::VIA.as_str() || read == header::HOST.as_str()
}

/// Tells GitLab for whom, under which name and by which scheme a request came, in the fields that GitLab's own nginx sets
/// or passes on. A trusted peer's claims stay, with its own address added to the list, but for a scheme that isn't
/// [GitLab's](Names::told).
pub fn forward(fields: &mut HeaderMap, way: &Way, names: Names<'_>) {
    for (name, value) in way.fields() {
        fields.insert(name, value.clone());
    }
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
    use super::super::Front;
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    fn peer(trusted: bool, secure: bool) -> Peer {
        Peer { address: "10.0.0.1".parse().unwrap(), trusted, secure }
    }

    /// What goes on of a request's fields, and for whom.
    fn sent(mut fields: HeaderMap, peer: Peer) -> (HeaderMap, IpAddr) {
        admit(&mut fields, peer);
        let client = peer.client(&fields).unwrap();
        let front = Front::of(peer, &fields, &"http://larder.example.com/x".parse().unwrap());
        let authority = "gitlab.example.com".parse().unwrap();
        let scheme = &http::uri::Scheme::HTTP;
        let names = Names { scheme, authority: &authority, external: (scheme, &authority), front: &front };
        let way = Way::of(peer, client, &fields);
        forward(&mut fields, &way, names);
        (fields, client)
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let fields = map(&[
            ("x-forwarded-for", "6.6.6.6, 10.1.1.1"),
            ("x-forwarded-proto", "https, http"),
            ("x-real-ip", "6.6.6.6"),
            ("client-ip", "6.6.6.6"),
            ("true-client-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
        ]);
        for (trusted, secure, chain, client, proto) in [
            (false, false, "10.0.0.1", "10.0.0.1", "http"),
            (false, true, "10.0.0.1", "10.0.0.1", "https"),
            (true, false, "6.6.6.6, 10.1.1.1, 10.0.0.1", "10.1.1.1", "https"),
        ] {
            let (sent, found) = sent(fields.clone(), peer(trusted, secure));
            assert_eq!(found.to_string(), client);
            assert_eq!(sent[&X_FORWARDED_FOR], chain);
            assert_eq!(sent[&X_REAL_IP], client);
            assert_eq!(sent[&X_FORWARDED_PROTO], proto);
            assert_eq!(sent[&X_FORWARDED_PORT], if proto == "https" { "443" } else { "80" });
            assert_eq!(sent.contains_key(&X_FORWARDED_SSL), proto == "https");
            assert_eq!(sent[&X_FORWARDED_HOST], "larder.example.com");
            for claim in ["forwarded", "client-ip", "true-client-ip"] {
                assert_eq!(sent.contains_key(claim), trusted, "{claim}");
            }
        }
    }

    #[test]
    fn a_trusted_peers_own_word_is_the_last_one_in_whatever_field() {
        for (values, client, chain) in [
            // HAProxy leaves what the client claims, and adds a field of its own.
            (&["6.6.6.6", "192.0.2.7"][..], "192.0.2.7", "6.6.6.6, 192.0.2.7, 10.0.0.1"),
            (&["6.6.6.6, 7.7.7.7", "192.0.2.7"], "192.0.2.7", "6.6.6.6, 7.7.7.7, 192.0.2.7, 10.0.0.1"),
            (&["192.0.2.7:1234"], "192.0.2.7", "192.0.2.7:1234, 10.0.0.1"),
            (&["[2001:db8::1]:1234"], "2001:db8::1", "[2001:db8::1]:1234, 10.0.0.1"),
            (&["[2001:db8::1]"], "2001:db8::1", "[2001:db8::1], 10.0.0.1"),
            (&["2001:db8::1"], "2001:db8::1", "2001:db8::1, 10.0.0.1"),
            (&["::ffff:192.0.2.7"], "192.0.2.7", "::ffff:192.0.2.7, 10.0.0.1"),
            (&["unknown, 192.0.2.7"], "192.0.2.7", "unknown, 192.0.2.7, 10.0.0.1"),
            (&[",,192.0.2.7 "], "192.0.2.7", ",,192.0.2.7 , 10.0.0.1"),
            (&[], "10.0.0.1", "10.0.0.1"),
        ] {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            let (sent, found) = sent(fields, peer(true, false));
            assert_eq!(found.to_string(), client, "{values:?}");
            let lists: Vec<_> = sent.get_all(&X_FORWARDED_FOR).iter().collect();
            assert_eq!(lists, [chain], "{values:?}");
            assert_eq!(sent[&X_REAL_IP], client);
        }
    }

    #[test]
    fn a_trusted_peers_word_that_is_no_address_is_not_replaced_by_its_own() {
        for values in [
            &[b"\xff".as_slice()][..],
            &[b""],
            &[b" "],
            &[b"unknown"],
            &[b"_hidden"],
            &[b"1.2.3.4,"],
            &[b"1.2.3.4, "],
            &[b"1.2.3.4, unknown"],
            &[b"1.2.3.4, \xff"],
            &[b"1.2.3.4 5.6.7.8"],
            &[b"1.2.3.4;"],
            &[b"1.2.3"],
            &[b"01.2.3.4"],
            &[b"1.2.3.4", b""],
            &[b"1.2.3.4", b"\xff"],
            &[b"[::1"],
            &[b"for=1.2.3.4"],
        ] {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append("x-forwarded-for", HeaderValue::from_bytes(value).unwrap());
            }
            assert_eq!(peer(true, false).client(&fields), Err(NoAddress), "{values:?}");
            admit(&mut fields, peer(false, false));
            assert_eq!(peer(false, false).client(&fields).unwrap().to_string(), "10.0.0.1", "{values:?}");
        }
    }

    #[test]
    fn a_claim_in_another_spelling_goes_no_further_whoever_sends_it() {
        let unfit = [
            ("x_forwarded_for", "7.7.7.7"),
            ("x-forwarded_host", "evil"),
            ("x_real-ip", "7.7.7.7"),
            ("client_ip", "7.7.7.7"),
            ("gitlab_workhorse_api_request", "x"),
            ("x_accel-redirect", "/x"),
        ];
        let fit = [("job_token", "t"), ("x_custom", "1"), ("x-custom", "2"), ("content-length", "1")];
        for trusted in [true, false] {
            let mut fields = map(&[unfit.as_slice(), &fit].concat());
            admit(&mut fields, peer(trusted, false));
            assert_eq!(fields, map(&fit), "trusted: {trusted}");
        }
        let whole = map(&[("x-forwarded-for", "6.6.6.6"), ("x_forwarded_for", "7.7.7.7")]);
        assert_eq!(sent(whole, peer(true, false)).0[&X_FORWARDED_FOR], "6.6.6.6, 10.0.0.1");
    }
}
