//! What GitLab, or whoever stands there instead, answers.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use larder::gitlab::grant::judge::{self, Condition};
use larder::gitlab::grant::{Answer, AskedPath, Facts, Opening, StorageRules, Verdict};
use larder::http::Etag;

use crate::requests::fields;

/// What was asked for.
const PATH: &str = "/api/v4/projects/7/jobs/42/artifacts";

/// A status, a line of fields each, an empty line, a body.
pub(crate) fn answer(bytes: &[u8]) -> bool {
    let split = bytes.windows(2).position(|two| two == b"\n\n");
    let (head, body) = split.map_or((bytes, &[][..]), |at| (&bytes[..at], &bytes[at + 2..]));
    let status = head.get(..3).and_then(|status| StatusCode::from_bytes(status).ok());
    let Some(status) = status else { return false };
    let fields = fields(head);
    let rules =
        StorageRules { gitlab: "https://gitlab.example.com".parse().unwrap(), external: None, hosts: None };
    let sent = AskedPath { own: Some("larder.example.com"), path: PATH };
    let mut said = check_opening(status, &fields, &rules, sent);
    for held in [None, Some(arriving()), Some(stored())] {
        let answer = Answer { status, fields: &fields, body: Some(body) };
        let asked = Condition::about(held.as_ref());
        match judge::judge(held.as_ref(), &asked, answer, &rules, sent) {
            Verdict::Yes(_, facts) => {
                check_yes(
                    held.as_ref().expect("nothing held, nothing to say yes to"),
                    &facts,
                    answer,
                    &rules,
                );
                said = true;
            }
            Verdict::Refused => assert!(status.is_client_error() || status.is_server_error()),
            Verdict::Other(..) => {
                assert!(
                    status.is_success()
                        || status.is_redirection()
                        || status == StatusCode::RANGE_NOT_SATISFIABLE
                );
            }
            Verdict::NotOurs => {}
        }
    }
    said
}

/// Facts of an archive that is still arriving.
fn arriving() -> Facts {
    Facts { length: Some(2_048), modified: Some(1_800_000_000), ..Facts::default() }
}

/// Facts of a stored one, of every kind.
pub(crate) fn stored() -> Facts {
    let rules =
        StorageRules { gitlab: "https://gitlab.example.com".parse().unwrap(), external: None, hosts: None };
    let away = fields(b"location: https://bucket.example.com/a/1?X-Amz-Signature=0");
    Facts {
        etag: Etag::quoting("sha"),
        object: rules.location(&away, AskedPath::default()).map(|location| location.object()),
        tail: Some(vec![b'x'; 1_024].into()),
        ..arriving()
    }
}

/// The closed list of what is a yes, said once more and otherwise.
fn check_yes(held: &Facts, facts: &Facts, answer: Answer<'_>, rules: &StorageRules) {
    let fields = answer.fields;
    let text = |name| fields.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match answer.status.as_u16() {
        304 => {
            let sent = Condition::about(Some(held)).validator.expect("a 304 to a validator that was sent");
            assert!(text(header::ETAG).is_none_or(|tag| tag == sent.as_str()));
        }
        200 | 206 => {
            assert!(
                text(header::CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"))
            );
            let tagged =
                text(header::ETAG).is_some_and(|tag| held.etag.as_ref().is_some_and(|e| e.as_str() == tag));
            let (first, last) = Condition::about(Some(held)).range;
            let part = format!("bytes {first}-{last}/2048");
            let long =
                text(header::CONTENT_RANGE) == Some(&part) || text(header::CONTENT_LENGTH) == Some("2048");
            assert!(tagged || long, "by its tag or by its length and end");
        }
        302 | 303 | 307 => {
            let location = rules.location(fields, AskedPath::default()).expect("an object store");
            assert_eq!(Some(location.object()), held.object);
        }
        status => panic!("{status} is no yes"),
    }
    for (before, after) in
        [(held.etag.is_some(), held.etag == facts.etag), (held.tail.is_some(), held.tail == facts.tail)]
    {
        assert!(!before || after, "what is known stays");
    }
    assert_eq!((held.length, held.modified), (facts.length, facts.modified));
}

fn check_opening(status: StatusCode, fields: &HeaderMap, rules: &StorageRules, sent: AskedPath<'_>) -> bool {
    match judge::open(status, fields, rules, sent) {
        Opening::Body(..) => assert_eq!(status, StatusCode::OK),
        Opening::Elsewhere(_, location) => {
            assert!(matches!(status.as_u16(), 302 | 303 | 307));
            let authority = location.uri().authority().unwrap();
            let gitlab = ["gitlab.example.com", "gitlab.example.com:443", "gitlab.example.com:80"];
            let is_gitlab = gitlab.iter().any(|gitlab| authority.as_str().eq_ignore_ascii_case(gitlab));
            assert!(!authority.as_str().contains('@') && !is_gitlab, "{authority}");
            assert!(!location.uri().path().starts_with(PATH), "{location:?}");
            assert!(location.uri().query().is_some_and(|query| query.contains('=')), "nothing unsigned");
        }
        Opening::Relay => return false,
    }
    true
}
