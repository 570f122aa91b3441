//! What is sent once more, and what isn't.

use crate::raw::{Answer, Wire, request};
use crate::script::Script;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends a request until it comes over a connection that has brought an answer before.
async fn reused(script: &Script, request: &[u8]) -> (Wire, Wire, Answer) {
    loop {
        let mut client = exchanged(script).await;
        client.send(request).await;
        let (mut gitlab, asked) = script.request().await;
        if gitlab.was_used() {
            return (client, gitlab, asked);
        }
        gitlab.send(OK).await;
        assert_eq!(client.answer(request.starts_with(b"HEAD")).await.status(), 200);
        script.keep(gitlab);
    }
}

/// A client's connection over which an answer has come, as one has over a connection that is kept to GitLab.
async fn exchanged(script: &Script) -> Wire {
    let mut client = script.client().await;
    client.send(&request("GET", b"/first", &[], b"")).await;
    let (mut gitlab, _) = script.request().await;
    gitlab.send(OK).await;
    assert_eq!(client.answer(false).await.status(), 200);
    script.keep(gitlab);
    client
}

fn retries(script: &Script) -> i64 {
    script.larder.count("larder_upstream_retries_total")
}

#[tokio::test]
async fn a_request_that_changes_nothing_is_sent_once_more_over_a_new_connection() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let script = Script::start().await;
        let ask = request(method, b"/x?y", &[b"X-Mine: 1"], b"");
        let (mut client, gitlab, first) = reused(&script, &ask).await;
        drop(gitlab);
        let (mut again, second) = script.request().await;
        assert_eq!(second, first, "{method}");
        assert!(!again.was_used(), "{method}");
        again.send(OK).await;
        assert_eq!(client.answer(method == "HEAD").await.status(), 200, "{method}");
        assert_eq!(retries(&script), 1, "{method}");
    }
}

#[tokio::test]
async fn it_is_sent_again_no_more_than_once() {
    let script = Script::start().await;
    let (mut client, gitlab, _) = reused(&script, &request("GET", b"/x", &[], b"")).await;
    drop(gitlab);
    drop(script.request().await);
    let answer = client.answer(false).await;
    assert_eq!((answer.status(), retries(&script)), (502, 1));
    assert_eq!(answer.field("proxy-status"), Some("larder; error=connection_terminated"));
}

#[tokio::test]
async fn a_new_connection_that_closes_is_gitlabs_answer() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = script.sent(&request("GET", b"/x", &[], b"")).await;
    gitlab.request().await;
    drop(gitlab);
    assert_eq!((client.answer(false).await.status(), retries(&script)), (502, 0));
}

#[tokio::test]
async fn a_request_that_may_change_something_is_never_repeated() {
    for (method, lines, body) in [
        ("POST", vec![b"Content-Length: 2".as_slice()], b"{}".as_slice()),
        ("POST", vec![b"Content-Length: 0"], b""),
        ("POST", vec![], b""),
        ("PUT", vec![b"Content-Length: 2"], b"{}"),
        ("PATCH", vec![b"Content-Length: 2"], b"{}"),
        ("DELETE", vec![], b""),
        ("GET", vec![b"Content-Length: 2"], b"{}"),
    ] {
        let script = Script::start().await;
        let ask = request(method, b"/api/v4/jobs/request", &lines, body);
        let (mut client, gitlab, _) = reused(&script, &ask).await;
        drop(gitlab);
        let answer = client.answer(false).await;
        assert_eq!((answer.status(), retries(&script)), (502, 0), "{method} {lines:?}");
    }
}

#[tokio::test]
async fn whatever_meets_a_connection_that_was_closed_long_ago_is_answered() {
    let script = Script::start().await;
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let mut client = exchanged(&script).await;
        script.close_kept();
        client.send(&request(method, b"/x", &[b"Content-Length: 5"], b"hello")).await;
        let (mut next, asked) = script.request().await;
        assert_eq!(asked.body, b"hello", "{method}");
        next.send(OK).await;
        assert_eq!(client.answer(false).await.status(), 200, "{method}");
    }
}
