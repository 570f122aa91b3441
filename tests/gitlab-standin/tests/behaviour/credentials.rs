//! Credentials on the routes, form by form.

use gitlab_standin::{
    Archive, ArtifactsAccess, GitLab, JobId, JobStatus, Level, RunnerAuth, Scope, Setup, Visibility,
};

use super::client::{ask, get};

struct Scene {
    gitlab: GitLab,
    job: JobId,
    pat: String,
    oauth: String,
    session: String,
    job_token: String,
    running: JobId,
    outsider: String,
    none: String,
    revoked: String,
}

async fn scene(setup: Setup) -> Scene {
    let gitlab = GitLab::start(setup).await.unwrap();
    let (alice, eve) = (gitlab.user("alice"), gitlab.user("eve"));
    let project = gitlab.project("group/sub/project", Visibility::Private);
    gitlab.member(project, alice, Level::Developer);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, Archive::sized(2048).unwrap());
    let (running, job_token) = gitlab.running_job(project, alice);
    let revoked = gitlab.personal_token(alice, Scope::Api);
    gitlab.revoke(&revoked);
    Scene {
        job,
        pat: gitlab.personal_token(alice, Scope::ReadApi),
        oauth: gitlab.oauth_token(alice, Scope::Api),
        session: gitlab.session(alice),
        job_token,
        running,
        outsider: gitlab.personal_token(eve, Scope::Api),
        none: gitlab.personal_token(alice, Scope::None),
        revoked,
        gitlab,
    }
}

/// Query, fields (`|` between them), status by job, status for runners. `<name>` stands for that credential.
const FORMS: [(&str, &str, u16, u16); 26] = [
    ("", "", 404, 401),
    ("", "PRIVATE-TOKEN: <pat>", 200, 403),
    ("?private_token=<pat>", "", 200, 403),
    ("", "Authorization: Bearer <pat>", 200, 403),
    ("", "authorization: bearer <oauth>", 200, 403),
    ("?access_token=<oauth>", "", 200, 403),
    ("?bearer_token=<pat>", "", 200, 403),
    ("", "JOB-TOKEN: <job>", 200, 200),
    ("?job_token=<job>", "", 200, 200),
    ("?token=<job>", "", 200, 200),
    ("", "Authorization: Bearer <job>", 200, 200),
    ("", "Cookie: a=b; _gitlab_session=<session>", 200, 403),
    ("", "Cookie: _gitlab_session=stale", 404, 401),
    ("", "Authorization: Basic YTpi", 404, 401),
    ("", "PRIVATE-TOKEN: wrong", 401, 401),
    ("", "JOB-TOKEN: wrong", 401, 401),
    ("", "Authorization: Bearer wrong", 401, 401),
    ("", "PRIVATE-TOKEN: <revoked>", 401, 401),
    ("", "PRIVATE-TOKEN: <none>", 403, 403),
    ("", "PRIVATE-TOKEN: <outsider>", 404, 403),
    // A wrong one isn't saved by a good one behind it, with one exception.
    ("", "PRIVATE-TOKEN: wrong|JOB-TOKEN: <job>", 401, 401),
    ("", "Authorization: Bearer wrong|PRIVATE-TOKEN: <pat>", 200, 403),
    ("?private_token=<pat>", "PRIVATE-TOKEN: wrong", 200, 403),
    ("", "JOB-TOKEN: wrong|Cookie: _gitlab_session=<session>", 401, 401),
    // The personal field ignores job tokens: what follows decides.
    ("", "PRIVATE-TOKEN: glcbt-64_x|JOB-TOKEN: <job>", 200, 200),
    ("?access_token=<oauth>", "Authorization: Bearer <oauth>", 400, 400),
];

