//! Calls of gRPC: nothing but bytes, fields before and behind them, and both sides speaking at once.

use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue};
use larder::base::pace::Least;

use crate::peer::{Answer, Call, Client, Link, Peer};

const LINE: &str = "POST /gitlab.agent.rpc.Rpc/Stream";

const FIELDS: [(&str, &str); 5] = [
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("grpc-timeout", "10S"),
    ("grpc-encoding", "identity"),
    ("authorization", "Bearer agent"),
];

const HEAD: [(&str, &str); 1] = [("content-type", "application/grpc")];

/// A message, as gRPC frames it.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat().into()
}

fn trailers(status: &'static str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from_static(status));
    fields.insert("grpc-message", HeaderValue::from_static("all%20good"));
    fields.insert("x-custom-bin", HeaderValue::from_static("AAEC"));
    fields
}

/// A call that has reached GitLab, its request not yet ended.
async fn called(peer: &Peer, client: &mut Client) -> (Answer, SendStream<Bytes>, Link, Call) {
    let (answer, body) = client.send(LINE, &FIELDS, false).await;
    let mut link = peer.accept().await;
    let call = link.call().await;
    (answer, body, link, call)
}

#[tokio::test]
async fn a_unary_call_has_its_fields_before_and_behind() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let (answer, mut body, _link, mut call) = called(&peer, &mut client).await;
    for (name, value) in FIELDS {
        assert_eq!(call.field(name), Some(value), "{name}");
    }
    assert_eq!(call.field("content-length"), None);
    body.send_data(message("question"), true).unwrap();
    assert_eq!(call.body.rest().await.unwrap().0, message("question"));
    let mut said = call.head(200, &HEAD);
    said.send_data(message("answer"), false).unwrap();
    said.send_trailers(trailers("0")).unwrap();
    let (head, mut read) = answer.head().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"]),
        (200, &HeaderValue::from_static(HEAD[0].1))
    );
    let (bytes, behind) = read.rest().await.unwrap();
    assert_eq!((bytes, behind), (message("answer").to_vec(), Some(trailers("0"))));
}

#[tokio::test]
async fn both_sides_speak_in_turn_while_neither_has_ended() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let (answer, mut body, _link, mut call) = called(&peer, &mut client).await;
    let mut said = call.head(200, &HEAD);
    let (_, mut read) = answer.head().await.unwrap();
    for round in 0..5 {
        let (up, down) = (message(&format!("up {round}")), message(&format!("down {round}")));
        body.send_data(up.clone(), false).unwrap();
        assert_eq!(call.body.bytes(up.len()).await, up);
        said.send_data(down.clone(), false).unwrap();
        assert_eq!(read.bytes(down.len()).await, down);
    }
    // One side has nothing more to say, the other has.
    body.send_data(Bytes::new(), true).unwrap();
    assert_eq!(call.body.rest().await.unwrap(), (Vec::new(), None));
    said.send_data(message("last"), false).unwrap();
    assert_eq!(read.bytes(9).await, message("last"));
    said.send_trailers(trailers("0")).unwrap();
    assert_eq!(read.rest().await.unwrap(), (Vec::new(), Some(trailers("0"))));
}

#[tokio::test]
async fn what_a_server_streams_comes_message_by_message() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let (answer, mut body, _link, mut call) = called(&peer, &mut client).await;
    body.send_data(message("watch"), true).unwrap();
    call.body.rest().await.unwrap();
    let mut said = call.head(200, &HEAD);
    let (_, mut read) = answer.head().await.unwrap();
    for event in ["one", "two", "three"] {
        said.send_data(message(event), false).unwrap();
        assert_eq!(read.bytes(5 + event.len()).await, message(event));
    }
    said.send_trailers(trailers("14")).unwrap();
    assert_eq!(read.rest().await.unwrap().1, Some(trailers("14")));
}

#[tokio::test]
async fn an_answer_of_trailers_alone_stays_one() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let (answer, mut body, _link, mut call) = called(&peer, &mut client).await;
    body.send_data(message("x"), true).unwrap();
    call.finish(200, &[HEAD[0], ("grpc-status", "12"), ("grpc-message", "unknown service")]);
    let (head, mut read) = answer.head().await.unwrap();
    assert!(read.0.is_end_stream(), "nothing follows");
    assert_eq!(
        (&head.headers()["grpc-status"], &head.headers()["grpc-message"]),
        (&HeaderValue::from_static("12"), &HeaderValue::from_static("unknown service"))
    );
    assert_eq!(read.rest().await.unwrap(), (Vec::new(), None));
}

