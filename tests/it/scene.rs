//! One private project with one archive, people around it, and a larder in front.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gitlab_standin::{
    Archive, Class, Effect, Etag, Fault, GitLab, JobId, JobStatus, Level, ProjectId, Scope, Seen, Setup,
    Storage, UserId, Visibility,
};
use http::Method;
use larder::config::Config;

use crate::support::{Exchange, Larder, Reply, get, open};

/// One storage mode of each kind that makes a difference to a fill.
pub(crate) const MODES: [Storage; 4] = [
    Storage::Local { etag: Etag::Weak },
    Storage::Local { etag: Etag::Sha256 },
    Storage::Redirect { job_id_in_path: false },
    Storage::Proxied { etag: Etag::Weak },
];

/// A GitLab, a larder, and an archive of alice's project, of which she is a maintainer.
pub(crate) struct Scene {
    pub(crate) gitlab: GitLab,
    pub(crate) larder: Larder,
    pub(crate) storage: Storage,
    pub(crate) project: ProjectId,
    pub(crate) alice: UserId,
    /// Alice's token.
    pub(crate) token: String,
    pub(crate) job: JobId,
    pub(crate) archive: Archive,
}

impl Scene {
    pub(crate) async fn start(storage: Storage, archive: Archive) -> Self {
        Self::with(storage, archive, |_| ()).await
    }

    pub(crate) async fn with(storage: Storage, archive: Archive, change: impl FnOnce(&mut Config)) -> Self {
        let gitlab = GitLab::start(Setup::default().storage(storage)).await.unwrap();
        let alice = gitlab.user("alice");
        let project = gitlab.project("group/project", Visibility::Private);
        gitlab.member(project, alice, Level::Maintainer);
        let token = gitlab.personal_token(alice, Scope::Api);
        let job = gitlab.job(project, JobStatus::Success);
        gitlab.put_archive(job, archive.clone());
        let larder = Larder::with(&gitlab, change).await;
        Self { gitlab, larder, storage, project, alice, token, job, archive }
    }

    /// The archive's URL at larder.
    pub(crate) fn url(&self) -> String {
        self.api(&format!("/projects/{}/jobs/{}/artifacts", self.project, self.job))
    }

    /// The same at GitLab; the stand-in can't name a job that is gone.
    pub(crate) fn straight_url(&self) -> String {
        self.url().replace(&self.larder.url(), &self.gitlab.url())
    }

    /// A path below the API's at larder.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("{}/api/v4{path}", self.larder.url())
    }

    /// Alice's download.
    pub(crate) async fn get(&self) -> Reply {
        self.get_as(&self.token).await
    }

    pub(crate) async fn get_as(&self, token: &str) -> Reply {
        get(&self.url(), &[("private-token", token)]).await
    }

    /// Alice's download, of which only the head is there.
    pub(crate) async fn open(&self) -> Exchange {
        self.open_as(&self.token).await
    }

    pub(crate) async fn open_as(&self, token: &str) -> Exchange {
        open(Method::GET, &self.url(), &[("private-token", token)], "").await.expect("a head")
    }

    /// The token of somebody with this role in the project.
    pub(crate) fn member(&self, name: &str, level: Level) -> String {
        let user = self.gitlab.user(name);
        self.gitlab.member(self.project, user, level);
        self.gitlab.personal_token(user, Scope::Api)
    }

    /// The token of somebody for whom the project doesn't exist.
    pub(crate) fn stranger(&self) -> String {
        self.gitlab.personal_token(self.gitlab.user("stranger"), Scope::Api)
    }

    /// A fault on the requests that move the archive itself: to the place of its bytes, and not for a part of it.
    pub(crate) fn on_transfer(&self, effect: Effect) -> Fault {
        let fault = Fault::new(effect).when(is_whole_download);
        if let Storage::Redirect { .. } = self.storage { fault.on_store() } else { fault }
    }

    /// How often the archive was asked for as a whole, where its bytes are.
    pub(crate) fn transfers(&self) -> usize {
        let elsewhere = matches!(self.storage, Storage::Redirect { .. });
        let asked = self.gitlab.requests();
        asked
            .iter()
            .filter(|seen| (seen.class == Class::Object) == elsewhere && is_whole_download(seen))
            .count()
    }

    /// How often the archive was begun with its end, where its bytes are.
    pub(crate) fn openings(&self) -> usize {
        let elsewhere = matches!(self.storage, Storage::Redirect { .. });
        let begins = |seen: &&Seen| seen.header("range") == Some("bytes=-262144");
        let asked = self.gitlab.requests();
        asked.iter().filter(|seen| (seen.class == Class::Object) == elsewhere).filter(begins).count()
    }

    /// How many artifact questions GitLab was asked, of any kind.
    pub(crate) fn questions(&self) -> u64 {
        let counters = self.gitlab.counters();
        counters.requests_of(Class::JobArchive) + counters.requests_of(Class::RunnerArchive)
    }

    /// Whether a reply is the whole archive.
    pub(crate) fn is_archive(&self, reply: &Reply) -> bool {
        reply.status == 200 && reply.whole && reply.body == self.archive.bytes().unwrap()
    }

    /// Waits until larder has read what others sent it before.
    pub(crate) async fn fence(&self) {
        assert_eq!(get(&self.api("/version"), &[("private-token", &self.token)]).await.status, 200);
    }
}

/// A probe asks for a part; an archive comes as a whole.
fn is_whole_download(seen: &Seen) -> bool {
    let archive = matches!(seen.class, Class::JobArchive | Class::RunnerArchive | Class::Object);
    archive && seen.method == "GET" && seen.header("range").is_none()
}

/// An archive of other bytes for each seed.
pub(crate) fn archive(size: u64, seed: u64) -> Archive {
    Archive::seeded(size, seed).unwrap()
}

/// The archives on disk, whole or not.
pub(crate) fn zips(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let here = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "zip"));
    here.chain(dirs.iter().flat_map(|dir| zips(dir))).collect()
}

/// Waits until so many archives are on disk: the file of one that isn't stored goes with whoever reads it last, and its
/// reader here has the last byte before larder knows.
pub(crate) async fn come_to(dir: &Path, archives: usize, context: &str) {
    let settled = async {
        while zips(dir).len() != archives {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(20), settled).await;
    assert!(settled.is_ok(), "{context}: {:?} and not {archives}", zips(dir));
}
