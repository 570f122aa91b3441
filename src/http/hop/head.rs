//! The head of a question: what larder says to GitLab in a caller's name.
//!
//! One list decides what is sent. What a grant is remembered under is made of that very list, so that nothing can be sent
//! and not count. Pure; knows nothing of what is asked.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{Way, is_forwarding, is_hop_by_hop, named_by_connection, read_name};

/// A client's or larder's own name for a request, in logs on both sides.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields of a request that a question doesn't hold, by their [names as they are read](read_name). What isn't listed here
/// is taken for a credential and sent: a way of passing one that nobody knows yet splits grants instead of leaking.
const LEFT_OUT: [&str; 65] = [
    // About the bytes that are wanted: a question wants other ones, and has conditions of its own.
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "accept-encoding",
    "accept-charset",
    "accept-language",
    // About how this request is to be handled on its way.
    "cache-control",
    "pragma",
    "priority",
    "expect",
    // A question has no body.
    "content-length",
    // Names and times that change with each request: what those who trace requests, and fronts of all kinds, write on them.
    // W3C, Zipkin, Jaeger, Sentry, New Relic, Elastic, Dynatrace; Amazon, Cloudflare, Google, Azure, Akamai, Varnish, Envoy.
    "traceparent",
    "tracestate",
    "x-correlation-id",
    "request-id",
    "request-context",
    "correlation-context",
    "x-trace-id",
    "x-span-id",
    "x-parent-span-id",
    "x-client-trace-id",
    "x-unique-id",
    "x-amzn-trace-id",
    "x-amzn-requestid",
    "x-amz-cf-id",
    "cf-ray",
    "cf-request-id",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-azure-ref",
    "x-arr-log-id",
    "x-appgw-trace-id",
    "x-ms-request-id",
    "x-ms-client-request-id",
    "x-ms-correlation-request-id",
    "x-ms-request-root-id",
    "x-ms-client-tracking-id",
    "x-varnish",
    "x-timer",
    "x-request-start",
    "x-request-received",
    "x-queue-start",
    "x-start-time",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-attempt-count",
    "b3",
    "uber-trace-id",
    "jaeger-debug-id",
    "sentry-trace",
    "baggage",
    "newrelic",
    "elastic-apm-traceparent",
    "x-dynatrace",
    "x-ot-span-context",
    "x-akamai-request-id",
    "x-vercel-id",
    "fly-request-id",
    "x-kong-request-id",
    "x-nginx-request-id",
    // What browsers say of themselves with everything.
    "dnt",
    "sec-gpc",
    "upgrade-insecure-requests",
];

/// The same, of which there are many: what browsers say of the page that asks and of themselves, and what those say who trace
/// requests (Zipkin, Datadog, Jaeger, New Relic, Instana).
const LEFT_OUT_PREFIXES: [&str; 8] =
    ["sec-fetch-", "sec-ch-", "x-b3-", "x-datadog-", "uberctx-", "ot-tracer-", "x-newrelic-", "x-instana-"];

/// How the fields begin by which a trusted peer says under which name a client came, and by which scheme: GitLab would
/// make URLs of them, and no name that a client chose gets into what others are answered with. The peer's other claims are sent.
const NAMING: [&str; 7] = [
    "x-forwarded-host",
    "x-forwarded-server",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-forwarded-prefix",
];

/// What a request says in a question, and how it came.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    fields: &'a HeaderMap,
    way: &'a Way,
}

impl<'a> Head<'a> {
    /// Of a request whose fields have been [admitted](super::admit).
    pub const fn of(fields: &'a HeaderMap, way: &'a Way) -> Self {
        Self { fields, way }
    }

