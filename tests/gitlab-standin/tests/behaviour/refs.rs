//! Archives and entries by ref and job name: which job is meant, and how greedy refs are.

use gitlab_standin::{
    Archive, ArtifactsAccess, Class, Etag, GitLab, JobId, JobStatus, Level, Member, PipelineId,
    PipelineStatus, ProjectId, Scope, Setup, Storage, Visibility,
};

use super::client::{Answer, ask, get};
use PipelineStatus::{Canceled, Failed, Running, Success};

struct Scene {
    gitlab: GitLab,
    project: ProjectId,
    field: String,
    token: String,
}

impl Scene {
    async fn new(storage: Storage) -> Self {
        let gitlab = GitLab::start(Setup::default().storage(storage)).await.unwrap();
        let project = gitlab.project("g/p", Visibility::Private);
        let user = gitlab.user("u");
        gitlab.member(project, user, Level::Developer);
        let field = format!("PRIVATE-TOKEN: {}", gitlab.personal_token(user, Scope::ReadApi));
        let (_, token) = gitlab.running_job(project, user);
        Self { gitlab, project, field, token }
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/api/v4/projects/g%2Fp/jobs/artifacts/{rest}", self.gitlab.url())
    }

    async fn get(&self, rest: &str) -> Answer {
        get(&self.url(rest), &[&self.field]).await
    }

    /// A finished job whose archive holds one member `id` with its id.
    fn job(&self, pipeline: PipelineId, name: &str) -> JobId {
        let job = self.gitlab.job_in(pipeline, name, JobStatus::Success);
        self.gitlab.put_archive(job, Archive::runner([Member::file("id", job.to_string())]));
        job
    }

    /// The job that is meant; 0 for 404.
    async fn resolved(&self, ref_name: &str, query: &str) -> u64 {
        let entry = self.get(&format!("{ref_name}/raw/id?{query}")).await;
        let archive = self.get(&format!("{ref_name}/download?{query}")).await;
        assert_eq!(entry.status, archive.status, "A4 and A5 mean the same job");
        match entry.status {
            404 => 0,
            _ => entry.text().parse().unwrap(),
        }
    }
}

const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };

#[tokio::test]
async fn the_last_good_pipeline_of_the_ref_is_meant_by_its_id() {
    let scene = Scene::new(LOCAL).await;
    let pipeline = |ref_name, status| scene.gitlab.pipeline(scene.project, ref_name, status);
    let first = scene.job(pipeline("main", Success), "build");
    let second_pipeline = pipeline("main", Running);
    let second = scene.job(second_pipeline, "build");
    scene.job(pipeline("main", Failed), "build");
    scene.job(pipeline("main", Canceled), "build");
    scene.job(pipeline("other", Success), "build");
    let web_ide = scene.gitlab.dangling_pipeline(scene.project, "main", Success);
    scene.job(web_ide, "build");
    assert_eq!(scene.resolved("main", "job=build").await, first.0);
    scene.gitlab.set_pipeline_status(second_pipeline, Success);
    assert_eq!(scene.resolved("main", "job=build").await, second.0);
    let retried = scene.gitlab.retry(second).unwrap();
    assert_eq!(scene.resolved("main", "job=build").await, first.0, "a retry takes the pipeline out");
    scene.gitlab.put_archive(retried, Archive::runner([Member::file("id", retried.to_string())]));
    scene.gitlab.finish_job(retried);
    scene.gitlab.set_pipeline_status(second_pipeline, Success);
    assert_eq!(scene.resolved("main", "job=build").await, retried.0);
    scene.gitlab.delete_pipeline(second_pipeline);
    assert_eq!(scene.resolved("main", "job=build").await, first.0);
    let missing = scene.get("nowhere/download?job=build").await;
    assert_eq!((missing.status, missing.text().as_str()), (404, "{\"message\":\"404 Not found\"}"));
    let sha = scene.gitlab.sha_of(scene.gitlab.pipeline_of(first).unwrap()).unwrap();
    assert_eq!(scene.resolved(&sha, "job=build").await, 0, "the API takes no commit");
    assert_eq!(scene.resolved("HEAD", "job=build").await, 0);
}

