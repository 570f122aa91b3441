//! Addresses of projects, old and new, and who sees them.

use gitlab_standin::{Archive, GitLab, JobId, JobStatus, Level, Scope, Setup, Visibility};

use super::client::{ask, get};

async fn scene() -> (GitLab, JobId, String) {
    let gitlab = GitLab::start(Setup::default().relative_root("gitlab")).await.unwrap();
    let alice = gitlab.user("alice");
    let project = gitlab.project("Group/Sub/Project.x", Visibility::Private);
    gitlab.member(project, alice, Level::Developer);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, Archive::sized(1024).unwrap());
    let field = format!("PRIVATE-TOKEN: {}", gitlab.personal_token(alice, Scope::ReadApi));
    (gitlab, job, field)
}

fn url(gitlab: &GitLab, project: &str, job: JobId) -> String {
    format!("{}/api/v4/projects/{project}/jobs/{job}/artifacts", gitlab.url())
}

#[tokio::test]
async fn a_project_is_named_by_number_or_path_whatever_its_case() {
    let (gitlab, job, field) = scene().await;
    let other = gitlab.project("other/public", Visibility::Public);
    let cases = [
        ("1", 200, ""),
        ("Group%2FSub%2FProject.x", 200, ""),
        ("group%2fsub%2Fproject.X", 200, ""),
        ("Project.x", 404, "{\"message\":\"404 Project Not Found\"}"),
        ("-1", 404, "{\"message\":\"404 Project Not Found\"}"),
        (&other.to_string(), 404, "{\"message\":\"404 Not found\"}"),
    ];
    for (project, status, body) in cases {
        let answer = get(&url(&gitlab, project, job), &[&field]).await;
        assert_eq!(answer.status, status, "{project}");
        assert!(body.is_empty() || answer.text() == body, "{project}: {}", answer.text());
    }
    assert_eq!(
        get(&url(&gitlab, "1", JobId(999)), &[&field]).await.text(),
        "{\"message\":\"404 Not found\"}"
    );
}

#[tokio::test]
async fn a_moved_project_redirects_get_and_refuses_the_rest() {
    let (gitlab, job, field) = scene().await;
    gitlab.move_project(gitlab_standin::ProjectId(1), "new/home");
    gitlab.delete_archive(job);
    let old = format!("{}?job_token=&x=%2F", url(&gitlab, "group%2Fsub%2Fproject.x", job));
    let fields = [field.as_str(), "X-Forwarded-Host: ci.example.com", "X-Forwarded-Proto: https"];
    let answer = get(&old, &fields).await;
    let location =
        format!("https://ci.example.com/gitlab/api/v4/projects/1/jobs/{job}/artifacts?job_token=&x=%2F");
    assert_eq!((answer.status, answer.header("location")), (301, Some(location.as_str())));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(get(&old, &[&field]).await.header("location").unwrap().find("http://gitlab.test/"), Some(0));
    assert_eq!(ask("HEAD", &old, &fields).await.status, 405);
    assert_eq!(get(&old, &[]).await.status, 404, "who may not see it learns nothing");
    gitlab.project("group/sub/project.x", Visibility::Public);
    assert_eq!(
        get(&old, &fields).await.text(),
        "{\"message\":\"404 Not found\"}",
        "the path has a new owner"
    );
}

#[tokio::test]
async fn anonymous_callers_see_what_is_public() {
    let (gitlab, job, field) = scene().await;
    let project = gitlab_standin::ProjectId(1);
    let address = url(&gitlab, "1", job);
    gitlab.set_visibility(project, Visibility::Public);
    assert_eq!(get(&address, &[]).await.status, 200);
    gitlab.set_public_builds(project, false);
    assert_eq!(get(&address, &[]).await.status, 403);
    assert_eq!(get(&address, &[&field]).await.status, 200);
    gitlab.set_public_builds(project, true);
    gitlab.set_visibility(project, Visibility::Internal);
    assert_eq!(get(&address, &[]).await.status, 404);
}

#[tokio::test]
async fn the_address_list_looks_at_the_forwarded_client() {
    let (gitlab, job, field) = scene().await;
    gitlab.set_allowed_ips(gitlab_standin::ProjectId(1), Some(vec!["192.0.2.7".parse().unwrap()]));
    let address = url(&gitlab, "1", job);
    assert_eq!(get(&address, &[&field]).await.status, 404);
    let listed = [field.as_str(), "X-Forwarded-For: 192.0.2.7, 127.0.0.1"];
    assert_eq!(get(&address, &listed).await.status, 200);
}
