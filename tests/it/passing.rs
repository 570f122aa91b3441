//! Whatever isn't an artifact route goes to GitLab and back as it is.

use std::collections::BTreeSet;

use gitlab_standin::{Class, Effect, Fault, GitLab, Setup};

use crate::raw::{self, Answer, Wire, both, request};
use crate::support::Larder;

/// The fields that larder adds to an answer.
const ADDED: [&str; 2] = ["cache-status", "via"];

/// The fields that differ from one answer of GitLab's to the next.
const OWN: [&str; 8] = [
    "date",
    "x-request-id",
    "x-gitlab-meta",
    "ratelimit-observed",
    "ratelimit-remaining",
    "set-cookie",
    "etag",
    "connection",
];

async fn town() -> (GitLab, Larder) {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    (gitlab, larder)
}

/// Fields in one order, spelling included, without those that may differ.
fn fields(answer: &Answer) -> BTreeSet<(String, String)> {
    let mut fields: BTreeSet<_> = answer.fields.iter().cloned().collect();
    fields.retain(|(name, _)| {
        let name = name.to_ascii_lowercase();
        !ADDED.contains(&&*name) && !OWN.contains(&&*name)
    });
    fields
}

/// What GitLab was sent, as its mirror tells: everything but what tells who sent it.
fn mirrored(answer: &Answer) -> (serde_json::Value, Vec<(String, String)>) {
    let mut told = answer.json();
    let told = told.as_object_mut().unwrap();
    told.remove("peer");
    let mut fields: Vec<(String, String)> = serde_json::from_value(told.remove("headers").unwrap()).unwrap();
    fields.sort();
    (serde_json::Value::Object(std::mem::take(told)), fields)
}

#[tokio::test]
async fn end_to_end_fields_arrive_as_they_are_and_others_do_not() {
    let (gitlab, larder) = town().await;
    let kept: [&[u8]; 16] = [
        b"x-lower: 1",
        b"X-UPPER: 2",
        b"x-MiXed-Case: a, b",
        b"X-Repeated: one",
        b"X-Other: between",
        b"X-Repeated: two",
        b"Cookie: a=1; b=2",
        b"X-Latin: caf\xe9 \xff",
        b"X-Empty:",
        b"Authorization: Basic dXNlcjpwYXNz",
        b"Accept-Encoding: gzip, br;q=0.1",
        b"If-None-Match: \"x\", W/\"y\"",
        b"TE: trailers",
        b"Trailer: X-Later",
        b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"tracestate: congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
    ];
    let dropped: [&[u8]; 6] = [
        b"Connection: X-Mine, close",
        b"X-Mine: 1",
        b"Keep-Alive: timeout=5",
        b"Upgrade: websocket",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic eA==",
    ];
    let lines: Vec<&[u8]> = kept.iter().chain(&dropped).copied().collect();
    let (straight, through) =
        both(gitlab.address(), larder.address, &request("GET", b"/echo", &lines, b"")).await;
    let (_, sent) = mirrored(&straight);
    let (_, got) = mirrored(&through);
    let added = [
        "host",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
    ];
    let hop: Vec<String> = dropped.iter().map(|line| name_of(line)).collect();
    let expected: Vec<_> =
        sent.into_iter().filter(|(name, _)| name != "Host" && !hop.contains(&name.to_lowercase())).collect();
    let own = |name: &String| added.contains(&&*name.to_lowercase()) || name.to_lowercase() == "x-request-id";
    let kept: Vec<_> = got.iter().filter(|(name, _)| !own(name)).cloned().collect();
    assert_eq!(kept, expected);
    let repeated: Vec<&str> = through.json()["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|field| field[0] == "X-Repeated")
        .map(|field| if field[1] == "one" { "one" } else { "two" })
        .collect();
    assert_eq!(repeated, ["one", "two"], "in order");
}

fn name_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line).split(':').next().unwrap().to_lowercase()
}

/// The mirror's word on a field that it was sent; several are joined.
fn sent(answer: &Answer, name: &str) -> String {
    let (_, fields) = mirrored(answer);
    let values: Vec<String> =
        fields.into_iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect();
    values.join(" | ")
}

#[tokio::test]
async fn via_is_appended_both_ways() {
    let (gitlab, larder) = town().await;
    let asked = request("GET", b"/echo", &[b"Via: 1.0 outer"], b"");
    let (_, through) = both(gitlab.address(), larder.address, &asked).await;
    let via = sent(&through, "via");
    assert!(via.starts_with("1.0 outer | 1.1 larder (") && via.ends_with(')'), "{via}");
    assert_eq!(through.field("via"), Some("1.1 larder"));
    assert_eq!(through.field("cache-status"), Some("larder; fwd=bypass; detail=pass"));
}

