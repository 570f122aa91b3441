//! The table: every status x what the answer's fields say x what is held.

use super::*;

const CONSTANT: &str = "W/\"12ae32cb1ec02d01eda3581b127c1fee\"";

fn rules() -> StorageRules {
    StorageRules { gitlab: "http://gitlab.example.com".parse().unwrap(), external: None, hosts: None }
}

fn sent() -> AskedPath<'static> {
    AskedPath { own: Some("larder.test"), path: "/api/v4/projects/7/jobs/42/artifacts" }
}

fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

const DATE: &str = "Tue, 24 Nov 2026 00:00:00 GMT";
const DATE_SECONDS: u64 = 1_795_478_400;

/// Archives of 5,000 bytes whose tail is 1,024 times `t`.
fn tail() -> Vec<u8> {
    vec![b't'; 1024]
}

fn held_kinds() -> Vec<(&'static str, Option<Facts>)> {
    let local = Facts {
        length: Some(5000),
        modified: Some(DATE_SECONDS),
        tail: Some(tail().into()),
        ..Facts::default()
    };
    let sha = Facts { etag: Etag::quoting("sha"), ..local.clone() };
    let mut location = HeaderMap::new();
    location.insert(header::LOCATION, "http://store.example.com/obj?sv=1&sig=1".parse().unwrap());
    let object = rules().location(&location, sent()).unwrap().object();
    let stored = Facts { object: Some(object), ..local.clone() };
    vec![("nothing", None), ("local", Some(local)), ("sha", Some(sha)), ("object", Some(stored))]
}

