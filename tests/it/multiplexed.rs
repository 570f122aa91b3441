//! HTTP/2 towards GitLab: what shares a connection, what is sent once more, and what one stream may not do to another.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Method;

use crate::peer::{Client, Link, Peer};
use crate::raw::{Wire, request};
use crate::support::{Larder, open};

const RETRIES: &str = "larder_upstream_retries_total";

#[tokio::test]
async fn requests_share_a_connection_as_long_as_it_takes_more() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let mut answers = Vec::new();
    for at in 0..3 {
        answers.push(client.ask(&format!("GET /{at}")).await);
    }
    let mut few = h2::server::Builder::new();
    let mut link = peer.accept_with(few.max_concurrent_streams(4)).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(link.call().await);
    }
    for mut call in calls.drain(..) {
        assert_eq!(call.request.uri().authority().unwrap().as_str(), peer.address().to_string());
        assert_eq!((call.field("host"), call.field("connection")), (None, None));
        let path = call.path().to_owned();
        call.ok(path);
    }
    for (at, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.whole().await.unwrap(), (200, format!("/{at}").into_bytes()));
    }
    // Its limit is known by now.
    let mut held = Vec::new();
    for at in 0..4 {
        held.push((client.ask(&format!("GET /held/{at}")).await, link.call().await));
    }
    let more = client.ask("GET /more").await;
    let mut other = peer.accept().await;
    other.call().await.ok("more");
    assert_eq!(more.whole().await.unwrap(), (200, b"more".to_vec()));
    for (answer, mut call) in held {
        call.ok("");
        assert_eq!(answer.whole().await.unwrap().0, 200);
    }
    // What is free is taken first.
    let again = client.ask("GET /again").await;
    link.call().await.ok("");
    assert_eq!(again.whole().await.unwrap().0, 200);
    assert!(other.is_quiet());
}

#[tokio::test]
async fn what_gitlab_has_not_looked_at_is_sent_again_once_whatever_it_is() {
    for (line, body) in [("GET /x", None), ("POST /x", None), ("POST /x", Some("some body"))] {
        let peer = Peer::start().await;
        let mut client = peer.client().await;
        let (answer, mut stream) =
            client.send(line, &[("content-length", &length(body))], body.is_none()).await;
        if let Some(body) = body {
            stream.send_data(Bytes::from(body), true).unwrap();
        }
        peer.accept_and_leave().await.ended().await;
        let mut link = peer.accept().await;
        let mut call = link.call().await;
        assert_eq!(call.request.method(), line.split(' ').next().unwrap());
        assert_eq!(call.body.rest().await.unwrap().0, body.unwrap_or_default().as_bytes(), "{line}");
        call.ok("done");
        assert_eq!(answer.whole().await.unwrap(), (200, b"done".to_vec()), "{line} {body:?}");
        assert_eq!(peer.larder.count(RETRIES), 1, "{line}");
    }
}

fn length(body: Option<&str>) -> String {
    body.unwrap_or_default().len().to_string()
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_once_and_no_more() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let (answer, mut body) = client.send("POST /x", &[], false).await;
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    let mut links = Vec::new();
    for attempt in 0..2 {
        let mut link = peer.accept().await;
        let mut call = link.call().await;
        // The second attempt has all of it, and what comes meanwhile.
        assert_eq!(call.body.bytes(4).await, b"half");
        if attempt == 1 {
            body.send_data(Bytes::from_static(b"rest"), true).unwrap();
            assert_eq!(call.body.rest().await.unwrap().0, b"rest");
        }
        call.answer.send_reset(Reason::REFUSED_STREAM);
        links.push(link);
    }
    let (head, _) = answer.head().await.unwrap();
    assert_eq!(
        (head.status(), head.headers()["proxy-status"].to_str().unwrap()),
        (http::StatusCode::BAD_GATEWAY, "larder; error=connection_terminated")
    );
    assert_eq!(peer.larder.count(RETRIES), 1);
}

