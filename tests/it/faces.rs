//! One archive under several faces: nodes or stores that answer in turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use gitlab_standin::{Class, Effect, Etag, Fault, Seen, Storage};
use larder::config::Config;

use crate::scene::{Scene, archive};
use crate::support::{Larder, get, through};

const REDIRECTS: Storage = Storage::Redirect { job_id_in_path: false };

fn audit(config: &mut Config) {
    config.access.ttl = Duration::ZERO;
}

/// Every other question is answered with a redirect to the same object at another host's name.
async fn another_host(scene: &Scene) {
    let straight = get(&scene.straight_url(), &[("private-token", &scene.token)]).await;
    let location = straight.field("location").unwrap().replace("127.0.0.1", "localhost");
    scene.gitlab.reset_counters();
    let turn = AtomicU64::new(0);
    let every_other = move |_: &Seen| turn.fetch_add(1, Ordering::SeqCst) % 2 == 1;
    let moved = Effect::Redirect { status: 302, location };
    scene.gitlab.fault(Fault::new(moved).on(Class::JobArchive).when(every_other));
}

#[tokio::test]
async fn an_archive_at_two_hosts_in_turn_is_one_after_two_transfers_and_after_a_restart() {
    let scene = Scene::with(REDIRECTS, archive(300_000, 1), audit).await;
    another_host(&scene).await;
    for turn in 0..10 {
        let reply = scene.get().await;
        assert!(scene.is_archive(&reply), "{turn}: {}", reply.status);
        if turn < 2 {
            scene.larder.stored(turn + 1).await;
        } else {
            assert_eq!(reply.cache(), "larder; hit", "{turn}");
        }
    }
    assert_eq!(scene.transfers(), 2);
    let (gitlab, job) = (scene.gitlab, scene.job);
    let dir = scene.larder.stop().await;
    let larder = Larder::on(&gitlab.url(), dir, audit).await;
    let url = through(&gitlab, &larder, &gitlab.archive_url(job));
    for turn in 0..4 {
        let reply = get(&url, &[("private-token", &scene.token)]).await;
        assert_eq!((reply.status.as_u16(), reply.cache()), (200, "larder; hit"), "{turn}");
    }
}

#[tokio::test]
async fn two_nodes_whose_dates_differ_show_one_archive() {
    let scene = Scene::with(Storage::Local { etag: Etag::Weak }, archive(300_000, 2), audit).await;
    let dates = [1_700_000_000, 1_700_000_001].map(|date| SystemTime::UNIX_EPOCH + Duration::from_secs(date));
    let put = |turn: usize| scene.gitlab.put_archive_dated(scene.job, scene.archive.clone(), dates[turn % 2]);
    for turn in 0..10 {
        put(turn);
        let reply = scene.get().await;
        assert!(scene.is_archive(&reply), "{turn}: {}", reply.status);
        if turn < 2 {
            scene.larder.stored(turn + 1).await;
        } else {
            assert_eq!(reply.cache(), "larder; hit", "{turn}");
        }
    }
    assert_eq!(scene.transfers(), 2);
    // Other bytes under a date that was seen are others.
    scene.gitlab.put_archive_dated(scene.job, archive(300_000, 3), dates[0]);
    let reply = scene.get().await;
    assert_eq!(reply.cache(), "larder; fwd=miss; stored");
    assert!(reply.body == archive(300_000, 3).bytes().unwrap());
    scene.larder.stored(3).await;
    put(1);
    assert!(scene.is_archive(&scene.get().await), "whose faces are gone with it");
    assert_eq!(scene.transfers(), 4);
}

#[tokio::test]
async fn other_bytes_at_another_host_are_another_archive_each_time() {
    let scene = Scene::with(REDIRECTS, archive(300_000, 4), audit).await;
    let other = scene.gitlab.job(scene.project, gitlab_standin::JobStatus::Success);
    scene.gitlab.put_archive(other, archive(300_000, 5));
    let theirs = get(&scene.gitlab.archive_url(other), &[("private-token", &scene.token)]).await;
    let location = theirs.field("location").unwrap().to_owned();
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    let fault =
        scene.gitlab.fault(Fault::new(Effect::Redirect { status: 302, location }).on(Class::JobArchive));
    let reply = scene.get().await;
    assert!(reply.body == archive(300_000, 5).bytes().unwrap());
    scene.larder.stored(2).await;
    drop(fault);
    scene.gitlab.clear_faults();
    assert!(scene.is_archive(&scene.get().await));
}
