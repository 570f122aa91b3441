//! A job by ref and name (`lib/api/ci/job_artifacts.rb`, `app/models/project.rb`
//! `latest_successful_build_for_ref!`).

use http::StatusCode;
use serde_json::json;

use super::download;
use crate::ask::Ask;
use crate::auth::Caller;
use crate::percent;
use crate::reply::Reply;
use crate::world::{Job, World};

/// The parameter that looks beyond the last good pipeline.
const RECENT: &str = "search_recent_successful_pipelines";

/// Grape validates before anyone is asked who they are. A blank name is a name, one that no job has.
pub(super) fn validate(ask: &Ask) -> Result<(), Reply> {
    let refuse = |text: &str| Err(Reply::json(StatusCode::BAD_REQUEST, &json!({ "error": text })));
    if !ask.params.iter().any(|(name, _)| name == "job") {
        return refuse("job is missing");
    }
    match ask.param(RECENT) {
        None | Some("true" | "t" | "on" | "1" | "false" | "f" | "off" | "0") => Ok(()),
        Some(_) => refuse(&format!("{RECENT} is invalid")),
    }
}

/// `GET /projects/:id/jobs/artifacts/:ref_name/download`.
pub(super) fn archive(
    world: &World,
    ask: &Ask,
    caller: Caller,
    project: &str,
    ref_name: &str,
) -> Result<Reply, Reply> {
    download::archive(world, ask, job(world, ask, caller, project, ref_name)?)
}

/// The job, if this caller may have its artifacts.
pub(super) fn job<'a>(
    world: &'a World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
    ref_name: &str,
) -> Result<&'a Job, Reply> {
    let project = download::readable(world, ask, caller, segment)?;
    let bad = || Reply::message(StatusCode::BAD_REQUEST, "400 Bad request");
    let ref_name = percent::decode_text(ref_name).ok_or_else(bad)?;
    let recent = ask.flag(RECENT);
    let job = world.job_of_ref(project.id, &ref_name, ask.param("job").unwrap_or_default(), recent);
    let job = job.ok_or_else(Reply::no_record)?;
    if world.reads_artifacts(caller.user, project, job) { Ok(job) } else { Err(Reply::forbidden()) }
}
