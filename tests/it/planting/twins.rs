//! Archives that look alike: the same length, the same date, the same end, other bytes.

use std::time::{Duration, SystemTime};

use gitlab_standin::{Archive, Etag, JobStatus, Level, Scope, Storage, Visibility};
use http::Method;

use crate::scene::{MODES, Scene};
use crate::support::{Reply, get, send, through};

fn date() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// A scene that asks each time, and whose archive is one of two twins; the other one.
async fn scene(storage: Storage) -> (Scene, Archive) {
    let (one, other) = Archive::twins(20_000);
    assert_eq!(one.len(), other.len());
    let scene = Scene::with(storage, one.clone(), |config| config.access.ttl = Duration::ZERO).await;
    scene.gitlab.put_archive_dated(scene.job, one, date());
    (scene, other)
}

#[tokio::test]
async fn another_jobs_twin_is_never_taken_for_this_one() {
    for storage in MODES {
        let (scene, other) = scene(storage).await;
        let mallory = scene.gitlab.user("mallory");
        let theirs = scene.gitlab.project("group/mallory", Visibility::Private);
        scene.gitlab.member(theirs, mallory, Level::Maintainer);
        let job = scene.gitlab.job(theirs, JobStatus::Success);
        scene.gitlab.put_archive_dated(job, other.clone(), date());
        let (_, runner) = scene.gitlab.running_job(theirs, mallory);
        let mallory = scene.gitlab.personal_token(mallory, Scope::Api);
        let a1 = through(&scene.gitlab, &scene.larder, &scene.gitlab.archive_url(job));
        let r1 = scene.api(&format!("/jobs/{job}/artifacts"));
        for _ in 0..2 {
            let hers = get(&a1, &[("private-token", &mallory)]).await;
            assert!(hers.body == other.bytes().unwrap(), "{storage:?}");
            let hers = get(&r1, &[("job-token", &runner)]).await;
            assert!(hers.body == other.bytes().unwrap(), "{storage:?}");
            assert!(scene.is_archive(&scene.get().await), "{storage:?}");
            assert_eq!(
                scene.get_as(&mallory).await.status,
                404,
                "{storage:?}: hers opens nothing of alice's"
            );
            assert_eq!(get(&a1, &[("private-token", &scene.token)]).await.status, 404, "{storage:?}");
        }
        assert_eq!(scene.transfers(), 2, "{storage:?}: one each");
    }
}

/// What each route gives for a job whose archive became `other` behind larder's back.
async fn after_replacing(scene: &Scene, other: &Archive, date: SystemTime) -> [Reply; 2] {
    let (_, token) = scene.gitlab.running_job(scene.project, scene.alice);
    let r1 = scene.api(&format!("/jobs/{}/artifacts", scene.job));
    let (mut replies, mut stored) = (Vec::new(), 0);
    for runner in [false, true] {
        scene.gitlab.put_archive_dated(scene.job, scene.archive.clone(), self::date());
        let job_token = [("job-token", token.as_str())];
        let delete = send(Method::DELETE, &scene.url(), &[("private-token", &scene.token)]).await;
        assert_eq!(delete.status, 204, "begin anew");
        scene.gitlab.put_archive_dated(scene.job, scene.archive.clone(), self::date());
        assert!(scene.is_archive(&scene.get().await));
        stored += 1;
        scene.larder.stored(stored).await;
        scene.gitlab.delete_archive(scene.job);
        scene.gitlab.put_archive_dated(scene.job, other.clone(), date);
        replies.push(if runner { get(&r1, &job_token).await } else { scene.get().await });
        if replies.last().unwrap().body == other.bytes().unwrap() {
            stored += 1;
            scene.larder.stored(stored).await;
            assert_eq!(scene.get().await.cache(), "larder; hit", "and so is the next");
            assert_eq!(crate::scene::zips(scene.larder.dir.path()).len(), 1, "in the place of the old one");
        }
    }
    replies.try_into().unwrap()
}

#[tokio::test]
async fn what_came_in_the_place_of_an_archive_is_noticed_by_any_one_fact() {
    for storage in MODES {
        let (scene, other) = scene(storage).await;
        let later = date() + Duration::from_secs(1);
        let long = Archive::seeded(scene.archive.len() + 1, 3).unwrap();
        let end = Archive::seeded(scene.archive.len(), 4).unwrap();
        drop(scene);
        for (fact, archive, date) in [("date", other, later), ("length", long, date()), ("end", end, date())]
        {
            let (scene, _) = self::scene(storage).await;
            for reply in after_replacing(&scene, &archive, date).await {
                assert!(reply.body == archive.bytes().unwrap(), "{storage:?} {fact}: the old one was served");
            }
        }
    }
}

#[tokio::test]
async fn a_twin_in_the_place_of_an_archive_is_noticed_by_digest_or_place() {
    for storage in [
        Storage::Redirect { job_id_in_path: false },
        Storage::Redirect { job_id_in_path: true },
        Storage::Proxied { etag: Etag::Weak },
        Storage::Proxied { etag: Etag::Sha256 },
    ] {
        let (scene, other) = scene(storage).await;
        for reply in after_replacing(&scene, &other, date()).await {
            assert!(reply.body == other.bytes().unwrap(), "{storage:?}: the old one was served");
        }
    }
    let (scene, other) = scene(Storage::Local { etag: Etag::Sha256 }).await;
    let [project, _] = after_replacing(&scene, &other, date()).await;
    assert!(project.body == other.bytes().unwrap(), "the project's route shows the digest");
}

/// The limit: where GitLab shows neither digest nor place, a twin that came without any request through larder looks
/// like the archive that it replaced. Length, date and the last KiB all agree; only malice or `touch` makes such.
#[tokio::test]
async fn a_twin_behind_larders_back_goes_unnoticed_where_gitlab_shows_no_digest() {
    for (storage, route) in [
        (Storage::Local { etag: Etag::Weak }, 0),
        (Storage::Local { etag: Etag::Weak }, 1),
        (Storage::Local { etag: Etag::Sha256 }, 1),
    ] {
        let (scene, other) = scene(storage).await;
        let replies = after_replacing(&scene, &other, date()).await;
        assert!(scene.is_archive(&replies[route]), "{storage:?}: told apart after all, say so in the docs");
    }
}

#[tokio::test]
async fn a_twin_that_came_through_larder_is_served() {
    let (scene, other) = scene(Storage::Local { etag: Etag::Weak }).await;
    assert!(scene.is_archive(&scene.get().await));
    let gone = send(Method::DELETE, &scene.url(), &[("private-token", &scene.token)]).await;
    assert_eq!(gone.status, 204);
    scene.gitlab.put_archive_dated(scene.job, other.clone(), date());
    assert!(scene.get().await.body == other.bytes().unwrap());
}
