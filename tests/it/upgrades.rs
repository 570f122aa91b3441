//! `WebSocket`s and whatever else a connection is changed to.

use std::time::Duration;

use crate::raw::{End, Wire, request};
use crate::script::Script;

const ASK: [&[u8]; 4] = [
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Protocol: actioncable-v1-json",
];

const YES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Both ends of a connection that has changed.
async fn upgraded(script: &Script) -> (Wire, Wire) {
    let (mut client, mut gitlab) = script.sent(&request("GET", b"/-/cable", &ASK, b"")).await;
    let asked = gitlab.request().await;
    assert_eq!(asked.line, "GET /-/cable HTTP/1.1");
    assert_eq!((asked.field("connection"), asked.field("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(asked.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    gitlab.send(YES).await;
    let switched = client.answer(true).await;
    assert_eq!(switched.status(), 101);
    assert_eq!(
        (switched.field("connection"), switched.field("upgrade")),
        (Some("upgrade"), Some("websocket"))
    );
    assert_eq!(switched.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(switched.field("content-length"), None);
    (client, gitlab)
}

#[tokio::test]
async fn bytes_go_both_ways_once_both_sides_have_agreed() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = upgraded(&script).await;
    assert_eq!(script.larder.count("larder_upgrades"), 1);
    assert_eq!(script.larder.count("larder_connections"), 1, "it is a connection still");
    for round in 0..3_u8 {
        let bytes = vec![round; 100_000];
        client.send(&bytes).await;
        assert_eq!(gitlab.bytes(bytes.len()).await, bytes);
        gitlab.send(b"\0\xff\r\n\r\n").await;
        assert_eq!(client.bytes(6).await, b"\0\xff\r\n\r\n");
    }
}

#[tokio::test]
async fn what_looks_like_an_answer_in_an_upgraded_connection_is_none() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = upgraded(&script).await;
    let bytes = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..2 {
        gitlab.send(bytes).await;
        assert_eq!(client.bytes(bytes.len()).await, bytes);
    }
}

#[tokio::test]
async fn what_is_sent_along_with_the_change_is_not_lost() {
    let script = Script::start().await;
    let ask = request("GET", b"/-/cable", &ASK, b"early");
    let (mut client, mut gitlab) = script.sent(&ask).await;
    gitlab.request().await;
    gitlab.send(&[YES, b"first frame"].concat()).await;
    assert_eq!(client.answer(true).await.status(), 101);
    assert_eq!(client.bytes(11).await, b"first frame");
    assert_eq!(gitlab.bytes(5).await, b"early");
}

#[tokio::test]
async fn a_side_that_has_ended_can_still_be_told_something() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = upgraded(&script).await;
    client.send(b"last words").await;
    client.finish().await;
    assert_eq!(gitlab.bytes(10).await, b"last words");
    assert_eq!(gitlab.end().await, End::Closed);
    gitlab.send(b"answer").await;
    assert_eq!(client.bytes(6).await, b"answer");
    gitlab.finish().await;
    assert_eq!(client.end().await, End::Closed);
    let (mut client, mut gitlab) = upgraded(&script).await;
    gitlab.finish().await;
    assert_eq!(client.end().await, End::Closed);
    client.send(b"still here").await;
    assert_eq!(gitlab.bytes(10).await, b"still here");
}

#[tokio::test]
async fn an_upgraded_connection_may_be_silent_for_longer_than_others() {
    let script = Script::with(|config| {
        config.server.header_timeout = Duration::from_millis(50);
        config.server.idle_timeout = Duration::from_millis(50);
    })
    .await;
    let mut idle = script.client().await;
    idle.send(&request("GET", b"/x", &[], b"")).await;
    let mut gitlab = script.accept().await;
    gitlab.request().await;
    gitlab.send(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    assert_eq!(idle.answer(true).await.status(), 204);
    let (mut client, mut gitlab) = upgraded(&script).await;
    // Begun before the tunnel, its silence has been too long by now, or is soon.
    assert_eq!(idle.end().await, End::Closed);
    let mut other = script.client().await;
    assert_eq!(other.end().await, End::Closed, "one that says nothing");
    client.send(b"still here").await;
    assert_eq!(gitlab.bytes(10).await, b"still here");
}

#[tokio::test]
async fn a_page_of_larders_is_one_of_gitlabs_to_live_updates_and_others_stay_foreign() {
    let script = Script::start().await;
    let own = format!("http://{}", script.address());
    for (origin, sent) in [
        ("http://larder.test", &*own),
        ("http://larder.test:80", &own),
        ("http://evil.test", "http://evil.test"),
        ("https://larder.test", "https://larder.test"),
        ("http://larder.test:8080", "http://larder.test:8080"),
        ("null", "null"),
    ] {
        let line = format!("Origin: {origin}");
        let lines = [&ASK[..], &[line.as_bytes()]].concat();
        let (mut client, mut gitlab) = script.sent(&request("GET", b"/-/cable", &lines, b"")).await;
        let asked = gitlab.request().await;
        assert_eq!(asked.field("origin"), Some(sent), "{origin}");
        // Action Cable compares it with this.
        let base =
            format!("{}://{}", asked.field("x-forwarded-proto").unwrap(), asked.field("host").unwrap());
        assert_eq!(asked.field("origin") == Some(&base), sent == own, "{origin}");
        gitlab.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        assert_eq!(client.answer(false).await.status(), 404);
    }
}

#[tokio::test]
async fn only_where_the_client_asked_for_it_gitlab_is_asked() {
    let script = Script::start().await;
    let mut client = script.client().await;
    for lines in [
        &[b"Upgrade: websocket".as_slice()][..],
        &[b"Connection: keep-alive", b"Upgrade: websocket"],
        &[b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"],
    ] {
        client.send(&request("GET", b"/x", lines, b"")).await;
        let mut wire = script.accept().await;
        let asked = wire.request().await;
        assert_eq!((asked.field("upgrade"), asked.field("connection")), (None, None), "{lines:?}");
        assert_eq!(asked.field("http2-settings"), None, "it was the connection's");
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        assert_eq!(client.answer(false).await.body, b"ok");
    }
    let (mut old, mut wire) =
        script.sent(b"GET /x HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let asked = wire.request().await;
    assert_eq!(asked.field("upgrade"), None, "HTTP/1.0 knows no upgrade");
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(old.answer(false).await.status(), 200);
}

#[tokio::test]
async fn any_other_answer_to_the_wish_is_relayed_as_it_is() {
    let script = Script::start().await;
    for (line, status) in [("200 OK", 200), ("403 Forbidden", 403), ("426 Upgrade Required", 426)] {
        let (mut client, mut gitlab) = script.sent(&request("GET", b"/-/cable", &ASK, b"")).await;
        gitlab.request().await;
        let answer = format!("HTTP/1.1 {line}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!");
        gitlab.send(answer.as_bytes()).await;
        let got = client.answer(false).await;
        assert_eq!((got.status(), &*got.body), (status, b"no!".as_slice()));
        client.send(&request("GET", b"/x", &[], b"")).await;
        let mut next = script.accept().await;
        next.request().await;
        next.send(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.answer(false).await.status(), 204, "the connection speaks HTTP on");
    }
    assert_eq!(script.larder.count("larder_upgrades"), 0);
}

#[tokio::test]
async fn a_change_that_nobody_asked_for_is_an_error() {
    let script = Script::start().await;
    let (mut client, mut gitlab) = script.sent(&request("GET", b"/x", &[], b"")).await;
    gitlab.request().await;
    gitlab.send(YES).await;
    let answer = client.answer(false).await;
    assert_eq!(
        (answer.status(), answer.field("proxy-status")),
        (502, Some("larder; error=http_protocol_error"))
    );
}

#[tokio::test]
async fn tunnels_are_let_end_by_themselves_and_closed_at_the_drains_end() {
    let script = Script::with(|config| config.server.drain = Duration::ZERO).await;
    let (mut client, mut gitlab) = upgraded(&script).await;
    script.larder.stop().await;
    assert_eq!((client.end().await, gitlab.end().await), (End::Closed, End::Closed));

    let script = Script::with(|config| config.server.drain = Duration::from_secs(86_400)).await;
    let (mut client, mut gitlab) = upgraded(&script).await;
    let stopping = tokio::spawn(script.larder.stop());
    client.send(b"bye").await;
    assert_eq!(gitlab.bytes(3).await, b"bye", "it goes on");
    client.finish().await;
    gitlab.finish().await;
    stopping.await.unwrap();
}
