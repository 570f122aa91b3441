//! Requests that may take an archive away, or somebody's right to it.

use http::{Method, StatusCode};

use super::{api_segments, spelling};
use crate::key::JobId;

/// What a request changes if GitLab says that it was done.
///
/// Reading GitLab's own traffic can only ever be a hint (archives also go by expiry, `GraphQL` or a console); it makes
/// larder forget earlier than the next question would. A spelling that isn't recognised therefore counts as
/// [`Write::Broad`] as soon as it might concern artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// The job's archive is gone: A7, A9. Refs may have led to it.
    Archive(JobId),
    /// The job has another archive, which no ref leads to before its pipeline has succeeded: R2.
    Upload(JobId),
    /// The job's archive stays, who may have it may have changed: A6.
    Grants(JobId),
    /// A running job reports; when it has ended its token is worthless (`PUT /jobs/:id`).
    Job,
    /// Any number of archives may be concerned: A8, deleted pipelines and projects, and what wasn't understood.
    Broad,
}

impl Write {
    /// Reads a request line; `None` if it changes nothing that larder remembers.
    pub(super) fn of(root: &str, method: &Method, path: &str) -> Option<Self> {
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT) {
            return None;
        }
        known(root, method, path).or_else(|| may_concern_artifacts(method, path).then_some(Self::Broad))
    }

    /// Whether GitLab's answer says that the change was made. The browser's routes answer a change with a redirect.
    pub fn was_done(self, status: StatusCode) -> bool {
        status.is_success() || (self == Self::Broad && status.is_redirection())
    }
}

fn known(root: &str, method: &Method, path: &str) -> Option<Write> {
    let segments = api_segments(root, path)?;
    match (method.as_str(), segments) {
        ("DELETE", [Some("projects"), Some(_), Some("jobs"), Some(job), Some("artifacts"), None, ..])
        | ("POST", [Some("projects"), Some(_), Some("jobs"), Some(job), Some("erase"), None, ..]) => {
            JobId::parse(job).map(Write::Archive)
        }
        ("POST", [Some("jobs"), Some(job), Some("artifacts"), None, ..]) => {
            JobId::parse(job).map(Write::Upload)
        }
        (
            "POST",
            [Some("projects"), Some(_), Some("jobs"), Some(job), Some("artifacts"), Some("keep"), None, ..],
        ) => JobId::parse(job).map(Write::Grants),
        ("PUT", [Some("jobs"), Some(_), None, ..]) => Some(Write::Job),
        (
            "DELETE",
            [Some("projects"), Some(_), None | Some("artifacts"), None, ..]
            | [Some("projects"), Some(_), Some("pipelines"), Some(_), None, ..],
        ) => Some(Write::Broad),
        _ => None,
    }
}

/// Whether a path that isn't a known write might be one in another spelling, or on the browser's routes.
fn may_concern_artifacts(method: &Method, path: &str) -> bool {
    let decoded = spelling::decode(path).unwrap_or_else(|| path.as_bytes().to_vec());
    let lower = String::from_utf8_lossy(&decoded).to_ascii_lowercase();
    let removes = |word| *method == Method::DELETE && lower.contains(word);
    // Workhorse asks Rails this before an upload; from a client it changes nothing.
    let authorizes = lower.ends_with("/artifacts/authorize");
    (lower.contains("artifacts") && !authorizes)
        || lower.contains("/erase")
        || removes("/pipelines")
        || (removes("/projects/") && !lower.contains("/repository/") && !lower.contains("/registry/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_recognised() {
        let job = JobId::parse("42").unwrap();
        for (method, path, expected) in [
            ("DELETE", "/api/v4/projects/7/jobs/42/artifacts", Some(Write::Archive(job))),
            ("POST", "/api/v4/projects/g%2Fp/jobs/42/erase", Some(Write::Archive(job))),
            ("POST", "/api/v4/jobs/42/artifacts", Some(Write::Upload(job))),
            ("POST", "/api/v4/projects/7/jobs/42/artifacts/keep", Some(Write::Grants(job))),
            ("PUT", "/api/v4/jobs/42", Some(Write::Job)),
            ("DELETE", "/api/v4/projects/7/artifacts", Some(Write::Broad)),
            ("DELETE", "/api/v4/projects/7", Some(Write::Broad)),
            ("DELETE", "/api/v4/projects/7/pipelines/3", Some(Write::Broad)),
            // Other spellings and the browser's routes: understood only as far as needed.
            ("DELETE", "/api/v4/projects/7/jobs/042/artifacts", Some(Write::Broad)),
            ("DELETE", "/api/v4//projects/7/jobs/42/%61rtifacts", Some(Write::Broad)),
            ("POST", "/g/p/-/jobs/42/erase", Some(Write::Broad)),
            ("DELETE", "/g/p/-/artifacts/99", Some(Write::Broad)),
            ("POST", "/api/v4/projects/7/jobs/42/artifacts", Some(Write::Broad)),
            // What doesn't concern archives.
            ("POST", "/api/v4/jobs/42/artifacts/authorize", None),
            ("POST", "/api/v4/jobs/request", None),
            ("PATCH", "/api/v4/jobs/42/trace", None),
            ("DELETE", "/api/v4/projects/7/repository/branches/x", None),
            ("GET", "/api/v4/projects/7/jobs/42/artifacts/keep", None),
        ] {
            assert_eq!(Write::of("", &method.parse().unwrap(), path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_refused_write_changes_nothing() {
        for (status, done) in
            [(204, true), (201, true), (302, false), (401, false), (409, false), (500, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Write::Job.was_done(status), done, "{status}");
        }
        assert!(
            Write::Broad.was_done(StatusCode::FOUND),
            "the browser's routes answer a change with a redirect"
        );
    }
}
