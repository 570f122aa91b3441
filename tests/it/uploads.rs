//! Bodies up, and answers that come before they have ended.

use crate::raw::{End, request};
use crate::script::Script;

const UPLOAD: &[u8] =
    b"POST /upload HTTP/1.1\r\nHost: larder.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn an_upload_does_not_begin_before_gitlab_wants_it() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = script.sent(UPLOAD).await;
    let asked = gitlab.request_head().await;
    assert_eq!((asked.field("expect"), asked.field("content-length")), (Some("100-continue"), Some("5")));
    gitlab.send(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    // Nothing but GitLab's word has let it say so: the body can't have been asked for before.
    assert!(client.interim().await.starts_with("HTTP/1.1 100 "));
    client.send(b"hello").await;
    assert_eq!(gitlab.bytes(5).await, b"hello");
    gitlab.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer(false).await.status(), 201);
}

#[tokio::test]
async fn an_upload_that_gitlab_refuses_is_never_sent() {
    let script = Script::start().await;
    for status in ["401 Unauthorized", "413 Request Entity Too Large", "417 Expectation Failed"] {
        let (mut client, mut gitlab) = script.sent(UPLOAD).await;
        gitlab.request_head().await;
        gitlab.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").as_bytes()).await;
        let answer = client.answer(false).await;
        assert!(answer.line.starts_with(&format!("HTTP/1.1 {status}")), "{}", answer.line);
        assert_eq!(answer.body, b"no", "without 100 before it");
        assert_eq!(gitlab.end().await, End::Closed, "the connection that owes a body is of no more use");
    }
}

#[tokio::test]
async fn an_upload_goes_on_though_nobody_says_that_it_is_wanted() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = script.sent(UPLOAD).await;
    gitlab.request_head().await;
    // A client that waits for the word has it from larder, once GitLab's was waited for long enough.
    assert!(client.interim().await.starts_with("HTTP/1.1 100 "));
    client.send(b"hello").await;
    assert_eq!(gitlab.bytes(5).await, b"hello");
    gitlab.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.answer(false).await.status(), 201);
}

#[tokio::test]
async fn a_redirect_that_comes_early_reaches_a_client_that_still_sends() {
    let script = Script::start().await;
    let job = "/api/v4/jobs/42/artifacts?artifact_type=archive&artifact_format=zip";
    let elsewhere = format!("http://{}{job}&there=1", script.address());
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 8000000"] {
        for connection in ["keep-alive", "close"] {
            let head =
                format!("POST {job} HTTP/1.1\r\nHost: larder.test\r\nJOB-TOKEN: t\r\n{framing}\r\n\r\n");
            let (mut client, mut gitlab) = script.sent(head.as_bytes()).await;
            client.send(b"1000\r\n").await;
            client.send(&[1; 4096]).await;
            gitlab.request_head().await;
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\
                Connection: {connection}\r\n\r\n"
            );
            gitlab.send(answer.as_bytes()).await;
            // The client sends no more before it has it.
            let answer = client.answer(false).await;
            let there = format!("http://larder.test{job}&there=1");
            assert_eq!(
                (answer.status(), answer.field("location")),
                (307, Some(&*there)),
                "{framing} {connection}"
            );
        }
    }
}

#[tokio::test]
async fn an_old_clients_expectation_goes_no_further() {
    let script = Script::start().await;
    let old = b"POST /upload HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello";
    let (mut client, mut gitlab) = script.sent(old).await;
    let asked = gitlab.request().await;
    assert_eq!((asked.field("expect"), &*asked.body), (None, b"hello".as_slice()));
    gitlab.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer(false).await.status(), 200);
}

