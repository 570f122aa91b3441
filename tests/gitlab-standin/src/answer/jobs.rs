//! What may be done to jobs and their artifacts (`lib/api/ci/job_artifacts.rb`, `lib/api/ci/jobs.rb`).

use http::StatusCode;
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::auth::Caller;
use crate::ids::{JobId, PipelineId, ProjectId};
use crate::reply::Reply;
use crate::world::{Job, JobStatus, Level, Project, World};

/// `GET /projects/:id/jobs/:job_id`.
pub(super) fn show(
    world: &World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
    job: JobId,
) -> Result<Reply, Reply> {
    let project = world.project(ask, caller, segment)?;
    if !world.reads_builds(caller.user, project) {
        return Err(Reply::forbidden());
    }
    Ok(Reply::json(StatusCode::OK, &job_json(world, project, world.job_in(project, job)?)))
}

/// `POST /projects/:id/jobs/:job_id/artifacts/keep`: clears the expiry.
pub(super) fn keep(
    world: &mut World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
    job: JobId,
) -> Result<Reply, Reply> {
    let project = write(world, ask, caller, segment, Level::Developer)?;
    let kept = job_mut(world, project, job)?;
    kept.artifact.as_mut().ok_or_else(Reply::no_file)?.expired = false;
    answer_job(world, StatusCode::OK, job)
}

/// `DELETE /projects/:id/jobs/:job_id/artifacts`.
pub(super) fn delete(
    world: &mut World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
    job: JobId,
) -> Result<Reply, Reply> {
    let project = write(world, ask, caller, segment, Level::Maintainer)?;
    job_mut(world, project, job)?;
    refuse_while_refreshing(world, project)?;
    world.delete_artifacts(job);
    Ok(Reply::new(StatusCode::NO_CONTENT))
}

/// `DELETE /projects/:id/artifacts`: expires all; what isn't locked is swept, here at once.
pub(super) fn delete_all(
    world: &mut World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
) -> Result<Reply, Reply> {
    let project = write(world, ask, caller, segment, Level::Maintainer)?;
    refuse_while_refreshing(world, project)?;
    world.sweep(project);
    Ok(accepted())
}

/// `POST /projects/:id/jobs/:job_id/erase`: the job's owner or a Maintainer, and only a finished job.
pub(super) fn erase(
    world: &mut World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
    job: JobId,
) -> Result<Reply, Reply> {
    let project = write(world, ask, caller, segment, Level::Developer)?;
    let owner = job_mut(world, project, job)?.user;
    if owner != caller.user {
        write(world, ask, caller, segment, Level::Maintainer)?;
    }
    let erased = job_mut(world, project, job)?;
    if erased.status == JobStatus::Running {
        return Err(Reply::forbidden_because("Job is not erasable!"));
    }
    erased.erased = true;
    world.delete_artifacts(job);
    answer_job(world, StatusCode::CREATED, job)
}

/// `DELETE /projects/:id`.
pub(super) fn delete_project(
    world: &mut World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
) -> Result<Reply, Reply> {
    let project = write(world, ask, caller, segment, Level::Owner)?;
    world.delete_project(project);
    Ok(accepted())
}

/// `DELETE /projects/:id/pipelines/:pipeline_id`.
pub(super) fn delete_pipeline(
    world: &mut World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
    pipeline: PipelineId,
) -> Result<Reply, Reply> {
    let project = write(world, ask, caller, segment, Level::Owner)?;
    if world.pipelines.get(&pipeline).is_none_or(|pipeline| pipeline.project != project) {
        return Err(Reply::no_record());
    }
    world.delete_pipeline(pipeline);
    Ok(Reply::new(StatusCode::NO_CONTENT))
}

fn write(world: &World, ask: &Ask, caller: Caller, segment: &str, level: Level) -> Result<ProjectId, Reply> {
    caller.user.ok_or_else(Reply::unauthorized)?;
    let project = world.project(ask, caller, segment)?;
    world.require(caller, project, level)?;
    Ok(project.id)
}

fn refuse_while_refreshing(world: &World, project: ProjectId) -> Result<(), Reply> {
    if world.projects.get(&project).is_some_and(|project| project.refreshing) {
        let text =
            "Action temporarily disabled. The project this job belongs to is undergoing stats refresh.";
        return Err(Reply::message(StatusCode::CONFLICT, text));
    }
    Ok(())
}

fn job_mut(world: &mut World, project: ProjectId, job: JobId) -> Result<&mut Job, Reply> {
    world.jobs.get_mut(&job).filter(|job| job.project == project).ok_or_else(Reply::no_record)
}

fn accepted() -> Reply {
    Reply::message(StatusCode::ACCEPTED, "202 Accepted")
}

fn answer_job(world: &World, status: StatusCode, job: JobId) -> Result<Reply, Reply> {
    let job = world.jobs.get(&job).ok_or_else(Reply::no_record)?;
    let project = world.projects.get(&job.project).ok_or_else(Reply::no_project)?;
    Ok(Reply::json(status, &job_json(world, project, job)))
}

fn job_json(world: &World, project: &Project, job: &Job) -> Value {
    let file = job.artifact.as_ref();
    let ref_name = world.pipelines.get(&job.pipeline).map(|pipeline| pipeline.ref_name.as_str());
    json!({
        "id": job.id.0,
        "status": job.status.as_str(),
        "stage": "test",
        "name": job.name,
        "ref": ref_name,
        "tag": false,
        "allow_failure": job.allow_failure,
        "pipeline": { "id": job.pipeline.0, "project_id": project.id.0, "ref": ref_name },
        "artifacts_file": file.map(|file| json!({ "filename": "artifacts.zip", "size": file.archive.len() })),
        "artifacts_expire_at": Value::Null,
        "erased_at": job.erased.then_some("2024-01-01T00:00:00.000Z"),
    })
}
