//! What files are called, by route.

use gitlab_standin::{
    Archive, Attachments, Class, Effect, Fault, GitLab, JobId, JobStatus, Level, Member, PipelineStatus,
    ProjectId, Scope, Setup, Visibility,
};
use http::Method;
use larder::config::Config;

use super::asking_each_time;
use crate::support::{Larder, Reply, get, send};

const SVG: &str = "<?xml version='1.0'?><!-- drawn --><svg xmlns='http://www.w3.org/2000/svg'></svg>";
const UNKNOWN: &str = "application/octet-stream";

/// Files with names and contents that agree and that don't.
const NAMES: [&str; 17] = [
    "report.txt",
    "d/other.txt",
    "build.log",
    "page.html",
    "data.json",
    "shout.TXT",
    "Makefile",
    "image.svg",
    "image.txt",
    "text.svg",
    "image.png",
    "packed.zip",
    "empty.txt",
    "empty.css",
    "empty.svg",
    "empty.zip",
    "empty",
];

fn archive() -> Archive {
    let member = |name: &str| match name {
        "image.svg" | "image.txt" => Member::file(name, SVG),
        "image.png" => Member::stored(name, b"\x89PNG\r\n\x1a\n....".to_vec()),
        "packed.zip" => Member::stored(name, b"PK\x05\x06".to_vec()),
        _ if name.starts_with("empty") => Member::stored(name, ""),
        _ => Member::file(name, "text\n".repeat(100)),
    };
    Archive::runner(NAMES.map(member))
}

/// A job of a ref with these files, and a larder that may have its archive.
struct Files {
    gitlab: GitLab,
    larder: Larder,
    project: ProjectId,
    job: JobId,
    token: String,
    session: String,
}

impl Files {
    async fn start(setup: Setup, change: impl FnOnce(&mut Config)) -> Self {
        let gitlab = GitLab::start(setup).await.unwrap();
        let alice = gitlab.user("alice");
        let project = gitlab.project("group/project", Visibility::Private);
        gitlab.member(project, alice, Level::Maintainer);
        let pipeline = gitlab.pipeline(project, "main", PipelineStatus::Success);
        let job = gitlab.job_in(pipeline, "build", JobStatus::Success);
        gitlab.put_archive(job, archive());
        let larder = Larder::with(&gitlab, change).await;
        let (token, session) = (gitlab.personal_token(alice, Scope::Api), gitlab.session(alice));
        Self { gitlab, larder, project, job, token, session }
    }

    /// Brings the archive in, by job and by ref, without a word about any file.
    async fn warm(self) -> Self {
        let by_ref = format!("/api/v4/projects/{}/jobs/artifacts/main/download?job=build", self.project);
        let by_job = format!("/api/v4/projects/{}/jobs/{}/artifacts", self.project, self.job);
        for target in [by_job, by_ref] {
            let hit = async { while self.get(&self.larder.url(), &target).await.cache() != "larder; hit" {} };
            tokio::time::timeout(std::time::Duration::from_secs(60), hit).await.expect("it is stored");
        }
        self
    }

    /// The file on each route: by job, by ref, for a browser.
    fn targets(&self, name: &str) -> [String; 3] {
        let Self { project, job, .. } = self;
        [
            format!("/api/v4/projects/{project}/jobs/{job}/artifacts/{name}"),
            format!("/api/v4/projects/{project}/jobs/artifacts/main/raw/{name}?job=build"),
            format!("/group/project/-/jobs/{job}/artifacts/raw/{name}"),
        ]
    }

    async fn ask(&self, method: Method, at: &str, target: &str) -> Reply {
        let cookie = format!("_gitlab_session={}", self.session);
        let who =
            if target.starts_with("/api") { ("private-token", &*self.token) } else { ("cookie", &*cookie) };
        send(method, &format!("{at}{target}"), &[who]).await
    }

    async fn get(&self, at: &str, target: &str) -> Reply {
        self.ask(Method::GET, at, target).await
    }

    async fn hit(&self, target: &str) -> Reply {
        let reply = self.get(&self.larder.url(), target).await;
        assert_eq!((reply.status.as_u16(), reply.cache()), (200, "larder; hit"), "{target}");
        reply
    }

    /// Compares what a file is called here and there, and what else is said of it.
    async fn agrees(&self, method: Method, target: &str, context: &str) {
        let direct = self.ask(method.clone(), &self.gitlab.url(), target).await;
        let ours = self.ask(method, &self.larder.url(), target).await;
        assert_eq!(ours.cache(), "larder; hit", "{context}");
        assert!(ours.whole && ours.body == direct.body, "{context}");
        for name in ["content-type", "content-disposition", "content-length"] {
            assert_eq!(ours.field(name), direct.field(name), "{context}: {name}");
        }
    }

    /// The conditions of the questions about files by job since the counters were reset.
    fn questions(&self) -> Vec<Option<String>> {
        let asked = self.gitlab.requests();
        let about = asked.iter().filter(|seen| seen.class == Class::JobEntry);
        about.map(|seen| seen.header("if-none-match").map(str::to_owned)).collect()
    }
}

