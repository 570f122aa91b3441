//! Jobs and their tokens.

use std::collections::BTreeMap;

use super::pipeline::DEFAULT_BRANCH;
use super::{Artifact, World};
use crate::ids::{JobId, PipelineId, ProjectId, UserId};

/// Where a job is in its life, as far as artifacts care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Waiting for a runner.
    Pending,
    /// Executing: its token is good.
    Running,
    /// Finished well.
    Success,
    /// Finished badly.
    Failed,
}

impl JobStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }
}

/// Who may read a job's artifacts besides later jobs (`artifacts:access`, `app/policies/ci/build_policy.rb`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactsAccess {
    /// Whoever may read the build.
    All,
    /// Developers and up (also `artifacts:public: false`).
    Developer,
    /// Maintainers and up.
    Maintainer,
    /// Nobody.
    None,
}

/// A job.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own in GitLab's database too")]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) project: ProjectId,
    pub(crate) pipeline: PipelineId,
    pub(crate) name: String,
    /// A later job of that name took its place.
    pub(crate) retried: bool,
    /// Its failure doesn't fail the pipeline.
    pub(crate) allow_failure: bool,
    /// Who started it.
    pub(crate) user: Option<UserId>,
    pub(crate) status: JobStatus,
    pub(crate) artifact: Option<Artifact>,
    /// What else it has, by type, such as `junit` (`enums/ci/job_artifact.rb`).
    pub(crate) reports: BTreeMap<String, Artifact>,
    /// The jobs whose artifacts it is run with.
    pub(crate) needs: Vec<JobId>,
    pub(crate) access: ArtifactsAccess,
    /// The pipeline is the last good one of its ref: artifacts stay in spite of expiry.
    pub(crate) locked: bool,
    pub(crate) erased: bool,
    pub(crate) trace_bytes: u64,
}

impl Job {
    /// Whether by-ref questions may pick it: an archive or a report, but neither trace nor metadata.
    pub(crate) fn is_downloadable(&self) -> bool {
        let report = |kind: &String| !matches!(kind.as_str(), "trace" | "metadata");
        self.artifact.is_some() || self.reports.keys().any(report)
    }

    /// The archive unless it has expired (`available_artifacts?`): a locked pipeline's stays.
    pub(crate) fn available(&self) -> Option<&Artifact> {
        self.artifact.as_ref().filter(|artifact| !artifact.expired || self.locked)
    }
}

impl World {
    /// A job in a pipeline of its own.
    pub(crate) fn add_job(&mut self, project: ProjectId, status: JobStatus, user: Option<UserId>) -> JobId {
        let id = JobId(self.next_job);
        self.put_job(id, project, status, user);
        id
    }

    /// A job with this very id, as after a restore from a backup: `build`, in a pipeline of its own on the default
    /// branch.
    pub(crate) fn put_job(&mut self, id: JobId, project: ProjectId, status: JobStatus, user: Option<UserId>) {
        let pipeline = self.add_pipeline(project, DEFAULT_BRANCH, None);
        self.insert_job(id, pipeline, "build", status);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.user = user;
        }
    }

    /// One more job of a pipeline.
    pub(crate) fn add_job_in(&mut self, pipeline: PipelineId, name: &str, status: JobStatus) -> JobId {
        let id = JobId(self.next_job);
        self.insert_job(id, pipeline, name, status);
        id
    }

    fn insert_job(&mut self, id: JobId, pipeline: PipelineId, name: &str, status: JobStatus) {
        self.next_job = self.next_job.max(id.0 + 1);
        let job = Job {
            id,
            project: self.pipelines.get(&pipeline).map_or(ProjectId(0), |pipeline| pipeline.project),
            pipeline,
            name: name.to_owned(),
            retried: false,
            allow_failure: false,
            user: None,
            status,
            artifact: None,
            reports: BTreeMap::new(),
            needs: Vec::new(),
            access: ArtifactsAccess::All,
            locked: false,
            erased: false,
            trace_bytes: 0,
        };
        self.jobs.insert(id, job);
    }

    /// Hands the next job that can run to a runner, with the token that is good while it runs.
    pub(crate) fn take_job(&mut self) -> Option<(JobId, String)> {
        let done = |need: &JobId| self.jobs.get(need).is_some_and(|job| job.status == JobStatus::Success);
        let mut pending = self.jobs.values().filter(|job| job.status == JobStatus::Pending);
        let id = pending.find(|job| job.needs.iter().all(done))?.id;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.status = JobStatus::Running;
        }
        Some((id, self.add_job_token(id)))
    }

    pub(crate) fn add_job_token(&mut self, job: JobId) -> String {
        let random = self.hex("job token");
        let token = format!("glcbt-64_{}", random.get(..20).unwrap_or_default());
        self.job_tokens.insert(token.clone(), job);
        token
    }

    /// The job whose token this is, whether it still runs or not.
    pub(crate) fn job_of_token(&self, token: &str) -> Option<&Job> {
        self.jobs.get(self.job_tokens.get(token)?)
    }

    /// The job whose token this is, if the token is still good (`app/finders/ci/auth_job_finder.rb`).
    pub(crate) fn running_job(&self, token: &str) -> Option<&Job> {
        self.job_of_token(token).filter(|job| job.status == JobStatus::Running && !job.erased)
    }

    pub(crate) fn delete_jobs(&mut self, doomed: impl Fn(&Job) -> bool) {
        let doomed: Vec<JobId> = self.jobs.values().filter(|job| doomed(job)).map(|job| job.id).collect();
        for id in doomed {
            self.delete_artifacts(id);
            self.jobs.remove(&id);
            self.job_tokens.retain(|_, job| *job != id);
        }
    }
}