#[tokio::test]
async fn what_gitlab_may_have_acted_on_is_not_sent_again() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM, Reason::NO_ERROR] {
        let peer = Peer::start().await;
        let mut client = peer.client().await;
        let mut first = client.ask("GET /first").await;
        let mut link = peer.accept().await;
        for line in ["POST /x", "GET /x", "GET /last"] {
            link.call().await.answer.send_reset(reason);
            assert_eq!(first.whole().await.unwrap().0, 502, "before {line} {reason:?}");
            // Others share the connection still.
            first = client.ask(line).await;
        }
        link.call().await.ok("");
        assert_eq!(first.whole().await.unwrap().0, 200);
        assert_eq!(peer.larder.count(RETRIES), 0, "{reason:?}");
    }
}

#[tokio::test]
async fn a_read_that_met_a_dead_connection_is_sent_again_and_a_change_is_not() {
    for (line, status) in [("GET /x", 200), ("POST /x", 502)] {
        let peer = Peer::start().await;
        let mut client = peer.client().await;
        let first = client.ask("GET /first").await;
        let mut link = peer.accept().await;
        link.call().await.ok("");
        assert_eq!(first.whole().await.unwrap().0, 200);
        let answer = client.ask(line).await;
        let _unanswered = link.call().await;
        drop(link);
        if status == 200 {
            let mut link = peer.accept().await;
            link.call().await.ok("again");
            assert_eq!(answer.whole().await.unwrap(), (200, b"again".to_vec()));
        } else {
            assert_eq!(answer.whole().await.unwrap().0, status);
        }
    }
}

#[tokio::test]
async fn what_is_under_way_finishes_when_gitlab_takes_no_more() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let old = client.ask("GET /old").await;
    let mut link = peer.accept().await;
    let mut call = link.call().await;
    let mut body = call.head(200, &[]);
    let (head, mut read) = old.head().await.unwrap();
    assert_eq!(head.status(), 200);
    link.retire();
    loop {
        let new = client.ask("GET /new").await;
        // Until larder has heard of it.
        let (mut call, next) = tokio::select! {
            call = link.call() => (call, None),
            mut next = peer.accept() => (next.call().await, Some(next)),
        };
        call.ok("new");
        assert_eq!(new.whole().await.unwrap(), (200, b"new".to_vec()));
        if next.is_some() {
            break;
        }
    }
    body.send_data(Bytes::from_static(b"old"), true).unwrap();
    assert_eq!(read.rest().await.unwrap().0, b"old");
}

#[tokio::test]
async fn where_gitlab_insists_a_request_goes_by_http1() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let answer = client.ask("POST /x").await;
    let mut link = peer.accept().await;
    link.call().await.answer.send_reset(Reason::HTTP_1_1_REQUIRED);
    let mut wire = peer.accept_http1().await;
    assert_eq!(wire.request().await.line, "POST /x HTTP/1.1");
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(answer.whole().await.unwrap(), (200, b"ok".to_vec()));
}

#[tokio::test]
async fn a_misdirected_request_is_the_clients_to_hear_of() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let answer = client.ask("GET /x").await;
    let mut link = peer.accept().await;
    link.call().await.finish(421, &[]);
    assert_eq!(answer.whole().await.unwrap().0, 421);
    assert_eq!(peer.larder.count(RETRIES), 0);
}

#[tokio::test]
async fn an_answer_that_is_taken_back_does_not_end_as_one_that_is_whole() {
    for (reason, fields) in [
        (Reason::NO_ERROR, &[][..]),
        (Reason::CANCEL, &[]),
        (Reason::INTERNAL_ERROR, &[]),
        (Reason::NO_ERROR, &[("content-length", "9")]),
    ] {
        let peer = Peer::start().await;
        let mut client = peer.client().await;
        let answer = client.ask("GET /x").await;
        let mut link = peer.accept().await;
        let mut call = link.call().await;
        let mut body = call.head(200, fields);
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        let (_, mut read) = answer.head().await.unwrap();
        assert_eq!(read.bytes(4).await, b"half");
        body.send_reset(reason);
        let error = read.rest().await.unwrap_err();
        assert!(error.is_reset() && error.reason() != Some(Reason::NO_ERROR), "{reason:?}: {error}");
        // The same to HTTP/1.1, whose chunks would otherwise end well.
        let url = format!("{}/x", peer.larder.url());
        let answering = async {
            let mut call = link.call().await;
            let mut body = call.head(200, fields);
            body.send_data(Bytes::from_static(b"half"), false).unwrap();
            body
        };
        let (old, mut body) = tokio::join!(open(Method::GET, &url, &[], ""), answering);
        let mut old = old.unwrap();
        assert_eq!(old.next().await.unwrap().unwrap(), &b"half"[..]);
        body.send_reset(reason);
        assert!(!old.rest().await.whole, "{reason:?}");
    }
}

