//! Those whom GitLab doesn't let in, in front of those whom it does: nobody waits for one after the other of them, and what
//! they wanted crosses once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gitlab_standin::{
    Archive, Class, Effect, Fault, Gate, JobStatus, Level, Member, PipelineStatus, Seen, Storage,
};
use tokio::task::{JoinHandle, JoinSet};

use crate::scene::{MODES, Scene, archive};
use crate::support::{Reply, get, through};

const HONEST: usize = 12;

/// What must not wait for anybody, within a time that is long enough for any machine.
async fn at_once<T>(what: impl Future<Output = T>, name: &str) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.unwrap_or_else(|_| panic!("{name} waits"))
}

fn asks(url: &str, token: &str) -> JoinHandle<Reply> {
    let (url, token) = (url.to_owned(), token.to_owned());
    tokio::spawn(async move { get(&url, &[("private-token", &*token)]).await })
}

/// Developers, each with a token of its own.
fn developers(scene: &Scene) -> Vec<String> {
    (0..HONEST).map(|n| scene.member(&format!("dev{n}"), Level::Developer)).collect()
}

/// Strangers that ask again and again.
struct Flood {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    asking: JoinSet<()>,
}

impl Flood {
    fn of(count: usize, url: &str, token: &str) -> Self {
        let (stop, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let asking = (0..count)
            .map(|_| {
                let (stop, refused) = (Arc::clone(&stop), Arc::clone(&refused));
                let (url, token) = (url.to_owned(), token.to_owned());
                async move {
                    while !stop.load(Ordering::SeqCst) {
                        assert_eq!(get(&url, &[("private-token", &*token)]).await.status, 404);
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
            .collect();
        Self { stop, refused, asking }
    }

    /// Until so many more have been refused.
    async fn goes_on(&self, more: u64) {
        let enough = self.refused.load(Ordering::SeqCst) + more;
        while self.refused.load(Ordering::SeqCst) < enough {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.asking.join_all().await;
    }
}

/// Bytes of archives and files that went to those who were let in.
fn crossed(scene: &Scene) -> u64 {
    let counters = scene.gitlab.counters();
    counters.artifact_bytes() - 35 * counters.statuses.get(&404).copied().unwrap_or_default()
}

#[tokio::test]
async fn whoever_is_let_in_leads_though_another_stranger_has_come_before_it() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(1 << 20, 1)).await;
        let (strange, honest, stranger) = (Gate::new(), Gate::new(), scene.stranger());
        scene.gitlab.fault(Fault::new(Effect::Hold(strange.clone())).carrying(&*stranger));
        let archives = |seen: &Seen| seen.class == Class::JobArchive;
        scene.gitlab.fault(Fault::new(Effect::Hold(honest.clone())).carrying(&*scene.token).when(archives));
        let first = asks(&scene.url(), &stranger);
        at_once(strange.arrived(1), "the first stranger").await;
        let alice = asks(&scene.url(), &scene.token);
        // One that comes behind the first as well.
        let behind = asks(&scene.url(), &stranger);
        scene.fence().await;
        strange.release(1);
        assert_eq!(at_once(async { first.await.unwrap() }, "the first stranger").await.status, 404);
        // She is asked for, or leads; meanwhile more strangers come.
        at_once(honest.arrived(1), "alice").await;
        let more: Vec<_> = (0..4).map(|_| asks(&scene.url(), &stranger)).collect();
        at_once(strange.arrived(2), "another stranger").await;
        honest.open();
        let reply = at_once(async { alice.await.unwrap() }, "alice").await;
        assert!(scene.is_archive(&reply), "{storage:?}");
        assert_eq!(reply.cache(), "larder; fwd=miss; stored", "{storage:?}");
        strange.open();
        for stranger in more.into_iter().chain([behind]) {
            assert_eq!(stranger.await.unwrap().status, 404, "{storage:?}");
        }
        scene.larder.stored(1).await;
        assert!(crossed(&scene) <= scene.archive.len() + 1026, "{storage:?}: {}", crossed(&scene));
    }
}

#[tokio::test]
async fn an_archive_crosses_once_however_many_strangers_ask_for_it_meanwhile() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(1 << 20, 2)).await;
        let developers = developers(&scene);
        let flood = Flood::of(24, &scene.url(), &scene.stranger());
        flood.goes_on(24).await;
        let honest: Vec<_> = developers.iter().map(|token| asks(&scene.url(), token)).collect();
        let mut stored = 0;
        for reply in honest {
            let reply = at_once(async { reply.await.unwrap() }, "a developer").await;
            assert!(scene.is_archive(&reply), "{storage:?}: {}", reply.status);
            assert!(!reply.cache().contains("bypass"), "{storage:?}: {}", reply.cache());
            stored += usize::from(reply.cache() == "larder; fwd=miss; stored");
        }
        flood.goes_on(24).await;
        flood.end().await;
        assert_eq!(stored, 1, "{storage:?}");
        // Each asks once who comes before strangers, and once more to follow.
        let most = scene.archive.len() + u64::try_from(HONEST).unwrap() * 1026;
        assert!((scene.archive.len()..=most).contains(&crossed(&scene)), "{storage:?}: {}", crossed(&scene));
        let asked = scene.gitlab.requests();
        for token in &developers {
            let of_one = asked.iter().filter(|seen| seen.header("private-token") == Some(token)).count();
            assert!(of_one <= 3, "{storage:?}: {of_one}");
        }
    }
}

