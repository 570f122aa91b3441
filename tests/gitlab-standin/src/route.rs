//! Which route a request is for. The path is looked at once, raw (gitlab.md's table is drawn from
//! `lib/api/ci/job_artifacts.rb`, `lib/api/ci/runner.rb`, `lib/api/ci/jobs.rb`, `config/routes/project.rb`).

mod class;
mod refs;
mod web;

use http::Method;

use crate::ids::{JobId, PipelineId};
use crate::percent;
pub use class::Class;
use refs::ByRef;
pub(crate) use web::Web;

/// A request's route with its parameters. `project` is the path segment as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    JobArchive {
        project: String,
        job: JobId,
    },
    JobEntry {
        project: String,
        job: JobId,
        path: String,
    },
    Tree {
        project: String,
        job: JobId,
    },
    RefArchive {
        project: String,
        ref_name: String,
    },
    RefEntry {
        project: String,
        ref_name: String,
        path: String,
    },
    RunnerArchive {
        job: JobId,
    },
    Upload {
        job: JobId,
    },
    Keep {
        project: String,
        job: JobId,
    },
    DeleteJobArtifacts {
        project: String,
        job: JobId,
    },
    DeleteProjectArtifacts {
        project: String,
    },
    Erase {
        project: String,
        job: JobId,
    },
    DeleteProject {
        project: String,
    },
    DeletePipeline {
        project: String,
        pipeline: PipelineId,
    },
    JobUpdate {
        job: JobId,
    },
    JobRequest,
    Trace {
        job: JobId,
    },
    Project {
        project: String,
    },
    Job {
        project: String,
        job: JobId,
    },
    User,
    Version,
    SignIn,
    SignOut,
    /// A signed-in user's first page.
    Home,
    /// A page of a project, by path as it was written.
    Web {
        project: String,
        page: Web,
    },
    Echo,
    Bytes(u64),
    Sink,
    Counters,
    ClearFaults,
    /// A parameter that Grape's `Integer` refuses: its name.
    Invalid(&'static str),
    /// No such route.
    Unknown,
}

impl Route {
    /// The route of `method` on `path`, the relative root already taken off.
    pub(crate) fn parse(method: &Method, path: &str) -> Self {
        if let Some(api) = path.strip_prefix("/api/v4/") {
            return api_route(method, api);
        }
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let get = method == Method::GET || method == Method::HEAD;
        match segments.as_slice() {
            [""] if method == Method::GET => Self::Home,
            ["users", "sign_in"] if get || method == Method::POST => Self::SignIn,
            [first, ..] if first.starts_with("echo") => Self::Echo,
            ["users", "sign_out"] if method == Method::POST => Self::SignOut,
            ["bytes", count] => count.parse().map_or(Self::Unknown, Self::Bytes),
            ["sink"] => Self::Sink,
            ["standin", "counters"] => Self::Counters,
            ["standin", "faults"] if method == Method::DELETE => Self::ClearFaults,
            _ => match web::parse(method, path) {
                Some((project, page)) => Self::Web { project, page },
                None => Self::Unknown,
            },
        }
    }

    pub(crate) fn class(&self) -> Class {
        match self {
            Self::JobArchive { .. } => Class::JobArchive,
            Self::JobEntry { .. } => Class::JobEntry,
            Self::Tree { .. } => Class::Tree,
            Self::RefArchive { .. } => Class::RefArchive,
            Self::RefEntry { .. } => Class::RefEntry,
            Self::RunnerArchive { .. } => Class::RunnerArchive,
            Self::Upload { .. } => Class::Upload,
            Self::Keep { .. } => Class::Keep,
            Self::DeleteJobArtifacts { .. } => Class::DeleteJobArtifacts,
            Self::DeleteProjectArtifacts { .. } => Class::DeleteProjectArtifacts,
            Self::Erase { .. } => Class::Erase,
            Self::DeleteProject { .. } => Class::DeleteProject,
            Self::DeletePipeline { .. } => Class::DeletePipeline,
            Self::JobUpdate { .. } => Class::JobUpdate,
            Self::JobRequest => Class::JobRequest,
            Self::Trace { .. } => Class::Trace,
            Self::Project { .. } => Class::Project,
            Self::Job { .. } => Class::Job,
            Self::User => Class::User,
            Self::Version => Class::Version,
            Self::SignIn | Self::SignOut => Class::SignIn,
            Self::Home => Class::WebPage,
            Self::Web { page, .. } => page.class(),
            Self::Echo => Class::Echo,
            Self::Bytes(_) => Class::Bytes,
            Self::Sink => Class::Sink,
            Self::Counters | Self::ClearFaults => Class::Standin,
            Self::Invalid(_) | Self::Unknown => Class::Other,
        }
    }
}

