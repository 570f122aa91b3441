//! Object stores that answer with something else, or not at all.

use bytes::Bytes;
use gitlab_standin::{Archive, Effect, Ending, Fault, Listening, Server, Storage};
use http::Method;

use super::{Stage, says};
use crate::scene::{Scene, come_to};
use crate::support::{get, send};

const REDIRECT: Storage = Storage::Redirect { job_id_in_path: false };

/// Each way of not giving an archive.
#[derive(Debug, Clone)]
enum Bad {
    Answers(Effect),
    Expired,
    Listens(Listening),
}

fn all() -> Vec<Bad> {
    let denied = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>";
    let missing = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>";
    vec![
        Bad::Answers(Effect::Html),
        Bad::Answers(Effect::Body(Bytes::from_static(b"not a zip"))),
        Bad::Answers(Effect::Body(Bytes::new())),
        Bad::Answers(says(403, "application/xml", denied)),
        Bad::Answers(says(404, "application/xml", missing)),
        Bad::Answers(says(503, "application/xml", "<Error><Code>SlowDown</Code></Error>")),
        Bad::Answers(says(206, "application/octet-stream", "PK\x03\x04")),
        Bad::Answers(Effect::Redirect { status: 307, location: "http://127.0.0.1:1/elsewhere".to_owned() }),
        Bad::Answers(Effect::Drop(Ending::Reset)),
        Bad::Expired,
        Bad::Listens(Listening::Refuse),
        Bad::Listens(Listening::Slam),
    ]
}

impl Bad {
    fn begin(&self, scene: &Scene) {
        match self {
            Self::Answers(effect) => drop(scene.gitlab.fault(Fault::new(effect.clone()).on_store())),
            Self::Expired => scene.gitlab.set_link_lifetime(std::time::Duration::ZERO),
            Self::Listens(listening) => scene.gitlab.set_listening(Server::Store, *listening).unwrap(),
        }
    }

    fn end(scene: &Scene) {
        scene.gitlab.clear_faults();
        scene.gitlab.set_link_lifetime(std::time::Duration::from_secs(600));
        scene.gitlab.set_listening(Server::Store, Listening::Open).unwrap();
    }
}

/// A location without its signature, which is another one each second.
fn object(location: Option<&str>) -> &str {
    let (object, query) = location.unwrap().split_once('?').unwrap();
    assert!(query.contains("X-Amz-Signature="));
    object
}

#[tokio::test]
async fn a_store_without_the_archive_leaves_a_cold_client_with_gitlabs_own_answer() {
    let mut scene = Stage::set(REDIRECT).await;
    for bad in all() {
        scene.next(false).await;
        let (_, token) = scene.gitlab.running_job(scene.project, scene.alice);
        bad.begin(&scene);
        let a1 = (scene.gitlab.archive_url(scene.job), ("private-token", scene.token.as_str()));
        let r1 = (scene.gitlab.runner_url(scene.job), ("job-token", token.as_str()));
        let direct = (format!("{}?direct_download=true", r1.0), r1.1);
        for (url, field) in [a1, r1, direct] {
            let theirs = get(&url, &[field]).await;
            let ours = get(&crate::support::through(&scene.gitlab, &scene.larder, &url), &[field]).await;
            let context = format!("{bad:?} {url}");
            assert_eq!(ours.status, theirs.status, "{context}");
            if theirs.status == 302 {
                assert_eq!(object(ours.field("location")), object(theirs.field("location")), "{context}");
            } else {
                assert!(ours.body == theirs.body, "{context}");
            }
        }
        come_to(scene.larder.dir.path(), scene.stored, &format!("{bad:?}")).await;
        Bad::end(&scene);
        scene.is_unharmed(&format!("{bad:?}")).await;
        assert_eq!(scene.gitlab.counters().stray_credentials, 0);
    }
}

#[tokio::test]
async fn a_store_without_the_archive_takes_nothing_from_those_who_have_it() {
    let mut scene = Stage::set(REDIRECT).await;
    for bad in all() {
        scene.next(true).await;
        bad.begin(&scene);
        let hit = scene.get().await;
        assert!(scene.is_archive(&hit) && hit.cache() == "larder; hit", "{bad:?}");
        Bad::end(&scene);
        scene.is_unharmed(&format!("{bad:?}")).await;
    }
}

#[tokio::test]
async fn a_head_about_an_archive_that_its_store_lacks_gets_gitlabs_redirect() {
    let mut scene = Stage::set(REDIRECT).await;
    for bad in all() {
        scene.next(false).await;
        bad.begin(&scene);
        let fields = [("private-token", scene.token.as_str())];
        let theirs = send(Method::HEAD, &scene.gitlab.archive_url(scene.job), &fields).await;
        let ours = send(Method::HEAD, &scene.url(), &fields).await;
        assert_eq!(ours.status, theirs.status, "{bad:?}");
        assert_eq!(object(ours.field("location")), object(theirs.field("location")), "{bad:?}");
        Bad::end(&scene);
        scene.is_unharmed(&format!("{bad:?}")).await;
    }
}

#[tokio::test]
async fn an_object_that_is_lost_and_comes_back_is_fetched_then() {
    let mut scene = Stage::set(REDIRECT).await;
    scene.next(false).await;
    scene.gitlab.lose_object(scene.job);
    assert_eq!(scene.get().await.status, 302);
    let again = Archive::seeded(30_000, 5).unwrap();
    scene.gitlab.put_archive(scene.job, again.clone());
    let reply = scene.get().await;
    assert!(reply.body == again.bytes().unwrap() && reply.cache() == "larder; fwd=miss; stored");
}

#[tokio::test]
async fn a_store_behind_gitlab_that_loses_an_object_is_not_gitlab_saying_404() {
    for etag in [gitlab_standin::Etag::Weak, gitlab_standin::Etag::Sha256] {
        let mut scene = Stage::set(Storage::Proxied { etag }).await;
        scene.next(true).await;
        let missing = says(404, "application/xml", "<Error><Code>NoSuchKey</Code></Error>");
        scene.gitlab.fault(Fault::new(missing));
        let lost = scene.get().await;
        assert_eq!((lost.status.as_u16(), lost.field("content-type")), (404, Some("application/xml")));
        scene.is_unharmed("XML 404").await;
    }
}