#[tokio::test]
async fn a_body_that_its_client_takes_back_does_not_end_as_one_that_is_whole() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        // A change goes on without its client, who might have taken it back half-way.
        let peer = Peer::start().await;
        let mut client = peer.client().await;
        let (answer, mut body) = client.send("POST /api/v4/jobs/1/artifacts", &[], false).await;
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        let mut link = peer.accept().await;
        let mut call = link.call().await;
        assert_eq!(call.body.bytes(4).await, b"half");
        body.send_reset(reason);
        drop(answer);
        assert!(call.body.rest().await.is_err(), "{reason:?}");
    }
}

#[tokio::test]
async fn an_upgrade_and_a_wait_for_100_have_connections_of_their_own() {
    let peer = Peer::start().await;
    for (lines, answer, status) in [
        (
            &[&b"Connection: Upgrade"[..], b"Upgrade: websocket"][..],
            &b"HTTP/1.1 101 Switching Protocols\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"[..],
            101,
        ),
        (
            &[b"Expect: 100-continue", b"Content-Length: 3"],
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
            413,
        ),
    ] {
        let mut client = Wire::to(peer.larder.address).await;
        client.send(&request("POST", b"/x", lines, b"")).await;
        let mut wire = peer.accept_http1().await;
        assert_eq!(wire.request_head().await.line, "POST /x HTTP/1.1");
        wire.send(answer).await;
        assert_eq!(client.answer(status == 101).await.status(), status);
    }
}

#[tokio::test]
async fn downloads_that_nobody_reads_hold_up_no_other() {
    const WINDOW: usize = 512 << 10;
    let peer = Peer::start().await;
    // Clients who take nothing: what is theirs stays in larder, and in the windows that it gave.
    let mut idle = h2::client::Builder::new();
    let mut unread = Client::with(&peer.larder, idle.initial_window_size(0)).await;
    let mut roomy = h2::server::Builder::new();
    roomy.max_send_buffer_size(2 * WINDOW);
    let mut link = None;
    let mut held = Vec::new();
    for _ in 0..16 {
        let answer = unread.ask("GET /large").await;
        let link = match &mut link {
            Some(link) => link,
            none => none.insert(peer.accept_with(&roomy).await),
        };
        let mut call = link.call().await;
        let mut body = call.head(200, &[]);
        body.reserve_capacity(WINDOW);
        while body.capacity() < WINDOW {
            std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
        }
        body.send_data(vec![0; WINDOW].into(), false).unwrap();
        held.push((answer, call, body));
    }
    let link: &mut Link = link.as_mut().unwrap();
    let mut client = peer.client().await;
    let answer = client.ask("GET /small").await;
    let mut call = link.call().await;
    call.head(200, &[]).send_data(vec![7; WINDOW].into(), true).unwrap();
    assert_eq!(answer.whole().await.unwrap(), (200, vec![7; WINDOW]));
}

