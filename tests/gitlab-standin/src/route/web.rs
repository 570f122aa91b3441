//! Pages of a project, behind `/-/` (`config/routes/project.rb`). They answer browsers, who have a session.

use http::Method;

use super::Class;
use crate::ids::JobId;

/// A page or an action. Paths are as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Web {
    Download {
        job: JobId,
    },
    Browse {
        job: JobId,
        path: String,
    },
    File {
        job: JobId,
        path: String,
    },
    Raw {
        job: JobId,
        path: String,
    },
    Keep {
        job: JobId,
    },
    /// A ref of any number of segments, then what is wanted of its job.
    OfRef {
        rest: String,
    },
    Job {
        job: JobId,
    },
    /// All artifacts of the project.
    Artifacts,
    /// A form's way to DELETE is a POST that says so.
    Delete {
        id: u64,
    },
}

impl Web {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Download { .. } => Class::WebDownload,
            Self::Browse { .. } | Self::File { .. } => Class::WebBrowse,
            Self::Raw { .. } => Class::WebRaw,
            Self::Keep { .. } => Class::WebKeep,
            Self::OfRef { .. } => Class::WebRef,
            Self::Delete { .. } => Class::WebDelete,
            Self::Job { .. } | Self::Artifacts => Class::WebPage,
        }
    }
}

/// The project's path and the page, if it is one.
pub(super) fn parse(method: &Method, path: &str) -> Option<(String, Web)> {
    let (project, rest) = path.strip_prefix('/')?.split_once("/-/")?;
    let segments: Vec<&str> = rest.split('/').collect();
    let get = method == Method::GET || method == Method::HEAD;
    let page = if get { read(&segments)? } else { write(method, &segments)? };
    project.contains('/').then(|| (project.to_owned(), page))
}

fn read(segments: &[&str]) -> Option<Web> {
    Some(match segments {
        ["jobs", "artifacts", rest @ ..] if !rest.is_empty() => Web::OfRef { rest: rest.join("/") },
        ["jobs", job] => Web::Job { job: id(job)? },
        ["jobs", job, "artifacts", "download"] => Web::Download { job: id(job)? },
        ["jobs", job, "artifacts", "browse", path @ ..] => {
            Web::Browse { job: id(job)?, path: path.join("/") }
        }
        ["jobs", job, "artifacts", "file", path @ ..] if some(path) => {
            Web::File { job: id(job)?, path: path.join("/") }
        }
        ["jobs", job, "artifacts", "raw", path @ ..] if some(path) => {
            Web::Raw { job: id(job)?, path: path.join("/") }
        }
        ["artifacts"] => Web::Artifacts,
        _ => return None,
    })
}

fn write(method: &Method, segments: &[&str]) -> Option<Web> {
    match segments {
        ["jobs", job, "artifacts", "keep"] if method == Method::POST => Some(Web::Keep { job: id(job)? }),
        ["artifacts", id] if method == Method::POST || method == Method::DELETE => {
            Some(Web::Delete { id: id.parse().ok()? })
        }
        _ => None,
    }
}

fn some(path: &[&str]) -> bool {
    !path.is_empty() && path != [""]
}

/// The routes take digits alone.
fn id(text: &str) -> Option<JobId> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(JobId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_apart() {
        let job = JobId(7);
        let path = |text: &str| text.to_owned();
        let cases = [
            ("GET", "jobs/7/artifacts/download", Some(Web::Download { job })),
            ("GET", "jobs/7/artifacts/browse", Some(Web::Browse { job, path: path("") })),
            ("GET", "jobs/7/artifacts/browse/a/b", Some(Web::Browse { job, path: path("a/b") })),
            ("GET", "jobs/7/artifacts/raw/a%20b", Some(Web::Raw { job, path: path("a%20b") })),
            ("GET", "jobs/7/artifacts/raw/", None),
            ("GET", "jobs/7/artifacts/keep", None),
            ("POST", "jobs/7/artifacts/keep", Some(Web::Keep { job })),
            ("GET", "jobs/artifacts/a/b/raw/x", Some(Web::OfRef { rest: path("a/b/raw/x") })),
            ("GET", "jobs/x", None),
            ("HEAD", "jobs/7", Some(Web::Job { job })),
            ("DELETE", "artifacts/3", Some(Web::Delete { id: 3 })),
            ("POST", "artifacts/3", Some(Web::Delete { id: 3 })),
            ("PUT", "artifacts/3", None),
        ];
        for (method, path, page) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let expected = page.map(|page| ("g/s/p".to_owned(), page));
            assert_eq!(parse(&method, &format!("/g/s/p/-/{path}")), expected, "{path}");
        }
        assert_eq!(parse(&Method::GET, "/p/-/jobs/7"), None, "a project has a namespace");
    }
}