#[tokio::test]
async fn by_ref_it_is_the_same() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(1 << 20, 3)).await;
        let pipeline = scene.gitlab.pipeline(scene.project, "topic", PipelineStatus::Success);
        let job = scene.gitlab.job_in(pipeline, "build", JobStatus::Success);
        scene.gitlab.put_archive(job, scene.archive.clone());
        let url = scene.gitlab.ref_url(scene.project, "topic", "build");
        let url = through(&scene.gitlab, &scene.larder, &url);
        let developers = developers(&scene);
        let flood = Flood::of(24, &url, &scene.stranger());
        flood.goes_on(24).await;
        let honest: Vec<_> = developers.iter().map(|token| asks(&url, token)).collect();
        for reply in honest {
            let reply = at_once(async { reply.await.unwrap() }, "a developer").await;
            assert!(scene.is_archive(&reply), "{storage:?}: {}", reply.status);
            assert!(!reply.cache().contains("bypass"), "{storage:?}: {}", reply.cache());
        }
        flood.end().await;
        let most = scene.archive.len() + u64::try_from(HONEST).unwrap() * 2 * 1026;
        assert!((scene.archive.len()..=most).contains(&crossed(&scene)), "{storage:?}: {}", crossed(&scene));
    }
}

fn files() -> Archive {
    let member = |name: &str, fill: u8, length: usize| Member::stored(name, vec![fill; length]);
    Archive::runner([member("small", b's', 100_000), member("other", b'o', 700_000)])
}

#[tokio::test]
async fn behind_a_stranger_who_wants_a_file_one_goes_first_and_the_others_have_it_from_the_archive() {
    for storage in MODES {
        let scene = Scene::start(storage, files()).await;
        let (gate, stranger, developers) = (Gate::new(), scene.stranger(), developers(&scene));
        let url = scene.api(&format!("/projects/{}/jobs/{}/artifacts/small", scene.project, scene.job));
        scene.gitlab.fault(Fault::new(Effect::Hold(gate.clone())).on(Class::JobEntry).carrying(&*stranger));
        let first = asks(&url, &stranger);
        at_once(gate.arrived(1), "the first stranger").await;
        let honest: Vec<_> = developers.iter().map(|token| asks(&url, token)).collect();
        scene.fence().await;
        gate.release(1);
        assert_eq!(first.await.unwrap().status, 404);
        // Another comes and is held: nobody waits for it.
        let second = asks(&url, &stranger);
        let mut passed = 0;
        for reply in honest {
            let reply = at_once(async { reply.await.unwrap() }, "a developer").await;
            assert!(reply.body == vec![b's'; 100_000], "{storage:?}: {}", reply.status);
            passed += usize::from(reply.cache() == "larder; fwd=miss");
        }
        gate.open();
        assert_eq!(second.await.unwrap().status, 404);
        // Those that came too late to wait for the stranger may have led before the rest did.
        assert!(passed <= 2, "{storage:?}: {passed}");
    }
}

