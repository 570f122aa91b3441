//! A disk that takes no archives: each request gets GitLab's whole answer, and the disk is left alone.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use gitlab_standin::{JobStatus, Storage};

use crate::scene::{MODES, Scene, archive, zips};
use crate::support::{Reply, get, through};

/// Larder has nowhere to put an archive that arrives. Works whoever runs the test; the store doesn't look further than
/// to what the system says.
struct NoPlace {
    incoming: PathBuf,
    aside: PathBuf,
}

impl NoPlace {
    fn make(scene: &Scene) -> Self {
        let incoming = scene.larder.dir.path().join("test/incoming");
        let aside = incoming.with_file_name("aside");
        fs::rename(&incoming, &aside).unwrap();
        Self { incoming, aside }
    }

    fn end(self) {
        fs::rename(&self.aside, &self.incoming).unwrap();
    }
}

fn redirects(storage: Storage) -> bool {
    matches!(storage, Storage::Redirect { .. })
}

/// GitLab's answer to the same request, without larder between.
async fn straight(scene: &Scene) -> Reply {
    get(&scene.straight_url(), &[("private-token", &scene.token)]).await
}

#[tokio::test]
async fn every_answer_is_gitlabs_whole_one_and_only_a_few_try_the_disk() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(300_000, 1)).await;
        let no_place = NoPlace::make(&scene);
        let expected = straight(&scene).await;
        scene.gitlab.reset_counters();
        for n in 0..20 {
            let reply = scene.get().await;
            assert_eq!(reply.cache(), "larder; fwd=bypass; detail=no-room", "{storage:?}: {n}");
            assert_eq!(reply.status, expected.status, "{storage:?}: {n}");
            // A redirect is signed anew, with the time in it.
            let same = redirects(storage) || reply.body == expected.body;
            assert!(reply.whole && same, "{storage:?}: {n}");
            let place =
                |reply: &Reply| reply.field("location").map(|url| url.split('?').next().map(str::to_owned));
            assert_eq!(place(&reply), place(&expected), "{storage:?}: {n}");
            assert_eq!(reply.field("location").is_some(), redirects(storage));
        }
        let counted = |line: &str| scene.larder.count(line);
        assert_eq!(counted("larder_unstored_archives_total{reason=\"disk\"}"), 20, "{storage:?}");
        assert_eq!(counted("larder_fills_total{result=\"no_room\"}"), 1, "{storage:?}: one has tried it");
        // Nobody asks the object store for what can't be kept.
        let fetched =
            scene.gitlab.requests().iter().filter(|seen| seen.class == gitlab_standin::Class::Object).count();
        assert!(fetched <= 1, "{storage:?}: {fetched}");
        scene.larder.clock.advance(Duration::from_secs(5));
        scene.get().await;
        scene.get().await;
        assert_eq!(counted("larder_fills_total{result=\"no_room\"}"), 2, "{storage:?}: and one later");

        no_place.end();
        assert_eq!(scene.get().await.cache(), "larder; fwd=bypass; detail=no-room", "{storage:?}: too early");
        scene.larder.clock.advance(Duration::from_secs(5));
        let stored = scene.get().await;
        assert_eq!(stored.cache(), "larder; fwd=miss; stored", "{storage:?}");
        assert!(scene.is_archive(&stored));
        scene.larder.stored(1).await;
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
        assert_eq!(zips(scene.larder.dir.path()).len(), 1);
    }
}

#[tokio::test]
async fn a_stranger_does_not_spend_the_disks_next_trial() {
    let scene = Scene::start(MODES[1], archive(300_000, 1)).await;
    let (no_place, stranger) = (NoPlace::make(&scene), scene.stranger());
    assert_eq!(scene.get().await.cache(), "larder; fwd=bypass; detail=no-room");
    no_place.end();
    scene.larder.clock.advance(Duration::from_secs(5));
    for _ in 0..3 {
        assert_eq!(scene.get_as(&stranger).await.status, 404);
    }
    assert_eq!(scene.get().await.cache(), "larder; fwd=miss; stored");
}

#[tokio::test]
async fn what_is_stored_already_is_served_meanwhile_and_files_of_others_pass() {
    let scene = Scene::start(MODES[1], archive(300_000, 1)).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    let other = scene.gitlab.job(scene.project, JobStatus::Success);
    scene.gitlab.put_archive(other, archive(300_000, 2));
    let url = through(&scene.gitlab, &scene.larder, &scene.gitlab.archive_url(other));
    let _no_place = NoPlace::make(&scene);
    for _ in 0..3 {
        let cold = get(&url, &[("private-token", &scene.token)]).await;
        assert!(cold.whole && cold.body == archive(300_000, 2).bytes().unwrap());
        assert_eq!(scene.get().await.cache(), "larder; hit");
    }
}

#[tokio::test]
async fn the_page_of_metrics_says_whether_the_disk_takes_archives() {
    let scene = Scene::start(MODES[1], archive(3_000, 1)).await;
    let page = async || {
        let page = get(&format!("http://{}/metrics", scene.larder.admin), &[]).await;
        String::from_utf8(page.body.to_vec()).unwrap()
    };
    assert!(page().await.contains("\nlarder_store_writable 1\n"));
    let no_place = NoPlace::make(&scene);
    assert!(scene.is_archive(&scene.get().await));
    assert!(page().await.contains("\nlarder_store_writable 0\n"));
    no_place.end();
    scene.larder.clock.advance(Duration::from_secs(5));
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    assert!(page().await.contains("\nlarder_store_writable 1\n"));
}
