//! What changes artifacts: uploads, reports, deletes.

use gitlab_standin::{
    Archive, Class, GitLab, JobId, JobStatus, Level, PipelineStatus, ProjectId, Scope, Setup, UserId,
    Visibility,
};

use super::client::{Answer, ask, get, put};

struct Scene {
    gitlab: GitLab,
    project: ProjectId,
    user: UserId,
    job: JobId,
    field: String,
}

async fn scene(level: Level) -> Scene {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let (project, user) = (gitlab.project("g/p", Visibility::Private), gitlab.user("u"));
    gitlab.member(project, user, level);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, Archive::sized(1024).unwrap());
    let field = format!("PRIVATE-TOKEN: {}", gitlab.personal_token(user, Scope::Api));
    Scene { gitlab, project, user, job, field }
}

#[tokio::test]
async fn an_upload_is_readable_at_once_and_never_replaced() {
    let scene = scene(Level::Developer).await;
    let (job, token) = scene.gitlab.running_job(scene.project, scene.user);
    let field = format!("JOB-TOKEN: {token}");
    let url = format!("{}?artifact_type=archive&artifact_format=zip", scene.gitlab.runner_url(job));
    let archive = Archive::many(300).bytes().unwrap();
    let form = |content: &[u8]| {
        let head = b"--b0\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.zip\"\r\n\r\n";
        [head.as_slice(), content, b"\r\n--b0--\r\n"].concat()
    };
    let lines = [field.as_str(), "Content-Type: multipart/form-data; boundary=b0"];
    let first = put("POST", &url, &lines, &form(&archive)).await;
    assert_eq!((first.status, first.text().as_str()), (201, "201"));
    assert_eq!(scene.gitlab.archive_of(job).unwrap().bytes().unwrap(), archive);
    assert_eq!(get(&scene.gitlab.archive_url(job), &[&scene.field]).await.body, archive);
    assert_eq!(put("POST", &url, &[&field], &archive).await.status, 201, "the same, raw");
    let other = put("POST", &url, &[&field], b"other").await;
    assert!(other.status == 400 && other.text().contains("already exists"));
    assert_eq!(put("POST", &url, &["JOB-TOKEN: wrong"], b"").await.status, 403);
    let report = format!("{}/api/v4/jobs/{job}", scene.gitlab.url());
    assert_eq!(put("PUT", &report, &[&field], b"{\"state\":\"running\"}").await.status, 200);
    let ended = format!("{{\"token\":\"{token}\",\"state\":\"success\"}}");
    assert_eq!(put("PUT", &report, &[], ended.as_bytes()).await.status, 200);
    assert_eq!(put("POST", &url, &[&field], &archive).await.status, 403);
    assert!(scene.gitlab.counters().received_bytes[&Class::Upload] > 0);
}

#[tokio::test]
async fn traces_and_job_requests_are_taken() {
    let scene = scene(Level::Developer).await;
    let (job, token) = scene.gitlab.running_job(scene.project, scene.user);
    let url = format!("{}/api/v4/jobs/{job}/trace", scene.gitlab.url());
    let field = format!("JOB-TOKEN: {token}");
    let first = put("PATCH", &url, &[&field, "Content-Range: 0-3"], b"text").await;
    assert_eq!((first.status, first.header("range")), (202, Some("0-4")));
    assert_eq!(put("PATCH", &url, &[&field, "Content-Range: 9-9"], b"x").await.status, 416);
    let request = format!("{}/api/v4/jobs/request", scene.gitlab.url());
    assert_eq!(put("POST", &request, &[], b"{}").await.status, 204);
}

fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn runners_get_jobs_once_what_they_need_is_there() {
    let scene = scene(Level::Developer).await;
    scene.gitlab.put_runner("glrt-1");
    let pipeline = scene.gitlab.pipeline(scene.project, "main", PipelineStatus::Running);
    let first = scene.gitlab.pending_job(pipeline, "first", scene.user, &[]);
    let second = scene.gitlab.pending_job(pipeline, "second", scene.user, &[first]);
    let request = format!("{}/api/v4/jobs/request", scene.gitlab.url());
    let (good, bad) = (br#"{"token":"glrt-1"}"#, br#"{"token":"glrt-2"}"#);
    assert_eq!(put("POST", &request, &[], bad).await.status, 403);
    let taken = put("POST", &request, &[], good).await;
    assert_eq!((taken.status, &json(&taken)["id"]), (201, &first.0.into()));
    assert_eq!(put("POST", &request, &[], good).await.status, 204, "the other needs it");
    scene.gitlab.finish_job(first);
    let taken = put("POST", &request, &[], good).await;
    assert_eq!((taken.status, &json(&taken)["id"]), (201, &second.0.into()));
    assert_eq!(json(&taken)["dependencies"][0]["id"], first.0);
}

#[tokio::test]
async fn deletes_ask_for_roles() {
    let cases = [
        (Level::Reporter, [403, 403, 403, 403, 403, 403]),
        (Level::Developer, [200, 403, 403, 403, 403, 403]),
        (Level::Maintainer, [200, 204, 202, 201, 403, 403]),
        (Level::Owner, [200, 204, 202, 201, 204, 202]),
    ];
    for (level, expected) in cases {
        let Scene { gitlab, project, job, field, .. } = scene(level).await;
        let archive = gitlab.archive_url(job);
        let root = format!("{}/api/v4/projects/{project}", gitlab.url());
        let pipeline = gitlab.pipeline_of(job).unwrap();
        let requests = [
            ("POST", format!("{archive}/keep")),
            ("DELETE", archive.clone()),
            ("DELETE", format!("{root}/artifacts")),
            ("POST", format!("{root}/jobs/{job}/erase")),
            ("DELETE", format!("{root}/pipelines/{pipeline}")),
            ("DELETE", root.clone()),
        ];
        for ((method, url), status) in requests.iter().zip(expected) {
            assert_eq!(ask(method, url, &[]).await.status, 401, "{method} {url} anonymously");
            assert_eq!(ask(method, url, &[&field]).await.status, status, "{level:?} {method} {url}");
        }
    }
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_what_is_locked_stays() {
    let Scene { gitlab, project, user, job, field } = scene(Level::Maintainer).await;
    let archive = gitlab.archive_url(job);
    let all = format!("{}/api/v4/projects/{project}/artifacts", gitlab.url());
    gitlab.set_refreshing(project, true);
    assert_eq!(ask("DELETE", &archive, &[&field]).await.status, 409);
    assert_eq!(ask("DELETE", &all, &[&field]).await.status, 409);
    gitlab.set_refreshing(project, false);
    gitlab.set_locked(job, true);
    let accepted = ask("DELETE", &all, &[&field]).await;
    assert_eq!((accepted.status, accepted.text().as_str()), (202, "{\"message\":\"202 Accepted\"}"));
    assert_eq!(get(&archive, &[&field]).await.status, 200);
    assert_eq!(ask("DELETE", &archive, &[&field]).await.status, 204);
    assert_eq!(get(&archive, &[&field]).await.text(), "{\"message\":\"404 Not Found\"}");
    let (running, _) = gitlab.running_job(project, user);
    let erase = format!("{}/api/v4/projects/{project}/jobs/{running}/erase", gitlab.url());
    assert_eq!(ask("POST", &erase, &[&field]).await.status, 403);
    gitlab.finish_job(running);
    assert_eq!(ask("POST", &erase, &[&field]).await.status, 201);
    gitlab.delete_project(project);
    assert_eq!(get(&archive, &[&field]).await.text(), "{\"message\":\"404 Project Not Found\"}");
}
