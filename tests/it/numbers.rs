//! What fronts write on each request makes no two callers of one; and what one question says isn't asked twice.

use std::sync::Arc;
use std::time::Duration;

use gitlab_standin::{Archive, Class, Etag, Level, Member, Seen, Storage};
use larder::http::hop::Ignored;

use crate::scene::{Scene, archive};
use crate::support::get;

const LOCAL: Storage = Storage::Local { etag: Etag::Weak };

/// Fields that tracing and well-known fronts add, with another value on each request.
const NUMBERS: [&str; 22] = [
    "X-Amzn-Trace-Id",
    "CF-Ray",
    "X-Cloud-Trace-Context",
    "b3",
    "X-B3-TraceId",
    "X-B3-Sampled",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "Request-Id",
    "Request-Context",
    "x-ms-client-request-id",
    "X-Azure-Ref",
    "X-Varnish",
    "X-Request-Start",
    "X-Queue-Start",
    "X_Request_Start",
    "X-Correlation-Id",
    "uber-trace-id",
    "sentry-trace",
    "baggage",
    "traceparent",
    "X-Request-Id",
];

#[tokio::test]
async fn numbers_that_fronts_give_each_request_are_harmless() {
    for name in NUMBERS {
        let scene = Scene::start(LOCAL, archive(20_000, 1)).await;
        for turn in 0..4 {
            let (number, token) = (format!("n{turn}"), scene.token.as_str());
            let reply = get(&scene.url(), &[("private-token", token), (name, &number)]).await;
            assert!(scene.is_archive(&reply), "{name}");
            if turn == 0 {
                scene.larder.stored(1).await;
            }
        }
        assert_eq!(scene.questions(), 1, "{name}");
    }
}

#[tokio::test]
async fn other_numbers_are_so_where_the_operator_says_so_and_everything_else_still_counts() {
    for ignored in [false, true] {
        let scene = Scene::with(LOCAL, archive(20_000, 2), |config| {
            if ignored {
                let names = ["x-edge-number".parse().unwrap()];
                config.serving.ignore_fields = Arc::new(Ignored::new(&names));
            }
        })
        .await;
        let ask = async |number: &str, other: &str| {
            let fields =
                [("private-token", scene.token.as_str()), ("X_Edge_Number", number), ("x-other", other)];
            assert!(scene.is_archive(&get(&scene.url(), &fields).await));
        };
        ask("1", "a").await;
        scene.larder.stored(1).await;
        ask("2", "a").await;
        ask("3", "a").await;
        assert_eq!(scene.questions(), if ignored { 1 } else { 3 });
        ask("3", "b").await;
        assert_eq!(scene.questions(), if ignored { 2 } else { 4 });
        let asked = scene.gitlab.requests_of(Class::JobArchive);
        assert_eq!(asked.iter().any(|seen| seen.header("x_edge_number").is_some()), !ignored);
        // Whoever isn't let in stays outside.
        let fields = [("private-token", "wrong"), ("x-edge-number", "1")];
        assert_eq!(get(&scene.url(), &fields).await.status, 401);
    }
}

fn files() -> Archive {
    let member = |name: &str, fill: u8| Member::stored(name, vec![fill; 5_000]);
    Archive::runner([member("a.txt", b'a'), member("b.txt", b'b')])
}

/// Questions about the archive, and about its files.
fn asked(scene: &Scene, token: &str) -> [usize; 2] {
    [Class::JobArchive, Class::JobEntry].map(|class| {
        let of = |seen: &&Seen| seen.carries(token);
        scene.gitlab.requests_of(class).iter().filter(of).count()
    })
}

#[tokio::test]
async fn a_file_of_an_archive_that_its_caller_was_let_in_to_costs_one_question_and_the_other_way_round() {
    let scene = Scene::start(LOCAL, files()).await;
    let file =
        |name: &str| scene.api(&format!("/projects/{}/jobs/{}/artifacts/{name}", scene.project, scene.job));
    let [bob, carol] = ["bob", "carol"].map(|name| scene.member(name, Level::Developer));
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    // The archive, then its files.
    assert!(scene.is_archive(&scene.get_as(&bob).await));
    for name in ["a.txt", "b.txt"] {
        let reply = get(&file(name), &[("private-token", &bob)]).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 5_000), "{name}");
    }
    assert_eq!(asked(&scene, &bob), [1, 1]);
    // A file, then the archive.
    assert_eq!(get(&file("a.txt"), &[("private-token", &carol)]).await.cache(), "larder; hit");
    assert!(scene.is_archive(&scene.get_as(&carol).await));
    assert_eq!(asked(&scene, &carol), [1, 1]);
    // What was remembered is no older for it.
    scene.larder.clock.advance(Duration::from_secs(61));
    assert!(scene.is_archive(&scene.get_as(&carol).await));
    assert_eq!(asked(&scene, &carol), [2, 1]);
    assert_eq!(get(&file("b.txt"), &[("private-token", &carol)]).await.cache(), "larder; hit");
    assert_eq!(asked(&scene, &carol), [2, 2]);
}

#[tokio::test]
async fn a_yes_to_the_archive_is_none_to_its_files_where_gitlab_has_let_them_expire() {
    let scene = Scene::start(LOCAL, files()).await;
    let file = scene.api(&format!("/projects/{}/jobs/{}/artifacts/a.txt", scene.project, scene.job));
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.gitlab.expire(scene.job);
    assert_eq!(get(&file, &[("private-token", &scene.token)]).await.status, 404);
    assert!(scene.is_archive(&scene.get().await), "the archive as before");
}

#[tokio::test]
async fn a_file_waits_no_longer_for_revocation_than_the_archive_it_was_named_by() {
    let scene = Scene::start(LOCAL, files()).await;
    let file = scene.api(&format!("/projects/{}/jobs/{}/artifacts/a.txt", scene.project, scene.job));
    let fields = [("private-token", scene.token.as_str())];
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.clock.advance(Duration::from_secs(40));
    assert_eq!(get(&file, &fields).await.cache(), "larder; hit");
    let before = asked(&scene, &scene.token);
    // Named by what was asked 40 s ago: it is as old as that.
    scene.larder.clock.advance(Duration::from_secs(21));
    assert_eq!(get(&file, &fields).await.cache(), "larder; hit");
    assert_eq!(asked(&scene, &scene.token), [before[0] + 1, before[1] + 1]);
}
