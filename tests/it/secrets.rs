//! The program itself, at its most talkative: no credential gets into a log line, a metric, a file or the object store.

mod program;

use std::fs;
use std::path::Path;
use std::time::Duration;

use gitlab_standin::{
    Archive, Class, GitLab, JobId, JobStatus, Level, Listening, Scope, Server, Setup, Storage, Visibility,
};
use http::Method;

use crate::support::{get, open, send};
use program::Program;

/// Text that occurs nowhere by chance.
fn unique(serial: &mut u64) -> String {
    *serial += 1;
    let mixed = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ 0x5bd1_e995_0bad_cafe;
    format!("S{mixed:016x}{:016x}", mixed.wrapping_mul(0xff51_afd7_ed55_8ccd))
}

/// A way of passing a secret: a field (its value around the secret) or a pair of the query.
#[derive(Debug, Clone, Copy)]
enum Form {
    Field(&'static str, &'static str),
    Pair(&'static str),
}

const FORMS: [Form; 18] = [
    Form::Field("private-token", ""),
    Form::Field("job-token", ""),
    Form::Field("authorization", "Bearer "),
    Form::Field("authorization", "Basic "),
    Form::Field("authorization", "Unknown "),
    Form::Field("cookie", "_gitlab_session="),
    Form::Field("cookie", "theme=x; remember_user_token="),
    Form::Field("deploy-token", ""),
    Form::Field("runner-token", ""),
    Form::Field("dpop", ""),
    Form::Field("x-gitlab-static-object-token", ""),
    Form::Field("x-future-credential", ""),
    Form::Field("proxy-authorization", "Basic "),
    Form::Pair("private_token"),
    Form::Pair("access_token"),
    Form::Pair("job_token"),
    Form::Pair("token"),
    Form::Pair("an_unknown_key"),
];

impl Form {
    fn apply(self, url: &str, secret: &str) -> (String, Vec<(&'static str, String)>) {
        match self {
            Self::Field(name, before) => (url.to_owned(), vec![(name, format!("{before}{secret}"))]),
            Self::Pair(key) => {
                let mark = if url.contains('?') { '&' } else { '?' };
                (format!("{url}{mark}{key}={secret}"), Vec::new())
            }
        }
    }
}

/// A GitLab before an object store, with everything passed to it remembered.
struct Scene {
    gitlab: GitLab,
    program: Program,
    job: JobId,
    archive: Archive,
    serial: u64,
    secrets: Vec<String>,
}

impl Scene {
    async fn start() -> Self {
        let setup = Setup::default().storage(Storage::Redirect { job_id_in_path: false }).set_cookie(true);
        let gitlab = GitLab::start(setup).await.unwrap();
        let project = gitlab.project("group/project", Visibility::Private);
        let job = gitlab.job(project, JobStatus::Success);
        let archive = Archive::sized(50_000).unwrap();
        gitlab.put_archive(job, archive.clone());
        let program = Program::start(&gitlab).await;
        Self { gitlab, program, job, archive, serial: 0, secrets: Vec::new() }
    }

    /// A secret that is good in every form, if `good`.
    fn secret(&mut self, good: bool) -> String {
        let secret = unique(&mut self.serial);
        if good {
            let project = gitlab_standin::ProjectId(1);
            let user = self.gitlab.user(&format!("user{}", self.serial));
            self.gitlab.member(project, user, Level::Maintainer);
            self.gitlab.put_personal_token(&secret, user, Scope::Api);
            self.gitlab.put_session(&secret, user);
            let (job, own) = self.gitlab.running_job(project, user);
            self.gitlab.put_job_token(job, &secret);
            self.secrets.push(own);
        }
        self.secrets.push(secret.clone());
        secret
    }

    /// Passes a new secret in one form.
    async fn ask(&mut self, form: Form, method: Method, path: &str, good: bool) -> u16 {
        let secret = self.secret(good);
        let (url, fields) = form.apply(&format!("{}{path}", self.program.url()), &secret);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        send(method, &url, &fields).await.status.as_u16()
    }

    fn paths(&self) -> [String; 5] {
        let (job, missing) = (self.job, self.job.0 + 999);
        [
            format!("/api/v4/projects/1/jobs/{job}/artifacts"),
            format!("/api/v4/projects/group%2Fproject/jobs/{missing}/artifacts"),
            format!("/api/v4/jobs/{job}/artifacts"),
            format!("/api/v4/jobs/{job}/artifacts?direct_download=true"),
            "/api/v4/user".to_owned(),
        ]
    }

