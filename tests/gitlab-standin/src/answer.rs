//! What GitLab answers: one pure step from the database and a request to a reply.

mod by_ref;
mod content_type;
mod download;
mod dress;
mod entry;
mod jobs;
mod meta;
mod runner;
mod tree;
mod web;
mod zip_entry;

use http::StatusCode;
use serde_json::json;

use crate::ask::Ask;
use crate::auth;
use crate::reply::Reply;
use crate::route::Route;
use crate::world::World;
pub(crate) use dress::dress;
pub(crate) use runner::{accept_upload, authorize_upload, request_job, trace, update_job};
pub(crate) use web::{sign_in, sign_out, web};

/// The older releases' constant entity tag: the digest of the JSON text `""` (issue 371991).
pub(crate) const BOGUS_ETAG: &str = "W/\"12ae32cb1ec02d01eda3581b127c1fee\"";

/// The answer to a request whose body doesn't matter.
pub(crate) fn answer(world: &mut World, ask: &Ask) -> Reply {
    route(world, ask).unwrap_or_else(|refusal| refusal)
}

fn route(world: &mut World, ask: &Ask) -> Result<Reply, Reply> {
    match &ask.route {
        Route::RunnerArchive { job } => return runner::download(world, ask, *job),
        Route::Home => return Ok(web::home(world, ask)),
        Route::RefArchive { .. } | Route::RefEntry { .. } => by_ref::validate(ask)?,
        Route::Invalid(name) => {
            let body = json!({ "error": format!("{name} is invalid") });
            return Ok(Reply::json(StatusCode::BAD_REQUEST, &body));
        }
        _ => {}
    }
    let caller = auth::identify(world, ask)?;
    match &ask.route {
        Route::JobArchive { project, job } => download::by_job(world, ask, caller, project, *job),
        Route::JobEntry { project, job, path } => entry::by_job(world, ask, caller, (project, *job), path),
        Route::Tree { project, job } => tree::show(world, ask, caller, project, *job),
        Route::RefArchive { project, ref_name } => by_ref::archive(world, ask, caller, project, ref_name),
        Route::RefEntry { project, ref_name, path } => {
            entry::by_ref(world, ask, caller, (project, ref_name), path)
        }
        Route::Keep { project, job } => jobs::keep(world, ask, caller, project, *job),
        Route::DeleteJobArtifacts { project, job } => jobs::delete(world, ask, caller, project, *job),
        Route::DeleteProjectArtifacts { project } => jobs::delete_all(world, ask, caller, project),
        Route::Erase { project, job } => jobs::erase(world, ask, caller, project, *job),
        Route::DeleteProject { project } => jobs::delete_project(world, ask, caller, project),
        Route::DeletePipeline { project, pipeline } => {
            jobs::delete_pipeline(world, ask, caller, project, *pipeline)
        }
        Route::Project { project } => meta::project(world, ask, caller, project),
        Route::Job { project, job } => jobs::show(world, ask, caller, project, *job),
        Route::User => meta::user(world, caller),
        Route::Version => meta::version(caller),
        _ => Err(Reply::no_route()),
    }
}
