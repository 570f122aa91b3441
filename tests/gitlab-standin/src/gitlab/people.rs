//! Filling GitLab: people, projects, jobs, archives, credentials.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::GitLab;
use crate::archive::Archive;
use crate::ids::{JobId, PipelineId, ProjectId, UserId};
use crate::settings::{RunnerAuth, Storage};
use crate::world::{ArtifactsAccess, JobStatus, Level, Project, Scope, Visibility};

impl GitLab {
    /// A new user.
    pub fn user(&self, name: &str) -> UserId {
        self.world(|world| world.add_user(name, false))
    }

    /// A new administrator.
    pub fn admin(&self, name: &str) -> UserId {
        self.world(|world| world.add_user(name, true))
    }

    /// A new project under `group/…/name`, with public pipelines on, no members, and an inbound allowlist with
    /// nobody on it but itself.
    pub fn project(&self, path: &str, visibility: Visibility) -> ProjectId {
        self.world(|world| world.add_project(path, visibility))
    }

    /// Makes `user` a member, or changes the role.
    pub fn member(&self, project: ProjectId, user: UserId, level: Level) {
        self.change(project, |project| {
            project.members.insert(user, level);
        });
    }

    /// Ends a membership.
    pub fn remove_member(&self, project: ProjectId, user: UserId) {
        self.change(project, |project| {
            project.members.remove(&user);
        });
    }

    /// Changes who may see a project.
    pub fn set_visibility(&self, project: ProjectId, visibility: Visibility) {
        self.change(project, |project| project.visibility = visibility);
    }

    /// "Public pipelines": whether everyone who sees the project may read its builds.
    pub fn set_public_builds(&self, project: ProjectId, public: bool) {
        self.change(project, |project| project.public_builds = public);
    }

    /// Lets job tokens of `from` into `project` (its inbound allowlist).
    pub fn allow_job_tokens(&self, project: ProjectId, from: ProjectId) {
        self.change(project, |project| {
            project.inbound.get_or_insert_default().insert(from);
        });
    }

    /// Switches the inbound limit on (with an empty list) or off.
    pub fn limit_job_tokens(&self, project: ProjectId, limited: bool) {
        self.change(project, |project| {
            project.inbound = limited.then(Default::default);
        });
    }

    /// Lets only these addresses see the project (the group's allow-list of the paid editions); `None`: all.
    pub fn set_allowed_ips(&self, project: ProjectId, allowed: Option<Vec<IpAddr>>) {
        self.change(project, |project| project.allowed_ips = allowed);
    }

    /// While statistics are refreshed, deletes get 409.
    pub fn set_refreshing(&self, project: ProjectId, refreshing: bool) {
        self.change(project, |project| project.refreshing = refreshing);
    }

    /// Moves a project; its old paths answer 301 until another project takes them.
    pub fn move_project(&self, project: ProjectId, path: &str) {
        self.world(|world| world.move_project(project, path));
    }

    /// Removes a project with its jobs.
    pub fn delete_project(&self, project: ProjectId) {
        self.world(|world| world.delete_project(project));
    }

    /// A personal access token.
    pub fn personal_token(&self, user: UserId, scope: Scope) -> String {
        self.world(|world| world.add_token(user, scope, false))
    }

    /// A personal access token with this very text.
    pub fn put_personal_token(&self, token: &str, user: UserId, scope: Scope) {
        self.world(|world| world.put_token(token, user, scope, false));
    }

    /// An OAuth access token.
    pub fn oauth_token(&self, user: UserId, scope: Scope) -> String {
        self.world(|world| world.add_token(user, scope, true))
    }

    /// Gives a user a password for the sign-in page.
    pub fn set_password(&self, user: UserId, password: &str) {
        self.world(|world| world.users.get_mut(&user).map(|user| user.password = Some(password.to_owned())));
    }

    /// The token that writes in a session need: `authenticity_token` in a form, or `X-CSRF-Token`.
    pub fn csrf_token(&self, session: &str) -> String {
        self.world(|world| world.csrf_token(session))
    }

    /// The value of a `_gitlab_session` cookie.
    pub fn session(&self, user: UserId) -> String {
        self.world(|world| world.add_session(user))
    }

    /// A session with this very value.
    pub fn put_session(&self, session: &str, user: UserId) {
        self.world(|world| world.put_session(session, user));
    }

    /// Ends a token of any kind, or a session.
    pub fn revoke(&self, token: &str) {
        self.world(|world| world.revoke(token));
    }

    /// A job in a pipeline of its own, started by nobody.
    pub fn job(&self, project: ProjectId, status: JobStatus) -> JobId {
        self.world(|world| world.add_job(project, status, None))
    }

    /// A job with this very id: ids come again when an instance is restored from a backup.
    pub fn put_job(&self, id: JobId, project: ProjectId, status: JobStatus) {
        self.world(|world| world.put_job(id, project, status, None));
    }

