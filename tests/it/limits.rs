//! How much GitLab is asked at once.

use crate::raw::{Answer, Wire, request};
use crate::script::Script;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

async fn narrow() -> Script {
    Script::with(|config| config.upstream.max_connections = 1).await
}

/// Two requests where one may wait: the other's answer, and the connection of the one that does.
async fn one_waits(script: &Script) -> (Answer, Wire) {
    let (mut one, mut other) = (script.client().await, script.client().await);
    one.send(&request("GET", b"/waits", &[], b"")).await;
    other.send(&request("GET", b"/waits", &[], b"")).await;
    tokio::select! {
        answer = one.answer(false) => (answer, other),
        answer = other.answer(false) => (answer, one),
    }
}

#[tokio::test]
async fn what_waits_for_gitlab_waits_in_a_queue_of_bounded_length() {
    let script = narrow().await;
    let (mut first, mut gitlab) = script.sent(&request("GET", b"/first", &[], b"")).await;
    gitlab.request().await;
    let (refused, mut waiting) = one_waits(&script).await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("5")));
    assert_eq!(refused.field("proxy-status"), Some("larder; error=connection_limit_reached"));
    gitlab.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\no").await;
    assert_eq!(first.request_head().await.line, "HTTP/1.1 200 OK");
    // As long as a body comes its request is under way.
    let mut third = script.client().await;
    third.send(&request("GET", b"/third", &[], b"")).await;
    assert_eq!(third.answer(false).await.status(), 503);
    gitlab.send(b"k").await;
    assert_eq!(first.bytes(2).await, b"ok");
    let mut next = script.accept().await;
    assert_eq!(next.request().await.line, "GET /waits HTTP/1.1");
    next.send(OK).await;
    assert_eq!(waiting.answer(false).await.status(), 200);
}

#[tokio::test]
async fn waiting_runners_and_tunnels_keep_nobody_from_gitlab() {
    let script = narrow().await;
    let (_runner, mut polled) =
        script.sent(&request("POST", b"/api/v4/jobs/request", &[b"Content-Length: 2"], b"{}")).await;
    polled.request().await;
    let ask: [&[u8]; 2] = [b"Connection: upgrade", b"Upgrade: websocket"];
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let (mut client, mut gitlab) = script.sent(&request("GET", b"/-/cable", &ask, b"")).await;
        gitlab.request().await;
        gitlab
            .send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
            .await;
        assert_eq!(client.answer(true).await.status(), 101);
        tunnels.push((client, gitlab));
    }
    let (mut client, mut gitlab) = script.sent(&request("GET", b"/x", &[], b"")).await;
    gitlab.request().await;
    gitlab.send(OK).await;
    assert_eq!(client.answer(false).await.status(), 200);
}