impl Scene {
    fn fill(&self, template: &str) -> String {
        let names = [
            ("<pat>", &self.pat),
            ("<oauth>", &self.oauth),
            ("<job>", &self.job_token),
            ("<session>", &self.session),
            ("<outsider>", &self.outsider),
            ("<none>", &self.none),
            ("<revoked>", &self.revoked),
        ];
        names.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

#[tokio::test]
async fn every_form_is_read_in_gitlab_s_order() {
    let scene = scene(Setup::default()).await;
    for (query, fields, by_job, for_runner) in FORMS {
        let (query, filled) = (scene.fill(query), scene.fill(fields));
        let lines: Vec<&str> = filled.split('|').filter(|line| !line.is_empty()).collect();
        for (url, status) in
            [(scene.gitlab.archive_url(scene.job), by_job), (scene.gitlab.runner_url(scene.job), for_runner)]
        {
            let answer = get(&format!("{url}{query}"), &lines).await;
            assert_eq!(answer.status, status, "{url} {query} {lines:?}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_job_token_dies_with_its_job() {
    let scene = scene(Setup::default()).await;
    let field = format!("JOB-TOKEN: {}", scene.job_token);
    assert_eq!(get(&scene.gitlab.runner_url(scene.job), &[&field]).await.status, 200);
    scene.gitlab.finish_job(scene.running);
    for url in [scene.gitlab.runner_url(scene.job), scene.gitlab.archive_url(scene.job)] {
        let answer = get(&url, &[&field]).await;
        assert_eq!((answer.status, answer.text().as_str()), (401, "{\"message\":\"401 Unauthorized\"}"));
    }
}

#[tokio::test]
async fn the_runner_s_route_asks_another_question_and_changed_over_the_years() {
    let scene = scene(Setup::default()).await;
    scene.gitlab.set_access(scene.job, ArtifactsAccess::None);
    let job_field = format!("JOB-TOKEN: {}", scene.job_token);
    assert_eq!(get(&scene.gitlab.runner_url(scene.job), &[&job_field]).await.status, 200);
    assert_eq!(get(&scene.gitlab.archive_url(scene.job), &[&job_field]).await.status, 403);
    let pat_field = format!("PRIVATE-TOKEN: {}", scene.pat);
    for (auth, expected) in [(RunnerAuth::JobToken, 403), (RunnerAuth::AnyUser, 200)] {
        scene.gitlab.set_runner_auth(auth);
        assert_eq!(get(&scene.gitlab.runner_url(scene.job), &[&pat_field]).await.status, expected);
    }
    scene.gitlab.put_archive(scene.running, Archive::from_bytes("own"));
    scene.gitlab.finish_job(scene.running);
    for (auth, expected) in [(RunnerAuth::JobToken, 401), (RunnerAuth::ProducerToken, 200)] {
        scene.gitlab.set_runner_auth(auth);
        assert_eq!(get(&scene.gitlab.runner_url(scene.running), &[&job_field]).await.status, expected);
    }
}

#[tokio::test]
async fn sudo_changes_who_asks() {
    let scene = scene(Setup::default()).await;
    let admin = scene.gitlab.admin("root");
    let sudo = scene.gitlab.personal_token(admin, Scope::Sudo);
    let api = scene.gitlab.personal_token(admin, Scope::Api);
    let url = scene.gitlab.archive_url(scene.job);
    let cases = [(&sudo, "alice", 200), (&sudo, "eve", 404), (&sudo, "nobody", 404), (&api, "alice", 403)];
    for (token, name, expected) in cases {
        let field = format!("PRIVATE-TOKEN: {token}");
        assert_eq!(get(&url, &[&field, &format!("Sudo: {name}")]).await.status, expected, "{name}");
        assert_eq!(get(&format!("{url}?sudo={name}"), &[&field]).await.status, expected, "{name}");
    }
    let field = format!("PRIVATE-TOKEN: {}", scene.pat);
    assert_eq!(get(&url, &[&field, "Sudo: root"]).await.status, 403);
}

#[tokio::test]
async fn older_releases_refuse_head_to_read_api() {
    let scene = scene(Setup::default().read_api_head(false)).await;
    let field = format!("PRIVATE-TOKEN: {}", scene.pat);
    assert_eq!(ask("HEAD", &scene.gitlab.archive_url(scene.job), &[&field]).await.status, 403);
    assert_eq!(get(&scene.gitlab.archive_url(scene.job), &[&field]).await.status, 200);
}

#[tokio::test]
async fn who_am_i_and_which_version() {
    let scene = scene(Setup::default().relative_root("/gitlab/")).await;
    let field = format!("PRIVATE-TOKEN: {}", scene.pat);
    for path in ["user", "version"] {
        let url = format!("{}/api/v4/{path}", scene.gitlab.url());
        assert_eq!(get(&url, &[]).await.status, 401);
        assert_eq!(get(&url, &[&field]).await.status, 200);
    }
    let outside = scene.gitlab.url().replace("/gitlab", "/api/v4/version");
    let answer = get(&outside, &[&field]).await;
    assert_eq!((answer.status, answer.text().as_str()), (404, "{\"error\":\"404 Not Found\"}"));
}
