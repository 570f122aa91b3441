//! What a request asks for, read once from its method and raw target.
//!
//! Owns the list of artifact routes (`lib/api/ci/job_artifacts.rb`, `lib/api/ci/runner.rb` in GitLab) and their one
//! canonical spelling each. Pure: knows nothing of connections, caches or credentials' values. Whatever isn't
//! canonical is [`Route::Pass`]: GitLab may read it otherwise, so larder reads nothing into it.

mod spelling;
mod write;

use http::Method;
use http::uri::PathAndQuery;

use crate::key::{JobId, Key};

pub use spelling::decode;
pub use write::Write;

/// The query keys that carry credentials on artifact routes (`lib/api/api_guard.rb`, `lib/gitlab/auth/auth_finders.rb`).
pub const CREDENTIAL_KEYS: [&str; 6] =
    ["access_token", "bearer_token", "private_token", "job_token", "token", "sudo"];

/// Query key of the runner's route: answer with a redirect to the object store rather than with its bytes.
const DIRECT_DOWNLOAD: &str = "direct_download";

/// The parts of a request that decide its route.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query as received, relative root included.
    pub target: &'a PathAndQuery,
    /// Whether a body follows, of any length but a declared zero.
    pub has_body: bool,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Somebody wants an archive.
    Read(Question),
    /// Something at GitLab changes, if GitLab agrees.
    Write(Write),
    /// Everything else.
    Pass,
}

/// Which of GitLab's rules decides: a yes on one class is never a yes on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A1, `GET /projects/:id/jobs/:job_id/artifacts`.
    Job,
    /// R1, the runner's `GET /jobs/:id/artifacts`.
    Runner,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 2] = [Self::Job, Self::Runner];

    /// The class's place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Job => 0,
            Self::Runner => 1,
        }
    }
}

/// One question to GitLab: may this caller have that archive, by this route?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The rules that apply.
    pub class: Class,
    /// The project as written, still encoded; the runner's route has none.
    pub project: Option<String>,
    /// The job.
    pub job: JobId,
    /// The target that asks it: the client's own, but that the runner's route always takes a redirect, so that no
    /// question makes GitLab read a whole object.
    pub target: PathAndQuery,
}

impl Question {
    /// What the archive is stored under.
    pub const fn key(&self) -> Key {
        Key::Job(self.job)
    }
}

impl Route {
    /// Reads a request line. `root` is GitLab's relative root (empty, or `/root`).
    pub fn of(root: &str, line: Line<'_>) -> Self {
        if let Some(write) = Write::of(root, line.method, line.target.path()) {
            return Self::Write(write);
        }
        let reads = *line.method == Method::GET || *line.method == Method::HEAD;
        let question = if reads && !line.has_body { question(root, line.target) } else { None };
        question.map_or(Self::Pass, Self::Read)
    }
}

/// The segments below `/api/v4/`, eight at most; a longer path fills all eight and matches no route.
fn api_segments<'a>(root: &str, path: &'a str) -> Option<[Option<&'a str>; 8]> {
    let mut segments = path.strip_prefix(root)?.strip_prefix("/api/v4/")?.split('/');
    Some(std::array::from_fn(|_| segments.next()))
}

fn question(root: &str, target: &PathAndQuery) -> Option<Question> {
    let (class, project, job) = match api_segments(root, target.path())? {
        [Some("projects"), Some(project), Some("jobs"), Some(job), Some("artifacts"), None, ..] => {
            (Class::Job, Some(spelling::project(project)?), job)
        }
        [Some("jobs"), Some(job), Some("artifacts"), None, ..] => (Class::Runner, None, job),
        _ => return None,
    };
    let allowed =
        |key: &str| CREDENTIAL_KEYS.contains(&key) || (class == Class::Runner && key == DIRECT_DOWNLOAD);
    let pairs = spelling::pairs(target.query().unwrap_or_default(), allowed)?;
    let target = match class {
        Class::Job => target.clone(),
        Class::Runner => direct(target.path(), &pairs)?,
    };
    Some(Question { class, project: project.map(str::to_owned), job: JobId::parse(job)?, target })
}

