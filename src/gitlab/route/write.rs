//! Requests that may take an archive away, or somebody's right to it.

use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Uri};

use super::{RequestLine, api_segments, spelling};
use crate::base::key::JobId;
use crate::http::hop;

/// What a request changes if GitLab says that it was done.
///
/// Reading GitLab's own traffic can only ever be a hint (archives also go by expiry, `GraphQL` or a console); it makes
/// larder forget earlier than the next question would. A spelling that isn't recognised counts as [`Write::Broad`] where
/// GitLab might read it as a route that takes archives or rights away, and nowhere else: all grants end by it, and nobody
/// shall end them by having a project of some name.
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

/// Where a redirect may lead that says a change was made: the names that GitLab goes by.
#[derive(Debug, Clone, Copy)]
pub struct OwnNames<'a> {
    /// GitLab's relative root.
    pub root: &'a str,
    /// The path that was asked for.
    pub asked: &'a str,
    /// Host and port of GitLab, to larder, to itself and to the client.
    pub own: [Option<&'a str>; 3],
}

impl Write {
    /// Reads a request line; `None` if it changes nothing that larder remembers.
    pub(super) fn of(root: &str, method: &Method, path: &str) -> Option<Self> {
        if is_safe(method) {
            return None;
        }
        known(root, method, path).or_else(|| may_take_away(root, method, path).then_some(Self::Broad))
    }

    /// The same for a request that may mean another method than it has; `plain` is what it changes if it doesn't.
    pub(super) fn overridden(
        plain: Option<Self>,
        root: &str,
        fields: &HeaderMap,
        line: RequestLine<'_>,
    ) -> Option<Self> {
        let path = line.target.path();
        match OverriddenMethod::of(line.method, line.target.query().unwrap_or_default(), fields) {
            OverriddenMethod::Plainly => plain,
            OverriddenMethod::As(method) => Self::of(root, &method, path),
            OverriddenMethod::Perhaps => {
                let methods = [Method::DELETE, Method::PUT, Method::PATCH];
                plain.or_else(|| methods.iter().find_map(|method| Self::of(root, method, path)))
            }
        }
    }

    /// Whether GitLab's answer says that the change was made. The browser's routes answer a change with a redirect to a
    /// page of GitLab's; one to its sign-in pages, to where the request was sent, or to somewhere else says that it wasn't.
    pub(crate) fn was_done(self, status: StatusCode, location: Option<&[u8]>, places: OwnNames<'_>) -> bool {
        let seen = matches!(status, StatusCode::FOUND | StatusCode::SEE_OTHER);
        status.is_success()
            || (self == Self::Broad && seen && location.is_some_and(|location| places.is_page(location)))
    }
}

impl OwnNames<'_> {
    fn is_page(&self, location: &[u8]) -> bool {
        let Some(uri) = std::str::from_utf8(location).ok().and_then(|text| text.parse::<Uri>().ok()) else {
            return false;
        };
        let own = |authority: &http::uri::Authority| {
            self.own.iter().flatten().any(|own| own.eq_ignore_ascii_case(authority.as_str()))
        };
        uri.authority().is_none_or(own) && uri.path() != self.asked && !self.is_entrance(uri.path())
    }

    /// Whether a page is one that GitLab sends those to whom it doesn't know, or doesn't let go on yet: Devise's routes
    /// (`config/routes/user.rb`), terms, a second factor, a new password, a group's single sign-on.
    fn is_entrance(&self, path: &str) -> bool {
        const ENTRANCES: [&str; 6] = [
            "/users/",
            "/-/users/",
            "/-/profile/",
            "/profile/",
            "/-/user_settings/",
            "/-/identity_verification",
        ];
        let below = path.strip_prefix(self.root).unwrap_or(path);
        ENTRANCES.iter().any(|entrance| below.starts_with(entrance)) || below.contains("/-/saml")
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT)
}

/// What a POST means by its method (`Rack::MethodOverride`, part of every Rails application).
#[derive(Debug, PartialEq, Eq)]
enum OverriddenMethod {
    /// What it says.
    Plainly,
    /// Another method.
    As(Method),
    /// Perhaps another one: its form may hold `_method`, and isn't read here.
    Perhaps,
}

