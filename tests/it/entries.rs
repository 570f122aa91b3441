//! Single files out of stored archives.

mod access;
mod forms;
mod hostile;
mod landing;
mod types;

use std::time::Duration;

use gitlab_standin::{Archive, Class, Effect, Etag, Fault, Member, Storage};
use http::Method;
use larder::config::Config;

use crate::scene::{MODES, Scene};
use crate::support::{Reply, get, send, through};

/// Text that deflates well, of this length.
fn text(length: usize) -> Vec<u8> {
    b"all work and no play makes a dull build\n".iter().copied().cycle().take(length).collect()
}

/// Bytes that don't.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Files of each kind: small and large, stored and deflated, in directories, with odd names.
fn files() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![
        ("report.txt", text(5_000), true),
        ("d/page.html", b"<html><body>page</body></html>".to_vec(), true),
        ("d/e/data.json", b"{\"a\":1}".to_vec(), false),
        ("empty", Vec::new(), false),
        ("picture.png", [b"\x89PNG\r\n\x1a\n".as_slice(), &noise(900)].concat(), false),
        ("d/large.log", text(3_000_000), true),
        ("large.bin", noise(700_000), false),
        ("d/\u{e9} b.txt", b"odd name".to_vec(), true),
        ("say \"x\".txt", b"quoted".to_vec(), true),
    ]
}

fn archive() -> Archive {
    let member = |(name, bytes, deflated): (&str, Vec<u8>, bool)| {
        if deflated { Member::file(name, bytes) } else { Member::stored(name, bytes) }
    };
    Archive::runner(files().into_iter().map(member))
}