    /// All that is sent, in order.
    fn sent(self) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        let named = if self.fields.contains_key(header::CONNECTION) {
            named_by_connection(self.fields)
        } else {
            Vec::new()
        };
        let own = self.fields.iter().filter(move |(name, _)| is_sent(name) && !named.contains(name));
        own.chain(self.way.fields())
    }

    /// All that is sent and may matter to GitLab's answer, name and value in turn: everything but the request's ID, which
    /// is plain and short ([`crate::proxy`] sees to that), and which GitLab writes into its log or replaces
    /// (`workhorse/internal/upstream`, `propagate_correlation_id`).
    pub(crate) fn identity(self) -> impl Iterator<Item = &'a [u8]> {
        let telling = self.sent().filter(|(name, _)| *name != REQUEST_ID);
        telling.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()])
    }

    /// The fields as they are sent.
    pub fn to_sent(self) -> Sent {
        let mut fields = HeaderMap::with_capacity(self.fields.len() + 2);
        for (name, value) in self.sent() {
            fields.append(name, value.clone());
        }
        Sent(fields)
    }
}

fn is_sent(name: &HeaderName) -> bool {
    let read = read_name(name);
    let read = read.as_ref();
    // Without `Via` one larder behind another couldn't tell that it asks itself.
    let way = is_forwarding(read) && read != header::VIA.as_str();
    let way = way && !is_peers_word(read);
    !way && !is_hop_by_hop(read)
        && !LEFT_OUT.contains(&read)
        && !LEFT_OUT_PREFIXES.iter().any(|prefix| read.starts_with(prefix))
}

/// Whether a field is a trusted peer's claim that goes on beside the [way](Way) itself.
fn is_peers_word(read: &str) -> bool {
    let told = read == header::HOST.as_str() || read == "x-forwarded-for" || read == "x-real-ip";
    !told && !NAMING.contains(&read)
}

/// A head to be sent with a question, made of [a request's](Head::to_sent) or of nothing.
#[derive(Debug, Clone, Default)]
pub struct Sent(HeaderMap);

impl Sent {
    /// The same for a part of the answer.
    #[must_use]
    pub(crate) fn range(self, range: Option<HeaderValue>) -> Self {
        self.set(header::RANGE, range)
    }

    /// The same for an answer that is another one than the one with this validator: one alone, since Rack compares the
    /// field as one string.
    #[must_use]
    pub(crate) fn if_none_match(self, validator: Option<HeaderValue>) -> Self {
        self.set(header::IF_NONE_MATCH, validator)
    }

    /// The same for a part of what has this validator, or for all of what is there now.
    #[must_use]
    pub(crate) fn if_range(self, validator: Option<HeaderValue>) -> Self {
        self.set(header::IF_RANGE, validator)
    }

    fn set(mut self, name: HeaderName, value: Option<HeaderValue>) -> Self {
        self.0.extend(value.map(|value| (name, value)));
        self
    }

