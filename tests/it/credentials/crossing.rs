//! A grant opens what it was given for: no other project's spelling, route, identity, address or archive.

use std::net::IpAddr;

use gitlab_standin::{
    ArtifactsAccess, Class, Etag, JobStatus, Level, RunnerAuth, Scope, Storage, Visibility,
};
use http::Method;
use larder::config::Config;

use super::HOUR;
use super::forms::pass;
use crate::scene::{Scene, archive};
use crate::support::{get, open, send, through};

const LOCAL: Storage = Storage::Local { etag: Etag::Weak };

fn remember(config: &mut Config) {
    config.access.ttl = HOUR;
}

async fn scene() -> Scene {
    Scene::with(LOCAL, archive(20_000, 1), remember).await
}

/// The scene with its archive in the store and a grant of alice's remembered.
async fn warm() -> Scene {
    let scene = scene().await;
    assert_eq!(scene.get().await.cache(), "larder; fwd=miss; stored");
    assert_eq!(scene.get().await.cache(), "larder; hit");
    scene
}

#[tokio::test]
async fn a_job_asked_for_through_another_project_is_not_found_and_stays_stored() {
    let scene = warm().await;
    let other = scene.gitlab.project("group/other", Visibility::Private);
    let bob = scene.gitlab.user("bob");
    for user in [bob, scene.alice] {
        scene.gitlab.member(other, user, Level::Maintainer);
    }
    let bob = scene.gitlab.personal_token(bob, Scope::Api);
    for project in [other.to_string(), "group%2Fother".to_owned()] {
        let path = format!("/api/v4/projects/{project}/jobs/{}/artifacts", scene.job);
        for token in [&bob, &scene.token] {
            let fields = [("private-token", token.as_str())];
            let direct = get(&format!("{}{path}", scene.gitlab.url()), &fields).await;
            for _ in 0..2 {
                let ours = get(&format!("{}{path}", scene.larder.url()), &fields).await;
                assert_eq!((ours.status.as_u16(), &ours.body), (404, &direct.body), "{project}");
            }
        }
    }
    let before = scene.gitlab.counters();
    let again = scene.get().await;
    assert_eq!(again.cache(), "larder; hit");
    assert!(scene.is_archive(&again));
    assert_eq!(scene.gitlab.counters(), before, "neither asked nor fetched again");
}

#[tokio::test]
async fn a_project_by_number_and_by_path_is_two_questions() {
    let scene = warm().await;
    let by_path = scene.api(&format!("/projects/group%2Fproject/jobs/{}/artifacts", scene.job));
    let asked = scene.questions();
    for expected in [asked + 1, asked + 1] {
        let reply = get(&by_path, &[("private-token", &scene.token)]).await;
        assert!(scene.is_archive(&reply) && reply.cache() == "larder; hit");
        assert_eq!(scene.questions(), expected);
    }
}

#[tokio::test]
async fn the_runners_route_opens_nothing_on_the_projects_route() {
    let scene = scene().await;
    scene.gitlab.set_access(scene.job, ArtifactsAccess::None);
    let (_, token) = scene.gitlab.running_job(scene.project, scene.alice);
    let fields = [("job-token", token.as_str())];
    let runner = scene.api(&format!("/jobs/{}/artifacts", scene.job));
    assert!(scene.is_archive(&get(&runner, &fields).await));
    assert_eq!(get(&runner, &fields).await.cache(), "larder; hit");
    for token_form in ["JOB-TOKEN", "job_token=", "token=", "Bearer"] {
        let form = pass(token_form, &token);
        let refused = get(&form.url(&scene.url(), ""), &form.fields()).await;
        assert_eq!(refused.status, 403, "{token_form}");
    }
    assert_eq!(get(&runner, &fields).await.cache(), "larder; hit", "and the refusals took nothing away");
}

#[tokio::test]
async fn the_projects_route_opens_nothing_on_the_runners_route() {
    let scene = warm().await;
    scene.gitlab.set_runner_auth(RunnerAuth::JobToken);
    let runner = scene.api(&format!("/jobs/{}/artifacts", scene.job));
    for url in [runner.clone(), format!("{runner}?direct_download=true")] {
        for method in [Method::GET, Method::HEAD] {
            let refused = send(method, &url, &[("private-token", &scene.token)]).await;
            assert_eq!(refused.status, 403, "{url}");
        }
    }
    assert_eq!(scene.get().await.cache(), "larder; hit");
}

#[tokio::test]
async fn whoever_one_acts_as_is_part_of_who_one_is() {
    let scene = warm().await;
    scene.gitlab.set_access(scene.job, ArtifactsAccess::Developer);
    let admin = scene.gitlab.personal_token(scene.gitlab.admin("root"), Scope::Sudo);
    scene.member("gus", Level::Guest);
    let url = scene.url();
    for _ in 0..2 {
        for (fields, query, status) in [
            (vec![], "", 200),
            (vec![("sudo", "alice")], "", 200),
            (vec![("sudo", "gus")], "", 403),
            (vec![("Sudo", "nobody")], "", 404),
            (vec![], "?sudo=alice", 200),
            (vec![], "?sudo=gus", 403),
        ] {
            let fields = [vec![("private-token", admin.as_str())], fields].concat();
            let reply = get(&format!("{url}{query}"), &fields).await;
            assert_eq!(reply.status, status, "{fields:?} {query}");
        }
    }
    assert_eq!(scene.get().await.cache(), "larder; hit", "the 404 was about the user, not about the archive");
}

