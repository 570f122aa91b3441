//! A store that is too small, or full: archives still get through.

use std::time::Duration;

use gitlab_standin::{Archive, Effect, Etag, JobStatus, Storage};

use crate::scene::{MODES, Scene, archive, zips};
use crate::support::{Larder, Reply, get, through};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn an_archive_larger_than_the_store_passes_through_whole_each_time() {
    for storage in MODES {
        let scene = Scene::with(storage, archive(3 * MIB, 1), |config| config.store.max_size = 2 * MIB).await;
        for n in 1..=2 {
            let reply = scene.get().await;
            if reply.status == 302 {
                assert!(matches!(storage, Storage::Redirect { .. }));
            } else {
                assert!(scene.is_archive(&reply), "{storage:?}");
                assert_eq!(scene.transfers(), n, "{storage:?}");
            }
            assert_eq!(reply.cache(), "larder; fwd=bypass; detail=no-room", "{storage:?}");
        }
        assert!(zips(scene.larder.dir.path()).is_empty(), "{storage:?}");
    }
}

#[tokio::test]
async fn an_archive_that_turns_out_too_large_half_way_still_arrives_whole() {
    // Room is taken 64 MiB at a time where no length is known.
    let scene = Scene::with(Storage::Local { etag: Etag::Sha256 }, archive(80 * MIB, 2), |config| {
        config.store.max_size = 70 * MIB;
    });
    let scene = scene.await;
    scene.gitlab.fault(scene.on_transfer(Effect::Chunked));
    let reply = scene.get().await;
    assert!(scene.is_archive(&reply));
    assert_eq!(scene.transfers(), 1);
    let dir = scene.larder.stop().await;
    assert!(zips(dir.path()).is_empty());
}

/// One of several jobs, downloaded by alice.
async fn download(scene: &Scene, job: gitlab_standin::JobId) -> Reply {
    let url = through(&scene.gitlab, &scene.larder, &scene.gitlab.archive_url(job));
    get(&url, &[("private-token", &scene.token)]).await
}

/// The scene after a restart, which waits until what was fetched is stored.
async fn restarted(scene: Scene, after: u64) -> Scene {
    let dir = scene.larder.stop().await;
    let larder = Larder::on(&scene.gitlab.url(), dir, |config| config.store.max_size = 5 * MIB / 2).await;
    larder.checked().await;
    larder.clock.advance(Duration::from_secs(after));
    Scene { larder, ..scene }
}

#[tokio::test]
async fn the_least_recently_used_archive_makes_room() {
    let one = Scene::start(Storage::Local { etag: Etag::Weak }, archive(MIB, 1)).await;
    let job = |archive: Archive| {
        let job = one.gitlab.job(one.project, JobStatus::Success);
        one.gitlab.put_archive(job, archive);
        job
    };
    let (first, second, third) = (one.job, job(archive(MIB, 2)), job(archive(MIB, 3)));
    let mut scene = restarted(one, 0).await;
    assert_eq!(download(&scene, first).await.status, 200);
    scene = restarted(scene, 10).await;
    assert_eq!(download(&scene, second).await.cache(), "larder; fwd=miss; stored");
    scene = restarted(scene, 20).await;
    assert_eq!(download(&scene, first).await.cache(), "larder; hit");
    assert_eq!(download(&scene, third).await.cache(), "larder; fwd=miss; stored");
    scene = restarted(scene, 30).await;
    assert_eq!(zips(scene.larder.dir.path()).len(), 2);
    for job in [first, third] {
        assert_eq!(download(&scene, job).await.cache(), "larder; hit", "{job}");
    }
    let again = download(&scene, second).await;
    assert_eq!(again.cache(), "larder; fwd=miss; stored");
    assert!(again.body == archive(MIB, 2).bytes().unwrap());
}
