//! GitLab hangs, or is down: that is found out once, remembered for some seconds, and over as soon as it answers.

use std::sync::Arc;
use std::time::Duration;

use gitlab_standin::{
    Class, Effect, Etag, Fault, FaultHandle, Gate, Level, Listening, Seen, Server, Storage,
};
use larder::config::Config;
use tokio::net::TcpListener;

use crate::scene::{MODES, Scene, archive};
use crate::support::{Larder, get, send};

const LOCAL: Storage = Storage::Local { etag: Etag::Weak };
const HOUR: Duration = Duration::from_secs(3600);

/// An hour's patience for all but a question's answer: what waits for anything else never ends here.
fn impatient(config: &mut Config) {
    config.upstream.connect_timeout = HOUR;
    config.upstream.read_timeout = HOUR;
    config.upstream.answer_timeout = Duration::from_millis(500);
}

fn graceful(config: &mut Config) {
    impatient(config);
    config.access = larder::access::Settings { ttl: Duration::ZERO, grace: HOUR };
}

/// Everything waits.
fn hang(scene: &Scene) -> (Gate, FaultHandle) {
    let gate = Gate::new();
    let handle = scene.gitlab.fault(Fault::new(Effect::Hold(gate.clone())));
    (gate, handle)
}

/// Requests that carry somebody's token.
fn asked_by(scene: &Scene, token: &str) -> usize {
    scene.gitlab.requests().iter().filter(|seen: &&Seen| seen.carries(token)).count()
}

#[tokio::test]
async fn after_the_first_who_waits_for_a_gitlab_that_hangs_grace_answers_at_once() {
    for storage in MODES {
        let scene = Scene::with(storage, archive(20_000, 1), graceful).await;
        let bob = scene.member("bob", Level::Developer);
        assert!(scene.is_archive(&scene.get().await));
        scene.larder.stored(1).await;
        assert!(scene.is_archive(&scene.get().await), "and so a grant is remembered");
        scene.gitlab.reset_counters();
        let (_gate, _fault) = hang(&scene);
        assert!(scene.is_archive(&scene.get().await), "{storage:?}");
        assert_eq!(asked_by(&scene, &scene.token), 1, "{storage:?}");
        for _ in 0..3 {
            let hit = scene.get().await;
            assert!(scene.is_archive(&hit) && hit.cache() == "larder; hit", "{storage:?}");
            assert_eq!(scene.get_as(&bob).await.status, 504, "{storage:?}");
            // So does what passes.
            let fields = [("private-token", bob.as_str())];
            let passing = get(&scene.api("/user"), &fields).await;
            assert_eq!(passing.field("proxy-status"), Some("larder; error=connection_read_timeout"));
            assert_eq!(send(http::Method::POST, &scene.api("/projects"), &fields).await.status, 504);
        }
        assert_eq!(asked_by(&scene, &scene.token), 1, "{storage:?}: nobody else waits for it");
        assert_eq!(asked_by(&scene, &bob), 0, "{storage:?}");
        scene.gitlab.clear_faults();
        assert_eq!(get(&scene.api("/version"), &[("private-token", &bob)]).await.status, 200);
        assert!(scene.is_archive(&scene.get_as(&bob).await), "{storage:?}: GitLab is there again");
        assert!(scene.is_archive(&scene.get().await), "{storage:?}");
        assert_eq!(asked_by(&scene, &scene.token), 2, "{storage:?}: and is asked");
    }
}

#[tokio::test]
async fn what_was_found_out_when_nothing_was_held_is_remembered_for_everybody_as_well() {
    for range in [None, Some("bytes=-100")] {
        let scene = Scene::with(LOCAL, archive(20_000, 2), impatient).await;
        let (_gate, _fault) = hang(&scene);
        for (token, asked) in [(scene.token.clone(), 1), (scene.member("bob", Level::Developer), 0)] {
            let mut fields = vec![("private-token", token.as_str())];
            fields.extend(range.map(|range| ("range", range)));
            let reply = get(&scene.url(), &fields).await;
            assert_eq!(reply.status, 504, "{range:?}");
            assert_eq!(asked_by(&scene, &token), asked, "{range:?}");
        }
        scene.gitlab.clear_faults();
        assert!(scene.is_archive(&scene.get().await), "{range:?}");
    }
}