#[tokio::test]
async fn a_client_that_cancels_is_heard_of_before_and_behind_the_head() {
    for headed in [false, true] {
        let peer = Peer::start().await;
        let mut client = peer.client().await;
        let (answer, mut body, _link, mut call) = called(&peer, &mut client).await;
        body.send_data(message("x"), false).unwrap();
        assert_eq!(call.body.bytes(6).await, message("x"));
        if headed {
            let mut said = call.head(200, &HEAD);
            let (_, read) = answer.head().await.unwrap();
            body.send_reset(Reason::CANCEL);
            assert_eq!(std::future::poll_fn(|cx| said.poll_reset(cx)).await.unwrap(), Reason::CANCEL);
            drop(read);
        } else {
            body.send_reset(Reason::CANCEL);
            assert_eq!(call.taken_back().await, Reason::CANCEL);
        }
        assert!(call.body.rest().await.is_err(), "{headed}");
    }
}

#[tokio::test]
async fn a_server_that_cancels_is_heard_of_with_its_reason() {
    for reason in [Reason::CANCEL, Reason::ENHANCE_YOUR_CALM, Reason::INTERNAL_ERROR] {
        let peer = Peer::start().await;
        let mut client = peer.client().await;
        let (answer, mut body, _link, mut call) = called(&peer, &mut client).await;
        body.send_data(message("x"), false).unwrap();
        let mut said = call.head(200, &HEAD);
        said.send_data(message("y"), false).unwrap();
        let (_, mut read) = answer.head().await.unwrap();
        assert_eq!(read.bytes(6).await, message("y"));
        said.send_reset(reason);
        let error = read.rest().await.unwrap_err();
        assert_eq!((error.is_remote(), error.reason()), (true, Some(reason)));
    }
}

/// How long larder waits for others: their heads, and their bodies.
const BRIEF: Duration = Duration::from_secs(1);

async fn impatient() -> Peer {
    Peer::with(|config| {
        config.upstream.read_timeout = BRIEF;
        config.server.least = Least { rate: 1 << 20, over: BRIEF };
    })
    .await
}

#[tokio::test]
async fn a_call_may_be_silent_for_longer_than_others_once_gitlab_has_answered_it() {
    let peer = impatient().await;
    let mut client = peer.client().await;
    let (answer, mut body, mut link, mut call) = called(&peer, &mut client).await;
    let mut said = call.head(200, &HEAD);
    let (_, mut read) = answer.head().await.unwrap();
    // As long as others may be silent, before their heads and in their bodies.
    let other = client.ask("GET /other").await;
    let held = link.call().await;
    assert_eq!(other.whole().await.unwrap().0, 504);
    drop(held);
    let (slow, _slow_body) = client.send("POST /slow", &[("content-length", "5")], false).await;
    assert!(matches!(slow.whole().await, Ok((408 | 504, _)) | Err(_)));
    body.send_data(message("still"), false).unwrap();
    assert_eq!(call.body.bytes(10).await, message("still"));
    said.send_data(message("here"), false).unwrap();
    said.send_trailers(trailers("0")).unwrap();
    assert_eq!(read.rest().await.unwrap(), (message("here").to_vec(), Some(trailers("0"))));
}

#[tokio::test]
async fn what_only_says_that_it_is_a_call_is_cut_as_anything_else_is() {
    for ended in [true, false] {
        // GitLab doesn't answer.
        let peer = impatient().await;
        let mut client = peer.client().await;
        let (answer, _body) = client.send(LINE, &FIELDS, ended).await;
        let mut link = peer.accept().await;
        let mut call = link.call().await;
        assert!(matches!(answer.whole().await, Ok((408 | 504, _)) | Err(_)), "{ended}");
        call.taken_back().await;
        // It answers, and not as a call.
        let (answer, _body) = client.send(LINE, &FIELDS, ended).await;
        let mut link = peer.accept().await;
        let mut call = link.call().await;
        let mut said = call.head(200, &[("content-type", "application/json")]);
        assert!(answer.whole().await.is_err(), "{ended}");
        std::future::poll_fn(|cx| said.poll_reset(cx)).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_gitlab_refused_unseen_is_sent_again_from_its_first_byte() {
    let peer = Peer::start().await;
    let mut client = peer.client().await;
    let (answer, mut body) = client.send(LINE, &FIELDS, false).await;
    body.send_data(message("early"), false).unwrap();
    peer.accept_and_leave().await.ended().await;
    let mut link = peer.accept().await;
    let mut call = link.call().await;
    assert_eq!(call.body.bytes(10).await, message("early"));
    body.send_data(message("late"), true).unwrap();
    assert_eq!(call.body.rest().await.unwrap().0, message("late"));
    call.finish(200, &[HEAD[0], ("grpc-status", "0")]);
    assert_eq!(answer.whole().await.unwrap().0, 200);
}
