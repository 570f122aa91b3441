//! Entries of archives of which their own bytes aren't here yet: who may wait for them, and for whom they are fetched.

use std::time::Duration;

use gitlab_standin::{Archive, Class, Effect, Ending, Fault, Gate, Level, Member, Seen, Storage, pattern};
use http::Method;

use crate::scene::{MODES, Scene};
use crate::support::{Exchange, Reply, get, open, send};

const LONG: usize = 12 << 20;

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = pattern(seed, 4096).repeat(length.div_ceil(4096));
    bytes.truncate(length);
    bytes
}

/// More than is fetched for the sake of one file, and a long one among it.
fn files() -> Archive {
    Archive::runner([
        Member::stored("small", bytes(1, 10_000)),
        Member::stored("padding", bytes(2, 80 << 20)),
        Member::stored("long", bytes(3, LONG)),
    ])
}

fn entry(scene: &Scene, name: &str) -> String {
    scene.api(&format!("/projects/{}/jobs/{}/artifacts/{name}", scene.project, scene.job))
}

async fn get_as(scene: &Scene, token: &str, name: &str) -> Reply {
    get(&entry(scene, name), &[("private-token", token)]).await
}

/// Of whose archive the directory and one small file are here.
async fn scene(storage: Storage) -> Scene {
    let scene = Scene::with(storage, files(), |config| config.access.ttl = Duration::ZERO).await;
    let held = async {
        while get_as(&scene, &scene.token, "small").await.cache() != "larder; hit" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held).await.expect("held in time");
    scene
}

/// What others would wait a minute for, if larder went on asking.
async fn at_once(reply: impl Future<Output = Reply>, context: &str) -> Reply {
    let reply = tokio::time::timeout(Duration::from_secs(20), reply).await;
    reply.unwrap_or_else(|_| panic!("{context}: nobody was answered"))
}

fn is_span(seen: &Seen) -> bool {
    let range = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let numbers = range.and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?)));
    numbers.is_some_and(|(from, to)| to - from > 4096)
}

fn on_span(scene: &Scene, effect: Effect) -> Fault {
    let fault = Fault::new(effect).when(is_span);
    if let Storage::Redirect { .. } = scene.storage { fault.on_store() } else { fault.on(Class::JobArchive) }
}

#[tokio::test]
async fn whoever_may_not_have_a_file_waits_for_nothing_and_keeps_nobody_waiting() {
    for storage in MODES {
        let scene = scene(storage).await;
        let path = format!("/group/project/-/jobs/{}/artifacts/raw/long", scene.job);
        let web = at_once(get(&format!("{}{path}", scene.larder.url()), &[]), "without a session").await;
        assert_eq!(web.status, 302, "{storage:?}: the sign-in page");
        let stranger = scene.stranger();
        let refused = at_once(get_as(&scene, &stranger, "long"), "a stranger").await;
        assert_eq!((refused.status.as_u16(), refused.cache()), (404, "larder; fwd=bypass; detail=refused"));
        assert!(!scene.gitlab.requests().iter().any(|seen| is_span(seen) && seen.carries(&stranger)));
        let hers = at_once(get_as(&scene, &scene.token, "long"), "alice").await;
        assert!(hers.body == bytes(3, LONG) && hers.cache() == "larder; fwd=partial; stored", "{storage:?}");
    }
}

#[tokio::test]
async fn while_gitlab_refuses_everybody_a_missing_file_is_its_refusal_at_once() {
    for storage in MODES {
        let scene = scene(storage).await;
        for status in [429, 502, 503] {
            let says = Effect::Answer { status, content_type: "text/plain", body: "later".into() };
            scene.gitlab.fault(Fault::new(says));
            let reply = at_once(get_as(&scene, &scene.token, "long"), "while it is down").await;
            assert_eq!(reply.status.as_u16(), status, "{storage:?}");
            scene.gitlab.clear_faults();
        }
    }
}

#[tokio::test]
async fn a_page_in_gitlabs_place_drops_nothing() {
    for storage in MODES {
        let scene = scene(storage).await;
        // Once as every answer, and once as that for the missing bytes alone.
        for fault in [Fault::new(Effect::Html), Fault::new(Effect::Html).when(is_span)] {
            scene.gitlab.fault(fault);
            let _ = at_once(get_as(&scene, &scene.token, "long"), "a page").await;
            scene.gitlab.clear_faults();
            let small = get_as(&scene, &scene.token, "small").await;
            assert_eq!(small.cache(), "larder; hit", "{storage:?}");
        }
    }
}