/// A name as it stands in a path.
fn encoded(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_');
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

async fn scene(storage: Storage, change: impl FnOnce(&mut Config)) -> Scene {
    Scene::with(storage, archive(), change).await
}

fn asking_each_time(config: &mut Config) {
    config.access.ttl = Duration::ZERO;
}

impl Scene {
    /// One file's URL at larder.
    fn entry(&self, name: &str) -> String {
        self.api(&format!("/projects/{}/jobs/{}/artifacts/{}", self.project, self.job, encoded(name)))
    }

    /// The same at GitLab.
    fn straight(&self, url: &str) -> String {
        url.replace(&self.larder.url(), &self.gitlab.url())
    }

    async fn get_entry(&self, name: &str) -> Reply {
        get(&self.entry(name), &[("private-token", &self.token)]).await
    }

    /// Brings the archive in.
    async fn warm(&self) {
        assert!(self.is_archive(&self.get().await));
        self.larder.stored(1).await;
    }
}

/// What of an answer must be GitLab's.
fn same(ours: &Reply, direct: &Reply, context: &str) {
    assert_eq!(ours.status, direct.status, "{context}");
    assert!(ours.whole && ours.body == direct.body, "{context}");
    let named = ["content-type", "content-disposition", "content-length", "x-content-type-options"];
    for name in named.into_iter().chain(["x-frame-options", "content-security-policy", "cache-control"]) {
        assert_eq!(ours.fields.get(name), direct.fields.get(name), "{context}: {name}");
    }
}

#[tokio::test]
async fn each_file_is_what_gitlab_gives_cold_and_hot() {
    for storage in MODES {
        let scene = scene(storage, asking_each_time).await;
        let token = [("private-token", scene.token.as_str())];
        for hot in [false, true] {
            for (name, bytes, _) in files() {
                let context = format!("{name:?} hot: {hot} {storage:?}");
                let url = scene.entry(name);
                let direct = get(&scene.straight(&url), &token).await;
                assert_eq!(direct.body, bytes, "{context}");
                let ours = get(&url, &token).await;
                same(&ours, &direct, &context);
                if hot {
                    assert_eq!(ours.cache(), "larder; hit", "{context}");
                }
                let head = send(Method::HEAD, &url, &token).await;
                assert_eq!((head.status, head.body.len()), (direct.status, 0), "{context}");
                assert_eq!(head.field("content-length"), direct.field("content-length"), "{context}");
            }
            if !hot {
                scene.larder.stored(1).await;
                assert_eq!(
                    (scene.openings(), scene.transfers()),
                    (1, 0),
                    "{storage:?}: fetched beside the first file"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_hit_moves_nothing_but_the_question() {
    for storage in MODES {
        let scene = scene(storage, asking_each_time).await;
        scene.warm().await;
        assert_eq!(scene.get_entry("d/large.log").await.cache(), "larder; hit");
        scene.gitlab.reset_counters();
        let reply = scene.get_entry("d/large.log").await;
        assert!(reply.whole && reply.body == text(3_000_000));
        let moved = scene.gitlab.counters().artifact_bytes();
        assert!(moved <= 1024, "{storage:?}: {moved} bytes");
    }
}

#[tokio::test]
async fn one_answer_covers_all_files_of_an_archive_for_ttl() {
    for storage in MODES {
        let scene = scene(storage, |_| ()).await;
        scene.warm().await;
        // What each extension is called is asked once.
        for (name, ..) in files() {
            assert_eq!(scene.get_entry(name).await.cache(), "larder; hit");
        }
        scene.gitlab.reset_counters();
        for (name, bytes, _) in files() {
            let reply = scene.get_entry(name).await;
            assert!(reply.body == bytes && reply.cache() == "larder; hit", "{name} {storage:?}");
        }
        assert_eq!(
            scene.questions() + scene.gitlab.counters().requests_of(Class::JobEntry),
            0,
            "{storage:?}"
        );
    }
}

#[tokio::test]
async fn what_gitlab_lacks_or_refuses_is_gitlabs_own_answer() {
    for hot in [false, true] {
        let scene = scene(Storage::Local { etag: Etag::Sha256 }, asking_each_time).await;
        if hot {
            scene.warm().await;
        }
        let stranger = scene.stranger();
        let base = scene.api(&format!("/projects/{}/jobs/{}/artifacts", scene.project, scene.job));
        for (path, token) in [
            ("missing.txt", scene.token.as_str()),
            ("d", &scene.token),
            ("d/./page.html", &scene.token),
            ("report.txt%00", &scene.token),
            ("%ff", &scene.token),
            ("report.txt", &stranger),
            ("missing.txt", &stranger),
            ("report.txt", "glpat-unknown"),
        ] {
            let url = format!("{base}/{path}");
            let direct = get(&scene.straight(&url), &[("private-token", token)]).await;
            let ours = get(&url, &[("private-token", token)]).await;
            assert!(direct.status.as_u16() >= 400, "{path}");
            assert_eq!((ours.status, &ours.body), (direct.status, &direct.body), "{path} hot: {hot}");
            // One value, whether the archive is held or not, and whether the file is in it or not.
            let plain = !path.contains("./") && !path.contains('%');
            let detail = if plain { "refused" } else { "pass" };
            assert_eq!(ours.cache(), format!("larder; fwd=bypass; detail={detail}"), "{path} hot: {hot}");
        }
    }
}

#[tokio::test]
async fn an_expired_archives_files_are_gone_while_the_archive_is_not() {
    let scene = scene(Storage::Local { etag: Etag::Weak }, asking_each_time).await;
    scene.warm().await;
    assert_eq!(scene.get_entry("report.txt").await.cache(), "larder; hit");
    scene.gitlab.expire(scene.job);
    assert_eq!(scene.get_entry("report.txt").await.status, 404);
    assert_eq!(scene.get().await.cache(), "larder; hit", "a file's 404 doesn't drop the archive");
    scene.gitlab.set_locked(scene.job, true);
    assert_eq!(scene.get_entry("report.txt").await.cache(), "larder; hit");
}

#[tokio::test]
async fn a_file_is_fetched_alone_where_the_operator_says_so_or_the_archive_is_far_too_large() {
    let pass = |config: &mut Config| config.serving.on_file = larder::proxy::OnFile::Pass;
    let scene = scene(Storage::Local { etag: Etag::Sha256 }, pass).await;
    for _ in 0..2 {
        let reply = scene.get_entry("report.txt").await;
        assert_eq!((reply.body.len(), reply.cache()), (5_000, "larder; fwd=miss"));
    }
    assert_eq!(scene.transfers(), 0);
    let large =
        Archive::runner([Member::stored("small.txt", "small"), Member::stored("large.bin", noise(65 << 20))]);
    let scene = Scene::start(Storage::Local { etag: Etag::Sha256 }, large).await;
    scene.gitlab.fault(Fault::new(Effect::IgnoreRange).on(Class::JobArchive));
    for _ in 0..3 {
        let reply = scene.get_entry("small.txt").await;
        assert_eq!((&reply.body[..], reply.cache()), (&b"small"[..], "larder; fwd=miss"));
    }
    scene.larder.counted("larder_fills_total{result=\"too_large\"}", 1).await;
    assert_eq!(scene.openings(), 1, "it can't be had in parts");
    assert_eq!(scene.get_entry("small.txt").await.cache(), "larder; fwd=miss");
    assert!(scene.transfers() <= 2, "that it is too large is remembered: {}", scene.transfers());
}

#[tokio::test]
async fn deleted_files_are_gone_at_once() {
    for storage in MODES {
        let scene = scene(storage, |_| ()).await;
        scene.warm().await;
        assert_eq!(scene.get_entry("report.txt").await.cache(), "larder; hit");
        assert_eq!(send(Method::DELETE, &scene.url(), &[("private-token", &scene.token)]).await.status, 204);
        let reply = scene.get_entry("report.txt").await;
        assert_eq!(reply.status, 404, "{storage:?}");
    }
}

#[tokio::test]
async fn by_the_projects_path_and_by_its_number_it_is_one_archive() {
    let scene = scene(Storage::Local { etag: Etag::Sha256 }, |_| ()).await;
    scene.warm().await;
    let url =
        through(&scene.gitlab, &scene.larder, &format!("{}/report.txt", scene.gitlab.archive_url(scene.job)));
    let named = scene.api(&format!("/projects/group%2Fproject/jobs/{}/artifacts/report.txt", scene.job));
    for url in [url, named] {
        let reply = get(&url, &[("private-token", &scene.token)]).await;
        assert_eq!((reply.body.len(), reply.cache()), (5_000, "larder; hit"), "{url}");
    }
    assert_eq!(scene.transfers(), 1);
}
