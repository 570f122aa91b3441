//! Writes through larder: what GitLab has done is forgotten before the client knows, what it refused changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use gitlab_standin::{Class, Effect, Etag, Fault, Gate, Level, RunnerAuth, Storage};
use http::{Method, StatusCode};

use crate::scene::{MODES, Scene, archive, zips};
use crate::support::{Larder, Reply, get, open, send, through};

const SIZE: u64 = 100_000;

/// A scene whose archive is on disk and whose reader has a grant.
async fn stored(storage: Storage) -> Scene {
    let scene = Scene::start(storage, archive(SIZE, 1)).await;
    assert_eq!(scene.get().await.cache(), "larder; fwd=miss; stored");
    // A restart waits until it is committed.
    let dir = scene.larder.stop().await;
    let scene = Scene { larder: Larder::on(&scene.gitlab.url(), dir, |_| ()).await, ..scene };
    assert_eq!(scene.get().await.cache(), "larder; hit");
    assert_eq!(on_disk(&scene).len(), 1);
    scene.gitlab.reset_counters();
    scene
}

fn on_disk(scene: &Scene) -> Vec<PathBuf> {
    zips(scene.larder.dir.path())
}

async fn write(scene: &Scene, method: &Method, path: &str, token: &str) -> Reply {
    send(method.clone(), &scene.api(path), &[("private-token", token)]).await
}

/// Method and path of each write, and whether it names one job's archive.
fn writes(scene: &Scene) -> Vec<(Method, String, bool)> {
    let (project, job) = (scene.project, scene.job);
    let pipeline = scene.gitlab.pipeline_of(job).unwrap();
    vec![
        (Method::DELETE, format!("/projects/{project}/jobs/{job}/artifacts"), true),
        (Method::DELETE, format!("/projects/group%2Fproject/jobs/{job}/artifacts"), true),
        (Method::POST, format!("/projects/{project}/jobs/{job}/erase"), true),
        (Method::POST, format!("/projects/{project}/jobs/{job}/artifacts/keep"), false),
        (Method::DELETE, format!("/projects/{project}/artifacts"), false),
        (Method::DELETE, format!("/projects/{project}/pipelines/{pipeline}"), false),
        (Method::DELETE, format!("/projects/{project}"), false),
    ]
}

#[tokio::test]
async fn what_was_done_is_forgotten_before_its_success_is_known() {
    for storage in MODES {
        for n in 0..7 {
            let scene = stored(storage).await;
            scene.gitlab.member(scene.project, scene.alice, Level::Owner);
            let (method, path, one) = writes(&scene).swap_remove(n);
            let context = format!("{storage:?} {method} {path}");
            let done = write(&scene, &method, &path, &scene.token).await;
            assert!(done.status.is_success(), "{context}: {}", done.status);
            assert_eq!(on_disk(&scene).is_empty(), one, "{context}");
            let straight = get(&scene.straight_url(), &[("private-token", &scene.token)]).await;
            scene.gitlab.reset_counters();
            let next = scene.get().await;
            assert!(scene.questions() >= 1, "{context}: GitLab wasn't asked");
            if path.ends_with("/keep") {
                assert!(scene.is_archive(&next), "{context}");
                assert_eq!((next.cache(), scene.transfers()), ("larder; hit", 0), "{context}");
            } else {
                assert_eq!((next.status, &next.body), (straight.status, &straight.body), "{context}");
                assert_eq!(next.status, 404, "{context}");
                assert!(on_disk(&scene).is_empty(), "{context}: alice had been let in to it");
            }
        }
    }
}

#[tokio::test]
async fn what_was_refused_changes_nothing() {
    for storage in MODES {
        let scene = stored(storage).await;
        let (reporter, stranger) = (scene.member("bob", Level::Reporter), scene.stranger());
        for (method, path, _) in writes(&scene) {
            for (token, status) in [("glpat-unknown", 401), (&*reporter, 403), (&*stranger, 404)] {
                let refused = write(&scene, &method, &path, token).await;
                assert_eq!(refused.status, status, "{method} {path}");
            }
        }
        scene.gitlab.set_refreshing(scene.project, true);
        for path in [format!("/jobs/{}/artifacts", scene.job), "/artifacts".to_owned()] {
            let path = format!("/projects/{}{path}", scene.project);
            assert_eq!(write(&scene, &Method::DELETE, &path, &scene.token).await.status, 409, "{path}");
        }
        let upload = send(Method::POST, &scene.api(&format!("/jobs/{}/artifacts", scene.job)), &[]).await;
        assert_eq!(upload.status, 403);
        scene.gitlab.reset_counters();
        let next = scene.get().await;
        assert!(scene.is_archive(&next), "{storage:?}");
        assert_eq!((next.cache(), scene.questions()), ("larder; hit", 0), "{storage:?}");
    }
}

#[tokio::test]
async fn an_anonymous_write_that_is_refused_changes_nothing() {
    let scene = stored(MODES[0]).await;
    for (method, path, _) in writes(&scene) {
        let refused = send(method.clone(), &scene.api(&path), &[]).await;
        assert_eq!(refused.status, 401, "{method} {path}");
    }
    let next = scene.get().await;
    assert_eq!((next.cache(), scene.questions()), ("larder; hit", 0));
}

