//! What ends a remembered yes before its time.

use std::time::Duration;

use gitlab_standin::{ArtifactsAccess, Class, Etag, Level, Scope, Storage};
use http::Method;

use super::HOUR;
use super::forms::{JOB, PERSONAL, pass};
use crate::scene::{Scene, archive};
use crate::support::{Reply, get, open, send};

const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };

async fn scene() -> Scene {
    Scene::with(LOCAL, archive(20_000, 1), |config| config.access.ttl = HOUR).await
}

async fn download(scene: &Scene, form: &'static str, token: &str) -> Reply {
    let credential = pass(form, token);
    get(&credential.url(&scene.url(), ""), &credential.fields()).await
}

#[tokio::test]
async fn a_yes_is_remembered_for_ttl_and_not_a_moment_longer() {
    let scene = scene().await;
    assert!(scene.is_archive(&scene.get().await));
    scene.gitlab.revoke(&scene.token);
    let second = Duration::from_secs(1);
    scene.larder.clock.advance(HOUR.checked_sub(second).unwrap());
    let asked = scene.questions();
    assert_eq!(scene.get().await.cache(), "larder; hit", "ttl hides what GitLab would say now");
    assert_eq!(scene.questions(), asked);
    scene.larder.clock.advance(second);
    let refused = scene.get().await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.field("cache-status"), Some("larder; fwd=bypass; detail=refused"));
}

#[tokio::test]
async fn the_wall_clock_ages_a_grant_as_well() {
    let scene = scene().await;
    assert!(scene.is_archive(&scene.get().await));
    scene.gitlab.revoke(&scene.token);
    scene.larder.clock.set_wall(crate::support::START + HOUR.as_secs());
    assert_eq!(scene.get().await.status, 401, "a machine that slept has an old grant");
}

#[tokio::test]
async fn with_no_ttl_every_change_counts_at_once() {
    let scene = Scene::with(LOCAL, archive(20_000, 1), |config| config.access.ttl = Duration::ZERO).await;
    let bob = scene.member("bob", Level::Developer);
    for token in [&scene.token, &bob] {
        assert!(scene.is_archive(&scene.get_as(token).await));
    }
    scene.gitlab.set_access(scene.job, ArtifactsAccess::Maintainer);
    assert_eq!(scene.get_as(&bob).await.status, 403);
    assert!(scene.is_archive(&scene.get().await));
    scene.gitlab.set_access(scene.job, ArtifactsAccess::All);
    assert!(scene.is_archive(&scene.get_as(&bob).await), "a no is not remembered either");
    scene.gitlab.revoke(&scene.token);
    assert_eq!(scene.get().await.status, 401);
    let asked = scene.questions();
    for _ in 0..3 {
        assert_eq!(scene.get_as(&bob).await.cache(), "larder; hit");
    }
    assert_eq!(scene.questions(), asked + 3, "each request is a question");
}

#[tokio::test]
async fn a_401_on_any_route_ends_a_tokens_grants_however_it_was_passed() {
    let scene = scene().await;
    for seen in PERSONAL {
        for told in PERSONAL {
            // Later than the last 401, so that it says nothing of these.
            scene.larder.clock.advance(Duration::from_secs(1));
            let token = scene.gitlab.personal_token(scene.alice, Scope::Api);
            let other = scene.gitlab.personal_token(scene.alice, Scope::Api);
            for token in [&token, &other] {
                assert_eq!(download(&scene, seen, token).await.status, 200);
                scene.gitlab.revoke(token);
                assert_eq!(download(&scene, seen, token).await.status, 200, "remembered");
            }
            let user = pass(told, &token);
            assert_eq!(get(&user.url(&scene.api("/user"), ""), &user.fields()).await.status, 401);
            assert_eq!(download(&scene, seen, &token).await.status, 401, "{seen} after a 401 to {told}");
            assert_eq!(download(&scene, seen, &other).await.status, 200, "another token is another's");
        }
    }
}

#[tokio::test]
async fn a_401_to_a_session_ends_its_grants_whatever_other_cookies_there_are() {
    let scene = scene().await;
    let session = scene.gitlab.session(scene.alice);
    let with = |theme: &str| format!("theme={theme}; _gitlab_session={session}");
    let (dark, light) = (with("dark"), with("light"));
    assert!(scene.is_archive(&get(&scene.url(), &[("cookie", &dark)]).await));
    scene.gitlab.revoke(&session);
    assert!(scene.is_archive(&get(&scene.url(), &[("cookie", &dark)]).await), "remembered");
    assert_eq!(get(&scene.api("/user"), &[("cookie", &light)]).await.status, 401);
    let after = get(&scene.url(), &[("cookie", &dark)]).await;
    assert_eq!(after.status, 404, "anonymous by now: the project doesn't exist");
}

