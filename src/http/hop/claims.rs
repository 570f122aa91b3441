//! What is said of where a request comes from.
//!
//! A trusted peer's claims are believed and go on; anybody else's are removed, once, before anything is made of the
//! request. Pure. Hostile input: a field may hold any bytes.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName};

use super::{is_internal, leave_out, read_name};

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

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn peer(trusted: bool, secure: bool) -> Peer {
        Peer { address: "10.0.0.1".parse().unwrap(), trusted, secure }
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
}
