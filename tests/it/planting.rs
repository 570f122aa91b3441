//! Answers that are not the archive, and requests that would like them to be: nothing stored, dropped or leaked.

mod fronts;
mod hosts;
mod moved;
mod scripted;
mod stores;
mod twins;

use std::ops::Deref;
use std::time::Duration;

use gitlab_standin::{Class, Effect, Etag, Fault, JobStatus, Storage};

use crate::scene::{Scene, archive, come_to};
use crate::support::{Reply, get, send};

const LOCAL: Storage = Storage::Local { etag: Etag::Weak };

/// A scene in the mode in which every request is a question, with a new job for each attempt.
struct Stage {
    scene: Scene,
    hot: bool,
    /// Archives that are stored.
    stored: usize,
}

impl Deref for Stage {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Stage {
    async fn set(storage: Storage) -> Self {
        let change = |config: &mut larder::config::Config| config.access.ttl = Duration::ZERO;
        let scene = Scene::with(storage, archive(20_000, 1), change).await;
        Self { scene, hot: false, stored: 0 }
    }

    /// Another job, whose archive is stored already if `hot`.
    async fn next(&mut self, hot: bool) {
        self.scene.job = self.gitlab.job(self.project, JobStatus::Success);
        self.scene.archive = archive(20_000, self.job.0);
        self.gitlab.put_archive(self.job, self.archive.clone());
        self.hot = hot;
        if hot {
            assert!(self.is_archive(&self.get().await));
            self.has_stored_one().await;
        }
    }

    async fn has_stored_one(&mut self) {
        self.stored += 1;
        self.larder.stored(self.stored).await;
    }

    /// The next good caller gets the right bytes, from the store if they were there before, and nothing else is there.
    async fn is_unharmed(&mut self, context: &str) {
        self.gitlab.clear_faults();
        // A store that has failed is left alone for so long.
        self.larder.clock.advance(Duration::from_secs(30));
        let before = self.transfers();
        let next = self.get().await;
        assert!(self.is_archive(&next), "{context}, hot: {}: {} {}", self.hot, next.status, next.cache());
        let expected = if self.hot { "larder; hit" } else { "larder; fwd=miss; stored" };
        assert_eq!(next.cache(), expected, "{context}");
        assert_eq!(self.transfers() - before, usize::from(!self.hot), "{context}");
        if !self.hot {
            self.has_stored_one().await;
        }
        come_to(self.larder.dir.path(), self.stored, context).await;
        assert!(!format!("{:?}", next.fields).contains("evil"), "{context}");
    }
}

fn same(ours: &Reply, direct: &Reply, context: &str) {
    assert_eq!(ours.status, direct.status, "{context}");
    assert_eq!(ours.body, direct.body, "{context}");
    for name in ["location", "content-type"] {
        assert_eq!(ours.field(name), direct.field(name), "{context}: {name}");
    }
}

fn says(status: u16, content_type: &'static str, body: &'static str) -> Effect {
    Effect::Answer { status, content_type, body: body.into() }
}

#[tokio::test]
async fn what_is_no_archive_goes_to_the_one_who_got_it_and_nowhere_else() {
    let mut scene = Stage::set(LOCAL).await;
    for hot in [false, true] {
        for (effect, refused) in [
            (Effect::Html, false),
            (says(200, "application/octet-stream", ""), false),
            (says(200, "application/octet-stream", "P"), false),
            (says(200, "application/zip", "PK\x03\x04 but no zip after it"), false),
            (says(206, "application/octet-stream", "a part of nothing, without Content-Range"), false),
            (says(204, "text/plain", ""), false),
            (says(304, "text/plain", ""), false),
            (says(401, "application/json", "{\"message\":\"401 Unauthorized\"}"), true),
            (says(403, "application/xml", "<Error><Code>AccessDenied</Code></Error>"), true),
            (says(404, "application/xml", "<Error><Code>NoSuchKey</Code></Error>"), true),
            (says(404, "text/plain", "404 page not found"), true),
            (says(416, "text/plain", "Range Not Satisfiable"), true),
            (says(429, "text/plain", "Retry later"), true),
            (says(500, "text/html", "<html>500</html>"), true),
        ] {
            scene.next(hot).await;
            let context = format!("{effect:?}, hot: {hot}");
            scene.gitlab.fault(Fault::new(effect).on(Class::JobArchive));
            let direct = get(&scene.gitlab.archive_url(scene.job), &[("private-token", &scene.token)]).await;
            for _ in 0..2 {
                let ours = scene.get().await;
                same(&ours, &direct, &context);
                assert!(!ours.cache().contains("hit"), "{context}");
                if refused {
                    assert_eq!(ours.cache(), "larder; fwd=bypass; detail=refused", "{context}");
                }
            }
            scene.is_unharmed(&context).await;
        }
    }
}

#[tokio::test]
async fn gitlabs_404_to_a_caller_who_was_never_let_in_drops_nothing() {
    let mut scene = Stage::set(LOCAL).await;
    scene.next(true).await;
    let stranger = scene.stranger();
    for fields in [vec![("private-token", stranger.as_str())], vec![]] {
        assert_eq!(get(&scene.url(), &fields).await.status, 404);
    }
    scene.is_unharmed("a stranger").await;
}

#[tokio::test]
async fn a_condition_that_every_archive_meets_is_met_by_none() {
    let constant = "W/\"12ae32cb1ec02d01eda3581b127c1fee\"";
    for hot in [false, true] {
        let mut scene = Stage::set(LOCAL).await;
        scene.next(hot).await;
        let fields = [("private-token", scene.token.as_str()), ("if-none-match", constant)];
        let direct = get(&scene.gitlab.archive_url(scene.job), &fields).await;
        assert_eq!(direct.status, 304, "older GitLab says so whatever it holds");
        let ours = get(&scene.url(), &fields).await;
        assert!(scene.is_archive(&ours), "hot: {hot}");
        assert_ne!(ours.field("etag"), Some(constant));
    }
}

#[tokio::test]
async fn a_sign_in_page_is_the_callers_own() {
    for hot in [false, true] {
        for storage in [LOCAL, Storage::Redirect { job_id_in_path: true }] {
            let mut scene = Stage::set(storage).await;
            scene.next(hot).await;
            scene.gitlab.fault(Fault::new(Effect::SignIn).on(Class::JobArchive));
            for method in [http::Method::GET, http::Method::HEAD] {
                let ours = send(method.clone(), &scene.url(), &[("private-token", &scene.token)]).await;
                assert_eq!(ours.status, 302);
                let page = ours.field("location").unwrap().to_owned();
                assert_eq!(
                    page,
                    format!("{}/users/sign_in", scene.larder.url()),
                    "at the client's own address"
                );
                assert!(get(&page, &[]).await.body.starts_with(b"<!DOCTYPE html>"));
            }
            scene.is_unharmed("sign-in").await;
        }
    }
}