#[tokio::test]
async fn a_401_to_a_question_about_one_archive_ends_the_grants_for_all() {
    let scene = scene().await;
    let runner = scene.api(&format!("/jobs/{}/artifacts", scene.job));
    let (job, token) = scene.gitlab.running_job(scene.project, scene.alice);
    let fields = [("job-token", token.as_str())];
    assert!(scene.is_archive(&get(&runner, &fields).await));
    scene.gitlab.finish_job(job);
    assert_eq!(get(&runner, &fields).await.cache(), "larder; hit", "remembered");
    assert_eq!(get(&scene.url(), &fields).await.status, 401, "nobody has asked this yet");
    assert_eq!(get(&runner, &fields).await.status, 401);
}

#[tokio::test]
async fn the_end_of_a_job_is_the_end_of_its_tokens_grants() {
    for form in JOB {
        let scene = scene().await;
        let (job, token) = scene.gitlab.running_job(scene.project, scene.alice);
        let (_, other) = scene.gitlab.running_job(scene.project, scene.alice);
        for token in [&token, &other] {
            assert_eq!(download(&scene, form, token).await.status, 200);
        }
        let report = scene.api(&format!("/jobs/{job}"));
        let fields = [("job-token", token.as_str()), ("content-type", "application/json")];
        let done = open(Method::PUT, &report, &fields, r#"{"state":"success"}"#).await.unwrap().rest().await;
        assert_eq!(done.status, 200);
        assert_eq!(download(&scene, form, &token).await.status, 401, "{form}");
        let asked = scene.questions();
        assert_eq!(download(&scene, form, &other).await.cache(), "larder; hit", "another job's is its own");
        assert_eq!(scene.questions(), asked, "{form}");
    }
}

#[tokio::test]
async fn a_job_that_ends_with_its_token_in_the_body_ends_its_grants_too() {
    let scene = scene().await;
    let (job, token) = scene.gitlab.running_job(scene.project, scene.alice);
    assert_eq!(download(&scene, "JOB-TOKEN", &token).await.status, 200);
    let report = format!(r#"{{"token":"{token}","state":"failed"}}"#);
    let fields = [("content-type", "application/json")];
    let done = open(Method::PUT, &scene.api(&format!("/jobs/{job}")), &fields, report).await.unwrap();
    assert_eq!(done.rest().await.status, 200);
    assert_eq!(download(&scene, "JOB-TOKEN", &token).await.status, 401);
}

#[tokio::test]
async fn a_refused_report_ends_nothing() {
    let scene = scene().await;
    let (job, token) = scene.gitlab.running_job(scene.project, scene.alice);
    let (_, other) = scene.gitlab.running_job(scene.project, scene.alice);
    assert_eq!(download(&scene, "JOB-TOKEN", &token).await.status, 200);
    let report = scene.api(&format!("/jobs/{job}"));
    for fields in [vec![("job-token", other.as_str())], vec![]] {
        assert_eq!(send(Method::PUT, &report, &fields).await.status, 403);
    }
    let asked = scene.gitlab.counters().requests_of(Class::JobArchive);
    assert_eq!(download(&scene, "JOB-TOKEN", &token).await.cache(), "larder; hit");
    assert_eq!(scene.gitlab.counters().requests_of(Class::JobArchive), asked);
}

#[tokio::test]
async fn gitlabs_404_to_somebody_who_was_let_in_drops_the_archive_for_all() {
    let scene = scene().await;
    let bob = scene.member("bob", Level::Developer);
    for token in [&scene.token, &bob] {
        assert!(scene.is_archive(&scene.get_as(token).await));
    }
    scene.larder.stored(1).await;
    scene.gitlab.delete_archive(scene.job);
    scene.larder.clock.advance(HOUR);
    let stranger = scene.stranger();
    assert_eq!(scene.get_as(&stranger).await.status, 404);
    assert!(!crate::scene::zips(scene.larder.dir.path()).is_empty(), "a stranger's 404 drops nothing");
    assert_eq!(scene.get_as(&bob).await.status, 404);
    assert!(crate::scene::zips(scene.larder.dir.path()).is_empty(), "deleted data doesn't linger");
}