    /// A running job of `user`'s and its token.
    pub fn running_job(&self, project: ProjectId, user: UserId) -> (JobId, String) {
        self.world(|world| {
            let job = world.add_job(project, JobStatus::Running, Some(user));
            (job, world.add_job_token(job))
        })
    }

    /// Makes GitLab name itself by this scheme and authority alone in redirects and cookies, whatever name it is reached
    /// by.
    pub fn name_itself(&self, origin: &str) {
        self.world(|world| world.own_origin = Some(origin.to_owned()));
    }

    /// A runner, by its authentication token.
    pub fn put_runner(&self, token: &str) {
        self.world(|world| world.runners.insert(token.to_owned()));
    }

    /// A job of a pipeline that waits for a runner, and for those whose artifacts it needs.
    pub fn pending_job(&self, pipeline: PipelineId, name: &str, user: UserId, needs: &[JobId]) -> JobId {
        self.world(|world| {
            let id = world.add_job_in(pipeline, name, JobStatus::Pending);
            if let Some(job) = world.jobs.get_mut(&id) {
                (job.user, job.needs) = (Some(user), needs.to_vec());
            }
            id
        })
    }

    /// One more token of a job, with this very text.
    pub fn put_job_token(&self, job: JobId, token: &str) {
        self.world(|world| world.job_tokens.insert(token.to_owned(), job));
    }

    /// Ends a job well; its token dies.
    pub fn finish_job(&self, job: JobId) {
        self.set_status(job, JobStatus::Success);
    }

    /// Changes a job's status.
    pub fn set_status(&self, job: JobId, status: JobStatus) {
        self.world(|world| world.jobs.get_mut(&job).map(|job| job.status = status));
    }

    /// The pipeline of a job.
    pub fn pipeline_of(&self, job: JobId) -> Option<PipelineId> {
        self.world(|world| world.jobs.get(&job).map(|job| job.pipeline))
    }

    /// Gives a job its archive, replacing one it has. Its date is its own, and the same in every run.
    pub fn put_archive(&self, job: JobId, archive: Archive) {
        self.world(|world| world.put_artifact(job, archive, None));
    }

    /// The same with the date that `Last-Modified` shows.
    pub fn put_archive_dated(&self, job: JobId, archive: Archive, modified: SystemTime) {
        self.world(|world| world.put_artifact(job, archive, Some(modified)));
    }

    /// Removes a job's archive.
    pub fn delete_archive(&self, job: JobId) {
        self.world(|world| world.delete_artifact(job));
    }

    /// A job's archive, such as an upload that came in.
    pub fn archive_of(&self, job: JobId) -> Option<Archive> {
        self.world(|world| Some(world.jobs.get(&job)?.artifact.as_ref()?.archive.clone()))
    }

    /// Takes the bytes of an archive out of the object store and leaves the row: the store answers 404.
    pub fn lose_object(&self, job: JobId) {
        self.world(|world| {
            let artifact = world.jobs.get(&job).and_then(|job| job.artifact.clone());
            if let Some(artifact) = artifact {
                world.objects.remove(&artifact.job_path);
                world.objects.remove(&artifact.final_path);
            }
        });
    }

    /// Lets an archive expire: archives are still served until swept, entries are not, unless locked.
    pub fn expire(&self, job: JobId) {
        self.world(|world| {
            world
                .jobs
                .get_mut(&job)
                .and_then(|job| job.artifact.as_mut())
                .map(|artifact| artifact.expired = true)
        });
    }

    /// Locks or unlocks a job's artifacts ("keep latest").
    pub fn set_locked(&self, job: JobId, locked: bool) {
        self.world(|world| world.jobs.get_mut(&job).map(|job| job.locked = locked));
    }

    /// Who may read a job's artifacts.
    pub fn set_access(&self, job: JobId, access: ArtifactsAccess) {
        self.world(|world| world.jobs.get_mut(&job).map(|job| job.access = access));
    }

    /// Moves the artifacts to another storage; bytes stay, fields change.
    pub fn set_storage(&self, storage: Storage) {
        self.world(|world| world.setup.storage = storage);
    }

    /// Changes whom the runner's download route lets in.
    pub fn set_runner_auth(&self, auth: RunnerAuth) {
        self.world(|world| world.setup.runner_auth = auth);
    }

    /// Changes for how long newly signed URLs are good; zero makes them expired.
    pub fn set_link_lifetime(&self, lifetime: Duration) {
        self.world(|world| world.setup.link_lifetime = lifetime);
    }

    /// Moves the stand-in's clock forward: signed URLs age.
    pub fn advance(&self, by: Duration) {
        self.world(|world| world.advance(by));
    }

    fn change(&self, project: ProjectId, change: impl FnOnce(&mut Project)) {
        self.world(|world| world.projects.get_mut(&project).map(change));
    }
}
