//! What browsers get (`app/controllers/projects/artifacts_controller.rb`, `jobs_controller.rb`): sessions instead of
//! tokens, pages instead of JSON, and redirects where the API refuses.

mod entrance;
mod files;
mod pages;
mod sign_in;

use http::StatusCode;
use http::header::LOCATION;

use crate::ask::Ask;
use crate::auth;
use crate::ids::{JobId, ProjectId, UserId};
use crate::reply::Reply;
use crate::route::Web;
use crate::world::{Job, Level, Project, World};
pub(super) use sign_in::home;
pub(crate) use sign_in::{sign_in, sign_out};

/// A form's fields.
pub(crate) type Form = [(String, String)];

/// The answer to a request for a project's page. Writes need the session's token first of all.
pub(crate) fn web(
    world: &mut World,
    ask: &Ask,
    project: &str,
    page: &Web,
    form: &Form,
) -> Result<Reply, Reply> {
    if !ask.reads() && !is_genuine(world, ask, form) {
        return Err(pages::unprocessable());
    }
    let (id, user) = entrance::enter(world, ask, project)?;
    match page {
        Web::Keep { job } => return keep(world, ask, Visit::new(world, id, user)?.job(*job)?.id, user),
        Web::Delete { id: row } => {
            let method = form.iter().find(|(name, _)| name == "_method").map(|(_, value)| value.as_str());
            if ask.method == http::Method::POST && method != Some("delete") {
                return Err(pages::not_found());
            }
            return delete(world, ask, (id, user), *row);
        }
        _ => {}
    }
    let csrf = auth::session(ask).map(|session| world.csrf_token(session)).unwrap_or_default();
    let visit = Visit::new(world, id, user)?;
    match page {
        Web::Download { job } => files::download(world, ask, &visit, *job),
        Web::Raw { job, path } => files::raw(world, ask, &visit, *job, path),
        Web::Browse { job, path } => pages::browse(world, ask, &visit, *job, path),
        Web::File { job, path } => pages::file(world, ask, &visit, *job, path),
        Web::OfRef { rest } => files::of_ref(world, ask, &visit, rest),
        Web::Job { job } => Ok(pages::job(ask, &visit, visit.job(*job)?, &csrf)),
        Web::Artifacts => Ok(pages::artifacts(world, ask, &visit, &csrf)),
        Web::Keep { .. } | Web::Delete { .. } => Err(pages::not_found()),
    }
}

/// Someone who may read the builds of a project.
struct Visit<'a> {
    world: &'a World,
    project: &'a Project,
    user: Option<UserId>,
}

impl<'a> Visit<'a> {
    /// `authorize_read_build!`; whoever lacks it is shown that there is nothing.
    fn new(world: &'a World, id: ProjectId, user: Option<UserId>) -> Result<Self, Reply> {
        let project = world.projects.get(&id).ok_or_else(pages::not_found)?;
        let allowed = world.reads_builds(user, project);
        if allowed { Ok(Self { world, project, user }) } else { Err(pages::not_found()) }
    }

    fn job(&self, job: JobId) -> Result<&'a Job, Reply> {
        self.world.job_in(self.project, job).map_err(|_| pages::not_found())
    }

    /// `authorize_read_job_artifacts!`.
    fn readable(&self, job: JobId) -> Result<&'a Job, Reply> {
        let job = self.job(job)?;
        let allowed = self.world.reads_artifacts(self.user, self.project, job);
        if allowed { Ok(job) } else { Err(pages::not_found()) }
    }
}

/// `POST …/artifacts/keep`.
fn keep(world: &mut World, ask: &Ask, job: JobId, user: Option<UserId>) -> Result<Reply, Reply> {
    let kept = world.jobs.get(&job).ok_or_else(pages::not_found)?;
    let project = world.projects.get(&kept.project).ok_or_else(pages::not_found)?;
    if !world.has_level(user, project, Level::Developer) || kept.available().is_none() {
        return Err(pages::not_found());
    }
    let url = job_url(ask, project, job);
    if let Some(artifact) = world.jobs.get_mut(&job).and_then(|job| job.artifact.as_mut()) {
        artifact.expired = false;
    }
    Ok(redirect(StatusCode::FOUND, &url))
}

/// `DELETE …/-/artifacts/:id`, of whatever type.
fn delete(
    world: &mut World,
    ask: &Ask,
    (project, user): (ProjectId, Option<UserId>),
    row: u64,
) -> Result<Reply, Reply> {
    let project = world.projects.get(&project).ok_or_else(pages::not_found)?;
    if !world.has_level(user, project, Level::Maintainer) {
        return Err(pages::not_found());
    }
    let url = format!("{}/{}/-/artifacts", ask.base, project.path);
    if world.delete_row(project.id, row) {
        Ok(redirect(StatusCode::SEE_OTHER, &url))
    } else {
        Err(pages::not_found())
    }
}

/// `protect_from_forgery`: the token of the session, in the form or in a field, from no other origin.
fn is_genuine(world: &World, ask: &Ask, form: &Form) -> bool {
    let foreign = ask.header("origin").is_some_and(|origin| origin != ask.origin);
    let sent = form.iter().find(|(name, _)| name == "authenticity_token").map(|(_, value)| value.as_str());
    let sent = sent.or_else(|| ask.header("x-csrf-token"));
    let session = auth::session(ask).filter(|session| world.sessions.contains_key(*session));
    !foreign && session.is_some_and(|session| sent == Some(world.csrf_token(session).as_str()))
}

fn job_url(ask: &Ask, project: &Project, job: JobId) -> String {
    format!("{}/{}/-/jobs/{job}", ask.base, project.path)
}

/// Rails' `redirect_to`: the same status whatever the method.
fn redirect(status: StatusCode, url: &str) -> Reply {
    let shown = pages::escape(url);
    let text = format!("<html><body>You are being <a href=\"{shown}\">redirected</a>.</body></html>");
    Reply::typed(status, pages::HTML, text).with(LOCATION, url)
}