#[tokio::test]
async fn gitlabs_own_404_drops_the_archive_of_those_it_was_shown_to_and_nobody_elses() {
    for storage in MODES {
        let scene = stored(storage).await;
        let stranger = scene.stranger();
        assert_eq!(scene.get_as(&stranger).await.status, 404, "{storage:?}");
        assert_eq!(get(&scene.url(), &[]).await.status, 404, "{storage:?}");
        assert_eq!(on_disk(&scene).len(), 1, "{storage:?}: a stranger's 404");
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");

        scene.gitlab.delete_archive(scene.job);
        scene.larder.clock.advance(Duration::from_secs(61));
        assert_eq!(scene.get_as(&stranger).await.status, 404, "{storage:?}");
        assert_eq!(on_disk(&scene).len(), 1, "{storage:?}: a stranger's 404");
        let gone = scene.get().await;
        assert_eq!((gone.status.as_u16(), gone.cache()), (404, "larder; fwd=bypass; detail=refused"));
        assert_eq!(on_disk(&scene), Vec::<PathBuf>::new(), "{storage:?}");
    }
}

#[tokio::test]
async fn an_object_stores_404_is_no_word_of_gitlabs() {
    let scene = stored(MODES[3]).await;
    scene.gitlab.lose_object(scene.job);
    scene.larder.clock.advance(Duration::from_secs(61));
    let straight = get(&scene.straight_url(), &[("private-token", &scene.token)]).await;
    let lost = scene.get().await;
    assert_eq!((lost.status, &lost.body), (straight.status, &straight.body));
    assert_eq!(lost.status, StatusCode::NOT_FOUND);
    assert!(lost.body.starts_with(b"<?xml"), "{:?}", lost.body);
    assert_eq!(on_disk(&scene).len(), 1, "nobody said that it is gone");
}

async fn upload(scene: &Scene, token: &str, archive: &gitlab_standin::Archive) -> StatusCode {
    let url = scene.api(&format!("/jobs/{}/artifacts?artifact_type=archive", scene.job));
    let body = archive.bytes().unwrap();
    open(Method::POST, &url, &[("job-token", token)], body).await.expect("an answer").rest().await.status
}

#[tokio::test]
async fn a_job_with_a_second_archive_gives_the_second() {
    for storage in MODES {
        let mut scene = Scene::start(storage, archive(SIZE, 1)).await;
        let (job, token) = scene.gitlab.running_job(scene.project, scene.alice);
        scene.job = job;
        // The same length and more; the second upload comes with or without a DELETE that larder sees.
        for (size, seen) in [(SIZE, true), (SIZE, false), (SIZE + 1, true), (SIZE / 2, false)] {
            for seed in [2, 3] {
                scene.archive = archive(size, seed);
                assert_eq!(upload(&scene, &token, &scene.archive).await, 201, "{storage:?}");
                let (cold, hot) = (scene.get().await, scene.get().await);
                assert!(scene.is_archive(&cold) && scene.is_archive(&hot), "{storage:?} {size} {seed}");
                assert_eq!(hot.cache(), "larder; hit");
                let path = format!("/projects/{}/jobs/{job}/artifacts", scene.project);
                if seen {
                    assert_eq!(write(&scene, &Method::DELETE, &path, &scene.token).await.status, 204);
                } else {
                    scene.gitlab.delete_archive(job);
                }
            }
        }
    }
}

#[tokio::test]
async fn an_archive_that_is_replaced_behind_larders_back_is_served_for_ttl_and_no_longer() {
    for storage in MODES {
        let scene = stored(storage).await;
        let new = archive(SIZE, 2);
        scene.gitlab.put_archive(scene.job, new.clone());
        scene.larder.clock.advance(Duration::from_secs(59));
        assert!(scene.is_archive(&scene.get().await), "{storage:?}: within ttl");
        scene.larder.clock.advance(Duration::from_secs(2));
        for cache in ["larder; fwd=miss; stored", "larder; hit"] {
            let reply = scene.get().await;
            assert!(reply.whole && reply.body == new.bytes().unwrap(), "{storage:?}");
            assert_eq!(reply.cache(), cache, "{storage:?}");
        }
    }
}

#[tokio::test]
async fn a_job_token_ends_with_its_job() {
    for storage in MODES {
        let scene = stored(storage).await;
        scene.gitlab.set_runner_auth(RunnerAuth::JobToken);
        let (running, token) = scene.gitlab.running_job(scene.project, scene.alice);
        let url = through(&scene.gitlab, &scene.larder, &scene.gitlab.runner_url(scene.job));
        let job_token = [("job-token", &*token)];
        for _ in 0..2 {
            assert_eq!(get(&url, &job_token).await.cache(), "larder; hit", "{storage:?}");
        }
        let report = format!(r#"{{"token":"{token}","state":"success"}}"#);
        let fields = [("content-type", "application/json"), ("job-token", &*token)];
        let url_of_job = scene.api(&format!("/jobs/{running}"));
        let done = open(Method::PUT, &url_of_job, &fields, report).await.unwrap().rest().await;
        assert_eq!(done.status, 200);
        assert!(get(&url, &job_token).await.status.is_client_error(), "{storage:?}");
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}: others' grants stay");
    }
}

#[tokio::test]
async fn what_a_client_who_left_has_deleted_is_gone() {
    let scene = stored(Storage::Local { etag: Etag::Sha256 }).await;
    scene.gitlab.member(scene.project, scene.alice, Level::Owner);
    let gate = Gate::new();
    scene.gitlab.fault(Fault::new(Effect::Hold(gate.clone())).on(Class::DeleteJobArtifacts));
    let (project, job) = (scene.project, scene.job);
    let url = scene.api(&format!("/projects/{project}/jobs/{job}/artifacts"));
    let token = scene.token.clone();
    let leaving = tokio::spawn(async move { send(Method::DELETE, &url, &[("private-token", &token)]).await });
    gate.arrived(1).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    scene.fence().await;
    gate.open();
    let gone = async {
        // Out of sight first, then off the disk: nobody waits here for an answer that would come after both.
        while scene.get().await.status != StatusCode::NOT_FOUND || !on_disk(&scene).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("larder heard of it all the same");
}