#[tokio::test]
async fn a_head_moves_nothing() {
    for storage in MODES {
        let scene = scene(storage).await;
        let before = scene.gitlab.counters().artifact_bytes();
        let head = send(Method::HEAD, &entry(&scene, "long"), &[("private-token", &scene.token)]).await;
        assert_eq!(head.status, 200, "{storage:?}");
        assert_eq!(head.field("content-length"), Some(LONG.to_string().as_str()), "{storage:?}");
        scene.fence().await;
        assert_eq!(scene.gitlab.counters().artifact_bytes() - before, 0, "{storage:?}");
    }
}

#[tokio::test]
async fn a_file_goes_on_in_its_readers_name_when_who_began_it_is_refused() {
    for storage in MODES {
        let scene = scene(storage).await;
        let bob = scene.member("bob", Level::Developer);
        let gate = Gate::new();
        scene.gitlab.fault(on_span(&scene, Effect::Slow(gate.clone())).once());
        scene.gitlab.fault(on_span(&scene, Effect::Cut { after: 5 << 20, ending: Ending::Close }).once());
        gate.release(3 << 20);
        let long = entry(&scene, "long");
        let opened = async |token: &str| -> Exchange {
            open(Method::GET, &long, &[("private-token", token)], "").await.expect("a head")
        };
        let (_hers, his) = (opened(&scene.token).await, opened(&bob).await);
        scene.gitlab.revoke(&scene.token);
        gate.open();
        let his = at_once(his.rest(), "bob").await;
        assert!(his.whole && his.body == bytes(3, LONG), "{storage:?}: {}", his.body.len());
    }
}

#[tokio::test]
async fn a_file_has_its_tag_once_all_of_its_archive_is_here() {
    for storage in MODES {
        let scene = scene(storage).await;
        assert_eq!(get_as(&scene, &scene.token, "small").await.field("etag"), None, "{storage:?}");
        assert!(scene.is_archive(&scene.get().await), "{storage:?}");
        scene.larder.stored(1).await;
        let tag = get_as(&scene, &scene.token, "small").await.field("etag").map(str::to_owned);
        let fields = [("private-token", scene.token.as_str()), ("if-none-match", tag.as_deref().unwrap())];
        assert_eq!(get(&entry(&scene, "small"), &fields).await.status, 304, "{storage:?}");
    }
}

#[tokio::test]
async fn many_who_ask_for_cold_files_at_once_cost_one_of_them_and_the_archives_part() {
    for storage in MODES {
        let scene = Scene::start(storage, files()).await;
        let asking = (0..32).map(|n| {
            let (name, expected) =
                if n % 2 == 0 { ("long", bytes(3, LONG)) } else { ("small", bytes(1, 10_000)) };
            let (url, token) = (entry(&scene, name), scene.token.clone());
            async move {
                let reply = get(&url, &[("private-token", &*token)]).await;
                reply.whole && reply.body == expected
            }
        });
        let got = asking.collect::<tokio::task::JoinSet<bool>>().join_all().await;
        assert!(got.iter().all(|right| *right), "{storage:?}");
        let (moved, long) = (scene.gitlab.counters().artifact_bytes(), u64::try_from(LONG).unwrap());
        // Each part is rounded to whole MiB.
        assert!(moved <= 2 * long + (6 << 20), "{storage:?}: {moved}");
    }
}

#[tokio::test]
async fn whoever_waits_for_another_ones_file_goes_on_when_that_one_is_refused_or_leaves() {
    for storage in MODES {
        for leaves in [false, true] {
            let scene = Scene::start(storage, files()).await;
            let stranger = scene.stranger();
            let gate = Gate::new();
            scene
                .gitlab
                .fault(Fault::new(Effect::Hold(gate.clone())).on(Class::JobEntry).carrying(&*stranger));
            let (url, token) = (entry(&scene, "small"), stranger.clone());
            let first = tokio::spawn(async move { get(&url, &[("private-token", &*token)]).await.status });
            gate.arrived(1).await;
            let (url, token) = (entry(&scene, "small"), scene.token.clone());
            let second = tokio::spawn(async move { get(&url, &[("private-token", &*token)]).await });
            scene.fence().await;
            if leaves {
                first.abort();
            } else {
                gate.open();
            }
            let second = at_once(async { second.await.unwrap() }, "the second").await;
            assert!(second.body == bytes(1, 10_000), "{storage:?} leaves: {leaves}");
            gate.open();
        }
    }
}
