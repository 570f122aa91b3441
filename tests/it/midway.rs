//! A DELETE in the middle of something: a fill, a question, a download.

use gitlab_standin::{Class, Effect, Etag, Fault, Gate, Level, Storage};
use http::Method;

use crate::scene::{MODES, Scene, archive, zips};
use crate::support::{Larder, get, send};

const SIZE: u64 = 4 << 20;
const WEAK: Storage = Storage::Local { etag: Etag::Weak };

/// Takes the archive away through larder.
async fn delete(scene: &Scene) {
    let url = scene.api(&format!("/projects/{}/jobs/{}/artifacts", scene.project, scene.job));
    assert_eq!(send(Method::DELETE, &url, &[("private-token", &scene.token)]).await.status, 204);
}

/// Nothing is left of the archive, in memory, on disk, or after a restart.
async fn is_gone(scene: Scene, context: &str) {
    assert_eq!(scene.get().await.status, 404, "{context}");
    let dir = scene.larder.stop().await;
    assert!(zips(dir.path()).is_empty(), "{context}");
    let scene = Scene { larder: Larder::on(&scene.gitlab.url(), dir, |_| ()).await, ..scene };
    assert_eq!(scene.get().await.status, 404, "{context}");
}

#[tokio::test]
async fn during_a_fill_it_shuts_newcomers_out_and_nothing_is_stored() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(SIZE, 1)).await;
        let bob = scene.member("bob", Level::Developer);
        let body = Gate::new();
        scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())).once());
        body.release(SIZE / 2);
        let (alices, bobs) = (scene.open().await, scene.open_as(&bob).await);
        delete(&scene).await;
        for token in [&scene.token, &bob] {
            assert_eq!(scene.get_as(token).await.status, 404, "{storage:?}: while the fill goes on");
        }
        body.open();
        for exchange in [alices, bobs] {
            let reply = exchange.rest().await;
            assert!(!reply.whole || scene.is_archive(&reply), "{storage:?}");
            assert!(scene.archive.bytes().unwrap().starts_with(&reply.body), "{storage:?}: no mix");
        }
        is_gone(scene, &format!("{storage:?}")).await;
    }
}

#[tokio::test]
async fn during_a_fill_a_second_archive_is_filled_beside_the_first() {
    for storage in MODES {
        let mut scene = Scene::start(storage, archive(SIZE, 2)).await;
        let body = Gate::new();
        scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())).once());
        body.release(SIZE / 2);
        let old = scene.open().await;
        delete(&scene).await;
        let first = std::mem::replace(&mut scene.archive, archive(SIZE, 3));
        scene.gitlab.put_archive(scene.job, scene.archive.clone());
        let new = scene.get().await;
        assert!(scene.is_archive(&new), "{storage:?}");
        assert_eq!(new.cache(), "larder; fwd=miss; stored", "{storage:?}");
        body.open();
        let old = old.rest().await;
        assert!(!old.whole || old.body == first.bytes().unwrap(), "{storage:?}");
        let dir = scene.larder.stop().await;
        let scene = Scene { larder: Larder::on(&scene.gitlab.url(), dir, |_| ()).await, ..scene };
        let later = scene.get().await;
        assert!(scene.is_archive(&later), "{storage:?}: the first one came last and must not stay");
        assert_eq!(later.cache(), "larder; hit", "{storage:?}");
    }
}

#[tokio::test]
async fn before_the_fills_head_it_voids_the_answer_to_come() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(SIZE, 4)).await;
        // GitLab has said yes already; the first byte is on its way while the archive goes.
        let body = Gate::new();
        scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())).once());
        let deleting = async {
            body.arrived(1).await;
            delete(&scene).await;
            body.open();
        };
        let (reply, ()) = tokio::join!(scene.get(), deleting);
        let right = scene.is_archive(&reply);
        assert!(right || !reply.whole || reply.status == 404, "{storage:?}: {}", reply.status);
        is_gone(scene, &format!("{storage:?}")).await;
    }
}

