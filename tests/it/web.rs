//! The browser's routes, under a session.

use std::time::Duration;

use gitlab_standin::{Etag, Storage, Visibility};
use http::Method;

use crate::scene::{MODES, Scene, archive};
use crate::support::{Reply, get, send};

struct Page {
    scene: Scene,
    cookie: String,
}

impl Page {
    async fn start(storage: Storage) -> Self {
        let scene =
            Scene::with(storage, archive(20_000, 1), |config| config.access.ttl = Duration::ZERO).await;
        let cookie = format!("_gitlab_session={}", scene.gitlab.session(scene.alice));
        Self { scene, cookie }
    }

    fn path(&self, rest: &str) -> String {
        format!("/group/project/-/jobs/{}/artifacts/{rest}", self.scene.job)
    }

    fn url(&self, rest: &str) -> String {
        format!("{}{}", self.scene.larder.url(), self.path(rest))
    }

    async fn both(&self, path: &str, fields: &[(&str, &str)]) -> (Reply, Reply) {
        let ours = get(&format!("{}{path}", self.scene.larder.url()), fields).await;
        let direct = get(&format!("{}{path}", self.scene.gitlab.url()), fields).await;
        (ours, direct)
    }
}

#[tokio::test]
async fn a_click_on_download_is_a_hit() {
    for storage in MODES {
        let page = Page::start(storage).await;
        let fields = [("cookie", page.cookie.as_str()), ("accept", "text/html")];
        for cache in ["larder; fwd=miss; stored", "larder; hit", "larder; hit"] {
            let reply = get(&page.url("download"), &fields).await;
            assert!(page.scene.is_archive(&reply), "{storage:?}: {}", reply.status);
            assert_eq!(reply.cache(), cache, "{storage:?}");
            let named = reply.field("content-disposition").unwrap_or_default();
            assert!(named.contains("artifacts.zip"), "{storage:?}: {named}");
            page.scene.larder.stored(1).await;
        }
        let by_api = page.scene.get().await;
        assert_eq!(by_api.cache(), "larder; hit", "{storage:?}: one archive for both");
        let redirected = matches!(storage, Storage::Redirect { .. });
        let named = by_api.field("content-disposition").is_some();
        assert!(!(redirected && named), "{storage:?}: the API's redirect names no file");
        assert_eq!(get(&page.url("download?file_type=archive"), &fields).await.cache(), "larder; hit");
    }
}

#[tokio::test]
async fn an_archive_that_came_by_the_api_is_named_for_a_browser() {
    for storage in MODES {
        let page = Page::start(storage).await;
        assert_eq!(page.scene.get().await.status, 200);
        page.scene.larder.stored(1).await;
        for _ in 0..2 {
            let reply = get(&page.url("download"), &[("cookie", &page.cookie)]).await;
            assert_eq!(reply.cache(), "larder; hit", "{storage:?}");
            let named = reply.field("content-disposition").unwrap_or_default();
            assert!(named.contains("artifacts.zip"), "{storage:?}: {named}");
        }
    }
}

#[tokio::test]
async fn without_a_session_there_is_a_sign_in_page_cold_and_hot() {
    let page = Page::start(Storage::Local { etag: Etag::Sha256 }).await;
    for hot in [false, true] {
        if hot {
            assert_eq!(get(&page.url("download"), &[("cookie", &page.cookie)]).await.status, 200);
            page.scene.larder.stored(1).await;
        }
        for rest in ["download", "raw/a.txt", "browse"] {
            for cookie in ["", "_gitlab_session=wrong"] {
                let fields = [("cookie", cookie), ("accept", "text/html")];
                let (ours, direct) = page.both(&page.path(rest), &fields).await;
                assert_eq!((ours.status, direct.status.as_u16()), (direct.status, 302), "{rest} hot: {hot}");
                let location = ours.field("location").unwrap();
                assert!(
                    location.starts_with(&page.scene.larder.url()),
                    "{location}: at the client's own address"
                );
            }
        }
        let mallory = page.scene.gitlab.user("mallory");
        let cookie = format!("_gitlab_session={}", page.scene.gitlab.session(mallory));
        let (ours, direct) = page.both(&page.path("download"), &[("cookie", &cookie)]).await;
        assert_eq!((ours.status, &ours.body), (direct.status, &direct.body), "hot: {hot}");
        assert_eq!(ours.status, 404);
    }
}

