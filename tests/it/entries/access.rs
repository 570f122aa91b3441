//! A yes to a file names the archive that it is of.

use std::time::{Duration, SystemTime};

use gitlab_standin::{Archive, ArtifactsAccess, Class, Effect, Etag, Fault, JobStatus, Level, Storage};

use super::{asking_each_time, scene};
use crate::scene::{MODES, Scene};
use crate::support::get;

#[tokio::test]
async fn a_yes_to_the_archive_is_none_to_its_files_nor_the_reverse() {
    let scene = scene(Storage::Local { etag: Etag::Sha256 }, |_| ()).await;
    scene.warm().await;
    assert_eq!(scene.get_entry("report.txt").await.cache(), "larder; hit");
    scene.gitlab.expire(scene.job);
    let bob = scene.member("bob", Level::Developer);
    let fields = [("private-token", bob.as_str())];
    assert_eq!(get(&scene.url(), &fields).await.cache(), "larder; hit");
    assert_eq!(get(&scene.entry("report.txt"), &fields).await.status, 404, "bob asks for himself");
    scene.gitlab.set_locked(scene.job, true);
    assert_eq!(get(&scene.entry("report.txt"), &fields).await.cache(), "larder; hit");
    scene.gitlab.set_access(scene.job, ArtifactsAccess::None);
    let carol = scene.member("carol", Level::Developer);
    let fields = [("private-token", carol.as_str())];
    for url in [scene.url(), scene.entry("report.txt")] {
        assert!(get(&url, &fields).await.status.as_u16() >= 400, "{url}");
    }
}

#[tokio::test]
async fn a_right_that_ended_opens_no_file() {
    for storage in MODES {
        let scene = scene(storage, asking_each_time).await;
        scene.warm().await;
        let bob = scene.gitlab.user("bob");
        scene.gitlab.member(scene.project, bob, Level::Developer);
        let token = scene.gitlab.personal_token(bob, gitlab_standin::Scope::Api);
        let fields = [("private-token", token.as_str())];
        assert_eq!(get(&scene.entry("report.txt"), &fields).await.cache(), "larder; hit");
        scene.gitlab.remove_member(scene.project, bob);
        assert_eq!(get(&scene.entry("report.txt"), &fields).await.status, 404, "{storage:?}");
        scene.gitlab.revoke(&token);
        assert_eq!(get(&scene.entry("report.txt"), &fields).await.status, 401, "{storage:?}");
    }
}

#[tokio::test]
async fn a_file_of_an_archive_that_was_replaced_behind_larders_back_is_the_new_ones() {
    for storage in MODES {
        let (one, other) = Archive::twins(20_000);
        let scene = Scene::with(storage, one.clone(), asking_each_time).await;
        scene.warm().await;
        let name = "different.bin";
        let before = scene.get_entry(name).await;
        assert_eq!(before.cache(), "larder; hit", "{storage:?}");
        scene.gitlab.delete_archive(scene.job);
        // Another date: what tells it where GitLab knows no digest and no place.
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        scene.gitlab.put_archive_dated(scene.job, other.clone(), later);
        let direct = get(&scene.straight(&scene.entry(name)), &[("private-token", &scene.token)]).await;
        assert_ne!(direct.body, before.body);
        for _ in 0..2 {
            assert_eq!(scene.get_entry(name).await.body, direct.body, "{storage:?}");
        }
    }
}

#[tokio::test]
async fn a_page_in_gitlabs_place_opens_nothing() {
    for storage in MODES {
        let scene = scene(storage, asking_each_time).await;
        scene.warm().await;
        let stranger = scene.stranger();
        let fields = [("private-token", stranger.as_str())];
        for effect in [
            Effect::Html,
            Effect::Answer { status: 200, content_type: "text/plain", body: vec![b'x'; 5_000].into() },
            Effect::Answer { status: 206, content_type: "text/plain", body: "part".into() },
            Effect::SignIn,
        ] {
            scene.gitlab.clear_faults();
            scene.gitlab.fault(Fault::new(effect.clone()).on(Class::JobEntry));
            let reply = get(&scene.entry("report.txt"), &fields).await;
            assert!(reply.body != super::text(5_000), "{effect:?} {storage:?}: {}", reply.status);
            assert!(!reply.cache().contains("hit"), "{effect:?} {storage:?}");
        }
        scene.gitlab.clear_faults();
        assert_eq!(
            scene.get_entry("report.txt").await.cache(),
            "larder; hit",
            "{storage:?}: nothing was dropped"
        );
    }
}

#[tokio::test]
async fn another_jobs_files_are_that_jobs() {
    let scene = scene(Storage::Local { etag: Etag::Weak }, |_| ()).await;
    scene.warm().await;
    let job = scene.gitlab.job(scene.project, JobStatus::Success);
    scene.gitlab.put_archive(job, Archive::twins(9_000).0);
    let url = scene.api(&format!("/projects/{}/jobs/{job}/artifacts/report.txt", scene.project));
    assert_eq!(get(&url, &[("private-token", &scene.token)]).await.status, 404);
}