/// A scene with a stored archive whose next question to GitLab is struck by `effect`.
async fn about_to_ask(storage: Storage, effect: Effect) -> Scene {
    let scene = Scene::start(storage, archive(SIZE, 5)).await;
    assert!(scene.is_archive(&scene.get().await));
    let dir = scene.larder.stop().await;
    let scene = Scene { larder: Larder::on(&scene.gitlab.url(), dir, |_| ()).await, ..scene };
    scene.gitlab.fault(Fault::new(effect).on(Class::JobArchive).once());
    scene
}

#[tokio::test]
async fn during_a_question_that_is_still_to_be_answered_it_is_seen() {
    for storage in MODES {
        let head = Gate::new();
        let scene = about_to_ask(storage, Effect::Hold(head.clone())).await;
        let deleting = async {
            head.arrived(1).await;
            delete(&scene).await;
            head.open();
        };
        let (reply, ()) = tokio::join!(scene.get(), deleting);
        assert_eq!(reply.status, 404, "{storage:?}");
        is_gone(scene, &format!("{storage:?}")).await;
    }
}

#[tokio::test]
async fn during_a_question_a_late_yes_revives_nothing() {
    // Here a yes has a body, which can be held back once it is given.
    let body = Gate::new();
    let scene = about_to_ask(WEAK, Effect::Slow(body.clone())).await;
    let deleting = async {
        body.arrived(1).await;
        delete(&scene).await;
        body.open();
    };
    let (reply, ()) = tokio::join!(scene.get(), deleting);
    assert_eq!(reply.status, 404);
    is_gone(scene, "a late yes").await;
}

#[tokio::test]
async fn during_a_question_a_refused_one_changes_nothing() {
    let body = Gate::new();
    let scene = about_to_ask(WEAK, Effect::Slow(body.clone())).await;
    let reporter = scene.member("bob", Level::Reporter);
    let deleting = async {
        body.arrived(1).await;
        let url = scene.api(&format!("/projects/{}/jobs/{}/artifacts", scene.project, scene.job));
        assert_eq!(send(Method::DELETE, &url, &[("private-token", &reporter)]).await.status, 403);
        body.open();
    };
    let (reply, ()) = tokio::join!(scene.get(), deleting);
    assert!(scene.is_archive(&reply));
    assert_eq!(reply.cache(), "larder; hit");
}

#[tokio::test]
async fn during_a_download_its_reader_finishes_or_breaks_and_the_file_is_gone() {
    for storage in [WEAK, MODES[2]] {
        let scene = Scene::start(storage, archive(8 * SIZE, 6)).await;
        assert!(scene.is_archive(&scene.get().await));
        let dir = scene.larder.stop().await;
        let scene = Scene { larder: Larder::on(&scene.gitlab.url(), dir, |_| ()).await, ..scene };
        let mut reading = scene.open().await;
        assert_eq!(reading.fields["cache-status"], "larder; hit");
        let begun = reading.next().await.unwrap().unwrap();
        delete(&scene).await;
        assert!(zips(scene.larder.dir.path()).is_empty(), "{storage:?}");
        let new = archive(8 * SIZE, 7);
        scene.gitlab.put_archive(scene.job, new.clone());
        let replaced = scene.get().await;
        assert!(replaced.whole && replaced.body == new.bytes().unwrap(), "{storage:?}");
        let rest = reading.rest().await;
        let whole = [begun, rest.body].concat();
        let old = scene.archive.bytes().unwrap();
        assert!(old.starts_with(&whole), "{storage:?}: a mix");
        assert_eq!(rest.whole, whole.len() == old.len(), "{storage:?}");
    }
}

#[tokio::test]
async fn an_expired_archive_that_gitlab_swept_is_gone_for_everybody_who_had_it() {
    let scene = Scene::start(WEAK, archive(SIZE, 8)).await;
    let bob = scene.member("bob", Level::Developer);
    assert!(scene.is_archive(&scene.get().await) && scene.is_archive(&scene.get_as(&bob).await));
    let url = scene.api(&format!("/projects/{}/artifacts", scene.project));
    assert_eq!(send(Method::DELETE, &url, &[("private-token", &scene.token)]).await.status, 202);
    for token in [&scene.token, &bob] {
        assert_eq!(get(&scene.url(), &[("private-token", token)]).await.status, 404);
    }
    is_gone(scene, "swept").await;
}