fn api_route(method: &Method, path: &str) -> Route {
    let segments: Vec<&str> = path.split('/').collect();
    let get = method == Method::GET || method == Method::HEAD;
    match segments.as_slice() {
        ["projects", project, rest @ ..] if !project.is_empty() => project_route(method, project, rest),
        ["jobs", "request"] if method == Method::POST => Route::JobRequest,
        ["jobs", job] if method == Method::PUT => with_job(job, |job| Route::JobUpdate { job }),
        ["jobs", job, "trace"] if method == Method::PATCH => with_job(job, |job| Route::Trace { job }),
        ["jobs", job, "artifacts"] if get => with_job(job, |job| Route::RunnerArchive { job }),
        ["jobs", job, "artifacts"] if method == Method::POST => with_job(job, |job| Route::Upload { job }),
        ["user"] if get => Route::User,
        ["version"] if get => Route::Version,
        _ => Route::Unknown,
    }
}

fn project_route(method: &Method, project: &str, rest: &[&str]) -> Route {
    let project = project.to_owned();
    let get = method == Method::GET || method == Method::HEAD;
    let (post, delete) = (method == Method::POST, method == Method::DELETE);
    if let ["jobs", "artifacts", rest @ ..] = rest
        && get
        && let Some(found) = refs::parse(&rest.join("/"))
    {
        return ref_route(project, found);
    }
    match rest {
        [] if get => Route::Project { project },
        [] if delete => Route::DeleteProject { project },
        ["artifacts"] if delete => Route::DeleteProjectArtifacts { project },
        ["pipelines", id] if delete => match integer(id) {
            Some(id) => Route::DeletePipeline { project, pipeline: PipelineId(id) },
            None => Route::Invalid("pipeline_id"),
        },
        ["jobs", job] if get => with_job(job, |job| Route::Job { project, job }),
        ["jobs", job, "erase"] if post => with_job(job, |job| Route::Erase { project, job }),
        ["jobs", job, "artifacts", "keep"] if post => with_job(job, |job| Route::Keep { project, job }),
        // Grape strips these suffixes where a route doesn't say `format: false`.
        ["jobs", job, "artifacts" | "artifacts.json" | "artifacts.txt"] if get => {
            with_job(job, |job| Route::JobArchive { project, job })
        }
        ["jobs", job, "artifacts"] if delete => {
            with_job(job, |job| Route::DeleteJobArtifacts { project, job })
        }
        // Declared before the entries, so no member of that name can be had.
        ["jobs", job, "artifacts", "tree"] if get => with_job(job, |job| Route::Tree { project, job }),
        ["jobs", job, "artifacts", path @ ..] if get && path != [""] => {
            let path = path.join("/");
            with_job(job, |job| Route::JobEntry { project, job, path })
        }
        _ => Route::Unknown,
    }
}

fn ref_route(project: String, found: ByRef<'_>) -> Route {
    match found {
        ByRef::Archive { ref_name } => Route::RefArchive { project, ref_name: ref_name.to_owned() },
        ByRef::Entry { ref_name, path } => {
            Route::RefEntry { project, ref_name: ref_name.to_owned(), path: path.to_owned() }
        }
    }
}

fn with_job(text: &str, route: impl FnOnce(JobId) -> Route) -> Route {
    integer(text).map_or(Route::Invalid("job_id"), |id| route(JobId(id)))
}

/// Grape's `Integer`: Ruby takes leading zeros, a sign and single underscores between digits.
fn integer(text: &str) -> Option<u64> {
    let text = percent::decode_text(text)?;
    let digits = text.strip_prefix('+').unwrap_or(&text);
    let groups =
        digits.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if groups { digits.replace('_', "").parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_routes_are_told_apart() {
        let job = JobId(42);
        let project = || "group%2Fp".to_owned();
        let archive = Route::JobArchive { project: project(), job };
        let entry = |path: &str| Route::JobEntry { project: project(), job, path: path.to_owned() };
        let cases = [
            ("GET", "projects/group%2Fp/jobs/42/artifacts", archive.clone()),
            ("HEAD", "projects/group%2Fp/jobs/042/artifacts.json", archive.clone()),
            ("GET", "projects/group%2Fp/jobs/4_2/artifacts.txt", archive),
            ("GET", "projects/group%2Fp/jobs/42/artifacts/a/b%20c", entry("a/b%20c")),
            ("GET", "projects/group%2Fp/jobs/42/artifacts/keep", entry("keep")),
            ("POST", "projects/group%2Fp/jobs/42/artifacts/keep", Route::Keep { project: project(), job }),
            ("GET", "projects/group%2Fp/jobs/42/artifacts/tree", Route::Tree { project: project(), job }),
            ("GET", "projects/group%2Fp/jobs/42/artifacts/tree/a", entry("tree/a")),
            (
                "HEAD",
                "projects/group%2Fp/jobs/artifacts/a/b/download",
                Route::RefArchive { project: project(), ref_name: "a/b".to_owned() },
            ),
            ("GET", "projects/1/jobs/artifacts/artifacts/x", Route::Invalid("job_id")),
            ("GET", "jobs/42/artifacts", Route::RunnerArchive { job }),
            ("GET", "projects/1/jobs/x/artifacts", Route::Invalid("job_id")),
            ("POST", "projects/1/jobs/1/artifacts", Route::Unknown),
        ];
        for (method, path, route) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(Route::parse(&method, &format!("/api/v4/{path}")), route, "{method} {path}");
        }
    }
}