#[tokio::test]
async fn a_client_that_still_sends_gets_its_refusal_and_is_read_from_until_it_has_it() {
    let script = Script::start().await;
    for round in 0..10 {
        let head = b"POST /upload HTTP/1.1\r\nHost: larder.test\r\nContent-Length: 8000000\r\n\r\n";
        let (mut client, mut gitlab) = script.sent(head).await;
        client.send(&[1; 4096]).await;
        gitlab.request_head().await;
        gitlab.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
        drop(gitlab);
        // All of it is taken, though nobody wants it: a reset would take the answer with it.
        for _ in 0..1952 {
            client.send(&[1; 4096]).await;
        }
        let answer = client.answer(false).await;
        assert_eq!((answer.status(), &*answer.body), (413, b"no".as_slice()), "round {round}");
    }
}

#[tokio::test]
async fn an_answer_that_larder_makes_itself_reaches_a_client_that_still_sends() {
    let script = Script::start().await;
    let mut client = script.client().await;
    client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 8000000\r\n\r\n").await;
    for _ in 0..1953 {
        client.send(&[1; 4096]).await;
    }
    assert_eq!(client.answer(false).await.status(), 400);
}

#[tokio::test]
async fn trailers_pass_both_ways_where_they_are_wanted() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = script
        .sent(
            b"POST /rpc HTTP/1.1\r\nHost: larder.test\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
            Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\nContent-Length: 9\r\n\r\n",
        )
        .await;
    let asked = gitlab.request_head().await;
    assert_eq!((asked.field("te"), asked.field("trailer")), (Some("trailers"), Some("X-Sum")));
    let body = gitlab.trailers().await.to_lowercase();
    assert_eq!(body, "3\r\nabc\r\n0\r\nx-sum: 6", "and none that belongs before a body");
    gitlab
        .send(
            b"HTTP/1.1 200 OK\r\nTrailer: Grpc-Status\r\nTransfer-Encoding: chunked\r\n\r\n\
            2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n",
        )
        .await;
    let answer = client.request_head().await;
    assert_eq!(answer.field("trailer"), Some("Grpc-Status"));
    assert_eq!(client.trailers().await.to_lowercase(), "2\r\nok\r\n0\r\ngrpc-status: 0");
}

#[tokio::test]
async fn trailers_go_only_to_a_client_that_takes_them() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = script.sent(&request("GET", b"/rpc", &[b"TE: gzip"], b"")).await;
    assert_eq!(gitlab.request().await.field("te"), None);
    gitlab
        .send(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
            2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        )
        .await;
    client.request_head().await;
    assert_eq!(client.trailers().await, "2\r\nok\r\n0");
}

#[tokio::test]
async fn events_come_through_one_by_one() {
    let script = Script::start().await;
    let (mut client, mut gitlab) =
        script.sent(&request("GET", b"/stream", &[b"Accept: text/event-stream"], b"")).await;
    gitlab.request().await;
    gitlab
        .send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.request_head().await.field("content-type"), Some("text/event-stream"));
    for _ in 0..5 {
        // The next one isn't sent before this one has arrived: a buffer in between would hold it for ever.
        gitlab.send(b"9\r\ndata: 1\n\n\r\n").await;
        assert_eq!(client.bytes(14).await, b"9\r\ndata: 1\n\n\r\n");
    }
}

#[tokio::test]
async fn a_body_up_comes_through_piece_by_piece_and_no_faster_than_it_is_taken() {
    let script = Script::start().await;
    let head = b"PATCH /api/v4/jobs/1/trace HTTP/1.1\r\nHost: larder.test\r\nContent-Range: 0-99\r\n\
        Content-Length: 100\r\n\r\n";
    let (mut client, mut gitlab) = script.sent(head).await;
    let asked = gitlab.request_head().await;
    assert_eq!(asked.field("content-range"), Some("0-99"), "without a unit, as a runner writes it");
    for _ in 0..10 {
        client.send(b"0123456789").await;
        assert_eq!(gitlab.bytes(10).await, b"0123456789");
    }
    gitlab.send(b"HTTP/1.1 202 Accepted\r\nRange: 0-100\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer(false).await.field("range"), Some("0-100"));
}
