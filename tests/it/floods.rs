//! One address that asks for all that there is, and another that wants its answer.

use std::time::Duration;

use bytes::Bytes;
use gitlab_standin::{Effect, Fault, Gate};
use h2::SendStream;
use larder::config::Config;

use crate::peer::{Answer, Call, Client, Link, Peer};
use crate::scene::{MODES, Scene, archive};

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

const GRPC: [(&str, &str); 1] = [("content-type", "application/grpc")];

/// Another client's address.
const OTHER: [u8; 4] = [127, 0, 0, 2];

/// Requests at once on one connection.
const STREAMS: usize = 100;

/// Changes that go on after their clients have left, of one address.
const LEFT: usize = 16;

/// Little time at the end.
fn brief(config: &mut Config) {
    config.server.drain = Duration::from_millis(200);
}

/// As many requests as a connection takes, all of them sent.
async fn flood(client: &mut Client, line: &str, fields: &[(&str, &str)]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..STREAMS {
        answers.push(client.send(line, fields, true).await.0);
    }
    answers
}

/// The calls that have come, up to one of this path.
async fn until(link: &mut Link, path: &str) -> (Vec<Call>, Call) {
    let mut calls = Vec::new();
    loop {
        let call = link.call().await;
        if call.path() == path {
            return (calls, call);
        }
        calls.push(call);
    }
}

/// How many of these are refused. Those that wait for longer are not: they go on waiting.
async fn refused(answers: Vec<Answer>, most: usize) -> Vec<tokio::task::JoinHandle<u16>> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut waiting = Vec::new();
    for answer in answers {
        let tell = tell.clone();
        waiting.push(tokio::spawn(async move {
            let status = answer.whole().await.map_or(0, |(status, _)| status);
            let _ = tell.send(status);
            status
        }));
    }
    for _ in 0..most {
        assert_eq!(told.recv().await, Some(503));
    }
    assert!(told.try_recv().is_err(), "no more than {most}");
    waiting
}

/// Ends while the flood goes on.
async fn ends(peer: Peer) {
    tokio::time::timeout(PATIENCE, peer.larder.stop()).await.expect("it ends within the drain");
}

#[tokio::test]
async fn an_address_that_wants_all_places_leaves_some_and_the_rest_is_refused_at_once() {
    let peer = Peer::with(|config| {
        config.upstream.max_connections = 64;
        brief(config);
    })
    .await;
    let (mut one, mut two) = (peer.client().await, peer.client().await);
    let mut answers = flood(&mut one, "POST /rpc", &GRPC).await;
    answers.extend(flood(&mut two, "POST /rpc", &GRPC).await);
    // All but a sixteenth are under way, as many wait.
    let (under_way, waiting) = (60, 60);
    let flood = refused(answers, 2 * STREAMS - under_way - waiting).await;
    let mut honest = Client::from(&peer.larder, OTHER).await;
    let mut link = peer.accept().await;
    let mut seen = 0;
    for _ in 0..5 {
        let answer = honest.ask("GET /honest").await;
        let (calls, mut call) = until(&mut link, "/honest").await;
        seen += calls.len();
        std::mem::forget(calls);
        call.ok("here");
        assert_eq!(answer.whole().await.unwrap(), (200, b"here".to_vec()));
    }
    assert_eq!(seen, under_way);
    ends(peer).await;
    drop(flood);
}

#[tokio::test]
async fn places_that_are_given_back_go_to_whoever_has_fewer() {
    let peer = Peer::with(|config| config.upstream.max_connections = 4).await;
    let (mut many, mut few) = (peer.client().await, Client::from(&peer.larder, OTHER).await);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(many.ask("GET /many").await);
    }
    let mut link = peer.accept().await;
    let mut calls: Vec<Call> = Vec::new();
    for _ in 0..3 {
        calls.push(link.call().await);
    }
    // One is free for another address, a second one waits.
    let (first, second) = (few.ask("GET /few/1").await, few.ask("GET /few/2").await);
    let mut first_call = link.call().await;
    assert_eq!(first_call.path(), "/few/1");
    calls.remove(0).ok("");
    let mut second_call = link.call().await;
    assert_eq!(second_call.path(), "/few/2", "before the two that came earlier");
    assert!(link.is_quiet());
    first_call.ok("");
    second_call.ok("");
    for answer in [first, second] {
        assert_eq!(answer.whole().await.unwrap().0, 200);
    }
    drop(held);
}

#[tokio::test]
async fn runners_of_one_address_that_wait_for_jobs_leave_places_for_anothers() {
    let peer = Peer::with(|config| config.upstream.max_connections = 4).await;
    let mut fleet = peer.client().await;
    let poll = "POST /api/v4/jobs/request";
    let mut polls = Vec::new();
    for _ in 0..3 {
        polls.push(fleet.ask(poll).await);
    }
    let mut link = peer.accept().await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(link.call().await);
    }
    polls.push(fleet.ask(poll).await);
    let mut runner = Client::from(&peer.larder, OTHER).await;
    let other = runner.ask(poll).await;
    link.call().await.ok("a job");
    assert_eq!(other.whole().await.unwrap(), (200, b"a job".to_vec()));
    assert!(link.is_quiet());
    // Whoever waits is served once one of its own address is.
    calls.remove(0).ok("");
    link.call().await.ok("a job");
    assert_eq!(polls.pop().unwrap().whole().await.unwrap(), (200, b"a job".to_vec()));
}