#[tokio::test]
async fn files_by_the_browsers_route_are_gitlabs() {
    for storage in MODES {
        let scene = Scene::with(
            storage,
            gitlab_standin::Archive::runner([
                gitlab_standin::Member::file("d/a.txt", "text ".repeat(300)),
                gitlab_standin::Member::stored("page.html", "<html></html>"),
                gitlab_standin::Member::stored("b.bin", vec![0; 300]),
            ]),
            |config| config.access.ttl = Duration::ZERO,
        );
        let scene = scene.await;
        let cookie = format!("_gitlab_session={}", scene.gitlab.session(scene.alice));
        let page = Page { scene, cookie };
        assert_eq!(get(&page.url("download"), &[("cookie", &page.cookie)]).await.status, 200);
        page.scene.larder.stored(1).await;
        for rest in ["raw/d/a.txt", "raw/page.html", "raw/b.bin"] {
            let (ours, direct) = page.both(&page.path(rest), &[("cookie", &page.cookie)]).await;
            assert_eq!((ours.status, direct.status.as_u16()), (direct.status, 200), "{rest}");
            assert_eq!((&ours.body, ours.cache()), (&direct.body, "larder; hit"), "{rest} {storage:?}");
            for name in ["content-type", "content-disposition", "content-length", "x-frame-options"] {
                assert_eq!(ours.field(name), direct.field(name), "{rest} {storage:?}: {name}");
            }
        }
        for rest in ["browse", "browse/d", "file/d/a.txt", "download?file_type=trace", "raw/none"] {
            let (ours, direct) = page.both(&page.path(rest), &[("cookie", &page.cookie)]).await;
            assert_eq!(ours.status, direct.status, "{rest} {storage:?}");
            assert!(!ours.cache().contains("hit"), "{rest} {storage:?}");
        }
    }
}

#[tokio::test]
async fn a_session_opens_nothing_on_the_api_that_it_was_not_asked_for() {
    let page = Page::start(Storage::Local { etag: Etag::Sha256 }).await;
    let fields = [("cookie", page.cookie.as_str())];
    assert_eq!(get(&page.url("download"), &fields).await.status, 200);
    page.scene.larder.stored(1).await;
    page.scene.gitlab.remove_member(page.scene.project, page.scene.alice);
    for url in [page.url("download"), page.scene.url()] {
        assert_eq!(get(&url, &fields).await.status, 404, "{url}");
    }
}

#[tokio::test]
async fn by_ref_a_browser_is_sent_to_the_job_at_its_own_address() {
    let page = Page::start(Storage::Local { etag: Etag::Sha256 }).await;
    let path = "/group/project/-/jobs/artifacts/main/download?job=build";
    let (ours, direct) = page.both(path, &[("cookie", &page.cookie)]).await;
    assert_eq!((ours.status, direct.status.as_u16()), (direct.status, 302));
    let location = ours.field("location").unwrap();
    assert_eq!(location, page.url("download"));
    let reply = get(location, &[("cookie", &page.cookie)]).await;
    assert!(page.scene.is_archive(&reply));
}

#[tokio::test]
async fn a_path_in_other_letters_is_sent_to_the_right_one() {
    let page = Page::start(Storage::Local { etag: Etag::Sha256 }).await;
    let path = page.path("download").replace("/group/", "/Group/");
    let (ours, direct) = page.both(&path, &[("cookie", &page.cookie)]).await;
    assert_eq!(ours.status, direct.status);
    assert!(ours.status.is_redirection());
    assert_eq!(page.scene.gitlab.counters().stray_credentials, 0);
}

#[tokio::test]
async fn public_artifacts_need_no_session_until_they_are_private() {
    let page = Page::start(Storage::Local { etag: Etag::Sha256 }).await;
    let (gitlab, scene) = (&page.scene.gitlab, &page.scene);
    gitlab.set_visibility(scene.project, Visibility::Public);
    for _ in 0..2 {
        assert_eq!(get(&page.url("download"), &[]).await.status, 200);
        scene.larder.stored(1).await;
    }
    gitlab.set_visibility(scene.project, Visibility::Private);
    assert_eq!(get(&page.url("download"), &[]).await.status, 302);
    assert_eq!(send(Method::HEAD, &page.url("download"), &[]).await.status, 302);
}
