//! One transfer an archive: however many ask, whoever leaves, whoever is slow.

use bytes::Bytes;
use gitlab_standin::{Archive, Effect, Etag, Fault, Gate, JobStatus, Level, Storage};
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::scene::{MODES, Scene, archive};
use crate::support::{get, open, through};

const CLIENTS: u32 = 60;
const MIB: u64 = 1 << 20;
const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };

/// What one of many got.
struct Got {
    cache: String,
    right: bool,
}

/// Downloads and compares without keeping anything; says when the first bytes are there.
async fn download(url: String, token: String, expected: Bytes, first: mpsc::UnboundedSender<()>) -> Got {
    let mut exchange = open(Method::GET, &url, &[("job-token", &token)], "").await.expect("a head");
    let cache = exchange.fields["cache-status"].to_str().unwrap().to_owned();
    let (mut at, mut right) = (0, exchange.status == 200);
    while let Some(piece) = exchange.next().await {
        let Ok(piece) = piece else { return Got { cache, right: false } };
        if at == 0 {
            first.send(()).unwrap();
        }
        right &= expected.get(at..at + piece.len()) == Some(&piece[..]);
        at += piece.len();
    }
    Got { cache, right: right && at == expected.len() }
}

/// Running jobs of alice's, each with its token, that download at once, every other one by the runner's route.
fn crowd(scene: &Scene, count: u32) -> (JoinSet<Got>, mpsc::UnboundedReceiver<()>) {
    let (first, firsts) = mpsc::unbounded_channel();
    let by_runner = through(&scene.gitlab, &scene.larder, &scene.gitlab.runner_url(scene.job));
    let expected = scene.archive.bytes().unwrap();
    let downloads = (0..count).map(|n| {
        let (_, token) = scene.gitlab.running_job(scene.project, scene.alice);
        let url = if n % 2 == 0 { scene.url() } else { by_runner.clone() };
        download(url, token, expected.clone(), first.clone())
    });
    (downloads.collect(), firsts)
}

/// All probes wait at `probes`, every whole download passes `body`.
fn gates(scene: &Scene) -> (Gate, Gate) {
    let (probes, body) = (Gate::new(), Gate::new());
    scene.gitlab.fault(Fault::new(Effect::Hold(probes.clone())).when(|seen| seen.header("range").is_some()));
    scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())));
    (probes, body)
}

async fn one_transfer_serves_a_crowd(storage: Storage, archive: Archive) {
    let scene = Scene::start(storage, archive).await;
    let (probes, body) = gates(&scene);
    body.release(64 << 10);
    let (downloads, mut firsts) = crowd(&scene, CLIENTS);
    probes.arrived(u64::from(CLIENTS) - 1).await;
    probes.open();
    for _ in 0..CLIENTS {
        firsts.recv().await.expect("first bytes while the rest is not even here");
    }
    assert!(scene.gitlab.counters().artifact_bytes() < scene.archive.len(), "{storage:?}");
    body.open();
    let got = downloads.join_all().await;
    assert!(got.iter().all(|got| got.right), "{storage:?}");
    let with = |cache: &str| got.iter().filter(|got| got.cache == cache).count();
    assert_eq!(with("larder; fwd=miss; stored"), 1, "{storage:?}");
    assert_eq!(with("larder; fwd=miss; collapsed"), got.len() - 1, "{storage:?}");
    assert_eq!(scene.transfers(), 1, "{storage:?}");
    let bytes = scene.gitlab.counters().artifact_bytes();
    let most = scene.archive.len() + u64::from(CLIENTS) * 1024;
    assert!((scene.archive.len()..=most).contains(&bytes), "{storage:?}: {bytes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_jobs_share_one_transfer_of_a_large_archive() {
    one_transfer_serves_a_crowd(LOCAL, archive(100 * MIB, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_jobs_share_one_transfer_in_every_storage_mode() {
    for storage in MODES {
        one_transfer_serves_a_crowd(storage, archive(2 * MIB, 2)).await;
    }
}

/// A leader whose answer is `effect`, if any, while a crowd waits for it: what he got, straight and through.
async fn only_the_leader_gets(scene: &Scene, leader: &str) -> [(http::StatusCode, Bytes); 2] {
    let straight = get(&scene.straight_url(), &[("private-token", leader)]).await;
    scene.gitlab.reset_counters();
    let gate = Gate::new();
    scene.gitlab.fault(Fault::new(Effect::Hold(gate.clone())).carrying(leader));
    let leading = scene.get_as(leader);
    let following = async {
        gate.arrived(1).await;
        let (downloads, _firsts) = crowd(scene, CLIENTS - 1);
        scene.fence().await;
        gate.open();
        downloads.join_all().await
    };
    let (reply, followed) = tokio::join!(leading, following);
    assert!(followed.iter().all(|got| got.right), "{:?}", scene.storage);
    assert!(reply.whole);
    // Each follower asks for himself when the leader has failed, and once more when there is something to join.
    let most = scene.archive.len() + u64::from(CLIENTS) * 1026 + to_u64(straight.body.len());
    let bytes = scene.gitlab.counters().artifact_bytes();
    assert!((scene.archive.len()..=most).contains(&bytes), "{:?}: {bytes}", scene.storage);
    [(straight.status, straight.body), (reply.status, reply.body)]
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap()
}

#[tokio::test]
async fn only_a_leader_whose_token_is_refused_is_refused() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(MIB, 3)).await;
        let (stranger, revoked) = (scene.stranger(), scene.member("mallory", Level::Developer));
        scene.gitlab.revoke(&revoked);
        let [straight, through] = only_the_leader_gets(&scene, &revoked).await;
        assert_eq!((straight.0.as_u16(), &straight), (401, &through), "{storage:?}");

        let scene = Scene { larder: crate::support::Larder::start(&scene.gitlab).await, ..scene };
        let [straight, through] = only_the_leader_gets(&scene, &stranger).await;
        assert_eq!((straight.0.as_u16(), &straight), (404, &through), "{storage:?}");
    }
}

#[tokio::test]
async fn only_a_leader_who_gets_a_page_gets_a_page() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(MIB, 4)).await;
        let bob = scene.member("bob", Level::Developer);
        scene.gitlab.fault(Fault::new(Effect::Html).carrying(&*bob));
        let [straight, through] = only_the_leader_gets(&scene, &bob).await;
        assert_eq!(straight.0, 200);
        assert_eq!(straight, through, "{storage:?}");
    }
}