impl OverriddenMethod {
    fn of(method: &Method, query: &str, fields: &HeaderMap) -> Self {
        if *method != Method::POST {
            return Self::Plainly;
        }
        let named = fields.iter().find(|(name, _)| hop::read_name(name) == "x-http-method-override");
        let said = named.map(|(_, value)| value.as_bytes().to_vec());
        let said = said.or_else(|| spelling::parameter(query, "_method"));
        match said.map(|said| Method::from_bytes(said.trim_ascii().to_ascii_uppercase().as_slice())) {
            Some(Ok(other)) if other != Method::POST => Self::As(other),
            _ if holds_form(fields) => Self::Perhaps,
            _ => Self::Plainly,
        }
    }
}

/// Whether a body is one that Rack takes parameters from (`Rack::Request`, `FORM_DATA_MEDIA_TYPES`); without a type it is.
fn holds_form(fields: &HeaderMap) -> bool {
    let Some(kind) = fields.get(header::CONTENT_TYPE) else { return true };
    let kind = kind.as_bytes().split(|byte| matches!(byte, b';' | b',')).next().unwrap_or_default();
    let kind = kind.trim_ascii().to_ascii_lowercase();
    kind == b"application/x-www-form-urlencoded" || kind == b"multipart/form-data"
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

/// Whether a path that isn't a known write might be one in another spelling, or is one on the browser's routes.
fn may_take_away(root: &str, method: &Method, path: &str) -> bool {
    let segments = segments(path.strip_prefix(root).unwrap_or(path));
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["api", _, rest @ ..] => of_api(*method == Method::DELETE, rest),
        path => of_pages(*method == Method::DELETE, path),
    }
}