/// Field sets, each with a name and the body that comes with them.
fn answers() -> Vec<(&'static str, HeaderMap, Vec<u8>)> {
    let range = "bytes 3976-4999/5000";
    let with = |name, pairs: &[(&'static str, &str)], body: &[u8]| (name, fields(pairs), body.to_vec());
    vec![
        with("bare", &[], b""),
        with("same tail", &[("content-range", range), ("last-modified", DATE), ("etag", CONSTANT)], &tail()),
        with("other tail", &[("content-range", range), ("last-modified", DATE)], &[b'x'; 1024]),
        with(
            "other date",
            &[("content-range", range), ("last-modified", "Tue, 24 Nov 2026 00:00:01 GMT")],
            &tail(),
        ),
        with("other total", &[("content-range", "bytes 3976-4999/5001"), ("last-modified", DATE)], &tail()),
        with("other range", &[("content-range", "bytes 0-1023/5000"), ("last-modified", DATE)], &tail()),
        with("no total", &[("content-range", "bytes 3976-4999/*"), ("last-modified", DATE)], &tail()),
        with("cut tail", &[("content-range", range)], b"ttt"),
        with(
            "encoded",
            &[("content-range", range), ("content-encoding", "gzip"), ("last-modified", DATE)],
            &tail(),
        ),
        with("our tag", &[("etag", "\"sha\""), ("content-length", "5000")], b""),
        with(
            "other tag",
            &[("etag", "\"other\""), ("content-range", range), ("last-modified", DATE)],
            &tail(),
        ),
        with("constant tag", &[("etag", CONSTANT)], b""),
        with(
            "page",
            &[("content-type", "text/html"), ("content-length", "5000"), ("last-modified", DATE)],
            b"<html>",
        ),
        with("our object", &[("location", "http://store.example.com/obj?sv=1&sig=2")], b""),
        with("other object", &[("location", "http://store.example.com/other?sv=1&sig=2")], b""),
        with("unsigned", &[("location", "http://store.example.com/obj")], b""),
        with("signed like SAML", &[("location", "http://store.example.com/obj?SigAlg=x&Signature=x")], b""),
        with(
            "another name",
            &[(
                "location",
                "http://other.example.com/api/v4/projects/7/jobs/42/artifacts/?X-Amz-Signature=x",
            )],
            b"",
        ),
        with("sign-in", &[("location", "http://gitlab.example.com/users/sign_in")], b""),
        with("sign-in by host", &[("location", "http://larder.test/users/sign_in")], b""),
        with("metadata", &[("location", "http://169.254.169.254/obj")], b""),
    ]
}

/// The whole list of yeses. Everything else in the table must be something else.
fn is_yes(held: &str, status: u16, answer: &str) -> bool {
    match (status, answer) {
        (206, "same tail") => held != "nothing",
        (206, "other tag") => held == "local" || held == "object",
        // 304 carries no content fields worth reading; what matters is the tag.
        (304, "same tail" | "constant tag" | "other tag") => false,
        (200, "our tag") | (304, _) => held == "sha",
        (302 | 303 | 307, "our object") => held == "object",
        _ => false,
    }
}

#[test]
fn the_list_of_yeses_is_closed() {
    let rules = rules();
    let mut yeses = 0;
    for (held_name, held) in held_kinds() {
        for (name, fields, body) in answers() {
            for status in 100..600_u16 {
                let code = StatusCode::from_u16(status).unwrap();
                let answer = Answer { status: code, fields: &fields, body: Some(&body) };
                let asked = Condition::about(held.as_ref());
                let verdict = judge(held.as_ref(), &asked, answer, &rules, sent());
                let yes = matches!(verdict, Verdict::Yes(..));
                assert_eq!(
                    yes,
                    is_yes(held_name, status, name),
                    "{held_name}, {status}, {name}: {verdict:?}"
                );
                yeses += usize::from(yes);
                let other = matches!(verdict, Verdict::Other(..));
                assert!(
                    !other || matches!(status, 200 | 206 | 302 | 303 | 307 | 416),
                    "{held_name}, {status}, {name}"
                );
                let refused = matches!(verdict, Verdict::Refused);
                assert!(!refused || (400..600).contains(&status), "{held_name}, {status}, {name}");
            }
        }
    }
    assert!(yeses > 10, "the table exercises yeses too: {yeses}");
}

#[test]
fn only_whole_bodies_and_storage_redirects_open_a_fill() {
    let rules = rules();
    for (name, fields, _) in answers() {
        for status in 100..600_u16 {
            let opening = open(StatusCode::from_u16(status).unwrap(), &fields, &rules, sent());
            let body = status == 200 && name != "encoded";
            let elsewhere = matches!(status, 302 | 303 | 307) && name.ends_with("object");
            assert_eq!(matches!(opening, Opening::Body(..)), body, "{status} {name}");
            assert_eq!(matches!(opening, Opening::Elsewhere(..)), elsewhere, "{status} {name}");
        }
    }
}

#[test]
fn a_short_archive_answered_whole_shows_its_tail() {
    let held = Facts { length: Some(4), tail: Some(b"abcd".to_vec().into()), ..Facts::default() };
    let fields = fields(&[("content-length", "4")]);
    let judged = |body: &[u8]| {
        judge(
            Some(&held),
            &Condition::about(Some(&held)),
            Answer { status: StatusCode::OK, fields: &fields, body: Some(body) },
            &rules(),
            sent(),
        )
    };
    assert!(matches!(judged(b"abcd"), Verdict::Yes(..)));
    assert!(matches!(judged(b"abcx"), Verdict::Other(..)));
    assert!(matches!(judged(b"ab"), Verdict::Other(..)), "a body that is cut shows nothing");
}

#[test]
fn a_yes_adds_the_facts_that_were_missing() {
    let held = Facts { length: Some(4), tail: Some(b"abcd".to_vec().into()), ..Facts::default() };
    let fields = fields(&[("content-range", "bytes 0-3/4"), ("etag", "\"sha\""), ("last-modified", DATE)]);
    let answer = Answer { status: StatusCode::PARTIAL_CONTENT, fields: &fields, body: Some(b"abcd") };
    let asked = Condition::about(Some(&held));
    let Verdict::Yes(_, facts) = judge(Some(&held), &asked, answer, &rules(), sent()) else {
        panic!("a yes")
    };
    assert_eq!((facts.etag, facts.modified), (Etag::quoting("sha"), Some(DATE_SECONDS)));
}

#[test]
fn probes_ask_for_the_last_kibibyte() {
    let about = |length| Condition::about(Some(&Facts { length, ..Facts::default() })).range;
    assert_eq!(about(Some(5000)), (3976, 4999));
    assert_eq!(about(Some(1024)), (0, 1023));
    assert_eq!(about(Some(1)), (0, 0));
    assert_eq!(about(Some(0)), (0, 0));
    assert_eq!(about(None), (0, 0));
    let long = Facts { length: Some(5000), tail: Some(vec![0; 2000].into()), ..Facts::default() };
    assert_eq!(Condition::about(Some(&long)).range, (3000, 4999), "as much as is known of its end");
    assert_eq!(Condition::about(None), Condition { range: (0, 0), validator: None });
}

#[test]
fn a_404_in_xml_is_not_gitlabs() {
    let json = fields(&[("content-type", "application/json")]);
    let xml = fields(&[("content-type", "application/xml")]);
    assert!(is_gitlabs_404(StatusCode::NOT_FOUND, &json));
    assert!(!is_gitlabs_404(StatusCode::NOT_FOUND, &xml));
    assert!(!is_gitlabs_404(StatusCode::FORBIDDEN, &json));
}

#[test]
fn a_304_to_a_tag_that_is_not_what_is_held_says_nothing() {
    let held = |tag| Facts { length: Some(4), etag: Etag::quoting(tag), ..Facts::default() };
    let answer = Answer { status: StatusCode::NOT_MODIFIED, fields: &HeaderMap::new(), body: None };
    let asked = Condition::about(Some(&held("a")));
    assert!(matches!(judge(Some(&held("a")), &asked, answer, &rules(), sent()), Verdict::Yes(..)));
    assert!(matches!(judge(Some(&held("b")), &asked, answer, &rules(), sent()), Verdict::NotOurs));
    let bare = asked.without_validator();
    assert!(matches!(judge(Some(&held("a")), &bare, answer, &rules(), sent()), Verdict::NotOurs));
}