    /// Every form on every route, good and bad.
    async fn everything(&mut self) -> [usize; 2] {
        let mut answers = [0, 0];
        for form in FORMS {
            for path in self.paths() {
                for good in [true, false] {
                    let status = self.ask(form, Method::GET, &path, good).await;
                    answers[usize::from(status >= 400)] += 1;
                }
            }
            let path = self.paths()[0].clone();
            self.ask(form, Method::HEAD, &path, true).await;
            self.ask(form, Method::POST, &format!("{path}/keep"), true).await;
            self.ask(form, Method::PUT, "/api/v4/jobs/1", false).await;
        }
        answers
    }

    /// Forgets the archive, as a deletion through larder does.
    async fn delete(&mut self) {
        let path = self.paths()[0].clone();
        assert_eq!(self.ask(FORMS[0], Method::DELETE, &path, true).await, 204);
        self.gitlab.put_archive(self.job, self.archive.clone());
    }

    /// What went wrong is told with more words than what went well.
    async fn everything_goes_wrong(&mut self) {
        self.delete().await;
        for (server, listening) in [
            (Server::Store, Listening::Refuse),
            (Server::Store, Listening::Slam),
            (Server::Gitlab, Listening::Slam),
            (Server::Gitlab, Listening::Refuse),
        ] {
            self.gitlab.set_listening(server, listening).unwrap();
            self.everything().await;
            self.gitlab.set_listening(server, Listening::Open).unwrap();
        }
        self.gitlab.set_link_lifetime(Duration::ZERO);
        self.everything().await;
        self.gitlab.set_link_lifetime(Duration::from_secs(600));
        let broken =
            format!("GET /{} HTTP/1.1\r\nprivate-token {}\r\n\r\n", self.secret(false), self.secret(false));
        self.program.send_raw(broken.as_bytes()).await;
        let absolute = format!("http://{}/x", self.secret(false));
        let fields = [("host", self.secret(false))];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        drop(open(Method::GET, &format!("{}/{absolute}", self.program.url()), &fields, "").await);
    }
}

/// All files below a directory but the one that is there to hold a secret.
fn files(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else if entry.file_name().is_some_and(|name| name != "admin.token") {
            let content = fs::read(&entry).unwrap();
            found.push((entry.display().to_string(), String::from_utf8_lossy(&content).into_owned()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_is_logged_counted_stored_or_sent_on() {
    let mut scene = Scene::start().await;
    let [yes, no] = scene.everything().await;
    assert!(yes > FORMS.len() && no > FORMS.len(), "both happened: {yes} {no}");
    scene.everything_goes_wrong().await;
    scene.delete().await;
    let path = scene.paths()[0].clone();
    for expected in [200, 200] {
        assert_eq!(scene.ask(Form::Pair("private_token"), Method::GET, &path, true).await, expected);
    }

    let objects = scene.gitlab.requests_of(Class::Object);
    let signed = |target: &str| target.split("X-Amz-Signature=").nth(1).unwrap_or_default().to_owned();
    let signatures: Vec<String> = objects.iter().map(|seen| signed(&seen.target)).collect();
    assert!(signatures.len() > 2 && signatures.iter().all(|signature| signature.len() == 64));
    assert_eq!(scene.gitlab.counters().stray_credentials, 0);
    for secret in &scene.secrets {
        assert!(!objects.iter().any(|seen| seen.carries(secret)), "{secret} went to the object store");
    }

    let metrics = get(&format!("http://{}/metrics", scene.program.admin()), &[]).await;
    assert_eq!(metrics.status, 200);
    let token = fs::read_to_string(scene.program.dir().join("admin.token")).unwrap();
    let (log, dir) = scene.program.end().await;
    let mut places = files(dir.path());
    for end in [".zip", ".rec"] {
        assert!(places.iter().any(|(name, _)| name.ends_with(end)), "something was stored");
    }
    places.push(("the log".to_owned(), log.clone()));
    places.push(("the metrics".to_owned(), String::from_utf8_lossy(&metrics.body).into_owned()));
    assert!(
        log.lines().filter(|line| line.contains("\"message\":\"request\"")).count() > 500,
        "one line a request"
    );

    let fixed = ["X-Amz-", "AKIASTANDIN", token.trim()].map(str::to_owned);
    let wanted: Vec<&String> = scene.secrets.iter().chain(&signatures).chain(&fixed).collect();
    for (name, content) in &places {
        if let Some(secret) = wanted.iter().find(|secret| content.contains(secret.as_str())) {
            let line = content.lines().find(|line| line.contains(secret.as_str())).unwrap_or_default();
            panic!("{secret} is in {name}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_logged_is_found_where_secrets_are_looked_for() {
    let scene = Scene::start().await;
    let url = format!("{}{}", scene.program.url(), scene.paths()[0]);
    let answer = get(&url, &[("x-request-id", "control-0123456789"), ("private-token", "wrong")]).await;
    assert_eq!(answer.status, 401);
    let (log, _dir) = scene.program.end().await;
    assert!(log.contains("control-0123456789"), "{log}");
}
