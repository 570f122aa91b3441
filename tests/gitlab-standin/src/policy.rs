//! Who may what (`app/policies/project_policy.rb`, `app/policies/ci/build_policy.rb`,
//! `app/models/ci/job_token/scope.rb`).

use http::StatusCode;
use http::header::{CACHE_CONTROL, LOCATION};

use crate::ask::Ask;
use crate::auth::Caller;
use crate::ids::{JobId, UserId};
use crate::reply::Reply;
use crate::world::{ArtifactsAccess, Job, Level, Project, Visibility, World};

impl World {
    /// A user's role: admins have the highest everywhere.
    fn level(&self, user: Option<UserId>, project: &Project) -> Option<Level> {
        let user = user?;
        if self.is_admin(user) { Some(Level::Owner) } else { project.members.get(&user).copied() }
    }

    fn reads_project(&self, user: Option<UserId>, project: &Project) -> bool {
        let visible = match project.visibility {
            Visibility::Public => true,
            Visibility::Internal => user.is_some(),
            Visibility::Private => false,
        };
        visible || self.level(user, project).is_some()
    }

    /// `read_build`: reporters and up; with public pipelines everyone who sees the project.
    pub(crate) fn reads_builds(&self, user: Option<UserId>, project: &Project) -> bool {
        let public = project.public_builds && self.reads_project(user, project);
        public || self.level(user, project) >= Some(Level::Reporter)
    }

    /// `read_job_artifacts`, on top of `read_build`.
    pub(crate) fn reads_artifacts(&self, user: Option<UserId>, project: &Project, job: &Job) -> bool {
        match job.access {
            ArtifactsAccess::All => true,
            ArtifactsAccess::Developer => self.level(user, project) >= Some(Level::Developer),
            ArtifactsAccess::Maintainer => self.level(user, project) >= Some(Level::Maintainer),
            ArtifactsAccess::None => false,
        }
    }

    /// Refuses who has less than `level`; anonymous callers get 401 (`authenticate_non_get!`).
    pub(crate) fn require(&self, caller: Caller, project: &Project, level: Level) -> Result<(), Reply> {
        caller.user.ok_or_else(Reply::unauthorized)?;
        if self.has_level(caller.user, project, level) { Ok(()) } else { Err(Reply::forbidden()) }
    }

    /// Whether someone has this role or a higher one.
    pub(crate) fn has_level(&self, user: Option<UserId>, project: &Project, level: Level) -> bool {
        self.level(user, project) >= Some(level)
    }

    /// Whether someone sees a project at all, from where the request comes.
    pub(crate) fn may_see(&self, user: Option<UserId>, project: &Project, ask: &Ask) -> bool {
        let address = project.allowed_ips.as_ref().is_none_or(|allowed| allowed.contains(&ask.client));
        address && self.reads_project(user, project)
    }

    /// The project that the request names, if this caller sees it (`find_project!`). A moved one answers GET with
    /// 301 and anything else with 405, before any other question is asked.
    pub(crate) fn project(&self, ask: &Ask, caller: Caller, segment: &str) -> Result<&Project, Reply> {
        let found = self.find_project(segment).ok_or_else(Reply::no_project)?;
        let project = found.project;
        if !self.may_see(caller.user, project, ask) {
            return Err(Reply::no_project());
        }
        self.admit_job_token(caller, project)?;
        if found.moved { Err(moved(ask, segment, project)) } else { Ok(project) }
    }

    /// The job that the request names, in this project.
    pub(crate) fn job_in(&self, project: &Project, job: JobId) -> Result<&Job, Reply> {
        self.jobs.get(&job).filter(|job| job.project == project.id).ok_or_else(Reply::no_record)
    }

    /// A job token gets into its own project, into projects that list its own, and into those that everyone
    /// may look at.
    fn admit_job_token(&self, caller: Caller, project: &Project) -> Result<(), Reply> {
        let Some(job) = caller.job.and_then(|job| self.jobs.get(&job)) else {
            return Ok(());
        };
        let listed = project.inbound.as_ref().is_none_or(|inbound| inbound.contains(&job.project));
        let open = project.visibility != Visibility::Private && project.public_builds;
        if job.project == project.id || listed || open {
            return Ok(());
        }
        let from = self.projects.get(&job.project).map_or("", |project| project.path.as_str());
        let reason =
            format!("Authentication by CI/CD job token not allowed from {from} to {}.", project.path);
        Err(Reply::forbidden_because(&reason))
    }
}

/// `lib/api/helpers.rb`, `project_moved?` and `url_with_project_id`.
fn moved(ask: &Ask, segment: &str, project: &Project) -> Reply {
    if !ask.is_get() {
        return Reply::message(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed");
    }
    let (old, new) = (format!("/projects/{segment}"), format!("/projects/{}", project.id));
    let url = format!("{}{}", ask.origin, ask.target.replacen(&old, &new, 1));
    let text = format!("This resource has been moved permanently to {url}.");
    Reply::text(StatusCode::MOVED_PERMANENTLY, text).with(LOCATION, &url).with(CACHE_CONTROL, "no-cache")
}