#[tokio::test]
async fn fields_without_end_are_an_error_of_that_answer_alone() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let answer = client.ask("GET /long").await;
    let mut link = peer.accept().await;
    link.call().await.finish(200, &[("x-long", &"x".repeat(300_000))]);
    assert_eq!(answer.head().await.unwrap().0.status(), 200);
    let answer = client.ask("GET /x").await;
    link.call().await.finish(200, &[("x-long", &"x".repeat(500_000))]);
    let (head, _) = answer.head().await.unwrap();
    assert_eq!(head.status(), 502);
    assert_eq!(head.headers()["proxy-status"], "larder; error=http_protocol_error");
    let next = client.ask("GET /y").await;
    link.call().await.ok("y");
    assert_eq!(next.whole().await.unwrap(), (200, b"y".to_vec()));
}

#[tokio::test]
async fn a_client_that_leaves_is_no_longer_served() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let before = client.ask("GET /before").await;
    let mut link = peer.accept().await;
    let mut waiting = link.call().await;
    drop(before);
    assert_eq!(waiting.taken_back().await, Reason::CANCEL);
    let during = client.ask("GET /during").await;
    let mut reading = link.call().await;
    let body = reading.head(200, &[]);
    let (_, read) = during.head().await.unwrap();
    drop(read);
    let mut body = body;
    assert_eq!(std::future::poll_fn(|cx| body.poll_reset(cx)).await.unwrap(), Reason::CANCEL);
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_takes_nobody_else_along() {
    let peer = Peer::with(|config| config.upstream.read_timeout = Duration::from_millis(500)).await;
    let mut client = peer.client().await;
    let answer = client.ask("GET /slow").await;
    let mut link = peer.accept().await;
    let mut call = link.call().await;
    assert_eq!(answer.whole().await.unwrap().0, 504);
    assert_eq!(call.taken_back().await, Reason::CANCEL);
    let next = client.ask("GET /next").await;
    let mut other = peer.accept().await;
    other.call().await.ok("next");
    assert_eq!(next.whole().await.unwrap(), (200, b"next".to_vec()));
}

#[tokio::test]
async fn the_limit_is_one_of_requests_whatever_they_share() {
    let peer = Peer::with(|config| config.upstream.max_connections = 2).await;
    let mut client = peer.client().await;
    let first = client.ask("GET /0").await;
    let mut link = peer.accept().await;
    let mut calls = vec![link.call().await];
    let second = client.ask("GET /1").await;
    calls.push(link.call().await);
    let third = client.ask("GET /2").await;
    // Runners that wait for a job count apart: when theirs is here, the third would be.
    let poll = client.ask("POST /api/v4/jobs/request").await;
    let mut polled = link.call().await;
    assert_eq!(polled.path(), "/api/v4/jobs/request");
    calls.remove(0).ok("");
    assert_eq!(first.whole().await.unwrap().0, 200);
    let mut next = link.call().await;
    assert_eq!(next.path(), "/2");
    for call in [&mut next, &mut calls[0], &mut polled] {
        call.ok("");
    }
    for answer in [second, third, poll] {
        assert_eq!(answer.whole().await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_no_connection_along_that_others_wait_for() {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, certificate.cert.pem()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let larder = Larder::on(&url, dir, |config| config.upstream.ca_file = Some(ca)).await;
    let mut first = Wire::to(larder.address).await;
    first.send(&request("GET", b"/first", &[], b"")).await;
    // It is being connected to when a second one wants the same.
    let stream = listener.accept().await.unwrap().0;
    let mut second = Client::with(&larder, &h2::client::Builder::new()).await;
    let answer = second.ask("GET /second").await;
    let (fence, _) = second.send("GET /fence", &[("host", "another.test")], true).await;
    assert_eq!(fence.whole().await.unwrap().0, 400);
    drop(first);
    while larder.count("larder_connections") > 1 {
        tokio::task::yield_now().await;
    }
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)).accept(stream).await.unwrap();
    let mut gitlab = h2::server::handshake(tls).await.unwrap();
    let (asked, mut said) = gitlab.accept().await.unwrap().unwrap();
    assert_eq!(asked.uri().path(), "/second");
    said.send_response(http::Response::new(()), true).unwrap();
    let serving = tokio::spawn(async move { while gitlab.accept().await.is_some() {} });
    assert_eq!(answer.whole().await.unwrap().0, 200);
    serving.abort();
}
