//! What a request asks for, read once from its method and raw target.
//!
//! Owns the list of artifact routes (`lib/api/ci/job_artifacts.rb`, `lib/api/ci/runner.rb`, `config/routes/project.rb`
//! in GitLab) and their one canonical spelling each. Pure: knows nothing of connections, caches or credentials' values. Whatever isn't
//! canonical is [`Route::Pass`]: GitLab may read it otherwise, so larder reads nothing into it.

mod read;
mod spelling;
mod write;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use crate::base::key::Key;

pub(crate) use spelling::{decode, decode_value, parameter};
pub use write::{OwnNames, Write};

/// The query keys that carry credentials on artifact routes (`lib/api/api_guard.rb`, `lib/gitlab/auth/auth_finders.rb`).
pub(crate) const CREDENTIAL_KEYS: [&str; 6] =
    ["access_token", "bearer_token", "private_token", "job_token", "token", "sudo"];

/// The parts of a request that decide its route.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
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
    /// Somebody wants an archive, or an entry of one.
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
    /// A4, `GET /projects/:id/jobs/artifacts/:ref_name/download`.
    Ref,
    /// W1, the browser's `GET /:namespace/:project/-/jobs/:id/artifacts/download`.
    Web,
    /// A2, `GET /projects/:id/jobs/:job_id/artifacts/*artifact_path`.
    JobEntry,
    /// A5, `GET /projects/:id/jobs/artifacts/:ref_name/raw/*artifact_path`.
    RefEntry,
    /// W3, the browser's `GET /:namespace/:project/-/jobs/:id/artifacts/raw/*path`.
    WebEntry,
}

impl Class {
    /// All classes.
    pub(crate) const ALL: [Self; 7] =
        [Self::Job, Self::Runner, Self::Ref, Self::Web, Self::JobEntry, Self::RefEntry, Self::WebEntry];

    /// The class's place in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Job => 0,
            Self::Runner => 1,
            Self::Ref => 2,
            Self::Web => 3,
            Self::JobEntry => 4,
            Self::RefEntry => 5,
            Self::WebEntry => 6,
        }
    }

    /// Whether one entry of an archive is asked for rather than all of it.
    pub const fn is_entry(self) -> bool {
        matches!(self, Self::JobEntry | Self::RefEntry | Self::WebEntry)
    }

    /// The class with this place in [`Self::ALL`].
    pub(crate) fn at(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// Whether it is one of the browser's routes, where GitLab names the file that is downloaded.
    pub(crate) const fn is_web(self) -> bool {
        matches!(self, Self::Web | Self::WebEntry)
    }

    /// Whether the ref decides which job's archive is meant, anew each time.
    pub(crate) const fn is_by_ref(self) -> bool {
        matches!(self, Self::Ref | Self::RefEntry)
    }
}

/// One question to GitLab: may this caller have that archive, or an entry of it, by this route?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The rules that apply.
    pub class: Class,
    /// The project as written, still encoded; the runner's route has none.
    pub project: Option<String>,
    /// What the archive is stored under.
    pub key: Key,
    /// The target that asks it: the client's own, but that the runner's route always takes a redirect, so that no
    /// question makes GitLab read a whole object.
    pub target: PathAndQuery,
    /// What is asked for, if not the archive as a whole.
    pub entry: Option<EntryName>,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName {
    /// Its name, decoded: valid UTF-8 without NUL, since GitLab refuses others.
    pub name: String,
    /// The class of the route for the whole archive, next to the entry's.
    class: Class,
    /// That route's target, with the same query.
    archive: PathAndQuery,
}

impl Question {
    /// The question about the archive as a whole, on the route next to the client's: itself, unless it is about an
    /// entry.
    #[must_use]
    pub fn of_archive(&self) -> Self {
        match &self.entry {
            None => self.clone(),
            Some(EntryName { class, archive, .. }) => {
                Self { class: *class, target: archive.clone(), entry: None, ..self.clone() }
            }
        }
    }

    /// What, besides the class, tells this question from others when its answer is remembered: the archive's target.
    /// GitLab decides about an archive, not about single entries.
    pub fn about(&self) -> &str {
        self.entry.as_ref().map_or(&self.target, |entry| &entry.archive).as_str()
    }
}

impl Route {
    /// Reads a request line. `root` is GitLab's relative root (empty, or `/root`).
    pub fn of(root: &str, line: RequestLine<'_>) -> Self {
        if let Some(write) = Write::of(root, line.method, line.target.path()) {
            return Self::Write(write);
        }
        let reads = *line.method == Method::GET || *line.method == Method::HEAD;
        let question = if reads && !line.has_body { read::question(root, line.target) } else { None };
        question.map_or(Self::Pass, Self::Read)
    }

    /// The same for a request whose fields, query or form may ask for another method than its line does.
    #[must_use]
    pub(crate) fn meant(self, root: &str, line: RequestLine<'_>, fields: &HeaderMap) -> Self {
        let plain = match self {
            Self::Read(_) => return self,
            Self::Write(write) => Some(write),
            Self::Pass => None,
        };
        Write::overridden(plain, root, fields, line).map_or(Self::Pass, Self::Write)
    }
}

/// The segments below `/api/v4/`, eight at most; a longer path fills all eight and matches no route.
fn api_segments<'a>(root: &str, path: &'a str) -> Option<[Option<&'a str>; 8]> {
    let mut segments = path.strip_prefix(root)?.strip_prefix("/api/v4/")?.split('/');
    Some(std::array::from_fn(|_| segments.next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(root: &str, method: &Method, target: &str) -> Route {
        Route::of(root, RequestLine { method, target: &target.parse().unwrap(), has_body: false })
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
            let route = Route::of("", RequestLine { method: &method, target: &target, has_body });
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
