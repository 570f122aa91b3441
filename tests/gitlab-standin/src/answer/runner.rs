//! The runner's side of the API (`lib/api/ci/runner.rb`, `lib/api/ci/helpers/runner.rb`).

use http::StatusCode;
use http::header::RANGE;
use serde_json::{Value, json};

use super::{BOGUS_ETAG, download};
use crate::archive::Archive;
use crate::ask::Ask;
use crate::auth;
use crate::ids::JobId;
use crate::reply::{Reply, field};
use crate::settings::{Etag, RunnerAuth};
use crate::world::{Job, JobStatus, World};

/// `GET /jobs/:id/artifacts`: asks `read_build` alone, neither `artifacts:access` nor the inbound allowlist nor
/// the project's address list. A job that doesn't exist is 403, as one that is not yours.
pub(super) fn download(world: &World, ask: &Ask, job: JobId) -> Result<Reply, Reply> {
    let wanted = world.jobs.get(&job);
    authorize_download(world, ask, wanted)?;
    let artifact = wanted.and_then(|job| job.artifact.as_ref()).ok_or_else(Reply::no_file)?;
    let etag = match world.setup.etag() {
        Etag::Weak => Some(BOGUS_ETAG),
        Etag::Sha256 => None,
    };
    Ok(download::present(world, ask, artifact, etag, ask.flag("direct_download")))
}

fn authorize_download(world: &World, ask: &Ask, wanted: Option<&Job>) -> Result<(), Reply> {
    let auth = world.setup.runner_auth;
    let own = auth::job_token(ask).and_then(|token| world.job_of_token(token));
    if auth == RunnerAuth::ProducerToken && own.is_some_and(|own| wanted.is_some_and(|job| job.id == own.id))
    {
        return Ok(());
    }
    let caller = auth::identify(world, ask)?;
    caller.user.ok_or_else(Reply::unauthorized)?;
    if auth == RunnerAuth::JobToken && caller.job.is_none() {
        return Err(Reply::forbidden());
    }
    let project = wanted.and_then(|job| world.projects.get(&job.project)).ok_or_else(Reply::forbidden)?;
    if world.reads_builds(caller.user, project) { Ok(()) } else { Err(Reply::forbidden()) }
}

/// `POST /jobs/request` (`app/services/ci/register_job_service.rb`): the next job that can run, or nothing to do.
pub(crate) fn request_job(world: &mut World, ask: &Ask, body: &[u8]) -> Result<Reply, Reply> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let told = body.get("token").and_then(Value::as_str);
    let known =
        told.or_else(|| ask.header("runner-token")).is_some_and(|token| world.runners.contains(token));
    if !known && !world.runners.is_empty() {
        return Err(Reply::forbidden());
    }
    let next = if known { world.take_job() } else { None };
    let Some((job, own)) = next.and_then(|(id, token)| Some((world.jobs.get(&id)?, token))) else {
        let nothing = Reply::new(StatusCode::NO_CONTENT);
        return Ok(nothing.with(field("x-gitlab-last-update"), "0123456789abcdef"));
    };
    Ok(Reply::json(StatusCode::CREATED, &payload(world, job, &own)))
}

/// What a runner is told of a job (`lib/api/entities/ci/job_request/response.rb`), as far as artifacts go.
fn payload(world: &World, job: &Job, token: &str) -> Value {
    let dependency = |need: &Job| {
        let producer =
            world.job_tokens.iter().find(|(_, id)| **id == need.id).map(|(token, _)| token.as_str());
        let asks_as = match world.setup.runner_auth {
            RunnerAuth::ProducerToken => producer.unwrap_or_default(),
            _ => token,
        };
        let mut told = json!({ "id": need.id.0, "name": need.name, "token": asks_as });
        if let Some(artifact) = &need.artifact {
            told["artifacts_file"] = json!({ "filename": "artifacts.zip", "size": artifact.archive.len() });
        }
        told
    };
    let needs: Vec<Value> = job.needs.iter().filter_map(|id| world.jobs.get(id)).map(dependency).collect();
    json!({
        "id": job.id.0,
        "token": token,
        "allow_git_fetch": true,
        "job_info": {
            "id": job.id.0,
            "name": job.name,
            "stage": "test",
            "project_id": job.project.0,
        },
        "variables": [
            { "key": "CI_JOB_ID", "value": job.id.to_string(), "public": true, "masked": false },
            { "key": "CI_JOB_TOKEN", "value": token, "public": false, "masked": true },
        ],
        "steps": [{ "name": "script", "script": ["true"], "timeout": 3600, "when": "on_success" }],
        "artifacts": [{ "paths": ["out"], "when": "on_success", "artifact_type": "archive", "artifact_format": "zip" }],
        "dependencies": needs,
        "features": { "trace_sections": true },
    })
}

