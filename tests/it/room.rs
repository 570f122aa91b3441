//! A store that is too small, or full: archives still get through.

use std::time::Duration;

use gitlab_standin::{Archive, Effect, Etag, JobStatus, Storage};

use crate::scene::{MODES, Scene, archive, zips};
use crate::support::{Larder, Reply, get, through};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn an_archive_larger_than_the_store_passes_through_whole_each_time() {
    for storage in MODES {
        let scene =
            Scene::with(storage, archive(3 * MIB, 1), |config| config.store.max_size = (2 * MIB).into())
                .await;
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
        config.store.max_size = (70 * MIB).into();
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
    let larder =
        Larder::on(&scene.gitlab.url(), dir, |config| config.store.max_size = (5 * MIB / 2).into()).await;
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

/// What a client gets in the end, who follows GitLab's redirect to its object store where larder has no room.
async fn in_the_end(url: String, token: String, range: Option<String>) -> (Reply, Option<Reply>) {
    let mut fields = vec![("private-token", &*token)];
    fields.extend(range.as_deref().map(|range| ("range", range)));
    let reply = get(&url, &fields).await;
    if reply.status != 302 {
        return (reply, None);
    }
    let fields: Vec<_> = range.as_deref().map(|range| ("range", range)).into_iter().collect();
    let object = get(reply.field("location").unwrap(), &fields).await;
    (reply, Some(object))
}

/// Waits until the store holds no more than its budget: what has left it is let go of when open archives are tidied up, as
/// they are while somebody asks.
async fn within(scene: &Scene, asking: &str, budget: u64, context: &str) {
    let larder = &scene.larder;
    let url = format!("http://{}/metrics", larder.admin);
    let mut taken = f64::MAX;
    let settled = async {
        while taken > f64::from(u32::try_from(budget).unwrap()) {
            drop(get(asking, &[("private-token", &*scene.token), ("range", "bytes=0-0")]).await);
            let page = get(&url, &[]).await.body;
            let page = std::str::from_utf8(&page).unwrap();
            let line = page.lines().find_map(|line| line.strip_prefix("larder_store_size_bytes "));
            taken = line.unwrap().parse().unwrap();
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(30), settled).await;
    let held = zips(larder.dir.path()).len();
    assert!(settled.is_ok(), "{context}: {taken} bytes of {budget} are taken, {held} archives there");
}

#[tokio::test]
async fn a_hundred_at_once_for_a_store_that_holds_ten_all_get_theirs() {
    for storage in MODES {
        let budget = 10 * MIB + (64 << 10);
        let scene =
            Scene::with(storage, archive(MIB, 0), |config| config.store.max_size = budget.into()).await;
        let jobs = (1..=100).map(|seed| {
            let (job, archive) = (scene.gitlab.job(scene.project, JobStatus::Success), archive(MIB, seed));
            scene.gitlab.put_archive(job, archive.clone());
            let url = through(&scene.gitlab, &scene.larder, &scene.gitlab.archive_url(job));
            (url, archive)
        });
        let jobs: Vec<(String, Archive)> = jobs.collect();
        // Full to begin with, of archives that nobody reads.
        for (url, archive) in &jobs[..10] {
            let reply = get(url, &[("private-token", &scene.token)]).await;
            assert!(reply.body == archive.bytes().unwrap(), "{storage:?}");
        }
        let asking = jobs.iter().rev().map(|(url, archive)| {
            let (url, token, archive) = (url.clone(), scene.token.clone(), archive.clone());
            async move {
                let (reply, object) = in_the_end(url, token, None).await;
                let last = object.as_ref().unwrap_or(&reply);
                let right = last.whole && last.status == 200 && last.body == archive.bytes().unwrap();
                (right, reply.status.as_u16(), reply.cache().to_owned())
            }
        });
        let all: tokio::task::JoinSet<_> = asking.collect();
        let all = tokio::time::timeout(Duration::from_secs(60), all.join_all()).await.expect("no deadlock");
        let wrong: Vec<_> = all.iter().filter(|(right, ..)| !right).collect();
        assert!(wrong.is_empty(), "{storage:?}: {wrong:?}");
        let stored = all.iter().filter(|(.., cache)| cache == "larder; fwd=miss; stored").count();
        // As many as there was room for at once; what was read a moment ago may not have been let go of yet.
        assert!(stored >= 5, "{storage:?}: only {stored} were stored");
        within(&scene, &jobs[50].0, budget, &format!("{storage:?}")).await;
        // The store is as good as before.
        let (url, archive) = &jobs[50];
        let again = get(url, &[("private-token", &scene.token)]).await;
        assert!(
            again.body == archive.bytes().unwrap() && again.cache() != "larder; fwd=bypass; detail=no-room"
        );
    }
}

#[tokio::test]
async fn ranges_of_long_archives_at_a_full_budget_come_whole() {
    for storage in MODES {
        let budget = 16 * MIB;
        let scene =
            Scene::with(storage, archive(80 * MIB, 1), |config| config.store.max_size = budget.into()).await;
        let other = scene.gitlab.job(scene.project, JobStatus::Success);
        let archives = [scene.archive.clone(), archive(80 * MIB + 999, 2)];
        scene.gitlab.put_archive(other, archives[1].clone());
        let urls = [scene.job, other].map(|job| scene.gitlab.archive_url(job));
        let urls = urls.map(|url| through(&scene.gitlab, &scene.larder, &url));
        for turn in 0..8 {
            let asking = (0..6_u64).map(|n| {
                let which = usize::from(n % 2 == 0);
                let (url, archive) = (urls[which].clone(), archives[which].clone());
                let (token, from) = (scene.token.clone(), (n * 13 + turn * 7) % 78 * MIB + 17);
                async move {
                    let range = Some(format!("bytes={from}-{}", from + MIB - 1));
                    let (reply, object) = in_the_end(url, token, range).await;
                    let last = object.as_ref().unwrap_or(&reply);
                    let part = archive.read_at(from, 1 << 20).unwrap();
                    // Where the store has no room, whoever asked for a part may get all.
                    let all = last.status == 200 && last.body == archive.bytes().unwrap();
                    let right = last.whole && (last.status == 206 && last.body == part || all);
                    (right, reply.status.as_u16(), reply.cache().to_owned(), from, last.body.len())
                }
            });
            let all: tokio::task::JoinSet<_> = asking.collect();
            let all =
                tokio::time::timeout(Duration::from_secs(60), all.join_all()).await.expect("no deadlock");
            let wrong: Vec<_> = all.iter().filter(|(right, ..)| !right).collect();
            assert!(wrong.is_empty(), "{storage:?} {turn}: {wrong:?}");
        }
        within(&scene, &urls[0], budget, &format!("{storage:?}")).await;
    }
}