#[tokio::test]
async fn a_hit_before_any_miss_is_called_what_gitlab_calls_it_whatever_its_host_knows() {
    for mime_table in [true, false] {
        let setup = || Setup::default().mime_table(mime_table);
        let files = Files::start(setup(), asking_each_time).await.warm().await;
        for name in NAMES {
            for target in files.targets(name) {
                let context = format!("{target}, a table of types: {mime_table}");
                // What is heard of a HEAD holds for a GET, and then for the next one.
                for method in [Method::HEAD, Method::GET, Method::GET] {
                    files.agrees(method, &target, &context).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_file_is_opaque_by_ref_and_for_a_browser_unless_it_is_svg_or_empty() {
    let files = Files::start(Setup::default(), |_| ()).await.warm().await;
    for (name, by_extension, by_content) in [
        ("report.txt", "text/plain; charset=utf-8", UNKNOWN),
        ("page.html", "text/html; charset=utf-8", UNKNOWN),
        ("image.svg", "image/svg+xml", "image/svg+xml"),
        ("image.txt", "text/plain; charset=utf-8", "image/svg+xml"),
        ("text.svg", "image/svg+xml", UNKNOWN),
        ("empty.css", "text/css; charset=utf-8", "text/css; charset=utf-8"),
        ("empty.txt", "text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("empty", UNKNOWN, UNKNOWN),
    ] {
        let [by_job, by_ref, browsed] = files.targets(name);
        for (target, expected) in [(by_job, by_extension), (by_ref, by_content), (browsed, by_content)] {
            assert_eq!(files.hit(&target).await.field("content-type"), Some(expected), "{target}");
        }
    }
}

#[tokio::test]
async fn what_an_older_gitlab_says_of_an_extension_holds_on_the_route_where_it_said_so() {
    let setup = Setup::default().attachments(Attachments::Sniffed);
    let files = Files::start(setup, asking_each_time).await;
    // Before the archive is here: GitLab's own answer is a lesson.
    let [by_job, by_ref, browsed] = files.targets("report.txt");
    let first = files.get(&files.larder.url(), &by_ref).await;
    assert_eq!(first.field("content-type"), Some("text/plain; charset=utf-8"));
    let files = files.warm().await;
    for (name, expected) in [("d/other.txt", "text/plain; charset=utf-8"), ("image.txt", "image/svg+xml")] {
        let target = &files.targets(name)[1];
        assert_eq!(files.hit(target).await.field("content-type"), Some(expected), "{name}");
    }
    assert_eq!(files.hit(&browsed).await.field("content-type"), Some(UNKNOWN), "nothing was heard there");
    assert_eq!(files.hit(&by_job).await.field("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn one_plain_question_tells_what_an_extension_is_called() {
    for ttl in [0, 3600] {
        let change = |config: &mut Config| config.access.ttl = std::time::Duration::from_secs(ttl);
        let files = Files::start(Setup::default().mime_table(false), change).await.warm().await;
        files.gitlab.reset_counters();
        let conditions = |first: bool| if first { vec![None] } else { vec![Some(())] };
        for (name, unheard) in [
            ("page.html", false),
            ("report.txt", true),
            ("d/other.txt", false),
            ("shout.TXT", true),
            ("Makefile", false),
        ] {
            let [by_job, ..] = files.targets(name);
            let remembered = ttl > 0 && name != "page.html" && !unheard;
            files.hit(&by_job).await;
            let asked =
                files.questions().into_iter().map(|condition| condition.map(drop)).collect::<Vec<_>>();
            let expected = if remembered { vec![] } else { conditions(unheard) };
            assert_eq!(asked, expected, "{name}, ttl {ttl}");
            files.gitlab.reset_counters();
        }
    }
}

#[tokio::test]
async fn many_who_want_an_extension_that_nothing_is_known_of_ask_plainly_once() {
    let files = Files::start(Setup::default(), |_| ()).await.warm().await;
    let [by_job, ..] = files.targets("build.log");
    files.gitlab.reset_counters();
    let url = format!("{}{by_job}", files.larder.url());
    let fields = [("private-token", files.token.as_str())];
    let ask = || get(&url, &fields);
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    for reply in [a, b, c, d] {
        assert_eq!(reply.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.cache(), "larder; hit");
    }
    assert_eq!(files.questions(), [None]);
}

#[tokio::test]
async fn where_gitlab_is_down_a_remembered_yes_is_enough() {
    let files = Files::start(Setup::default(), |_| ()).await.warm().await;
    let [html, ..] = files.targets("page.html");
    files.hit(&html).await;
    let down = Fault::new(Effect::Answer { status: 502, content_type: "text/html", body: "down".into() });
    files.gitlab.fault(down.on(Class::JobEntry));
    let [text, ..] = files.targets("report.txt");
    assert_eq!(files.hit(&text).await.field("content-type"), Some(UNKNOWN));
}
