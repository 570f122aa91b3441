//! Who asks, as far as GitLab could tell.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap};

use crate::base::secret::{Fingerprint, Fingerprinter};
use crate::gitlab::route::{CREDENTIAL_KEYS, Question};
use crate::http::hop::{self, Head, Sent, Way};

/// Fields whose value is a secret on its own: a 401 to one of them ends every grant that it helped to get.
const SECRETS: [&str; 8] = [
    "authorization",
    "private-token",
    "job-token",
    "deploy-token",
    "cookie",
    "runner-token",
    "x-gitlab-static-object-token",
    "dpop",
];

/// A caller: credentials, `Sudo`, the way it came by, and whatever else may matter to GitLab.
#[derive(Debug, Clone)]
pub struct Caller {
    fields: Arc<HeaderMap>,
    way: Way,
}

impl Caller {
    /// Takes a request's fields, [admitted](hop::admit), and the way that it came.
    pub const fn new(fields: Arc<HeaderMap>, way: Way) -> Self {
        Self { fields, way }
    }

    /// The client's address.
    pub(crate) const fn address(&self) -> IpAddr {
        self.way.client
    }

    /// The authority under which this client reached larder.
    pub(crate) fn host(&self) -> Option<&str> {
        self.fields.get(header::HOST)?.to_str().ok()
    }

    fn head(&self) -> Head<'_> {
        Head::of(&self.fields, &self.way)
    }

    /// What goes to GitLab with each question in this caller's name.
    pub(crate) fn sent(&self) -> Sent {
        self.head().to_sent()
    }

    /// What a grant for `question` is remembered under: all that is [sent](Self::sent), and the question's class and the
    /// archive's target, which holds the project as written, the job or ref, and the query's credentials.
    pub fn asking(&self, key: &Fingerprinter, question: &Question) -> Fingerprint {
        let class = [u8::try_from(question.class.index()).unwrap_or(u8::MAX)];
        key.of([class.as_slice(), question.about().as_bytes()].into_iter().chain(self.head().identity()))
    }

    /// What a 401 to this caller revokes: each of its credentials by itself, however it was passed, and the caller
    /// as a whole.
    pub(crate) fn revocable(&self, key: &Fingerprinter, query: Option<&str>) -> Vec<Fingerprint> {
        let queried: Vec<Vec<u8>> = query_secrets(query.unwrap_or_default()).collect();
        let whole = key.of(self.head().identity().chain(queried.iter().map(Vec::as_slice)));
        self.secrets(key, query).into_iter().chain([whole]).collect()
    }

    /// The fingerprint of each credential in the request.
    pub(crate) fn secrets(&self, key: &Fingerprinter, query: Option<&str>) -> Vec<Fingerprint> {
        let fields = self.fields.iter().filter(|(name, _)| SECRETS.contains(&hop::read_name(name).as_ref()));
        let fields = fields.map(|(_, value)| key.of([bare(value.as_bytes())]));
        let cookies =
            self.fields.get_all(header::COOKIE).iter().flat_map(|line| session_cookies(line.as_bytes()));
        let queried = query_secrets(query.unwrap_or_default()).map(|secret| key.of([secret.as_slice()]));
        fields.chain(cookies.map(|value| key.of([value]))).chain(queried).collect()
    }
}

/// A token without the scheme in front of it, so that it is the same secret in each form.
fn bare(value: &[u8]) -> &[u8] {
    const BEARER: &[u8] = b"bearer ";
    match value.split_at_checked(BEARER.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) => token.trim_ascii(),
        _ => value,
    }
}

/// The values of the cookies that sign somebody in (`_gitlab_session`, Devise's `remember_user_token`); the others on
/// the line come and go while the session stays.
fn session_cookies(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let pairs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| {
        let (name, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
        let signs_in = name.ends_with(b"_session") || name.starts_with(b"remember_");
        if signs_in { value.strip_prefix(b"=") } else { None }
    })
}