#[tokio::test]
async fn a_fill_goes_on_when_its_first_client_leaves_half_way() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(4 * MIB, 5)).await;
        let body = Gate::new();
        scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())));
        body.release(2 * MIB);
        let mut first = scene.open().await;
        first.next().await.unwrap().unwrap();
        drop(first);
        scene.fence().await;
        body.open();
        for _ in 0..2 {
            assert!(scene.is_archive(&scene.get().await), "{storage:?}");
        }
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
        assert_eq!(scene.transfers(), 1, "{storage:?}");
    }
}

#[tokio::test]
async fn a_fill_goes_on_when_its_first_client_leaves_at_once() {
    let scene = Scene::start(LOCAL, archive(MIB, 6)).await;
    let head = Gate::new();
    scene.gitlab.fault(scene.on_transfer(Effect::Hold(head.clone())));
    let mut client = TcpStream::connect(scene.larder.address).await.unwrap();
    let target = scene.url().replace(&scene.larder.url(), "");
    let request = format!("GET {target} HTTP/1.1\r\nHost: larder\r\nPrivate-Token: {}\r\n\r\n", scene.token);
    client.write_all(request.as_bytes()).await.unwrap();
    head.arrived(1).await;
    drop(client);
    scene.fence().await;
    head.open();
    assert!(scene.is_archive(&scene.get().await));
    assert_eq!(scene.get().await.cache(), "larder; hit");
    assert_eq!(scene.transfers(), 1);
}

#[tokio::test]
async fn a_client_that_reads_nothing_delays_nobody() {
    for leads in [true, false] {
        let scene = Scene::start(LOCAL, archive(32 * MIB, 7)).await;
        let body = Gate::new();
        scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())));
        body.release(64 << 10);
        let (first, second) = (scene.open().await, scene.open().await);
        let (slow, quick) = if leads { (first, second) } else { (second, first) };
        body.open();
        assert!(scene.is_archive(&quick.rest().await), "slow leader: {leads}");
        assert!(scene.is_archive(&scene.get().await), "slow leader: {leads}");
        assert!(scene.is_archive(&slow.rest().await), "slow leader: {leads}");
        assert_eq!(scene.transfers(), 1);
    }
}

#[tokio::test]
async fn many_jobs_fill_side_by_side() {
    let scene = Scene::start(LOCAL, archive(MIB, 8)).await;
    let others = (9..15).map(|seed| {
        let (job, archive) = (scene.gitlab.job(scene.project, JobStatus::Success), archive(MIB, seed));
        scene.gitlab.put_archive(job, archive.clone());
        (job, archive)
    });
    let others: Vec<_> = others.collect();
    let body = Gate::new();
    scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())));
    let urls =
        others.iter().map(|(job, _)| through(&scene.gitlab, &scene.larder, &scene.gitlab.archive_url(*job)));
    let (first, _firsts) = mpsc::unbounded_channel();
    let downloads: JoinSet<Got> = urls
        .zip(&others)
        .map(|(url, (_, archive))| {
            let (_, token) = scene.gitlab.running_job(scene.project, scene.alice);
            download(url, token, archive.bytes().unwrap(), first.clone())
        })
        .collect();
    body.arrived(to_u64(others.len())).await;
    body.open();
    assert!(downloads.join_all().await.iter().all(|got| got.right));
    assert_eq!(scene.transfers(), others.len());
}
