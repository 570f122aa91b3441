//! Kinds of routes.

/// A kind of route: what counters, logs and faults tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// `GET /projects/:id/jobs/:job_id/artifacts`: one archive by job.
    JobArchive,
    /// `GET /projects/:id/jobs/:job_id/artifacts/*path`: one entry of it.
    JobEntry,
    /// `GET /projects/:id/jobs/:job_id/artifacts/tree`: what is in it.
    Tree,
    /// `GET /projects/:id/jobs/artifacts/:ref_name/download`: one archive by ref and job name.
    RefArchive,
    /// `GET /projects/:id/jobs/artifacts/:ref_name/raw/*path`: one entry of it.
    RefEntry,
    /// `GET /jobs/:id/artifacts`: one archive for a runner.
    RunnerArchive,
    /// `POST /jobs/:id/artifacts`: a runner's upload.
    Upload,
    /// `POST /projects/:id/jobs/:job_id/artifacts/keep`.
    Keep,
    /// `DELETE /projects/:id/jobs/:job_id/artifacts`.
    DeleteJobArtifacts,
    /// `DELETE /projects/:id/artifacts`.
    DeleteProjectArtifacts,
    /// `POST /projects/:id/jobs/:job_id/erase`.
    Erase,
    /// `DELETE /projects/:id`.
    DeleteProject,
    /// `DELETE /projects/:id/pipelines/:pipeline_id`.
    DeletePipeline,
    /// `PUT /jobs/:id`: a runner's report.
    JobUpdate,
    /// `POST /jobs/request`.
    JobRequest,
    /// `PATCH /jobs/:id/trace`.
    Trace,
    /// `GET /projects/:id`.
    Project,
    /// `GET /projects/:id/jobs/:job_id`.
    Job,
    /// `GET /user`.
    User,
    /// `GET /version`.
    Version,
    /// `/users/sign_in`, a page.
    SignIn,
    /// `GET /:project/-/jobs/:id/artifacts/download`: one archive, or a report, for a browser.
    WebDownload,
    /// `GET …/artifacts/browse` and `…/file`: pages.
    WebBrowse,
    /// `GET …/artifacts/raw/*path`: one entry for a browser.
    WebRaw,
    /// `POST …/artifacts/keep`.
    WebKeep,
    /// `GET /:project/-/jobs/artifacts/*ref_name_and_path`: a redirect to a job.
    WebRef,
    /// `DELETE /:project/-/artifacts/:id`.
    WebDelete,
    /// Other pages: a job, a project's artifacts, the first one.
    WebPage,
    /// `/echo…`: not GitLab, a mirror.
    Echo,
    /// `/bytes/:n`: not GitLab, a download of any size.
    Bytes,
    /// `POST /sink`: not GitLab, swallows a body.
    Sink,
    /// `/standin/…`: the stand-in's own.
    Standin,
    /// Whatever else GitLab is asked.
    Other,
    /// Any request to the object store.
    Object,
}

impl Class {
    /// A short name, for logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobArchive => "job_archive",
            Self::JobEntry => "job_entry",
            Self::Tree => "tree",
            Self::RefArchive => "ref_archive",
            Self::RefEntry => "ref_entry",
            Self::RunnerArchive => "runner_archive",
            Self::Upload => "upload",
            Self::Keep => "keep",
            Self::DeleteJobArtifacts => "delete_job_artifacts",
            Self::DeleteProjectArtifacts => "delete_project_artifacts",
            Self::Erase => "erase",
            Self::DeleteProject => "delete_project",
            Self::DeletePipeline => "delete_pipeline",
            Self::JobUpdate => "job_update",
            Self::JobRequest => "job_request",
            Self::Trace => "trace",
            Self::Project => "project",
            Self::Job => "job",
            Self::User => "user",
            Self::Version => "version",
            Self::SignIn => "sign_in",
            Self::WebDownload => "web_download",
            Self::WebBrowse => "web_browse",
            Self::WebRaw => "web_raw",
            Self::WebKeep => "web_keep",
            Self::WebRef => "web_ref",
            Self::WebDelete => "web_delete",
            Self::WebPage => "web_page",
            Self::Echo => "echo",
            Self::Bytes => "bytes",
            Self::Sink => "sink",
            Self::Standin => "standin",
            Self::Other => "other",
            Self::Object => "object",
        }
    }

    /// Whether `job_token` authentication is enabled on the route (`route_setting :authentication`).
    pub(crate) fn allows_job_token(self) -> bool {
        matches!(
            self,
            Self::JobArchive
                | Self::JobEntry
                | Self::Tree
                | Self::RefArchive
                | Self::RefEntry
                | Self::RunnerArchive
        )
    }
}
