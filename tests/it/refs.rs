//! Archives and files by ref: asked for at GitLab each time, and never another job's.

use std::time::{Duration, SystemTime};

use gitlab_standin::{
    Archive, Class, Effect, Etag, Fault, Gate, JobId, JobStatus, Level, Member, PipelineStatus, Seen, Storage,
};
use http::Method;
use larder::config::Config;

use crate::scene::{MODES, Scene, archive, come_to};
use crate::support::{Reply, get, open, send};

const LOCAL_OLD: Storage = Storage::Local { etag: Etag::Weak };

/// A ref of alice's project whose last good pipeline has a job `build` with an archive.
struct Branch {
    scene: Scene,
    job: JobId,
}

impl Branch {
    async fn start(storage: Storage, change: impl FnOnce(&mut Config)) -> Self {
        Self::with(storage, files("one"), change).await
    }

    async fn with(storage: Storage, archive: Archive, change: impl FnOnce(&mut Config)) -> Self {
        let scene = Scene::with(storage, archive.clone(), change).await;
        let mut branch = Self { job: scene.job, scene };
        branch.job = branch.succeed(archive);
        branch
    }

    /// Another pipeline, with this archive.
    fn succeed(&self, archive: Archive) -> JobId {
        self.succeed_dated(archive, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    }

    fn succeed_dated(&self, archive: Archive, date: SystemTime) -> JobId {
        let gitlab = &self.scene.gitlab;
        let pipeline = gitlab.pipeline(self.scene.project, "feature/x", PipelineStatus::Success);
        let job = gitlab.job_in(pipeline, "build", JobStatus::Success);
        gitlab.put_archive_dated(job, archive, date);
        job
    }

    fn url(&self, rest: &str) -> String {
        self.scene.api(&format!("/projects/{}/jobs/artifacts/feature%2Fx/{rest}", self.scene.project))
    }

    fn by_job(&self, job: JobId) -> String {
        self.scene.api(&format!("/projects/{}/jobs/{job}/artifacts", self.scene.project))
    }

    async fn get_as(&self, url: &str, token: &str) -> Reply {
        get(url, &[("private-token", token)]).await
    }

    async fn get(&self, rest: &str) -> Reply {
        self.get_as(&self.url(rest), &self.scene.token).await
    }

    async fn straight(&self, rest: &str) -> Reply {
        let url = self.url(rest).replace(&self.scene.larder.url(), &self.scene.gitlab.url());
        self.get_as(&url, &self.scene.token).await
    }

    /// Whole transfers so far, by any route.
    fn transfers(&self) -> usize {
        let elsewhere = matches!(self.scene.storage, Storage::Redirect { .. });
        let asked = self.scene.gitlab.requests();
        let archive = |class| matches!(class, Class::JobArchive | Class::RunnerArchive | Class::RefArchive);
        let there = |class| if elsewhere { class == Class::Object } else { archive(class) };
        let whole = |seen: &&gitlab_standin::Seen| {
            there(seen.class) && seen.method == "GET" && seen.header("range").is_none()
        };
        asked.iter().filter(whole).count()
    }
}

const ARCHIVE: &str = "download?job=build";
const FILE: &str = "raw/d/a.txt?job=build";

/// An archive whose files tell whose they are.
fn files(whose: &str) -> Archive {
    Archive::runner([
        Member::file("d/a.txt", format!("a of {whose}\n").repeat(100)),
        Member::stored("page.html", format!("<html>{whose}</html>")),
        Member::stored("noise.bin", whose.repeat(3_000)),
    ])
}

fn asking_each_time(config: &mut Config) {
    config.access.ttl = Duration::ZERO;
}

#[tokio::test]
async fn archives_and_files_by_ref_are_gitlabs_cold_and_hot() {
    for storage in MODES {
        let branch = Branch::start(storage, asking_each_time).await;
        for (round, cache) in [(0, "larder; fwd=miss; stored"), (1, "larder; hit"), (2, "larder; hit")] {
            let reply = branch.get(ARCHIVE).await;
            assert!(reply.whole && reply.body == files("one").bytes().unwrap(), "{storage:?}");
            assert_eq!(reply.cache(), cache, "{storage:?} round {round}");
            branch.scene.larder.stored(1).await;
        }
        assert_eq!(branch.transfers(), 1, "{storage:?}");
        for rest in [FILE, "raw/page.html?job=build", "raw/noise.bin?job=build"] {
            let (ours, direct) = (branch.get(rest).await, branch.straight(rest).await);
            assert_eq!((ours.status.as_u16(), ours.cache()), (200, "larder; hit"), "{rest} {storage:?}");
            assert_eq!(ours.body, direct.body, "{rest} {storage:?}");
            for name in ["content-type", "content-disposition", "content-length", "x-content-type-options"] {
                assert_eq!(ours.field(name), direct.field(name), "{rest} {storage:?}: {name}");
            }
        }
        for rest in ["download", "download?job=none", "raw/missing?job=build", "raw/a.txt?job=none"] {
            let (ours, direct) = (branch.get(rest).await, branch.straight(rest).await);
            assert_eq!((ours.status, &ours.body), (direct.status, &direct.body), "{rest} {storage:?}");
        }
    }
}

#[tokio::test]
async fn a_cold_file_by_ref_brings_the_archive_in() {
    for storage in MODES {
        let branch = Branch::start(storage, asking_each_time).await;
        let reply = branch.get(FILE).await;
        assert_eq!((reply.body.len(), reply.cache()), (900, "larder; fwd=miss"), "{storage:?}");
        branch.scene.larder.stored(1).await;
        assert_eq!(branch.get(FILE).await.cache(), "larder; hit", "{storage:?}");
        assert_eq!(branch.get(ARCHIVE).await.cache(), "larder; hit", "{storage:?}");
        // Where GitLab tells one archive from another, it was had in parts.
        let whole = usize::from(matches!(storage, Storage::Local { etag: Etag::Weak }));
        assert_eq!(branch.transfers(), whole, "{storage:?}");
    }
}

#[tokio::test]
async fn files_alone_bring_in_what_a_ref_leads_to_now() {
    for storage in MODES {
        let branch = Branch::start(storage, asking_each_time).await;
        for (stored, whose) in [(1, "one"), (2, "two"), (3, "three")] {
            if stored > 1 {
                branch.succeed(files(whose));
            }
            let expected = format!("a of {whose}");
            let first = branch.get(FILE).await;
            assert!(first.body.starts_with(expected.as_bytes()), "{whose} {storage:?}");
            branch.scene.larder.stored(stored).await;
            let second = branch.get(FILE).await;
            assert!(second.body.starts_with(expected.as_bytes()), "{whose} {storage:?}");
            assert_eq!(second.cache(), "larder; hit", "{whose} {storage:?}");
        }
    }
}

#[tokio::test]
async fn the_newest_good_pipeline_decides_and_so_does_a_step_back() {
    for storage in MODES {
        let branch = Branch::start(storage, asking_each_time).await;
        let (one, two) = (files("one").bytes().unwrap(), files("two").bytes().unwrap());
        assert!(branch.get(ARCHIVE).await.body == one, "{storage:?}");
        branch.scene.larder.stored(1).await;
        assert!(branch.get(FILE).await.body.starts_with(b"a of one"), "{storage:?}");
        let second = branch.succeed(files("two"));
        assert!(branch.get(FILE).await.body.starts_with(b"a of two"), "{storage:?}");
        assert!(branch.get(ARCHIVE).await.body == two, "{storage:?}");
        branch.scene.larder.stored(2).await;
        assert_eq!(branch.get(ARCHIVE).await.cache(), "larder; hit", "{storage:?}");
        // A retried job: its pipeline isn't a good one any more.
        branch.scene.gitlab.retry(second);
        let pipeline = branch.scene.gitlab.pipeline_of(second).unwrap();
        branch.scene.gitlab.set_pipeline_status(pipeline, PipelineStatus::Running);
        assert!(branch.get(ARCHIVE).await.body == one, "{storage:?}");
        assert!(branch.get(FILE).await.body.starts_with(b"a of one"), "{storage:?}");
    }
}

#[tokio::test]
async fn a_ref_and_its_job_share_one_archive_where_that_is_proven() {
    for (storage, proven) in [
        (Storage::Local { etag: Etag::Sha256 }, true),
        (Storage::Redirect { job_id_in_path: false }, true),
        (Storage::Redirect { job_id_in_path: true }, true),
        (LOCAL_OLD, false),
        (Storage::Proxied { etag: Etag::Weak }, false),
    ] {
        for ref_first in [false, true] {
            let branch = Branch::start(storage, asking_each_time).await;
            let job = branch.by_job(branch.job);
            let urls = if ref_first { [branch.url(ARCHIVE), job] } else { [job, branch.url(ARCHIVE)] };
            for (stored, url) in (1..).zip(&urls) {
                let reply = branch.get_as(url, &branch.scene.token).await;
                assert!(reply.whole && reply.body == files("one").bytes().unwrap(), "{storage:?}");
                branch.scene.larder.stored(if proven { 1 } else { stored }).await;
            }
            for url in &urls {
                assert_eq!(
                    branch.get_as(url, &branch.scene.token).await.cache(),
                    "larder; hit",
                    "{storage:?}"
                );
            }
            let expected = if proven { 1 } else { 2 };
            come_to(branch.scene.larder.dir.path(), expected, &format!("{storage:?} {ref_first}")).await;
            // By job the leader's own request asks, and its body is let go of where the ref's archive is the same.
            if !ref_first || matches!(storage, Storage::Redirect { .. }) {
                assert_eq!(branch.transfers(), expected, "{storage:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_runner_fetched_is_found_by_its_digest() {
    let branch = Branch::start(Storage::Local { etag: Etag::Sha256 }, asking_each_time).await;
    let (_, token) = branch.scene.gitlab.running_job(branch.scene.project, branch.scene.alice);
    let runners = branch.scene.api(&format!("/jobs/{}/artifacts", branch.job));
    assert_eq!(get(&runners, &[("job-token", &token)]).await.status, 200);
    branch.scene.larder.stored(1).await;
    assert_eq!(branch.get(ARCHIVE).await.cache(), "larder; hit", "larder computed it itself");
    assert_eq!(branch.transfers(), 1);
}

#[tokio::test]
async fn whoever_may_have_the_old_job_never_sees_the_new_one() {
    for storage in MODES {
        for ttl in [Duration::ZERO, Duration::from_secs(3_600)] {
            let branch = Branch::start(storage, |config| config.access.ttl = ttl).await;
            let bob = branch.scene.member("bob", Level::Reporter);
            let mine = branch.get_as(&branch.url(ARCHIVE), &bob).await;
            assert!(mine.body == files("one").bytes().unwrap());
            branch.scene.larder.stored(1).await;
            assert_eq!(branch.get_as(&branch.url(FILE), &bob).await.status, 200);
            let second = branch.succeed(files("two"));
            branch.scene.gitlab.set_access(second, gitlab_standin::ArtifactsAccess::Maintainer);
            // Alice may have it; it replaces the ref's archive.
            for _ in 0..2 {
                branch.scene.larder.clock.advance(ttl);
                let reply = branch.get(ARCHIVE).await;
                assert!(reply.body == files("two").bytes().unwrap(), "{storage:?} {ttl:?}");
                branch.scene.larder.stored(2).await;
            }
            for rest in [ARCHIVE, FILE] {
                let his = branch.get_as(&branch.url(rest), &bob).await;
                let secret = String::from_utf8_lossy(&his.body).contains("two");
                assert!(!secret && his.status.as_u16() >= 400, "{rest} {storage:?} {ttl:?}: {}", his.status);
            }
        }
    }
}

#[tokio::test]
async fn within_ttl_a_grant_opens_only_the_archive_it_was_given_for() {
    for storage in MODES {
        let branch = Branch::start(storage, |_| ()).await;
        let bob = branch.scene.member("bob", Level::Reporter);
        assert!(branch.get_as(&branch.url(ARCHIVE), &bob).await.body == files("one").bytes().unwrap());
        branch.scene.larder.stored(1).await;
        assert_eq!(branch.get_as(&branch.url(ARCHIVE), &bob).await.cache(), "larder; hit");
        let second = branch.succeed(files("two"));
        branch.scene.gitlab.set_access(second, gitlab_standin::ArtifactsAccess::Maintainer);
        let hers = branch.get_as(&branch.by_job(second), &branch.scene.token).await;
        assert!(hers.body == files("two").bytes().unwrap());
        let his = branch.get_as(&branch.url(ARCHIVE), &bob).await;
        assert!(his.body != files("two").bytes().unwrap(), "{storage:?}");
    }
}

#[tokio::test]
async fn twins_are_never_mixed() {
    for storage in MODES {
        let (one, two) = Archive::twins(20_000);
        let branch = Branch::with(storage, one.clone(), asking_each_time).await;
        assert!(branch.get(ARCHIVE).await.body == one.bytes().unwrap());
        branch.scene.larder.stored(1).await;
        assert_eq!(branch.get(ARCHIVE).await.cache(), "larder; hit", "{storage:?}");
        let rest = "raw/different.bin?job=build";
        let before = branch.get(rest).await;
        let second = branch.succeed(two.clone());
        // The same length, date and end; other bytes.
        let after = branch.get(rest).await;
        assert_eq!(after.body, branch.straight(rest).await.body, "{storage:?}");
        assert_ne!(after.body, before.body, "{storage:?}");
        assert!(branch.get(ARCHIVE).await.body == two.bytes().unwrap(), "{storage:?}");
        for (job, archive) in [(branch.job, &one), (second, &two)] {
            let reply = branch.get_as(&branch.by_job(job), &branch.scene.token).await;
            assert!(reply.body == archive.bytes().unwrap(), "{storage:?}");
        }
    }
}

#[tokio::test]
async fn a_deleted_archive_is_gone_by_ref_as_well() {
    for storage in MODES {
        let branch = Branch::start(storage, |_| ()).await;
        assert_eq!(branch.get(ARCHIVE).await.status, 200);
        branch.scene.larder.stored(1).await;
        assert_eq!(branch.get(FILE).await.cache(), "larder; hit");
        let deleted =
            send(Method::DELETE, &branch.by_job(branch.job), &[("private-token", &branch.scene.token)]).await;
        assert_eq!(deleted.status, 204);
        for rest in [ARCHIVE, FILE] {
            let (ours, direct) = (branch.get(rest).await, branch.straight(rest).await);
            assert_eq!((ours.status, &ours.body), (direct.status, &direct.body), "{rest} {storage:?}");
            assert_eq!(ours.status, 404, "{rest} {storage:?}");
        }
    }
}

#[tokio::test]
async fn refs_spelled_in_each_way_and_with_flags_are_gitlabs() {
    let branch = Branch::start(Storage::Local { etag: Etag::Sha256 }, asking_each_time).await;
    let base = branch.scene.api(&format!("/projects/{}/jobs/artifacts", branch.scene.project));
    let (gitlab, project) = (&branch.scene.gitlab, branch.scene.project);
    let raw = gitlab.pipeline(project, "main/raw/x", PipelineStatus::Success);
    let job = gitlab.job_in(raw, "build", JobStatus::Success);
    gitlab.put_archive(job, files("raw"));
    let failed = gitlab.pipeline(project, "feature/x", PipelineStatus::Failed);
    let job = gitlab.job_in(failed, "build", JobStatus::Success);
    gitlab.put_archive(job, files("failed"));
    let newest = gitlab.pipeline(project, "feature/x", PipelineStatus::Success);
    gitlab.job_in(newest, "other", JobStatus::Success);
    for round in 0..2 {
        for path in [
            "feature/x/download?job=build",
            "feature%2Fx/download?job=build",
            "feature%2fx/download?job=build&search_recent_successful_pipelines=true",
            "feature/x/download?job=build&search_recent_successful_pipelines=false",
            "main/raw/x/download?job=build",
            "main/raw/x/raw/d/a.txt?job=build",
            "main/raw/x/raw/page.html?job=build&job_token=unknown",
            "feature/x/raw/d/a.txt?job=build&search_recent_successful_pipelines=true",
            "feature/x/raw/d%2Fa.txt?job=build&search_recent_successful_pipelines=true",
            "feature/x/download?job=build&job=other",
            "feature/x/download?job=build&search_recent_successful_pipelines=1",
            "feature/y/download?job=build",
        ] {
            let url = format!("{base}/{path}");
            let ours = branch.get_as(&url, &branch.scene.token).await;
            let straight = url.replace(&branch.scene.larder.url(), &gitlab.url());
            let direct = branch.get_as(&straight, &branch.scene.token).await;
            assert_eq!(ours.status, direct.status, "{path} round {round}");
            assert!(ours.body == direct.body, "{path} round {round}");
        }
    }
}

#[tokio::test]
async fn many_who_ask_by_ref_at_once_share_one_transfer() {
    for storage in MODES {
        let branch = Branch::with(storage, archive(2 << 20, 3), |_| ()).await;
        let expected = archive(2 << 20, 3).bytes().unwrap();
        let asking = (0..20).map(|_| {
            let (_, token) = branch.scene.gitlab.running_job(branch.scene.project, branch.scene.alice);
            let (url, expected) = (branch.url(ARCHIVE), expected.clone());
            async move { get(&url, &[("job-token", &token)]).await.body == expected }
        });
        let got = asking.collect::<tokio::task::JoinSet<bool>>().join_all().await;
        assert!(got.iter().all(|right| *right), "{storage:?}");
        assert_eq!(branch.transfers(), 1, "{storage:?}");
    }
}

/// Modes in which GitLab says of what it sends whether it is the same archive, by ref and by job.
const TOLD: [Storage; 2] =
    [Storage::Local { etag: Etag::Sha256 }, Storage::Redirect { job_id_in_path: false }];

#[tokio::test]
async fn a_ref_and_its_job_share_a_transfer_that_is_under_way() {
    for storage in TOLD {
        for ref_first in [false, true] {
            let branch = Branch::with(storage, archive(3 << 20, 3), asking_each_time).await;
            let expected = archive(3 << 20, 3).bytes().unwrap();
            let job = branch.by_job(branch.job);
            let urls = if ref_first { [branch.url(ARCHIVE), job] } else { [job, branch.url(ARCHIVE)] };
            let gate = Gate::new();
            let whole = |seen: &Seen| seen.header("range").is_none();
            let slow = Fault::new(Effect::Slow(gate.clone())).when(whole).once();
            branch.scene.gitlab.fault(if elsewhere(storage) { slow.on_store() } else { slow });
            gate.release(100_000);
            let mut under_way = Vec::new();
            for (url, cache) in urls.iter().zip(["larder; fwd=miss; stored", "larder; fwd=miss; collapsed"]) {
                let fields = [("private-token", branch.scene.token.as_str())];
                let exchange = open(Method::GET, url, &fields, "").await.expect("a head");
                assert_eq!(exchange.fields["cache-status"], cache, "{storage:?} ref first: {ref_first}");
                under_way.push(exchange);
            }
            gate.open();
            for exchange in under_way {
                let reply = exchange.rest().await;
                assert!(reply.whole && reply.body == expected, "{storage:?} ref first: {ref_first}");
            }
            assert_eq!(branch.transfers(), 1, "{storage:?} ref first: {ref_first}");
            branch.scene.larder.stored(1).await;
            for url in &urls {
                assert_eq!(branch.get_as(url, &branch.scene.token).await.cache(), "larder; hit", "{url}");
            }
        }
    }
}

#[tokio::test]
async fn all_routes_at_once_are_one_transfer_where_that_is_proven() {
    for storage in TOLD {
        let branch = Branch::with(storage, archive(8 << 20, 3), |_| ()).await;
        let expected = archive(8 << 20, 3).bytes().unwrap();
        let (_, running) = branch.scene.gitlab.running_job(branch.scene.project, branch.scene.alice);
        let cookie = format!("_gitlab_session={}", branch.scene.gitlab.session(branch.scene.alice));
        let web = format!("/group/project/-/jobs/{}/artifacts/download", branch.job);
        let routes = [
            (branch.by_job(branch.job), "private-token", branch.scene.token.clone()),
            (branch.url(ARCHIVE), "private-token", branch.scene.token.clone()),
            (branch.scene.api(&format!("/jobs/{}/artifacts", branch.job)), "job-token", running),
            (format!("{}{web}", branch.scene.larder.url()), "cookie", cookie),
        ];
        // The runner's route gives no digest: what it leads isn't known to be the ref's before it is here.
        let routes = if elsewhere(storage) { &routes[..] } else { &routes[..2] };
        let asking = (0..40).map(|n| {
            let ((url, name, value), expected) = (routes[n % routes.len()].clone(), expected.clone());
            async move { get(&url, &[(name, &*value)]).await.body == expected }
        });
        let got = asking.collect::<tokio::task::JoinSet<bool>>().join_all().await;
        assert!(got.iter().all(|right| *right), "{storage:?}");
        // The last client may have all of it before it is stored.
        branch.scene.larder.stored(1).await;
        assert_eq!(branch.scene.larder.count("larder_fills_total{result=\"stored\"}"), 1, "{storage:?}");
    }
}

fn elsewhere(storage: Storage) -> bool {
    matches!(storage, Storage::Redirect { .. })
}

#[tokio::test]
async fn a_plus_and_a_space_in_a_jobs_name_are_two_jobs_that_take_nothing_from_each_other() {
    let branch = Branch::start(LOCAL_OLD, asking_each_time).await;
    let gitlab = &branch.scene.gitlab;
    let pipeline = gitlab.pipeline(branch.scene.project, "feature/x", PipelineStatus::Success);
    for name in ["a b", "a+b"] {
        gitlab.put_archive(gitlab.job_in(pipeline, name, JobStatus::Success), files(name));
    }
    let spellings = [("a+b", "a b"), ("a%2Bb", "a+b"), ("a%20b", "a b"), ("a%2bb", "a+b")];
    for (asked, (query, name)) in spellings.iter().cycle().take(8).enumerate() {
        let ours = branch.get(&format!("download?job={query}")).await;
        assert!(ours.body == files(name).bytes().unwrap(), "{query} after {asked}");
        let cache = if asked < 2 { "larder; fwd=miss; stored" } else { "larder; hit" };
        assert_eq!(ours.cache(), cache, "{query} after {asked}");
        branch.scene.larder.stored(2.min(asked + 1)).await;
    }
    assert_eq!(branch.transfers(), 2, "one for each job, in whatever spelling");
}