#[tokio::test]
async fn pages_for_some_keep_nobody_from_the_archive_either() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(1 << 20, 4)).await;
        let (gate, developers) = (Gate::new(), developers(&scene));
        let (gated, honest) = developers.split_at(HONEST / 2);
        for token in gated {
            scene.gitlab.fault(Fault::new(Effect::Html).carrying(&**token));
        }
        scene.gitlab.fault(Fault::new(Effect::Hold(gate.clone())).carrying(&*gated[0]).once());
        let first = asks(&scene.url(), &gated[0]);
        at_once(gate.arrived(1), "the first").await;
        let pages: Vec<_> = gated.iter().skip(1).map(|token| asks(&scene.url(), token)).collect();
        let honest: Vec<_> = honest.iter().map(|token| asks(&scene.url(), token)).collect();
        scene.fence().await;
        gate.open();
        for page in pages.into_iter().chain([first]) {
            let page = at_once(async { page.await.unwrap() }, "a page").await;
            assert!(page.field("content-type").is_some_and(|kind| kind.starts_with("text/html")));
        }
        for reply in honest {
            assert!(scene.is_archive(&at_once(async { reply.await.unwrap() }, "a developer").await));
        }
        scene.larder.stored(1).await;
        assert_eq!(scene.larder.count("larder_fills_total{result=\"stored\"}"), 1, "{storage:?}");
    }
}

#[tokio::test]
async fn what_is_no_archive_for_anybody_is_told_to_all_in_two_turns() {
    let redirects = Storage::Redirect { job_id_in_path: false };
    let scene = Scene::start(redirects, archive(1 << 20, 5)).await;
    let (gate, developers) = (Gate::new(), developers(&scene));
    scene.gitlab.fault(Fault::new(Effect::Body(Bytes::from_static(b"no zip at all"))).on_store());
    let whole = |seen: &Seen| seen.header("range").is_none();
    scene.gitlab.fault(Fault::new(Effect::Hold(gate.clone())).when(whole).once());
    let all: Vec<_> = developers.iter().map(|token| asks(&scene.url(), token)).collect();
    at_once(gate.arrived(1), "the first").await;
    scene.fence().await;
    gate.open();
    for reply in all {
        assert_eq!(at_once(async { reply.await.unwrap() }, "one of them").await.status, 302);
    }
    let store = scene.gitlab.counters().store_requests;
    assert!(store <= 3, "{store}");
}

#[tokio::test]
async fn strangers_on_other_archives_take_no_fills_place() {
    let scene = Scene::start(MODES[1], archive(1 << 20, 6)).await;
    let (gate, stranger) = (Gate::new(), scene.stranger());
    scene.gitlab.fault(Fault::new(Effect::Hold(gate.clone())).carrying(&*stranger));
    let others: Vec<_> = (0..130)
        .map(|_| {
            let job = scene.gitlab.job(scene.project, JobStatus::Success);
            scene.gitlab.put_archive(job, archive(3_000, 7));
            asks(&through(&scene.gitlab, &scene.larder, &scene.gitlab.archive_url(job)), &stranger)
        })
        .collect();
    at_once(gate.arrived(130), "the strangers").await;
    let reply = scene.get().await;
    assert!(scene.is_archive(&reply));
    assert_eq!(reply.cache(), "larder; fwd=miss; stored");
    gate.open();
    for other in others {
        assert_eq!(other.await.unwrap().status, 404);
    }
}