/// The segments as GitLab might read them: decoded, in lower case, without empty ones and those that lead nowhere.
fn segments(path: &str) -> Vec<String> {
    let decoded = path.split('/').map(|segment| {
        let bytes = spelling::decode(segment).unwrap_or_else(|| segment.as_bytes().to_vec());
        String::from_utf8_lossy(&bytes).to_ascii_lowercase()
    });
    let mut segments = Vec::new();
    for segment in decoded {
        match segment.as_str() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    segments
}

fn of_api(deletes: bool, segments: &[&str]) -> bool {
    // Grape cuts a format off the last segment of most routes.
    let plain = |segment: &str| segment.split('.').next().unwrap_or_default().to_owned();
    let plain: Vec<String> = segments.iter().map(|segment| plain(segment)).collect();
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    match plain.as_slice() {
        // Workhorse asks Rails this before an upload; from a client it changes nothing.
        ["jobs", _, "artifacts", "authorize", ..] => false,
        ["jobs" | "projects", _, "artifacts", ..]
        | ["projects", _, "jobs", _, "artifacts" | "erase", ..]
        | ["projects", _, "jobs", "artifacts", ..] => true,
        [
            "projects" | "groups",
            _,
            "pipelines" | "members" | "share" | "job_token_scope" | "access_tokens",
            ..,
        ]
        | ["projects" | "groups" | "users" | "personal_access_tokens", _] => deletes,
        _ => false,
    }
}

fn of_pages(deletes: bool, segments: &[&str]) -> bool {
    match segments.iter().position(|segment| *segment == "-") {
        Some(at) => match segments.get(at + 1..).unwrap_or_default() {
            ["jobs" | "builds", _, "artifacts" | "erase", ..] | ["artifacts", ..] => true,
            ["pipelines" | "project_members" | "group_members", ..] => deletes,
            _ => false,
        },
        // A project or a group itself can't be told from anything else here: their next question decides.
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::route::Route;

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
            ("POST", "/api/v4/projects/g%2Fartifacts/issues", None),
            ("POST", "/g/artifacts.git/git-upload-pack", None),
            ("POST", "/g/artifacts/-/issues", None),
            ("POST", "/jobs/1/artifacts/-/notes", None),
            ("DELETE", "/api/v4/projects/7/issues/3", None),
            // What takes rights away.
            ("DELETE", "/api/v4/projects/7/members/3", Some(Write::Broad)),
            ("DELETE", "/g/p/-/pipelines/7", Some(Write::Broad)),
            ("DELETE", "/g/p", None),
            ("POST", "/users/sign_in", None),
            ("DELETE", "/api/v4/projects/7/jobs/42/../42/artifacts", Some(Write::Broad)),
            ("POST", "/api/v4/projects/7/jobs/42/artifacts/keep.json", Some(Write::Broad)),
        ] {
            assert_eq!(Write::of("", &method.parse().unwrap(), path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_refused_write_changes_nothing() {
        let places = OwnNames {
            root: "",
            asked: "/g/p/-/jobs/42/erase",
            own: [Some("gitlab.test"), None, Some("larder:8080")],
        };
        for (status, done) in
            [(204, true), (201, true), (302, false), (401, false), (409, false), (500, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Write::Job.was_done(status, Some(b"/g/p"), places), done, "{status}");
        }
        for (status, location, done) in [
            (302, "/g/p/-/jobs/42", true),
            (303, "https://gitlab.test/g/p/-/artifacts", true),
            (302, "http://larder:8080/g/p/-/jobs/42", true),
            (301, "/g/p/-/jobs/42", false),
            (307, "/g/p/-/jobs/42", false),
            (302, "/users/sign_in", false),
            (302, "https://gitlab.test/users/auth/saml?x=1", false),
            (302, "/-/users/terms?redirect=%2Fg", false),
            (302, "/-/profile/two_factor_auth", false),
            (302, "/groups/g/-/saml/sso", false),
            (302, "https://gitlab.test/g/p/-/jobs/42/erase", false),
            (302, "https://sso.test/login", false),
            (302, "\u{1}", false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = Write::Broad.was_done(status, Some(location.as_bytes()), places);
            assert_eq!(found, done, "{status} {location}");
        }
        assert!(!Write::Broad.was_done(StatusCode::FOUND, None, places));
    }

    #[test]
    fn an_override_counts_as_what_it_says() {
        let job = JobId::parse("42").unwrap();
        let a7 = "/api/v4/projects/7/jobs/42/artifacts";
        let form = "application/x-www-form-urlencoded";
        for (method, target, fields, expected) in [
            (
                "POST",
                a7,
                &[("x-http-method-override", "DELETE"), ("content-type", "text/plain")][..],
                Some(Write::Archive(job)),
            ),
            ("POST", a7, &[("x-http-method-override", "delete")], Some(Write::Archive(job))),
            ("POST", a7, &[("x_http_method-override", "Delete")], Some(Write::Archive(job))),
            ("POST", &format!("{a7}?_method=delete"), &[], Some(Write::Archive(job))),
            (
                "POST",
                &format!("{a7}?a=b&%5Fmethod=%64elete"),
                &[("content-type", "text/plain")],
                Some(Write::Archive(job)),
            ),
            ("POST", "/api/v4/projects/7", &[("content-type", form)], Some(Write::Broad)),
            (
                "POST",
                "/api/v4/projects/7",
                &[("content-type", "Multipart/Form-Data; boundary=x")],
                Some(Write::Broad),
            ),
            ("POST", "/api/v4/projects/7", &[("content-type", "application/json")], None),
            (
                "POST",
                "/api/v4/jobs/42/artifacts",
                &[("content-type", "multipart/form-data")],
                Some(Write::Upload(job)),
            ),
            ("POST", "/api/v4/projects/7", &[("x-http-method-override", "DELETE")], Some(Write::Broad)),
            ("POST", "/g/p/-/pipelines/7", &[("content-type", form)], Some(Write::Broad)),
            ("POST", "/users/sign_in", &[("content-type", form)], None),
            ("POST", "/api/v4/jobs/42", &[("x-http-method-override", "PUT")], Some(Write::Job)),
            ("POST", a7, &[("x-http-method-override", "GET")], None),
            ("PATCH", "/api/v4/projects/7", &[("x-http-method-override", "DELETE")], None),
            ("GET", a7, &[("x-http-method-override", "DELETE")], None),
        ] {
            let (method, target) = (method.parse().unwrap(), target.parse().unwrap());
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.insert(*name, header::HeaderValue::from_static(value));
            }
            let line = RequestLine { method: &method, target: &target, has_body: true };
            let route = Route::of("", line).meant("", line, &map);
            let found = if let Route::Write(write) = route { Some(write) } else { None };
            assert_eq!(found, expected, "{method} {target} {fields:?}");
        }
    }
}
