//! How bodies are framed on their way through, up and down.

use gitlab_standin::{Class, Effect, Fault, GitLab, Setup, pattern};

use crate::raw::{self, Answer, End, Wire};
use crate::support::Larder;

async fn town() -> (GitLab, Larder) {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    (gitlab, larder)
}

fn has(answer: &Answer, name: &str, value: &str) -> bool {
    let fields = answer.json()["headers"].as_array().unwrap().clone();
    fields.iter().any(|field| field[0].as_str().unwrap().eq_ignore_ascii_case(name) && field[1] == value)
}

#[tokio::test]
async fn a_body_up_keeps_its_framing() {
    let (_gitlab, larder) = town().await;
    let sized = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let answer = raw::exchange(larder.address, sized).await;
    assert!(has(&answer, "content-length", "5") && !has(&answer, "transfer-encoding", "chunked"));
    assert_eq!(answer.json()["length"], 5);
    let digest = answer.json()["sha256"].clone();

    let chunked =
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Trailer: t\r\n\r\n";
    let answer = raw::exchange(larder.address, chunked).await;
    assert!(has(&answer, "transfer-encoding", "chunked") && !has(&answer, "content-length", "5"));
    assert_eq!((&answer.json()["length"], &answer.json()["sha256"]), (&5.into(), &digest));

    for method in ["POST", "PUT"] {
        let none = format!("{method} /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let answer = raw::exchange(larder.address, none.as_bytes()).await;
        assert!(has(&answer, "content-length", "0"), "{method}: an empty body is said to be one");
    }
    let get = raw::exchange(larder.address, b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!has(&get, "content-length", "0") && !has(&get, "transfer-encoding", "chunked"));
}

#[tokio::test]
async fn a_body_down_keeps_its_framing() {
    let (gitlab, larder) = town().await;
    let request = b"GET /bytes/250000 HTTP/1.1\r\nHost: x\r\n\r\n";
    let expected = pattern(0, 250_000);
    let sized = raw::exchange(larder.address, request).await;
    assert_eq!((sized.field("content-length"), sized.field("transfer-encoding")), (Some("250000"), None));
    assert!(sized.body == expected && sized.end == End::Framed);
    for effect in [Effect::Chunked, Effect::CloseDelimited] {
        gitlab.clear_faults();
        gitlab.fault(Fault::new(effect.clone()));
        let chunked = raw::exchange(larder.address, request).await;
        assert_eq!(chunked.field("content-length"), None, "{effect:?}");
        assert_eq!(chunked.field("transfer-encoding"), Some("chunked"), "{effect:?}");
        assert!(chunked.body == expected && chunked.end == End::Framed, "{effect:?}");
        let old = raw::exchange(larder.address, b"GET /bytes/250000 HTTP/1.0\r\n\r\n").await;
        assert!(old.body == expected && old.end == End::Closed, "{effect:?}");
    }
}

#[tokio::test]
async fn a_head_keeps_the_length_of_the_body_that_does_not_come() {
    let (_gitlab, larder) = town().await;
    let mut wire = Wire::to(larder.address).await;
    for length in [0, 1, 123_456_789_012_u64] {
        wire.send(format!("HEAD /bytes/{length} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        let answer = wire.answer(true).await;
        assert_eq!(answer.field("content-length"), Some(&*length.to_string()));
    }
}

#[tokio::test]
async fn an_answer_comes_through_before_its_request_has_ended() {
    let (gitlab, larder) = town().await;
    let refusal = Effect::Answer { status: 413, content_type: "text/plain", body: "too much".into() };
    gitlab.fault(Fault::new(refusal).on(Class::Sink));
    let mut wire = Wire::to(larder.address).await;
    wire.send(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\nonly the beginning").await;
    let answer = wire.answer(false).await;
    assert_eq!((answer.status(), &*answer.body), (413, &b"too much"[..]));
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on() {
    let (_gitlab, larder) = town().await;
    let mut wire = Wire::to(larder.address).await;
    wire.send(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    let go_on = wire.interim().await;
    assert!(go_on.starts_with("HTTP/1.1 100 "), "{go_on}");
    wire.send(b"hello").await;
    let answer = wire.answer(false).await;
    assert_eq!((answer.status(), &answer.json()["length"]), (200, &5.into()));
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let (_gitlab, larder) = town().await;
    let mut wire = Wire::to(larder.address).await;
    for n in 0..20 {
        wire.send(format!("GET /bytes/{n} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    }
    for n in 0..20 {
        assert_eq!(wire.answer(false).await.body.len(), n);
    }
}