/// The runner's target with `direct_download=true`, the other pairs as they came.
fn direct(path: &str, pairs: &[(&str, &str)]) -> Option<PathAndQuery> {
    let mut target = format!("{path}?");
    for (key, value) in pairs {
        match (*key, *value) {
            (DIRECT_DOWNLOAD, "true" | "false") => {}
            // Grape answers 400 to what it can't read as a boolean, and reads more than these two.
            (DIRECT_DOWNLOAD, _) => return None,
            _ => target.extend([*key, "=", *value, "&"]),
        }
    }
    target.push_str("direct_download=true");
    target.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(root: &str, method: &Method, target: &str) -> Route {
        Route::of(root, Line { method, target: &target.parse().unwrap(), has_body: false })
    }

    fn asked(target: &str) -> Option<String> {
        match route("", &Method::GET, target) {
            Route::Read(question) => Some(format!("{:?} {}", question.class, question.target)),
            _ => None,
        }
    }

    #[test]
    fn canonical_targets_are_questions() {
        for (target, expected) in [
            ("/api/v4/projects/7/jobs/42/artifacts", "Job /api/v4/projects/7/jobs/42/artifacts"),
            ("/api/v4/projects/g%2Fp/jobs/42/artifacts?", "Job /api/v4/projects/g%2Fp/jobs/42/artifacts?"),
            (
                "/api/v4/projects/g%2fs%2Fp.x/jobs/42/artifacts?job_token=a%2Bb",
                "Job /api/v4/projects/g%2fs%2Fp.x/jobs/42/artifacts?job_token=a%2Bb",
            ),
            ("/api/v4/jobs/42/artifacts", "Runner /api/v4/jobs/42/artifacts?direct_download=true"),
            ("/api/v4/jobs/42/artifacts?", "Runner /api/v4/jobs/42/artifacts?direct_download=true"),
            (
                "/api/v4/jobs/42/artifacts?direct_download=false&token=x",
                "Runner /api/v4/jobs/42/artifacts?token=x&direct_download=true",
            ),
        ] {
            assert_eq!(asked(target).as_deref(), Some(expected), "{target}");
        }
    }

    #[test]
    fn other_spellings_pass() {
        for target in [
            "/",
            "/api/v4/version",
            "/api/v4/projects/7/jobs/42/artifacts/",
            "/api/v4/projects/7/jobs/42/artifacts.json",
            "/api/v4/projects/7/jobs/42/artifacts/a.txt",
            "/api/v4/projects/7//jobs/42/artifacts",
            "//api/v4/projects/7/jobs/42/artifacts",
            "/api/v4/../v4/projects/7/jobs/42/artifacts",
            "/API/v4/projects/7/jobs/42/artifacts",
            "/api/v4/projects/07/jobs/42/artifacts",
            "/api/v4/projects/-7/jobs/42/artifacts",
            "/api/v4/projects/name/jobs/42/artifacts",
            "/api/v4/projects/g%2F..%2Fp/jobs/42/artifacts",
            "/api/v4/projects/g%2F%2Fp/jobs/42/artifacts",
            "/api/v4/projects/g%2Fp%00/jobs/42/artifacts",
            "/api/v4/projects/g%2Fp%/jobs/42/artifacts",
            "/api/v4/projects/g%2Fp%zz/jobs/42/artifacts",
            "/api/v4/projects/g%2Fp;x/jobs/42/artifacts",
            "/api/v4/projects/7/jobs/042/artifacts",
            "/api/v4/projects/7/jobs/+42/artifacts",
            "/api/v4/projects/7/jobs/4_2/artifacts",
            "/api/v4/projects/7/jobs/9223372036854775808/artifacts",
            "/api/v4/projects/7/jobs/42/artifacts?direct_download=true",
            "/api/v4/projects/7/jobs/42/artifacts?unknown=1",
            "/api/v4/projects/7/jobs/42/artifacts?job_token=a&job_token=b",
            "/api/v4/projects/7/jobs/42/artifacts?job_token=a;private_token=b",
            "/api/v4/projects/7/jobs/42/artifacts?job_token[]=a",
            "/api/v4/projects/7/jobs/42/artifacts?job%5Ftoken=a",
            "/api/v4/projects/7/jobs/42/artifacts?job_token",
            "/api/v4/projects/7/jobs/42/artifacts?job_token=a&",
            "/api/v4/projects/7/jobs/42/artifacts?job_token=%0a",
            "/api/v4/projects/7/jobs/42/artifacts?job_token=%g0",
            "/api/v4/jobs/42/artifacts?direct_download=1",
            "/api/v4/jobs/42/artifacts?direct_download=",
            "/api/v4/jobs/42/artifacts/",
        ] {
            assert_eq!(asked(target), None, "{target}");
        }
    }

    #[test]
    fn only_bodiless_get_and_head_are_questions() {
        let target: PathAndQuery = "/api/v4/jobs/42/artifacts".parse().unwrap();
        for (method, has_body, read) in [
            (Method::GET, false, true),
            (Method::HEAD, false, true),
            (Method::GET, true, false),
            (Method::OPTIONS, false, false),
        ] {
            let route = Route::of("", Line { method: &method, target: &target, has_body });
            assert_eq!(matches!(route, Route::Read(_)), read, "{method} {has_body}");
        }
    }

    #[test]
    fn the_relative_root_is_part_of_the_path() {
        let inside = "/gitlab/api/v4/jobs/42/artifacts";
        assert!(matches!(route("/gitlab", &Method::GET, inside), Route::Read(_)));
        assert_eq!(route("", &Method::GET, inside), Route::Pass);
        assert_eq!(route("/gitlab", &Method::GET, "/api/v4/jobs/42/artifacts"), Route::Pass);
        assert_eq!(route("/gitlab", &Method::GET, "/gitlabs/api/v4/jobs/42/artifacts"), Route::Pass);
    }
}