#[tokio::test]
async fn children_are_searched_and_reports_count() {
    let scene = Scene::new(LOCAL).await;
    let parent = scene.gitlab.pipeline(scene.project, "main", Success);
    let child = scene.gitlab.child_pipeline(parent, Failed);
    let grandchild = scene.gitlab.child_pipeline(child, Success);
    let deep = scene.job(grandchild, "deep");
    let below = scene.job(child, "both");
    assert_eq!(scene.resolved("main", "job=deep").await, deep.0);
    assert_eq!(scene.resolved("main", "job=both").await, below.0);
    let above = scene.job(parent, "both");
    assert_eq!(scene.resolved("main", "job=both").await, above.0, "the lower pipeline id comes first");
    scene.gitlab.report_only(above);
    let picked = scene.get("main/download?job=both").await;
    assert_eq!((picked.status, picked.text().as_str()), (404, "{\"message\":\"404 Not Found\"}"));
    let failed = scene.gitlab.job_in(parent, "lint", JobStatus::Failed);
    scene.gitlab.set_allow_failure(failed, true);
    assert_eq!(scene.resolved("main", "job=lint").await, 0);
    scene.gitlab.put_archive(failed, Archive::runner([Member::file("id", failed.to_string())]));
    assert_eq!(scene.resolved("main", "job=lint").await, failed.0, "its own status isn't tested");
}

#[tokio::test]
async fn older_pipelines_count_only_when_asked_for() {
    let scene = Scene::new(LOCAL).await;
    let old = scene.job(scene.gitlab.pipeline(scene.project, "main", Success), "rare");
    for _ in 0..99 {
        scene.gitlab.pipeline(scene.project, "main", Success);
    }
    let recent = "job=rare&search_recent_successful_pipelines=true";
    assert_eq!(scene.resolved("main", "job=rare").await, 0);
    assert_eq!(scene.resolved("main", recent).await, old.0);
    scene.gitlab.pipeline(scene.project, "main", Success);
    assert_eq!(scene.resolved("main", recent).await, 0, "it is the 101st now");
}

#[tokio::test]
async fn a_lone_job_is_build_on_main_and_its_pipeline_follows_it() {
    let scene = Scene::new(LOCAL).await;
    let job = scene.gitlab.job(scene.project, JobStatus::Running);
    scene.gitlab.put_archive(job, Archive::runner([Member::file("id", job.to_string())]));
    assert_eq!(scene.resolved("main", "job=build").await, 0);
    scene.gitlab.finish_job(job);
    assert_eq!(scene.resolved("main", "job=build").await, job.0);
    scene.gitlab.set_status(job, JobStatus::Failed);
    assert_eq!(scene.resolved("main", "job=build").await, 0);
}

#[tokio::test]
async fn refs_may_have_slashes_and_take_all_they_can() {
    let scene = Scene::new(LOCAL).await;
    for (ref_name, content) in [("a/b", "a/b"), ("main/raw/x", "deeper"), ("main", "main")] {
        let pipeline = scene.gitlab.pipeline(scene.project, ref_name, Success);
        let job = scene.gitlab.job_in(pipeline, "build", JobStatus::Success);
        scene.gitlab.put_archive(
            job,
            Archive::runner([Member::file("y", content), Member::file("x/raw/y", "shadowed")]),
        );
    }
    let cases = [
        ("a/b/raw/y?job=build", 200, "a/b"),
        ("a%2Fb/raw/y?job=build", 200, "a/b"),
        ("main/raw/y?job=build", 200, "main"),
        ("main/raw/x/raw/y?job=build", 200, "deeper"),
        ("main/raw/x%2Fraw%2Fy?job=build", 200, "shadowed"),
        ("main/raw/y?job=", 404, "{\"message\":\"404 Not found\"}"),
        ("main/raw/y", 400, "{\"error\":\"job is missing\"}"),
        ("main/download", 400, "{\"error\":\"job is missing\"}"),
        (
            "main/raw/y?job=build&search_recent_successful_pipelines=2",
            400,
            "{\"error\":\"search_recent_successful_pipelines is invalid\"}",
        ),
        ("main/raw/a%00?job=build", 400, "{\"message\":\"400 Bad request\"}"),
        ("main/raw/a%ff?job=build", 400, "{\"message\":\"400 Bad request\"}"),
        ("main/raw/nothing?job=build", 404, "404 page not found\n"),
    ];
    for (rest, status, body) in cases {
        let answer = scene.get(rest).await;
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{rest}");
    }
    let archive = scene.get("main/raw/x/download?job=build").await;
    assert_eq!(archive.header("content-type"), Some("application/octet-stream"), "an archive of main/raw/x");
    assert_eq!(scene.get("main/raw/dir/download?job=build").await.status, 404, "no such ref");
    assert_eq!(scene.gitlab.requests_of(Class::RefArchive).len(), 3);
    assert_eq!(scene.gitlab.requests_of(Class::RefEntry).len(), 11);
    let counters = scene.gitlab.counters();
    assert!(counters.bytes_of(Class::RefArchive) > 0);
    assert_eq!(
        counters.artifact_bytes(),
        counters.bytes_of(Class::RefArchive) + counters.bytes_of(Class::RefEntry)
    );
}