#[tokio::test]
async fn calls_that_gitlab_has_answered_leave_their_places_to_others() {
    let peer = Peer::with(|config| {
        config.upstream.max_connections = 4;
        config.upstream.read_timeout = Duration::from_secs(1);
        brief(config);
    })
    .await;
    let mut client = peer.client().await;
    let mut link = None;
    let mut calls: Vec<(SendStream<Bytes>, _)> = Vec::new();
    for at in 0..4 {
        let (answer, body) = client.send("POST /rpc", &GRPC, false).await;
        if link.is_none() {
            link = Some(peer.accept().await);
        }
        let mut call = link.as_mut().unwrap().call().await;
        let said = call.head(200, &GRPC);
        let (_, mut read) = answer.head().await.unwrap();
        if at < 3 {
            calls.push((body, (said, read)));
        } else {
            // There are no more places among the calls: it is as any other request is, and has been silent for too long.
            assert!(read.rest().await.is_err());
        }
    }
    let link = link.as_mut().unwrap();
    for _ in 0..3 {
        let answer = client.ask("GET /x").await;
        link.call().await.ok("x");
        assert_eq!(answer.whole().await.unwrap().0, 200);
    }
    for (_, (mut said, mut read)) in calls {
        said.send_data(Bytes::from_static(b"more"), true).unwrap();
        assert_eq!(read.rest().await.unwrap().0, b"more");
    }
}

const DELETE: &str = "DELETE /api/v4/projects/1/jobs/2/artifacts";

/// Once this is answered larder has looked at all that was sent before; GitLab doesn't hear of it.
async fn fence(client: &mut Client) {
    let (answer, _) = client.send("GET /fence", &[("host", "another.test")], true).await;
    assert_eq!(answer.whole().await.unwrap().0, 400);
}

/// All that have come so far.
async fn arrived(link: &mut Link, honest: &mut Client) -> Vec<Call> {
    let answer = honest.ask("GET /honest").await;
    let (calls, mut call) = until(link, "/honest").await;
    call.ok("");
    assert_eq!(answer.whole().await.unwrap().0, 200);
    calls
}

#[tokio::test]
async fn changes_whose_client_leaves_one_after_the_other_are_few_at_gitlab() {
    let peer = Peer::with(brief).await;
    let mut client = peer.client().await;
    for _ in 0..300 {
        drop(client.ask(DELETE).await);
        fence(&mut client).await;
    }
    let mut link = peer.accept().await;
    let mut honest = Client::from(&peer.larder, OTHER).await;
    let calls = arrived(&mut link, &mut honest).await;
    assert!(calls.len() <= LEFT, "{}", calls.len());
    // What was taken back before its turn isn't begun once there is room.
    for mut call in calls {
        call.ok("");
    }
    let answer = client.ask(DELETE).await;
    let (calls, mut call) = until(&mut link, "/api/v4/projects/1/jobs/2/artifacts").await;
    assert!(calls.is_empty());
    call.finish(204, &[]);
    assert_eq!(answer.whole().await.unwrap().0, 204);
    assert!(arrived(&mut link, &mut honest).await.is_empty());
}

#[tokio::test]
async fn changes_whose_clients_leave_all_at_once_are_no_more_than_a_connection_may_have() {
    let peer = Peer::with(brief).await;
    let mut client = peer.client().await;
    for _ in 0..5 {
        let answers = flood(&mut client, DELETE, &[]).await;
        // All have been begun that will be.
        let mut other = Client::from(&peer.larder, OTHER).await;
        fence(&mut other).await;
        drop(answers);
        fence(&mut client).await;
    }
    let mut link = peer.accept().await;
    let mut honest = Client::from(&peer.larder, OTHER).await;
    let answer = honest.ask(DELETE).await;
    // GitLab's connection takes as many as it likes to; what is more comes over the next.
    let mut next = peer.accept().await;
    let calls = {
        let mut calls = Vec::new();
        while calls.len() < STREAMS {
            calls.push(link.call().await);
        }
        calls
    };
    let mut call = next.call().await;
    call.finish(204, &[]);
    assert_eq!(answer.whole().await.unwrap().0, 204);
    assert!(link.is_quiet() && next.is_quiet());
    ends(peer).await;
    drop(calls);
}

#[tokio::test]
async fn an_honest_question_is_asked_while_another_address_asks_thousands() {
    let scene = Scene::with(MODES[1], archive(100_000, 1), brief).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    let gate = Gate::new();
    let token = scene.token.clone();
    scene.gitlab.fault(
        Fault::new(Effect::Hold(gate.clone())).when(move |seen| seen.header("private-token") != Some(&token)),
    );
    // Alice's yes has been remembered for too long.
    scene.larder.clock.advance(Duration::from_secs(3600));
    let before = scene.questions();
    let target = scene.url().replace(&scene.larder.url(), "GET ");
    let (mut clients, mut answers) = (Vec::new(), Vec::new());
    for one in 0..10 {
        let mut client = Client::with(&scene.larder, &h2::client::Builder::new()).await;
        for another in 0..STREAMS {
            let token = format!("nobody-{one}-{another}");
            answers.push(client.send(&target, &[("private-token", &token)], true).await.0);
        }
        clients.push(client);
    }
    while gate.arrivals() < 60 {
        tokio::task::yield_now().await;
    }
    let mut alice = Client::from(&scene.larder, OTHER).await;
    let (answer, _) = alice.send(&target, &[("private-token", &scene.token)], true).await;
    let (head, mut body) = answer.head().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["cache-status"]),
        (200, &"larder; hit".parse().unwrap())
    );
    assert!(body.rest().await.unwrap().0 == scene.archive.bytes().unwrap());
    assert!(scene.questions() - before <= 60 + 1, "{}", scene.questions() - before);
    tokio::time::timeout(PATIENCE, scene.larder.stop()).await.expect("it ends within the drain");
    drop(answers);
}
