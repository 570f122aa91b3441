//! What ends a remembered yes before its time.

use std::time::Duration;

use gitlab_standin::{ArtifactsAccess, Class, Effect, Etag, Fault, Level, Scope, Storage};
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

/// Has a request answered in this way, and says whether it ended the yes that alice had.
async fn ends(
    scene: &Scene,
    answer: Effect,
    (method, path): (Method, &str),
    fields: &[(&str, &str)],
) -> bool {
    scene.larder.clock.advance(Duration::from_secs(1));
    assert!(scene.is_archive(&scene.get().await));
    let asked = scene.questions();
    assert_eq!(scene.get().await.cache(), "larder; hit");
    assert_eq!(scene.questions(), asked, "remembered");
    let fault = scene.gitlab.fault(Fault::new(answer).when(|seen| seen.method != "GET"));
    let url = format!("{}{path}", scene.larder.url());
    drop(open(method, &url, fields, "_method=delete").await.unwrap().rest().await);
    fault.remove();
    drop(scene.get().await);
    scene.questions() > asked
}

fn done() -> Effect {
    Effect::Answer { status: 204, content_type: "text/plain", body: "".into() }
}

fn to(status: u16, location: &str) -> Effect {
    Effect::Redirect { status, location: location.to_owned() }
}

#[tokio::test]
async fn a_deletion_in_other_clothes_ends_grants() {
    let scene = scene().await;
    let (job, project) = (scene.job, scene.project);
    let archive = format!("/api/v4/projects/{project}/jobs/{job}/artifacts");
    let whole = format!("/api/v4/projects/{project}");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let token = ("private-token", "t");
    for (path, fields) in [
        (archive.clone(), vec![("X-HTTP-Method-Override", "DELETE"), ("content-type", "text/plain")]),
        (archive.clone(), vec![("x_http_method_override", "delete")]),
        (format!("{archive}?_method=delete"), vec![token]),
        (format!("{archive}?x=1&%5fmethod=DELETE"), vec![("content-type", "application/json")]),
        (archive, vec![form]),
        (whole.clone(), vec![("x-http-method-override", "DELETE")]),
        (whole, vec![form]),
        ("/group/project/-/pipelines/7".to_owned(), vec![form]),
        (format!("/group/project/-/jobs/{job}/erase"), vec![form]),
        (format!("/group/project/-/artifacts/{job}"), vec![form]),
    ] {
        assert!(ends(&scene, done(), (Method::POST, &path), &fields).await, "{path} {fields:?}");
    }
}

#[tokio::test]
async fn nobody_ends_grants_by_what_was_not_done_or_takes_nothing_away() {
    let scene = scene().await;
    let (job, project) = (scene.job, scene.project);
    let erase = format!("/group/project/-/jobs/{job}/erase");
    let keep = format!("/group/project/-/jobs/{job}/artifacts/keep");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let larder = scene.larder.url();
    for location in [
        "/users/sign_in".to_owned(),
        format!("{}/users/sign_in", scene.gitlab.url()),
        format!("{larder}/users/auth/saml"),
        "/-/users/terms".to_owned(),
        "https://sso.example.com/login".to_owned(),
        format!("{}{erase}", scene.gitlab.url()),
        format!("https://other.example.com{erase}"),
    ] {
        for status in [302, 303] {
            let answer = to(status, &location);
            assert!(!ends(&scene, answer, (Method::POST, &erase), &form).await, "{status} {location}");
        }
    }
    for status in [301, 307, 308] {
        assert!(!ends(&scene, to(status, "/elsewhere"), (Method::POST, &keep), &[]).await, "{status}");
    }
    assert!(
        ends(&scene, to(302, &format!("/group/project/-/jobs/{job}")), (Method::POST, &keep), &form).await
    );
    for path in [
        "/g/artifacts.git/git-upload-pack".to_owned(),
        "/g/artifacts/-/issues".to_owned(),
        "/api/v4/projects/g%2Fartifacts/issues".to_owned(),
        "/jobs/1/artifacts/-/notes".to_owned(),
        "/api/graphql".to_owned(),
        "/users/sign_in".to_owned(),
        "/group/project".to_owned(),
        format!("/api/v4/projects/{project}/issues"),
        format!("/api/v4/jobs/{job}/artifacts/authorize"),
    ] {
        assert!(
            !ends(&scene, done(), (Method::POST, &path), &[("content-type", "text/plain")]).await,
            "{path}"
        );
    }
}

#[tokio::test]
async fn no_flood_of_401s_and_reports_ends_what_does_not_rest_on_them() {
    let scene = scene().await;
    assert!(scene.is_archive(&scene.get().await));
    let asked = scene.questions();
    scene.larder.clock.advance(Duration::from_secs(1));
    let (report, user) = (scene.api("/jobs/1"), scene.api("/user"));
    for n in 0..5_000_u32 {
        let token = format!("glpat-{n}");
        assert_eq!(get(&user, &[("private-token", &token)]).await.status, 401);
    }
    let done = Effect::Answer { status: 200, content_type: "text/plain", body: "200".into() };
    scene.gitlab.fault(Fault::new(done).when(|seen| seen.method == "PUT"));
    for body in ["", "{}", "{\"token\":7}", "token", "token=x&state=success"] {
        assert_eq!(open(Method::PUT, &report, &[], body).await.unwrap().rest().await.status, 200);
    }
    assert_eq!(scene.get().await.cache(), "larder; hit");
    assert_eq!(scene.questions(), asked);
}