#[tokio::test]
async fn claims_about_who_is_behind_a_peer_count_only_from_a_trusted_one() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let untrusting = Larder::start(&gitlab).await;
    let trust = |config: &mut larder::config::Config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let trusting = Larder::with(&gitlab, trust).await;
    let lines: [&[u8]; 5] = [
        b"X-Forwarded-For: 6.6.6.6, 10.1.1.1",
        b"X-Forwarded-Host: outer.test",
        b"X-Forwarded-Proto: https",
        b"X-Real-IP: 6.6.6.6",
        b"Forwarded: for=6.6.6.6",
    ];
    for (larder, lines, expected) in [
        (&untrusting, &lines[..], ["127.0.0.1", "larder.test", "http", "127.0.0.1"]),
        (&trusting, &lines[..], ["6.6.6.6, 10.1.1.1, 127.0.0.1", "outer.test", "https", "10.1.1.1"]),
        (&untrusting, &[], ["127.0.0.1", "larder.test", "http", "127.0.0.1"]),
        (&trusting, &[], ["127.0.0.1", "larder.test", "http", "127.0.0.1"]),
    ] {
        let answer = raw::exchange(larder.address, &request("GET", b"/echo", lines, b"")).await;
        let names = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
        assert_eq!(names.map(|name| sent(&answer, name)), expected);
        assert_eq!(sent(&answer, "host"), gitlab.address().to_string(), "GitLab's own authority");
        let believed = expected[1] == "outer.test";
        assert_eq!(sent(&answer, "forwarded").is_empty(), !believed);
    }
}

#[tokio::test]
async fn answers_agree_straight_and_through_whatever_their_status() {
    let (gitlab, larder) = town().await;
    for status in [200, 204, 206, 301, 302, 304, 400, 401, 404, 418, 422, 429, 500, 503] {
        for body in ["", "a body\n"] {
            if matches!(status, 204 | 304) && !body.is_empty() {
                continue;
            }
            gitlab.clear_faults();
            let (content_type, body) = ("text/x-odd; charset=utf-8", body.into());
            gitlab.fault(Fault::new(Effect::Answer { status, content_type, body }).on(Class::Echo));
            for method in ["GET", "HEAD", "POST", "DELETE"] {
                let (straight, through) =
                    both(gitlab.address(), larder.address, &request(method, b"/echo", &[], b"")).await;
                let context = format!("{method} {status}");
                assert_eq!(through.line, straight.line, "{context}");
                assert_eq!(fields(&through), fields(&straight), "{context}");
                assert_eq!((through.body, through.end), (straight.body, straight.end), "{context}");
            }
        }
    }
}

#[tokio::test]
async fn several_cookies_stay_several() {
    let gitlab = GitLab::start(Setup::default().set_cookie(true)).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    let mut wire = Wire::to(larder.address).await;
    let cookies = |answer: &Answer| {
        let all = answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        all.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let mut seen = Vec::new();
    for _ in 0..3 {
        wire.send(&request("GET", b"/echo", &[], b"")).await;
        seen.extend(cookies(&wire.answer(false).await));
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "one from each answer, each GitLab's own: {seen:?}");
}

#[tokio::test]
async fn heads_with_many_fields_or_long_ones_come_through() {
    let script = crate::script::Script::start().await;
    let archive = gitlab_standin::Archive::sized(20_000).unwrap().bytes().unwrap();
    for (count, length) in [(101, 10), (1_000, 250), (2, 150_000), (1, 290_000)] {
        for (target, body) in [
            (&b"/x"[..], &b"ok"[..]),
            (format!("/api/v4/projects/7/jobs/{count}/artifacts").as_bytes(), &archive),
        ] {
            let (mut client, mut gitlab) = script.sent(&crate::raw::request("GET", target, &[], b"")).await;
            gitlab.request().await;
            let line = |number| format!("Set-Cookie: c{number}={}\r\n", "x".repeat(length));
            let fields = (0..count).map(line).collect::<Vec<String>>().concat();
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/zip\r\n\
                Content-Length: {}\r\n{fields}\r\n",
                body.len()
            );
            gitlab.send(&[head.as_bytes(), body].concat()).await;
            let answer = client.answer(false).await;
            assert_eq!((answer.status(), &*answer.body), (200, body), "{count} of {length}");
            let cookies = answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
            assert_eq!(cookies.filter(|(_, value)| value.len() > length).count(), count);
        }
    }
}
