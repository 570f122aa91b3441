//! A front that sends everybody elsewhere, before anybody's right is looked at: its redirect is no yes.

use std::time::Duration;

use gitlab_standin::{Effect, Fault, JobStatus, PipelineStatus, Storage, Visibility};
use http::Method;

use super::LOCAL;
use crate::scene::{Scene, archive};
use crate::support::{Larder, Reply, get, send};

const STATUSES: [u16; 3] = [302, 303, 307];

/// Where such a front sends, at another name of the same GitLab.
fn elsewhere(scene: &Scene) -> Vec<String> {
    let base = format!("http://localhost:{}", scene.gitlab.address().port());
    let store = scene.gitlab.store_url();
    vec![
        format!("{base}{{target}}"),
        format!("{base}{{path}}/"),
        format!("{base}/other/root{{target}}"),
        format!("{base}{{path}}?Signature=0a1b"),
        format!("{base}{{path}}?X-Amz-Expires=600&X-Amz-Signature=0a1b"),
        format!("{base}//{{path}}/.?AWSAccessKeyId=a&Expires=1&Signature=0a1b"),
        format!("{base}/bytes/100000"),
        format!("{base}/bytes/100000?SAMLRequest=fZ&SigAlg=rsa&Signature=0a1b"),
        format!("{store}/gitlab-artifacts/ab/cd/artifacts.zip"),
        format!("{store}/gitlab-artifacts/ab/cd/artifacts.zip?X-Amz-Signature="),
    ]
}

/// Sends those elsewhere who come by GitLab's first name; by the other one GitLab itself answers.
fn front(scene: &Scene, status: u16, location: &str) {
    let effect = Effect::Front { status, location: location.to_owned() };
    let by_first_name =
        |seen: &gitlab_standin::Seen| seen.header("host").is_some_and(|host| host.starts_with("127.0.0.1"));
    scene.gitlab.fault(Fault::new(effect).when(by_first_name));
}

/// A public project, whose archive a ref leads to.
async fn public() -> Scene {
    let mut scene = Scene::with(LOCAL, archive(20_000, 1), |config| config.access.ttl = Duration::ZERO).await;
    scene.gitlab.set_visibility(scene.project, Visibility::Public);
    let pipeline = scene.gitlab.pipeline(scene.project, "main", PipelineStatus::Success);
    scene.job = scene.gitlab.job_in(pipeline, "build", JobStatus::Success);
    scene.gitlab.put_archive(scene.job, scene.archive.clone());
    scene
}

/// What somebody without any credentials gets on each route, in each way of asking.
async fn anonymously(scene: &Scene) -> Vec<(String, Reply)> {
    let (project, job) = (scene.project, scene.job);
    let web = scene.gitlab.web_url(job).replace(&scene.gitlab.url(), &scene.larder.url());
    let urls = [
        scene.url(),
        scene.api(&format!("/projects/group%2Fproject/jobs/{job}/artifacts")),
        scene.api(&format!("/projects/{project}/jobs/artifacts/main/download?job=build")),
        scene.api(&format!("/projects/{project}/jobs/{job}/artifacts/0.bin")),
        scene.api(&format!("/jobs/{job}/artifacts?direct_download=true")),
        web,
    ];
    let mut replies = Vec::new();
    for url in urls {
        for (method, fields) in [
            (Method::GET, &[][..]),
            (Method::GET, &[("range", "bytes=0-0")][..]),
            (Method::GET, &[("range", "bytes=-100"), ("if-range", "\"x\"")][..]),
            (Method::HEAD, &[][..]),
        ] {
            let reply = send(method.clone(), &url, fields).await;
            replies.push((format!("{method} {url} {fields:?}"), reply));
        }
    }
    replies
}

#[tokio::test]
async fn what_was_public_when_it_was_stored_is_no_longer_given_away_once_a_front_sends_all_elsewhere() {
    let scene = public().await;
    assert!(scene.is_archive(&get(&scene.url(), &[]).await));
    scene.larder.stored(1).await;
    let by_ref = scene.api(&format!("/projects/{}/jobs/artifacts/main/download?job=build", scene.project));
    assert!(scene.is_archive(&get(&by_ref, &[]).await));
    scene.larder.stored(2).await;
    scene.gitlab.set_visibility(scene.project, Visibility::Private);
    for (location, status) in elsewhere(&scene).into_iter().zip(STATUSES.into_iter().cycle()) {
        front(&scene, status, &location);
        for (what, reply) in anonymously(&scene).await {
            assert_eq!(reply.status, status, "{location}: {what}");
            assert!(!reply.body.starts_with(b"PK"), "{location}: {what}");
        }
        scene.gitlab.clear_faults();
    }
    let ours = scene.get().await;
    assert!(
        scene.is_archive(&ours) && ours.cache() == "larder; hit",
        "nothing was dropped: {}",
        ours.cache()
    );
    assert_eq!(get(&scene.url(), &[]).await.status, 404);
}

#[tokio::test]
async fn what_a_front_leads_to_is_not_stored_and_so_not_found_again_when_it_is_private() {
    for nth in 0..elsewhere(&public().await).len() {
        let scene = public().await;
        let place = elsewhere(&scene).swap_remove(nth);
        front(&scene, 302, &place);
        for visibility in [Visibility::Public, Visibility::Private] {
            scene.gitlab.set_visibility(scene.project, visibility);
            for (what, reply) in anonymously(&scene).await {
                assert_eq!(reply.status, 302, "{place}: {what}");
            }
        }
        assert_eq!(scene.larder.count("larder_fills_total{result=\"stored\"}"), 0, "{place}");
        assert_eq!(scene.gitlab.requests_of(gitlab_standin::Class::Object).len(), 0, "{place}");
    }
}

#[tokio::test]
async fn a_named_host_is_no_store_for_the_path_that_was_asked_for() {
    let scene = public().await;
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let larder = Larder::on(&scene.gitlab.url(), dir, |config| {
        config.upstream.storage_hosts = Some(vec!["localhost".to_owned()]);
    })
    .await;
    front(&scene, 302, &format!("http://localhost:{}{{target}}", scene.gitlab.address().port()));
    scene.gitlab.set_visibility(scene.project, Visibility::Private);
    let url = scene.url().replace(&scene.larder.url(), &larder.url());
    assert_eq!(get(&url, &[]).await.status, 302);
}

#[tokio::test]
async fn a_store_at_another_port_of_gitlabs_own_name_is_a_store_where_the_url_is_signed() {
    let storage = Storage::Redirect { job_id_in_path: false };
    let scene = Scene::start(storage, archive(20_000, 1)).await;
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let larder = Larder::on(&scene.gitlab.url().replace("127.0.0.1", "localhost"), dir, |_| ()).await;
    let url = scene.url().replace(&scene.larder.url(), &larder.url());
    let fields = [("private-token", scene.token.as_str())];
    let direct = get(&scene.straight_url(), &fields).await;
    let signed = direct.field("location").unwrap().replace("127.0.0.1", "localhost");
    let unsigned = signed.split('?').next().unwrap().to_owned();
    for (location, followed) in [(unsigned, false), (signed, true)] {
        scene.gitlab.fault(Fault::new(Effect::Redirect { status: 302, location: location.clone() }));
        let ours = get(&url, &fields).await;
        assert_eq!(scene.is_archive(&ours), followed, "{location}: {}", ours.status);
        assert_eq!(ours.status == 302, !followed, "{location}");
        scene.gitlab.clear_faults();
    }
}
