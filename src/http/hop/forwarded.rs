//! What GitLab is told of where a request comes from.
//!
//! Pure. What a peer claims has been [admitted](super::admit) before.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::claims::{
    Peer, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_FORWARDED_SSL, X_REAL_IP,
};
use super::names::Names;

/// The way that a request came: by whom, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The client's address.
    pub client: IpAddr,
    forwarded_for: HeaderValue,
    real_ip: HeaderValue,
}

impl Way {
    /// Reads what is left of a request's claims after [admission](super::admit).
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
    use super::super::{Front, admit};
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
