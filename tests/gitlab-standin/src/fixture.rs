//! A known content for demonstrations and for scripts outside.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::archive::{Archive, Member};
use crate::gitlab::GitLab;
use crate::ids::{JobId, ProjectId, UserId};
use crate::world::{JobStatus, Level, PipelineStatus, Scope, Visibility};

/// The project's path.
const PROJECT: &str = "group/sub/project";
/// Its maintainer's personal token.
const PERSONAL_TOKEN: &str = "glpat-demo";
/// The token of a running job in it.
const JOB_TOKEN: &str = "glcbt-demo";
/// The maintainer's session.
const SESSION: &str = "demosession";
/// Her password, for the sign-in page.
const PASSWORD: &str = "demo-password";
/// A ref with a slash, and the job whose archive has entries of all kinds.
const ENTRY_REF: (&str, &str) = ("release/1.0", "site");
/// A runner's authentication token.
const RUNNER_TOKEN: &str = "glrt-demo";
/// The ref whose jobs wait for a runner: the first makes what the others need.
const PENDING: (&str, [&str; 3]) = ("pending", ["compile", "test", "deploy"]);
/// The ref whose jobs have the archives that were read from files.
const FILES_REF: &str = "files";

/// A private project `group/sub/project` with finished jobs that have archives, and every kind of credential to it.
/// In a fresh GitLab the project is number 1 and the jobs count from 1; the last of them is what `main` and `build`
/// mean.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The project.
    pub project: ProjectId,
    /// Its maintainer, `alice`.
    pub user: UserId,
    /// Finished jobs with their archives, each different.
    pub jobs: Vec<(JobId, Archive)>,
    /// A running job, alice's.
    pub running: JobId,
    /// `site`, of the last good pipeline of `release/1.0`: pages, text, an image, binaries, a directory, and names
    /// that need escaping.
    pub site: (JobId, Archive),
    /// Jobs of `files` with archives that others wrote, by their names.
    pub files: Vec<(String, JobId, Archive)>,
}

impl Fixture {
    /// Puts the fixture into `gitlab`: `jobs` archives of exactly `size` bytes.
    pub fn install(gitlab: &GitLab, jobs: u32, size: u64) -> io::Result<Self> {
        let user = gitlab.user("alice");
        let project = gitlab.project(PROJECT, Visibility::Private);
        gitlab.member(project, user, Level::Maintainer);
        gitlab.put_personal_token(PERSONAL_TOKEN, user, Scope::Api);
        gitlab.put_session(SESSION, user);
        gitlab.set_password(user, PASSWORD);
        let archives = (1..=jobs).map(|seed| Archive::seeded(size, u64::from(seed)));
        let jobs = archives
            .map(|archive| {
                let (job, archive) = (gitlab.job(project, JobStatus::Success), archive?);
                gitlab.put_archive(job, archive.clone());
                Ok((job, archive))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (running, _) = gitlab.running_job(project, user);
        gitlab.put_job_token(running, JOB_TOKEN);
        let pipeline = gitlab.pipeline(project, ENTRY_REF.0, PipelineStatus::Success);
        let (job, archive) = (gitlab.job_in(pipeline, ENTRY_REF.1, JobStatus::Success), site());
        gitlab.put_archive(job, archive.clone());
        gitlab.put_report(job, "junit", Archive::from_bytes("<testsuites/>"));
        gitlab.put_runner(RUNNER_TOKEN);
        let waiting = gitlab.pipeline(project, PENDING.0, PipelineStatus::Running);
        let [compile, others @ ..] = PENDING.1;
        let compile = gitlab.pending_job(waiting, compile, user, &[]);
        for name in others {
            gitlab.pending_job(waiting, name, user, &[compile]);
        }
        Ok(Self { project, user, jobs, running, site: (job, archive), files: Vec::new() })
    }

    /// Adds a finished job of `files` for each of these files: named as the file is, its bytes the archive. Fails
    /// where a file can't be read.
    pub fn add_files(&mut self, gitlab: &GitLab, paths: &[impl AsRef<Path>]) -> io::Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let pipeline = gitlab.pipeline(self.project, FILES_REF, PipelineStatus::Success);
        for path in paths.iter().map(AsRef::as_ref) {
            let archive = Archive::from_bytes(std::fs::read(path)?);
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let job = gitlab.job_in(pipeline, &name, JobStatus::Success);
            gitlab.put_archive(job, archive.clone());
            self.files.push((name, job, archive));
        }
        Ok(())
    }

    /// `glpat-demo`.
    pub fn personal_token(&self) -> &'static str {
        PERSONAL_TOKEN
    }

    /// `glcbt-demo`.
    pub fn job_token(&self) -> &'static str {
        JOB_TOKEN
    }

    /// `demosession`, for the cookie `_gitlab_session`.
    pub fn session(&self) -> &'static str {
        SESSION
    }

    /// `demo-password`, for `alice` on the sign-in page.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// All of it as JSON, the way the program prints it.
    pub fn to_json(&self) -> Value {
        let job = |job: &JobId, archive: &Archive| {
            json!({
                "id": job.0,
                "size": archive.len(),
                "sha256": archive.sha256(),
                "path": format!("/api/v4/projects/{}/jobs/{job}/artifacts", self.project),
            })
        };
        json!({
            "project": { "id": self.project.0, "path": PROJECT },
            "personal_token": PERSONAL_TOKEN,
            "job_token": JOB_TOKEN,
            "runner_token": RUNNER_TOKEN,
            "session_cookie": format!("_gitlab_session={SESSION}"),
            "username": "alice",
            "password": PASSWORD,
            "running_job": self.running.0,
            "jobs": self.jobs.iter().map(|(id, archive)| job(id, archive)).collect::<Vec<_>>(),
            "site": job(&self.site.0, &self.site.1),
            "files": self.files.iter().map(|(name, id, archive)| (name.clone(), job(id, archive))).collect::<Map<_, _>>(),
            "refs": self.refs(),
        })
    }

    /// Which refs lead where.
    fn refs(&self) -> Vec<Value> {
        let main = self.jobs.last().map(|(job, _)| ("main", "build", job));
        let refs = main.into_iter().chain([(ENTRY_REF.0, ENTRY_REF.1, &self.site.0)]);
        let json = |(ref_name, name, job): (&str, &str, &JobId)| {
            json!({
                "ref": ref_name,
                "job": name,
                "id": job.0,
                "path": format!(
                    "/api/v4/projects/{}/jobs/artifacts/{ref_name}/download?job={name}",
                    self.project
                ),
            })
        };
        refs.map(json).collect()
    }
}

/// A small site with its reports.
fn site() -> Archive {
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"8\" height=\"8\"><circle r=\"4\"/></svg>";
    Archive::runner([
        Member::directory("public"),
        Member::file("public/index.html", "<!DOCTYPE html><title>Site</title><script>1</script>"),
        Member::file("public/style.css", "body { margin: 0 }"),
        Member::file("public/logo.svg", svg),
        Member::stored("public/pixel.gif", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;".to_vec()),
        Member::file("report.json", "{\"tests\":42}"),
        Member::file("tests.txt", "one test passed\n".repeat(256)),
        Member::file("log.txt", "a line of the log\n".repeat(10_000)),
        Member::stored("program", [0x7f, b'E', b'L', b'F', 0, 1, 2, 3].repeat(1024)),
        Member::file("names/two words & ä.txt", "escaped"),
        Member::stored("empty", ""),
    ])
}
