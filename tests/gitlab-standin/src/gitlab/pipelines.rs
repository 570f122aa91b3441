//! Filling GitLab: pipelines, what runs in them, and how jobs end.

use super::GitLab;
use crate::archive::Archive;
use crate::ids::{JobId, PipelineId, ProjectId};
use crate::world::{JobStatus, PipelineStatus};

impl GitLab {
    /// A pipeline of a branch or tag. Its status is what it is said to be, whatever its jobs do.
    pub fn pipeline(&self, project: ProjectId, ref_name: &str, status: PipelineStatus) -> PipelineId {
        self.world(|world| world.add_pipeline(project, ref_name, Some(status)))
    }

    /// One that by-ref downloads leave out, as the web IDE or an on-demand scan starts it.
    pub fn dangling_pipeline(
        &self,
        project: ProjectId,
        ref_name: &str,
        status: PipelineStatus,
    ) -> PipelineId {
        self.world(|world| {
            let id = world.add_pipeline(project, ref_name, Some(status));
            if let Some(pipeline) = world.pipelines.get_mut(&id) {
                pipeline.dangling = true;
            }
            id
        })
    }

    /// A child pipeline in the project and for the ref of its parent. By-ref downloads look into it through the
    /// parent alone, whatever its own status.
    pub fn child_pipeline(&self, parent: PipelineId, status: PipelineStatus) -> PipelineId {
        self.world(|world| world.add_child(parent, status))
    }

    /// Changes a pipeline's status. That of a lone job ([`GitLab::job`]) no longer follows the job then.
    pub fn set_pipeline_status(&self, pipeline: PipelineId, status: PipelineStatus) {
        self.world(|world| world.pipelines.get_mut(&pipeline).map(|pipeline| pipeline.status = Some(status)));
    }

    /// Removes a pipeline with its children and their jobs.
    pub fn delete_pipeline(&self, pipeline: PipelineId) {
        self.world(|world| world.delete_pipeline(pipeline));
    }

    /// The commit that a pipeline ran for, 40 hex digits.
    pub fn sha_of(&self, pipeline: PipelineId) -> Option<String> {
        self.world(|world| Some(world.pipelines.get(&pipeline)?.sha.clone()))
    }

    /// Locks or unlocks the artifacts of all of a pipeline's jobs ("keep latest").
    pub fn lock_pipeline(&self, pipeline: PipelineId, locked: bool) {
        self.world(|world| {
            let jobs = world.jobs.values_mut().filter(|job| job.pipeline == pipeline);
            jobs.for_each(|job| job.locked = locked);
        });
    }

    /// A job of a pipeline, started by nobody.
    pub fn job_in(&self, pipeline: PipelineId, name: &str, status: JobStatus) -> JobId {
        self.world(|world| world.add_job_in(pipeline, name, status))
    }

    /// Runs a job again: the new one's id. The old one counts no longer, and a pipeline with a status of its own
    /// is running until [`GitLab::set_pipeline_status`] says otherwise. None: there is no such job.
    pub fn retry(&self, job: JobId) -> Option<JobId> {
        self.world(|world| world.retry(job))
    }

    /// Whether a job's failure leaves its pipeline good.
    pub fn set_allow_failure(&self, job: JobId, allowed: bool) {
        self.world(|world| world.jobs.get_mut(&job).map(|job| job.allow_failure = allowed));
    }

    /// Gives a job a file of another type than an archive, such as `junit` or `trace`.
    pub fn put_report(&self, job: JobId, kind: &str, content: Archive) {
        self.world(|world| world.put_report(job, kind, content));
    }

    /// Leaves a job nothing but a `junit` report: by-ref downloads pick it and find no archive.
    pub fn report_only(&self, job: JobId) {
        self.world(|world| {
            world.delete_artifact(job);
            world.put_report(job, "junit", Archive::from_bytes("<testsuites/>"));
        });
    }

    /// The row id of a job's archive, as `/-/artifacts/:id` names it.
    pub fn artifact_id(&self, job: JobId) -> Option<u64> {
        self.world(|world| Some(world.jobs.get(&job)?.artifact.as_ref()?.id))
    }
}
