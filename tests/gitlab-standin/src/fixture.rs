//! A known content for demonstrations and for scripts outside.

use std::io;

use serde_json::{Value, json};

use crate::archive::Archive;
use crate::gitlab::GitLab;
use crate::ids::{JobId, ProjectId, UserId};
use crate::world::{JobStatus, Level, Scope, Visibility};

/// The project's path.
const PROJECT: &str = "group/sub/project";
/// Its maintainer's personal token.
const PERSONAL_TOKEN: &str = "glpat-demo";
/// The token of a running job in it.
const JOB_TOKEN: &str = "glcbt-demo";
/// The maintainer's session.
const SESSION: &str = "demosession";

/// A private project `group/sub/project` with finished jobs that have archives, and every kind of credential to it.
/// In a fresh GitLab the project is number 1 and the jobs count from 1.
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
}

impl Fixture {
    /// Puts the fixture into `gitlab`: `jobs` archives of exactly `size` bytes.
    pub fn install(gitlab: &GitLab, jobs: u32, size: u64) -> io::Result<Self> {
        let user = gitlab.user("alice");
        let project = gitlab.project(PROJECT, Visibility::Private);
        gitlab.member(project, user, Level::Maintainer);
        gitlab.put_personal_token(PERSONAL_TOKEN, user, Scope::Api);
        gitlab.put_session(SESSION, user);
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
        Ok(Self { project, user, jobs, running })
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

    /// All of it as JSON, the way the program prints it.
    pub fn to_json(&self) -> Value {
        let job = |(job, archive): &(JobId, Archive)| {
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
            "session_cookie": format!("_gitlab_session={SESSION}"),
            "running_job": self.running.0,
            "jobs": self.jobs.iter().map(job).collect::<Vec<_>>(),
        })
    }
}
