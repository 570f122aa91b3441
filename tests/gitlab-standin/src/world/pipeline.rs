//! Pipelines, and how a ref and a name become a job (`app/models/project.rb`, `app/models/ci/pipeline.rb`).

use std::collections::BTreeSet;

use super::{Job, JobStatus, World};
use crate::archive::sha256_hex;
use crate::ids::{JobId, PipelineId, ProjectId};

/// How many recent good pipelines `search_recent_successful_pipelines` looks through (GitLab's documentation).
const RECENT: usize = 100;
/// The default branch, which `HEAD` means.
pub(crate) const DEFAULT_BRANCH: &str = "main";

/// Where a pipeline is in its life. By-ref downloads look for exactly [`PipelineStatus::Success`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineStatus {
    /// Some job is still to end, or was retried.
    Running,
    /// Every job that counts ended well.
    Success,
    /// Some job that counts ended badly.
    Failed,
    /// Somebody stopped it.
    Canceled,
}

/// A pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) id: PipelineId,
    pub(crate) project: ProjectId,
    /// Branch or tag; the two are not told apart.
    pub(crate) ref_name: String,
    /// The commit, each pipeline has its own.
    pub(crate) sha: String,
    /// What it is said to be; otherwise its jobs decide.
    pub(crate) status: Option<PipelineStatus>,
    /// Its source is one that by-ref questions leave out: a child, the web IDE, an on-demand scan.
    pub(crate) dangling: bool,
    pub(crate) parent: Option<PipelineId>,
}

impl World {
    pub(crate) fn add_pipeline(
        &mut self,
        project: ProjectId,
        ref_name: &str,
        status: Option<PipelineStatus>,
    ) -> PipelineId {
        let id = PipelineId(self.next_pipeline);
        self.next_pipeline += 1;
        let digest = sha256_hex(format!("{}:commit:{id}", self.setup.seed).as_bytes());
        let pipeline = Pipeline {
            id,
            project,
            ref_name: ref_name.to_owned(),
            sha: digest.get(..40).unwrap_or_default().to_owned(),
            status,
            dangling: false,
            parent: None,
        };
        self.pipelines.insert(id, pipeline);
        id
    }

    /// A pipeline that another one started in the same project, for the same ref.
    pub(crate) fn add_child(&mut self, parent: PipelineId, status: PipelineStatus) -> PipelineId {
        let (project, ref_name) = self.pipelines.get(&parent).map_or_else(
            || (ProjectId(0), String::new()),
            |parent| (parent.project, parent.ref_name.clone()),
        );
        let id = self.add_pipeline(project, &ref_name, Some(status));
        if let Some(child) = self.pipelines.get_mut(&id) {
            (child.dangling, child.parent) = (true, Some(parent));
        }
        id
    }

    /// Runs a job once more: a new id under the old name. The pipeline leaves `success` until it is told again.
    pub(crate) fn retry(&mut self, job: JobId) -> Option<JobId> {
        let old = self.jobs.get_mut(&job)?;
        old.retried = true;
        let (pipeline, name, user, allow_failure) =
            (old.pipeline, old.name.clone(), old.user, old.allow_failure);
        let id = self.add_job_in(pipeline, &name, JobStatus::Running);
        if let Some(new) = self.jobs.get_mut(&id) {
            (new.user, new.allow_failure) = (user, allow_failure);
        }
        if let Some(status) = self.pipelines.get_mut(&pipeline).and_then(|pipeline| pipeline.status.as_mut())
        {
            *status = PipelineStatus::Running;
        }
        Some(id)
    }

    /// Removes a pipeline with its children and all their jobs.
    pub(crate) fn delete_pipeline(&mut self, pipeline: PipelineId) {
        let family = self.family(pipeline);
        self.delete_jobs(|job| family.contains(&job.pipeline));
        self.pipelines.retain(|id, _| !family.contains(id));
    }

    fn status_of(&self, pipeline: &Pipeline) -> PipelineStatus {
        let jobs = || self.jobs.values().filter(|job| job.pipeline == pipeline.id && !job.retried);
        pipeline.status.unwrap_or_else(|| {
            if jobs().any(|job| matches!(job.status, JobStatus::Pending | JobStatus::Running)) {
                PipelineStatus::Running
            } else if jobs().any(|job| job.status == JobStatus::Failed && !job.allow_failure) {
                PipelineStatus::Failed
            } else {
                PipelineStatus::Success
            }
        })
    }

    /// The good pipelines of a project that are not dangling and of which `wanted` holds; highest id first. Which
    /// one finished last doesn't matter.
    fn successful(
        &self,
        project: ProjectId,
        wanted: impl Fn(&Pipeline) -> bool,
    ) -> impl Iterator<Item = &Pipeline> {
        let own = self.pipelines.values().rev().filter(move |pipeline| pipeline.project == project);
        own.filter(move |pipeline| !pipeline.dangling && wanted(pipeline))
            .filter(|pipeline| self.status_of(pipeline) == PipelineStatus::Success)
    }

    /// The job that A4 and A5 mean: in the last good pipeline of the ref, or with `recent` in the first of the
    /// recent ones that has it.
    pub(crate) fn job_of_ref(
        &self,
        project: ProjectId,
        ref_name: &str,
        name: &str,
        recent: bool,
    ) -> Option<&Job> {
        let pipelines = self.successful(project, |pipeline| pipeline.ref_name == ref_name);
        pipelines.take(if recent { RECENT } else { 1 }).find_map(|pipeline| self.job_named(pipeline.id, name))
    }

    /// The job that W5 means: the ref is read as a commit first (head of a branch, `HEAD`, a digest), and only
    /// where that commit has no good pipeline with the job is it a ref (`artifacts_controller.rb`).
    pub(crate) fn job_of_commit(&self, project: ProjectId, text: &str, name: &str) -> Option<&Job> {
        let of_ref = |wanted: &str| {
            let mut all = self.pipelines.values().rev();
            all.find(|pipeline| pipeline.project == project && pipeline.ref_name == wanted)
        };
        let head = of_ref(if text == "HEAD" { DEFAULT_BRANCH } else { text });
        let sha = head.map_or_else(|| text.to_owned(), |pipeline| pipeline.sha.clone());
        let mut of_commit = self.successful(project, move |pipeline| pipeline.sha == sha);
        let job = of_commit.next().and_then(|pipeline| self.job_named(pipeline.id, name));
        job.or_else(|| self.job_of_ref(project, text, name, false))
    }

    /// Refs that the project has had pipelines for.
    pub(crate) fn refs(&self, project: ProjectId) -> impl Iterator<Item = &str> {
        let own = self.pipelines.values().filter(move |pipeline| pipeline.project == project);
        own.map(|pipeline| pipeline.ref_name.as_str())
    }

    /// The first job of that name, in order of pipelines, among those of a pipeline and its children that were not
    /// retried and have anything to download. Its own status isn't looked at.
    fn job_named(&self, pipeline: PipelineId, name: &str) -> Option<&Job> {
        let family = self.family(pipeline);
        let jobs = self.jobs.values().filter(|job| family.contains(&job.pipeline) && !job.retried);
        jobs.filter(|job| job.name == name && job.is_downloadable()).min_by_key(|job| (job.pipeline, job.id))
    }

    /// A pipeline and all below it in the same project. Children have higher ids than their parents.
    fn family(&self, pipeline: PipelineId) -> BTreeSet<PipelineId> {
        let mut family = BTreeSet::from([pipeline]);
        for child in self.pipelines.values() {
            if child.parent.is_some_and(|parent| family.contains(&parent)) {
                family.insert(child.id);
            }
        }
        family
    }
}