/// Whether the caller may upload for this job: the job's own token, and the job runs.
pub(crate) fn authorize_upload(world: &World, ask: &Ask, job: JobId) -> Result<(), Reply> {
    own_job(world, job, auth::job_token(ask))
}

/// Takes an upload (`app/services/ci/job_artifacts/create_service.rb`): the same again changes nothing,
/// another one is refused.
pub(crate) fn accept_upload(
    world: &mut World,
    ask: &Ask,
    job: JobId,
    archive: Archive,
) -> Result<Reply, Reply> {
    authorize_upload(world, ask, job)?;
    let kind = ask.param("artifact_type").unwrap_or("archive");
    let present = world.jobs.get(&job).and_then(|job| match kind {
        "archive" => job.artifact.as_ref(),
        _ => job.reports.get(kind),
    });
    match present.map(|present| present.archive.sha256() == archive.sha256()) {
        None if kind == "archive" => world.put_artifact(job, archive, None),
        None => world.put_report(job, kind, archive),
        Some(true) => {}
        Some(false) => {
            let text = "another artifact of the same type already exists";
            return Err(Reply::json(StatusCode::BAD_REQUEST, &json!({ "message": text })));
        }
    }
    Ok(Reply::json(StatusCode::CREATED, &json!(201)))
}

/// `PUT /jobs/:id`: a state that is final ends the job, and its token with it.
pub(crate) fn update_job(world: &mut World, ask: &Ask, job: JobId, body: &[u8]) -> Result<Reply, Reply> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let token = auth::job_token(ask).or_else(|| body.get("token").and_then(Value::as_str));
    own_job(world, job, token)?;
    let status = match body.get("state").and_then(Value::as_str) {
        Some("success") => JobStatus::Success,
        Some("failed") => JobStatus::Failed,
        Some("running") | None => JobStatus::Running,
        Some(_) => {
            return Err(Reply::json(StatusCode::BAD_REQUEST, &json!({ "error": "state is invalid" })));
        }
    };
    if let Some(job) = world.jobs.get_mut(&job) {
        job.status = status;
    }
    let reply = Reply::json(StatusCode::OK, &json!(200)).with(field("job-status"), status.as_str());
    Ok(reply.with(field("x-gitlab-trace-update-interval"), "60"))
}

/// `PATCH /jobs/:id/trace` with `Content-Range: 0-99`, no unit.
pub(crate) fn trace(world: &mut World, ask: &Ask, job: JobId, received: u64) -> Result<Reply, Reply> {
    own_job(world, job, auth::job_token(ask))?;
    let missing =
        || Reply::json(StatusCode::BAD_REQUEST, &json!({ "error": "Missing header Content-Range" }));
    let range = ask.header("content-range").ok_or_else(missing)?;
    let start =
        range.split('-').next().and_then(|start| start.trim().parse::<u64>().ok()).unwrap_or(u64::MAX);
    let job = world.jobs.get_mut(&job).ok_or_else(Reply::forbidden)?;
    if start != job.trace_bytes {
        let reply = Reply::text(StatusCode::RANGE_NOT_SATISFIABLE, "Range Not Satisfiable");
        return Ok(reply.with(RANGE, &format!("0-{}", job.trace_bytes)));
    }
    job.trace_bytes += received;
    let reply = Reply::text(StatusCode::ACCEPTED, "202 Trace patched");
    let reply = reply.with(field("job-status"), job.status.as_str());
    Ok(reply.with(RANGE, &format!("0-{}", job.trace_bytes)))
}

/// `authenticate_job!`: the job's own token, while it runs.
fn own_job(world: &World, job: JobId, token: Option<&str>) -> Result<(), Reply> {
    let own = token.and_then(|token| world.job_of_token(token)).ok_or_else(Reply::forbidden)?;
    if own.id != job {
        return Err(Reply::forbidden());
    }
    if own.status != JobStatus::Running {
        let reply = Reply::forbidden_because("Job is not processing on runner");
        return Err(reply.with(field("job-status"), own.status.as_str()));
    }
    Ok(())
}
