//! Roles, `artifacts:access` and the job token allowlist.

use gitlab_standin::{Archive, ArtifactsAccess, GitLab, JobStatus, Level, Scope, Setup, Visibility};

use super::client::get;
use ArtifactsAccess::{All, Developer, Maintainer, None};

#[tokio::test]
async fn access_levels_decide_on_artifacts() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let project = gitlab.project("g/p", Visibility::Private);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, Archive::sized(1024).unwrap());
    let user = gitlab.user("u");
    let field = format!("PRIVATE-TOKEN: {}", gitlab.personal_token(user, Scope::Api));
    let cases = [
        (Level::Guest, true, All, 200),
        (Level::Guest, false, All, 403),
        (Level::Reporter, false, All, 200),
        (Level::Reporter, false, Developer, 403),
        (Level::Developer, false, Developer, 200),
        (Level::Developer, false, Maintainer, 403),
        (Level::Maintainer, false, Maintainer, 200),
        (Level::Maintainer, false, None, 403),
    ];
    for (level, public_builds, access, expected) in cases {
        gitlab.member(project, user, level);
        gitlab.set_public_builds(project, public_builds);
        gitlab.set_access(job, access);
        let answer = get(&gitlab.archive_url(job), &[&field]).await;
        assert_eq!(answer.status, expected, "{level:?} {public_builds} {access:?}");
    }
}

#[tokio::test]
async fn job_tokens_of_other_projects_need_the_allowlist() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let bob = gitlab.user("bob");
    let other = gitlab.project("other/p", Visibility::Private);
    let target = gitlab.project("target/p", Visibility::Private);
    gitlab.member(other, bob, Level::Developer);
    gitlab.member(target, bob, Level::Reporter);
    let job = gitlab.job(target, JobStatus::Success);
    gitlab.put_archive(job, Archive::sized(1024).unwrap());
    let (_, token) = gitlab.running_job(other, bob);
    let field = format!("JOB-TOKEN: {token}");
    let refused = get(&gitlab.archive_url(job), &[&field]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("not allowed from other/p to target/p"), "{}", refused.text());
    assert_eq!(get(&gitlab.runner_url(job), &[&field]).await.status, 200);
    gitlab.allow_job_tokens(target, other);
    assert_eq!(get(&gitlab.archive_url(job), &[&field]).await.status, 200);
}
