//! Archives of a GitLab that larder speaks HTTP/2 with: fills, questions, parts, cuts, on few connections.

use std::time::Duration;

use gitlab_standin::{Effect, Ending, Fault, Level, Seen};
use larder::upstream::Http2;

use crate::scene::{MODES, Scene, archive};
use crate::support::get;

const SIZE: u64 = 2_000_000;

async fn scene(storage: gitlab_standin::Storage, seed: u64) -> Scene {
    let known = Http2::PriorKnowledge;
    Scene::with(storage, archive(SIZE, seed), |config| config.upstream.http2 = known).await
}

/// Requests passed on, questions and fills have one each.
const CONNECTIONS: u64 = 3;

#[tokio::test]
async fn an_archive_comes_once_and_is_asked_for_by_each_on_few_connections() {
    for storage in MODES {
        let scene = scene(storage, 1).await;
        let bytes = scene.archive.bytes().unwrap();
        let cold = scene.get().await;
        assert!(scene.is_archive(&cold), "{storage:?}: {} {}", cold.status, cold.body.len());
        assert_eq!(cold.cache(), "larder; fwd=miss; stored", "{storage:?}");
        scene.larder.stored(1).await;
        for at in 0..10_usize {
            let token = scene.member(&format!("user{at}"), Level::Developer);
            let hit = scene.get_as(&token).await;
            assert!(scene.is_archive(&hit) && hit.cache() == "larder; hit", "{storage:?}: {}", hit.cache());
            let range = format!("bytes={at}-{}", at + 99_999);
            let part = get(&scene.url(), &[("private-token", &token), ("range", &range)]).await;
            assert!(part.status == 206 && part.body == bytes[at..at + 100_000], "{storage:?}");
        }
        assert_eq!(scene.get_as(&scene.stranger()).await.status, 404, "{storage:?}");
        assert_eq!(scene.transfers(), 1, "{storage:?}");
        scene.fence().await;
        assert!(scene.gitlab.counters().connections <= CONNECTIONS, "{storage:?}");
    }
}

#[tokio::test]
async fn a_transfer_that_is_reset_is_taken_up_where_it_stopped() {
    for storage in MODES {
        for after in [4, SIZE / 2, SIZE - 1] {
            let scene = scene(storage, 2).await;
            scene.gitlab.fault(scene.on_transfer(Effect::Cut { after, ending: Ending::Close }).once());
            let reply = scene.get().await;
            assert!(scene.is_archive(&reply), "{storage:?} {after}: {} {}", reply.status, reply.body.len());
            assert_eq!(reply.cache(), "larder; fwd=miss; stored", "{storage:?} {after}");
            assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?} {after}");
        }
    }
}

#[tokio::test]
async fn a_transfer_that_is_reset_never_looks_whole() {
    for storage in MODES {
        let scene = Scene::with(storage, archive(SIZE, 3), |config| {
            config.upstream.http2 = Http2::PriorKnowledge;
            config.upstream.resume_timeout = Duration::ZERO;
        })
        .await;
        // Without a length there is nothing but its end to tell.
        scene.gitlab.fault(scene.on_transfer(Effect::Chunked).once());
        scene.gitlab.fault(scene.on_transfer(Effect::Cut { after: SIZE / 2, ending: Ending::Close }).once());
        let reply = scene.get().await;
        assert!(!scene.is_archive(&reply) && (reply.status != 200 || !reply.whole), "{storage:?}");
        let again = scene.get().await;
        assert!(scene.is_archive(&again), "{storage:?}");
        assert_eq!(again.cache(), "larder; fwd=miss; stored", "{storage:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_a_question_is_reset_and_the_connection_goes_on() {
    let scene = scene(MODES[1], 4).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    assert_eq!(scene.get_as(&scene.member("ann", Level::Developer)).await.cache(), "larder; hit");
    let before = scene.gitlab.counters();
    let asks = |seen: &Seen| seen.header("range").is_some();
    scene.gitlab.fault(Fault::new(Effect::IgnoreRange).when(asks).once());
    let hit = scene.get_as(&scene.member("bob", Level::Developer)).await;
    assert!(scene.is_archive(&hit));
    let sent = scene.gitlab.counters().artifact_bytes() - before.artifact_bytes();
    assert!(sent < SIZE, "{sent}");
    let hit = scene.get_as(&scene.member("eve", Level::Developer)).await;
    assert_eq!(hit.cache(), "larder; hit");
    assert_eq!(scene.gitlab.counters().connections, before.connections);
}