#[tokio::test]
async fn what_is_remembered_is_forgotten_after_some_seconds_and_then_everybody_asks_for_itself() {
    let scene = Scene::with(LOCAL, archive(20_000, 3), graceful).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    scene.get().await;
    scene.gitlab.reset_counters();
    let own = |seen: &Seen| seen.header("private-token").is_none();
    // Of larder's own questions nothing is ever heard: what stands before GitLab may drop them.
    scene.gitlab.fault(Fault::new(Effect::Hold(Gate::new())).when(own));
    let held = scene.gitlab.fault(Fault::new(Effect::Hold(Gate::new())).carrying(scene.token.clone()));
    assert!(scene.is_archive(&scene.get().await));
    drop(held);
    scene.gitlab.clear_faults();
    scene.gitlab.fault(Fault::new(Effect::Hold(Gate::new())).when(own));
    assert!(scene.is_archive(&scene.get().await), "by grace");
    assert_eq!(asked_by(&scene, &scene.token), 1);
    scene.larder.clock.advance(Duration::from_secs(6));
    assert!(scene.is_archive(&scene.get().await));
    assert_eq!(asked_by(&scene, &scene.token), 2, "GitLab answers her");
    assert!(scene.is_archive(&scene.get().await));
    assert_eq!(asked_by(&scene, &scene.token), 3, "and so it is up");
}

#[tokio::test]
async fn the_wait_for_an_answer_is_all_connection_and_handshake_included() {
    // Takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("https://{}", listener.local_addr().unwrap());
    for http2 in [larder::upstream::Http2::Auto, larder::upstream::Http2::Off] {
        let change = |config: &mut Config| {
            impatient(config);
            config.upstream.http2 = http2;
        };
        let larder = Larder::on(&upstream, Arc::new(tempfile::tempdir().unwrap()), change).await;
        for path in ["/projects/1/jobs/2/artifacts", "/projects/1/jobs/artifacts/main/download?job=a"] {
            let reply = get(&format!("{}/api/v4{path}", larder.url()), &[]).await;
            assert_eq!(reply.status, 504, "{http2:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_there_in_time_tls_included() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("https://{}", listener.local_addr().unwrap());
    for http2 in [larder::upstream::Http2::Auto, larder::upstream::Http2::Off] {
        let change = |config: &mut Config| {
            config.upstream.read_timeout = HOUR;
            config.upstream.connect_timeout = Duration::from_millis(100);
            config.upstream.http2 = http2;
        };
        let larder = Larder::on(&upstream, Arc::new(tempfile::tempdir().unwrap()), change).await;
        let reply = get(&format!("{}/echo", larder.url()), &[]).await;
        assert_eq!(reply.field("proxy-status"), Some("larder; error=connection_timeout"), "{http2:?}");
    }
}

#[tokio::test]
async fn gitlabs_own_503_is_relayed_without_grace_and_forgiven_by_it() {
    let says =
        || Effect::Answer { status: 503, content_type: "text/html", body: "GitLab is not responding".into() };
    for grace in [Duration::ZERO, HOUR] {
        let change = |config: &mut Config| {
            config.access = larder::access::Settings { ttl: Duration::ZERO, grace };
        };
        let scene = Scene::with(LOCAL, archive(20_000, 4), change).await;
        assert!(scene.is_archive(&scene.get().await));
        scene.larder.stored(1).await;
        scene.get().await;
        scene.gitlab.fault(Fault::new(says()));
        for _ in 0..3 {
            let reply = scene.get().await;
            if grace.is_zero() {
                assert_eq!(
                    (reply.status.as_u16(), &*reply.body),
                    (503, b"GitLab is not responding".as_slice())
                );
                assert_eq!(reply.field("proxy-status"), None);
            } else {
                assert!(scene.is_archive(&reply));
            }
            let passing = get(&scene.api("/user"), &[("private-token", &scene.token)]).await;
            assert_eq!(&*passing.body, b"GitLab is not responding", "it says so itself");
        }
        // To one alone it is no outage.
        scene.gitlab.clear_faults();
        let limited = Fault::new(says()).on(Class::JobArchive).carrying(scene.token.clone());
        scene.gitlab.fault(limited);
        assert_eq!(scene.get().await.status, 503);
    }
}

#[tokio::test]
async fn a_gitlab_that_is_back_is_noticed_by_the_next_who_asks() {
    let scene = Scene::with(LOCAL, archive(20_000, 5), graceful).await;
    let bob = scene.member("bob", Level::Developer);
    for _ in 0..3 {
        scene.gitlab.set_listening(Server::Gitlab, Listening::Refuse).unwrap();
        assert_eq!(scene.get_as(&bob).await.status, 502);
        assert_eq!(get(&scene.api("/user"), &[("private-token", &bob)]).await.status, 502);
        scene.gitlab.set_listening(Server::Gitlab, Listening::Open).unwrap();
        assert_eq!(get(&scene.api("/user"), &[("private-token", &bob)]).await.status, 200);
        assert!(scene.is_archive(&scene.get().await));
    }
}