    /// The fields.
    pub fn into_fields(self) -> HeaderMap {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{Peer, admit};
    use super::*;
    use crate::base::secret::{Fingerprint, Fingerprinter};

    /// What is sent of a request, and what it counts as.
    fn asked(
        key: &Fingerprinter,
        mut fields: HeaderMap,
        trusted: bool,
        from: u8,
    ) -> (HeaderMap, Fingerprint) {
        let peer = Peer { address: IpAddr::from([10, 0, 0, from]), trusted, secure: false };
        admit(&mut fields, peer);
        let client = peer.client(&fields).unwrap_or(peer.address);
        let way = Way::of(peer, client, &fields);
        let head = Head::of(&fields, &way);
        (head.to_sent().into_fields(), key.of(head.identity()))
    }

    /// Names of all kinds, some of them in other spellings.
    fn name() -> impl Strategy<Value = HeaderName> {
        let known = [
            "user-agent",
            "accept",
            "accept-language",
            "via",
            "tracestate",
            "traceparent",
            "cookie",
            "private-token",
            "job-token",
            "job_token",
            "authorization",
            "sudo",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-host",
            "x-forwarded-user",
            "x-real-ip",
            "x-real_ip",
            "forwarded",
            "client-ip",
            "connection",
            "host",
            "range",
            "if_none_match",
            "if-none-match",
            "acceptance",
            "if-you-please",
            "x-request-id",
            "x_request_id",
            "origin",
            "referer",
            "x-custom",
            "te",
            "transfer_encoding",
            "content-length",
            "sec-fetch-mode",
            "gitlab-workhorse",
        ];
        let known = prop::sample::select(known.to_vec()).prop_map(HeaderName::from_static);
        let any = "[a-z_-]{1,6}".prop_filter_map("a name", |name| name.parse().ok());
        prop_oneof![4 => known, 1 => any]
    }

    fn value() -> impl Strategy<Value = HeaderValue> {
        let known = ["a", "b", "", "close, x-custom", "1.2.3.4", "5.6.7.8, 1.2.3.4", "for=1.2.3.4"];
        let known = prop::sample::select(known.to_vec()).prop_map(HeaderValue::from_static);
        let any = vec(0x20_u8..=0xff, 0..4)
            .prop_filter_map("a value", |value| HeaderValue::from_bytes(&value).ok());
        prop_oneof![3 => known, 1 => any]
    }

    type Request = (Vec<(HeaderName, HeaderValue)>, bool, u8);

    fn request() -> impl Strategy<Value = Request> {
        (vec((name(), value()), 0..6), any::<bool>(), 1_u8..3)
    }

    /// Another one, of which most is the same.
    fn pair() -> impl Strategy<Value = (Request, Request)> {
        (request(), request(), any::<prop::sample::Index>(), 0..5_u8).prop_map(|(one, other, at, how)| {
            let mut near = one.clone();
            match how {
                0 => near = other,
                1 => near.1 = !near.1,
                2 => near.2 = other.2,
                _ if near.0.is_empty() => near.0 = other.0,
                3 => drop(near.0.remove(at.index(near.0.len()))),
                _ => {
                    let at = at.index(near.0.len());
                    let with = other.0.into_iter().next();
                    near.0[at].1 = with.map_or(HeaderValue::from_static("z"), |(_, value)| value);
                }
            }
            (one, near)
        })
    }

    proptest! {
        #[test]
        fn whatever_is_sent_counts((one, other) in pair()) {
            let key = Fingerprinter::random().unwrap();
            let asked = |(fields, trusted, from): Request| {
                let mut map = HeaderMap::new();
                for (name, value) in fields {
                    map.append(name, value);
                }
                let (sent, identity) = asked(&key, map, trusted, from);
                // A map's own removal would put its last field in the gap.
                let sent = sent.iter().filter(|(name, _)| **name != REQUEST_ID);
                let sent: Vec<_> = sent.map(|(n, v)| (n.clone(), v.clone())).collect();
                (sent, identity)
            };
            let ((sent, identity), (other_sent, other_identity)) = (asked(one), asked(other));
            prop_assert_eq!(sent == other_sent, identity == other_identity);
        }
    }

    #[test]
    fn a_question_is_built_from_nothing_but_what_may_matter() {
        let key = Fingerprinter::random().unwrap();
        let fields: Vec<(&'static str, &'static str)> = vec![
            ("host", "evil.example.com"),
            ("x-forwarded-host", "evil.example.com"),
            ("x-forwarded-user", "root"),
            ("forwarded", "for=6.6.6.6"),
            ("range", "bytes=0-1"),
            ("if-none-match", "x"),
            ("if_none_match", "x"),
            ("accept-encoding", "gzip"),
            ("gitlab-workhorse-x", "x"),
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("private-token", "t"),
            ("user-agent", "curl"),
            ("accept", "*/*"),
            ("tracestate", "x"),
        ];
        let map: HeaderMap = fields
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        for (trusted, expected) in [
            (false, &["accept", "private-token", "user-agent", "x-forwarded-for", "x-real-ip"][..]),
            (
                true,
                &[
                    "accept",
                    "forwarded",
                    "private-token",
                    "user-agent",
                    "x-forwarded-for",
                    "x-forwarded-user",
                    "x-real-ip",
                ],
            ),
        ] {
            let (sent, _) = asked(&key, map.clone(), trusted, 1);
            let mut names: Vec<&str> = sent.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, expected);
            assert_eq!(sent["x-forwarded-for"], "10.0.0.1");
        }
    }
}