/// The decoded values of the credential pairs in a query, however the query is spelt.
fn query_secrets(query: &str) -> impl Iterator<Item = Vec<u8>> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| CREDENTIAL_KEYS.contains(key)).map(|(_, value)| {
        crate::gitlab::route::decode_value(value).unwrap_or_else(|| value.as_bytes().to_vec())
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::gitlab::route::{RequestLine, Route};
    use crate::http::hop::Peer;

    fn question(target: &str) -> Question {
        let line =
            RequestLine { method: &http::Method::GET, target: &target.parse().unwrap(), has_body: false };
        let Route::Read(question) = Route::of("", line) else { panic!("a question") };
        question
    }

    fn caller(pairs: &[(&'static str, &'static str)], address: &str) -> Caller {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(*name, HeaderValue::from_static(value));
        }
        let peer = Peer { address: address.parse().unwrap(), trusted: false, secure: false };
        hop::admit(&mut fields, peer);
        let way = Way::of(peer, peer.address, &fields);
        Caller::new(Arc::new(fields), way)
    }

    const A1: &str = "/api/v4/projects/7/jobs/42/artifacts";

    #[test]
    fn whatever_may_matter_to_gitlab_splits_grants() {
        let key = Fingerprinter::random().unwrap();
        let base = caller(&[("private-token", "a")], "10.0.0.1").asking(&key, &question(A1));
        for (pairs, address, target) in [
            (vec![("private-token", "b")], "10.0.0.1", A1),
            (vec![("job-token", "a")], "10.0.0.1", A1),
            (vec![], "10.0.0.1", A1),
            (vec![("private-token", "a"), ("sudo", "root")], "10.0.0.1", A1),
            (vec![("private-token", "a"), ("cookie", "_gitlab_session=x")], "10.0.0.1", A1),
            (vec![("private-token", "a"), ("x-future-credential", "x")], "10.0.0.1", A1),
            (vec![("private-token", "a"), ("private-token", "a")], "10.0.0.1", A1),
            (vec![("private-token", "a"), ("origin", "https://x")], "10.0.0.1", A1),
            (vec![("private-token", "a"), ("user-agent", "x")], "10.0.0.1", A1),
            (vec![("private-token", "a"), ("accept", "*/*")], "10.0.0.1", A1),
            (vec![("private-token", "a"), ("via", "1.1 x")], "10.0.0.1", A1),
            (vec![("private_token", "a")], "10.0.0.1", A1),
            (vec![("private-token", "a")], "10.0.0.2", A1),
            (vec![("private-token", "a")], "10.0.0.1", "/api/v4/projects/7/jobs/43/artifacts"),
            (vec![("private-token", "a")], "10.0.0.1", "/api/v4/projects/8/jobs/42/artifacts"),
            (vec![("private-token", "a")], "10.0.0.1", "/api/v4/projects/g%2Fp/jobs/42/artifacts"),
            (vec![("private-token", "a")], "10.0.0.1", "/api/v4/jobs/42/artifacts"),
            (vec![("private-token", "a")], "10.0.0.1", "/api/v4/projects/7/jobs/42/artifacts/a.txt"),
            (
                vec![("private-token", "a")],
                "10.0.0.1",
                "/api/v4/projects/7/jobs/artifacts/main/download?job=a",
            ),
            (vec![("private-token", "a")], "10.0.0.1", "/g/p/-/jobs/42/artifacts/download"),
            (vec![("private-token", "a")], "10.0.0.1", "/api/v4/projects/7/jobs/42/artifacts?sudo=root"),
        ] {
            let asking = caller(&pairs, address).asking(&key, &question(target));
            assert_ne!(asking, base, "{pairs:?} {address} {target}");
        }
    }

    #[test]
    fn one_yes_covers_all_entries_of_an_archive() {
        let key = Fingerprinter::random().unwrap();
        let asking = |target| caller(&[("private-token", "a")], "10.0.0.1").asking(&key, &question(target));
        let one = asking("/api/v4/projects/7/jobs/42/artifacts/a/b.txt?job_token=t");
        assert_eq!(asking("/api/v4/projects/7/jobs/42/artifacts/c?job_token=t"), one);
        assert_ne!(asking("/api/v4/projects/7/jobs/42/artifacts/c?job_token=u"), one);
        assert_ne!(asking("/api/v4/projects/7/jobs/43/artifacts/c?job_token=t"), one);
    }

    #[test]
    fn what_is_known_to_be_harmless_does_not() {
        let key = Fingerprinter::random().unwrap();
        let base = caller(&[("private-token", "a")], "10.0.0.1").asking(&key, &question(A1));
        for extra in [
            ("accept-encoding", "gzip"),
            ("range", "bytes=0-1"),
            ("if-none-match", "\"x\""),
            ("traceparent", "00-x"),
            ("tracestate", "x"),
            ("x-request-id", "1"),
            ("host", "larder"),
            ("x-forwarded-for", "6.6.6.6"),
            ("connection", "close"),
        ] {
            assert_eq!(
                caller(&[("private-token", "a"), extra], "10.0.0.1").asking(&key, &question(A1)),
                base,
                "{extra:?}"
            );
        }
    }

    #[test]
    fn one_token_is_one_secret_in_every_form() {
        let key = Fingerprinter::random().unwrap();
        let token = key.of([b"t%k".as_slice()]);
        for (pairs, query) in [
            (vec![("private-token", "t%k")], None),
            (vec![("authorization", "Bearer t%k")], None),
            (vec![("authorization", "bearer  t%k")], None),
            (vec![("job-token", "t%k")], None),
            (vec![("job_token", "t%k")], None),
            (vec![], Some("job_token=t%25k")),
            (vec![], Some("x=1&access_token=t%25k")),
        ] {
            let caller = caller(&pairs, "10.0.0.1");
            assert!(caller.secrets(&key, query).contains(&token), "{pairs:?} {query:?}");
            assert_eq!(caller.revocable(&key, query).len(), 2);
            let whole = *caller.revocable(&key, query).last().unwrap();
            let nobody = *super::tests::caller(&[], "10.0.0.1").revocable(&key, None).last().unwrap();
            assert_ne!(whole, nobody, "{pairs:?} {query:?}");
        }
    }

    #[test]
    fn a_token_in_the_query_is_read_as_rails_reads_it() {
        let key = Fingerprinter::random().unwrap();
        let secret = |query| caller(&[], "10.0.0.1").secrets(&key, Some(query));
        assert_eq!(secret("job_token=a%2Bb"), [key.of([b"a+b".as_slice()])]);
        assert_eq!(secret("job_token=a+b"), [key.of([b"a b".as_slice()])]);
    }

    #[test]
    fn a_session_is_the_same_among_other_cookies() {
        let key = Fingerprinter::random().unwrap();
        let session = key.of([b"s3".as_slice()]);
        for line in
            ["_gitlab_session=s3", "theme=dark; _gitlab_session=s3; a=b", "_gitlab_session=s3;x=_session=y"]
        {
            assert!(caller(&[("cookie", line)], "10.0.0.1").secrets(&key, None).contains(&session), "{line}");
        }
        assert_eq!(
            caller(&[("cookie", "theme=s3")], "10.0.0.1").secrets(&key, None).len(),
            1,
            "the line itself"
        );
    }
}