#[tokio::test]
async fn a_field_nobody_knows_yet_splits_grants() {
    let scene = warm().await;
    let asked = scene.questions();
    let fields = [("private-token", scene.token.as_str()), ("x-future-credential", "1")];
    assert!(scene.is_archive(&get(&scene.url(), &fields).await));
    assert_eq!(scene.questions(), asked + 1);
}

#[tokio::test]
async fn a_grant_belongs_to_the_address_a_trusted_proxy_named() {
    let scene = Scene::with(LOCAL, archive(20_000, 1), |config| {
        remember(config);
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let office: IpAddr = "10.0.0.1".parse().unwrap();
    scene.gitlab.set_allowed_ips(scene.project, Some(vec![office]));
    let from = |chain: &'static str| {
        let (url, token) = (scene.url(), scene.token.clone());
        async move { get(&url, &[("private-token", &token), ("x-forwarded-for", chain)]).await }
    };
    for _ in 0..2 {
        assert!(scene.is_archive(&from("10.0.0.1").await));
        for elsewhere in ["10.0.0.2", "10.0.0.1, 10.0.0.2", "::1"] {
            let refused = from(elsewhere).await;
            assert_eq!(refused.status, 404, "{elsewhere}");
        }
        assert_eq!(scene.get().await.status, 404, "the proxy itself is elsewhere, too");
    }
    assert_eq!(from("10.0.0.2, 10.0.0.1").await.cache(), "larder; hit", "the last entry is the proxy's own");
}

#[tokio::test]
async fn what_a_stranger_says_of_his_address_is_not_believed() {
    let scene = warm().await;
    let office: IpAddr = "10.0.0.1".parse().unwrap();
    let outside = scene.member("olga", Level::Developer);
    scene.gitlab.set_allowed_ips(scene.project, Some(vec![office]));
    for claim in [("x-forwarded-for", "10.0.0.1"), ("x-real-ip", "10.0.0.1"), ("forwarded", "for=10.0.0.1")] {
        let refused = get(&scene.url(), &[("private-token", &outside), claim]).await;
        assert_eq!(refused.status, 404, "{claim:?}");
        let hit = get(&scene.url(), &[("private-token", &scene.token), claim]).await;
        assert_eq!(hit.cache(), "larder; hit", "and it makes nobody another caller: {claim:?}");
    }
    let asked = scene.gitlab.requests_of(Class::JobArchive);
    assert!(!asked.iter().any(|seen| seen.carries("10.0.0.1")), "GitLab never heard of it");
}

#[tokio::test]
async fn a_grant_for_one_job_opens_no_other() {
    let scene = warm().await;
    let closed = scene.gitlab.job(scene.project, JobStatus::Success);
    scene.gitlab.put_archive(closed, archive(20_000, 2));
    let url = through(&scene.gitlab, &scene.larder, &scene.gitlab.archive_url(closed));
    let fields = [("private-token", scene.token.as_str())];
    assert_eq!(get(&url, &fields).await.body, archive(20_000, 2).bytes().unwrap());
    scene.gitlab.set_access(closed, ArtifactsAccess::None);
    scene.larder.clock.advance(HOUR);
    assert!(scene.is_archive(&scene.get().await), "asked anew for this one");
    assert_eq!(get(&url, &fields).await.status, 403, "which says nothing of that one");
}

#[tokio::test]
async fn a_grant_for_what_a_job_had_does_not_open_what_it_has() {
    let scene = warm().await;
    let bob = scene.member("bob", Level::Developer);
    scene.gitlab.put_archive(scene.job, archive(30_000, 2));
    let new = scene.get_as(&bob).await;
    assert_eq!(new.body, archive(30_000, 2).bytes().unwrap(), "bob has no grant and gets what is there");
    scene.larder.stored(2).await;
    scene.gitlab.remove_member(scene.project, scene.alice);
    let refused = scene.get().await;
    assert_eq!(refused.status, 404, "alice's grant named the old archive");
    assert_eq!(scene.get_as(&bob).await.cache(), "larder; hit", "her 404 took nothing from the new one");
}

#[tokio::test]
async fn a_get_with_a_body_is_gitlabs_to_read() {
    let scene = warm().await;
    let url = scene.url();
    let fields =
        [("private-token", scene.token.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let reply = open(Method::GET, &url, &fields, "private_token=wrong").await.unwrap().rest().await;
    assert_eq!(reply.cache(), "larder; fwd=bypass; detail=pass");
}
