//! Answers that larder makes itself.

use std::sync::Arc;
use std::time::Duration;

use larder::config::Config;
use tokio::net::{TcpListener, TcpStream};

use crate::raw::{self, request};
use crate::script::Script;
use crate::support::Larder;

/// A larder before a GitLab that is down.
async fn alone() -> Larder {
    alone_with(|_| ()).await
}

/// The same with another configuration.
async fn alone_with(change: impl FnOnce(&mut Config)) -> Larder {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), change).await
}

#[tokio::test]
async fn a_browser_gets_a_page_and_a_program_what_gitlab_would_say() {
    let larder = alone().await;
    let html: &[u8] = b"Accept: text/html,application/xhtml+xml,*/*;q=0.8";
    for (target, lines, page) in [
        ("/users/sign_in", &[html][..], true),
        ("/users/sign_in", &[], false),
        ("/api/v4/projects", &[html], false),
        ("/group/project/-/jobs/1/artifacts/download", &[html], true),
        ("/api/v4/projects/1/jobs/1/artifacts", &[html], false),
    ] {
        let answer = raw::exchange(larder.address, &request("GET", target.as_bytes(), lines, b"")).await;
        assert_eq!(answer.status(), 502, "{target}");
        assert_eq!(answer.field("proxy-status"), Some("larder; error=connection_refused"), "{target}");
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{target}");
        let text = String::from_utf8(answer.body.clone()).unwrap();
        if page {
            assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"), "{target}");
            assert!(text.contains("<h1>502 Bad Gateway</h1>"), "{text}");
        } else {
            let message = "502 Bad Gateway - GitLab refuses connections";
            assert_eq!(answer.json(), serde_json::json!({ "message": message }), "{target}");
        }
        let head = raw::exchange(larder.address, &request("HEAD", target.as_bytes(), lines, b"")).await;
        assert_eq!(head.field("content-length"), Some(&*text.len().to_string()), "{target}");
    }
}

#[tokio::test]
async fn a_head_that_can_not_be_read_gets_a_bare_status_is_counted_and_ends_its_connection() {
    let larder = alone().await;
    let long = [b"X-Long: ".as_slice(), &vec![b'x'; 70_000]].concat();
    for (asked, status) in
        [(b"what is this\r\n\r\n".to_vec(), 400), (request("GET", b"/", &[&long], b""), 431)]
    {
        let mut client = raw::Wire::to(larder.address).await;
        // What came before has nothing to do with it.
        client.send(b"GET /before HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.answer(false).await.status(), 502);
        client.send(&asked).await;
        let answer = client.answer(false).await;
        assert_eq!((answer.status(), &*answer.body), (status, &[][..]));
        assert_eq!((answer.field("connection"), answer.field("content-length")), (Some("close"), Some("0")));
        assert!(answer.field("date").is_some());
        assert_ne!(client.end().await, raw::End::Framed);
    }
    larder.counted("larder_malformed_requests_total", 2).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_answered_and_a_connection_without_one_just_ends() {
    let larder = alone_with(|config| {
        config.server.header_timeout = Duration::from_millis(50);
        config.server.idle_timeout = Duration::from_millis(50);
    })
    .await;
    let mut slow = raw::Wire::to(larder.address).await;
    slow.send(b"GET / HTTP/1.1\r\nHost: la").await;
    let answer = slow.answer(false).await;
    assert_eq!(answer.status(), 408);
    assert_eq!(answer.field("proxy-status"), Some("larder; error=http_request_error"));
    assert_eq!(answer.json()["message"], "408 Request Timeout - the request's head came too slowly");
    let mut idle = raw::Wire::to(larder.address).await;
    assert_eq!(idle.end().await, raw::End::Closed);
    let mut kept = raw::Wire::to(larder.address).await;
    kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(kept.answer(false).await.status(), 502);
    assert_eq!(kept.end().await, raw::End::Closed);
    assert_eq!(larder.count("larder_connections_cut_total{why=\"slow_head\"}"), 1);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request_for_a_time_of_its_own() {
    let larder = alone_with(|config| config.server.header_timeout = Duration::from_millis(50)).await;
    let mut kept = raw::Wire::to(larder.address).await;
    kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(kept.answer(false).await.status(), 502);
    // One that has asked nothing has no longer than for a head, and came later.
    let mut silent = raw::Wire::to(larder.address).await;
    assert_eq!(silent.end().await, raw::End::Closed);
    kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(kept.answer(false).await.status(), 502);
    // A head that has begun on it has no longer than any other.
    kept.send(b"GET / HT").await;
    assert_eq!(kept.answer(false).await.status(), 408);

    let larder = alone_with(|config| config.server.idle_timeout = Duration::from_millis(50)).await;
    let mut kept = raw::Wire::to(larder.address).await;
    kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(kept.answer(false).await.status(), 502);
    assert_eq!(kept.end().await, raw::End::Closed);
    let mut old = raw::Wire::to(larder.address).await;
    old.send(b"GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.answer(false).await.status(), 502);
    assert_eq!(old.end().await, raw::End::Closed, "HTTP/1.0 keeps none");
}

#[tokio::test]
async fn a_connection_is_kept_no_longer_after_a_request_that_took_longer_than_a_head_may() {
    let script = Script::with(|config| {
        config.server.header_timeout = Duration::from_millis(50);
        config.server.idle_timeout = Duration::from_millis(50);
    })
    .await;
    for answer in [
        &b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let (mut kept, mut gitlab) = script.sent(&request("GET", b"/x", &[], b"")).await;
        gitlab.request().await;
        // Longer than a head may take: one that began now has none in that time.
        let mut silent = script.client().await;
        assert_eq!(silent.end().await, raw::End::Closed);
        gitlab.send(answer).await;
        kept.answer(false).await;
        assert_eq!(kept.end().await, raw::End::Closed);
    }
}

#[tokio::test]
async fn a_larder_that_leads_to_itself_says_so_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let larder = Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), |_: &mut Config| ()).await;
    let address = larder.address;
    let relaying = tokio::spawn(async move {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(address).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    for target in ["/x", "/api/v4/projects/1/jobs/1/artifacts", "/api/v4/projects/1/jobs/1/artifacts/a.txt"] {
        let answer = raw::exchange(address, &request("GET", target.as_bytes(), &[], b"")).await;
        assert_eq!(answer.status(), 508, "{target}");
        assert_eq!(answer.field("proxy-status"), Some("larder; error=proxy_loop_detected"), "{target}");
    }
    let post = request("POST", b"/x", &[b"Content-Length: 2"], b"{}");
    assert_eq!(raw::exchange(address, &post).await.status(), 508);
    relaying.abort();
}