#[tokio::test]
async fn access_credentials_and_old_paths_are_those_of_archives_by_job() {
    let scene = Scene::new(LOCAL).await;
    let job = scene.job(scene.gitlab.pipeline(scene.project, "main", Success), "build");
    let url = scene.url("main/download?job=build");
    let cases = [
        ("", 404),
        ("PRIVATE-TOKEN: wrong", 401),
        (&format!("JOB-TOKEN: {}", scene.token), 200),
        (&format!("Authorization: Bearer {}", scene.token), 200),
        (&scene.field, 200),
    ];
    for (field, status) in cases {
        let lines: &[&str] = if field.is_empty() { &[] } else { &[field] };
        assert_eq!(get(&url, lines).await.status, status, "{field}");
    }
    assert_eq!(get(&format!("{url}&job_token={}", scene.token), &[]).await.status, 200);
    scene.gitlab.set_access(job, ArtifactsAccess::Maintainer);
    assert_eq!(scene.get("main/download?job=build").await.status, 403);
    assert_eq!(scene.get("main/raw/id?job=build").await.status, 403);
    scene.gitlab.move_project(scene.project, "new/home");
    let moved = scene.get("main/raw/id?job=build").await;
    let location = "http://gitlab.test/api/v4/projects/1/jobs/artifacts/main/raw/id?job=build";
    assert_eq!((moved.status, moved.header("location")), (301, Some(location)));
    assert_eq!(ask("HEAD", &url, &[&scene.field]).await.status, 405);
}

#[tokio::test]
async fn storage_modes_and_tags_are_those_of_archives_by_job() {
    let scene = Scene::new(LOCAL).await;
    let job = scene.job(scene.gitlab.pipeline(scene.project, "main", Success), "build");
    let by_job = scene.gitlab.archive_url(job);
    for (one, other) in [("main/download?job=build", ""), ("main/raw/id?job=build", "/id")] {
        let by_job = get(&format!("{by_job}{other}"), &[&scene.field]).await;
        let by_ref = scene.get(one).await;
        assert!(by_ref.is_whole() && by_ref.body == by_job.body);
        let tag = by_ref.header("etag").unwrap();
        assert_eq!(Some(tag), by_job.header("etag"));
        let known = format!("If-None-Match: {tag}");
        assert_eq!(get(&scene.url(one), &[&scene.field, &known]).await.status, 304);
        let head = ask("HEAD", &scene.url(one), &[&scene.field]).await;
        assert_eq!((head.status, head.header("content-length")), (200, by_ref.header("content-length")));
    }
    scene.gitlab.set_storage(Storage::Redirect { job_id_in_path: false });
    let found = scene.get("main/download?job=build").await;
    assert_eq!(found.status, 302);
    assert_eq!(get(found.header("location").unwrap(), &[]).await.status, 200);
    assert_eq!(scene.get("main/raw/id?job=build").await.status, 200, "entries are never redirected");
    scene.gitlab.lose_object(job);
    assert_eq!(scene.get("main/raw/id?job=build").await.text(), "404 page not found\n");
    scene.gitlab.set_storage(Storage::Proxied { etag: Etag::Weak });
    assert_eq!(scene.get("main/download?job=build").await.status, 404);
}

#[tokio::test]
async fn expiry_stops_entries_by_job_alone_unless_the_pipeline_is_locked() {
    let scene = Scene::new(LOCAL).await;
    let pipeline = scene.gitlab.pipeline(scene.project, "main", Success);
    let job = scene.job(pipeline, "build");
    scene.gitlab.expire(job);
    let by_job = scene.gitlab.archive_url(job);
    let token = format!("JOB-TOKEN: {}", scene.token);
    let status = async |url: &str| get(url, &[&token]).await.status;
    assert_eq!(status(&by_job).await, 200);
    assert_eq!(status(&scene.gitlab.runner_url(job)).await, 200);
    assert_eq!(status(&scene.url("main/download?job=build")).await, 200);
    assert_eq!(status(&scene.url("main/raw/id?job=build")).await, 200);
    assert_eq!(status(&format!("{by_job}/id")).await, 404);
    assert_eq!(status(&format!("{by_job}/tree")).await, 404);
    scene.gitlab.lock_pipeline(pipeline, true);
    assert_eq!(status(&format!("{by_job}/id")).await, 200);
    assert_eq!(status(&format!("{by_job}/tree")).await, 200);
}
