//! From a link in a mail, through the sign-in page, to the download.

use gitlab_standin::{Archive, GitLab, JobStatus, Level, Setup, Visibility};

use crate::client::{Answer, get, put};

fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap();
    format!("Cookie: {}", set.split(';').next().unwrap())
}

/// The token in the page's form.
fn token(page: &Answer) -> String {
    let text = page.text();
    let rest = text.split_once("name=\"authenticity_token\" value=\"").unwrap().1;
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_browser_signs_in_and_comes_back_to_where_it_was() {
    let gitlab = GitLab::start(Setup::default().relative_root("/gitlab").set_cookie(true)).await.unwrap();
    let project = gitlab.project("g/p", Visibility::Private);
    let user = gitlab.user("alice");
    gitlab.member(project, user, Level::Reporter);
    gitlab.set_password(user, "correct & horse");
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, Archive::sized(1024).unwrap());
    let wanted = format!("{}/artifacts/download?x=%20", gitlab.web_url(job));
    let sign_in = format!("{}/users/sign_in", gitlab.url());

    let away = get(&wanted, &[]).await;
    assert_eq!(away.header("location"), Some("http://gitlab.test/gitlab/users/sign_in"));
    assert!(away.header("set-cookie").unwrap().ends_with("; path=/gitlab; HttpOnly"));
    assert!(away.head.contains("_gitlab_visit="), "the other cookie is set as well");
    let visitor = cookie(&away);
    let page = get(&sign_in, &[&visitor]).await;
    assert!(
        page.status == 200 && page.text().contains("<form action=\"/gitlab/users/sign_in\" method=\"post\">")
    );
    assert_eq!(get(&wanted, &[&visitor]).await.status, 302, "nobody is in yet");

    let form = |password: &str, token: &str| {
        format!("authenticity_token={token}&user%5Blogin%5D=Alice&user%5Bpassword%5D={password}")
    };
    let post = async |cookie: &str, form: &str| {
        let lines = [cookie, "Content-Type: application/x-www-form-urlencoded"];
        put("POST", &sign_in, &lines, form.as_bytes()).await
    };
    let right = "correct+%26+horse";
    assert_eq!(post(&visitor, &form(right, "x")).await.status, 422);
    let failed = post(&visitor, &form("wrong", &token(&page))).await;
    assert!(failed.status == 200 && failed.text().contains("Invalid login or password."));
    let inside = post(&visitor, &form(right, &token(&page))).await;
    let back = format!("http://h/gitlab/g/p/-/jobs/{job}/artifacts/download?x=%20");
    assert_eq!((inside.status, inside.header("location")), (302, Some(back.as_str())));
    let session = cookie(&inside);
    assert_ne!(session, visitor, "the session's name changes at sign-in");
    assert_eq!(get(&wanted, &[&session]).await.body.len(), 1024);
    assert_eq!(get(&wanted, &[&visitor]).await.status, 302);
    assert_eq!(get(&sign_in, &[&session]).await.header("location"), Some("http://gitlab.test/gitlab/"));
    let home = get(&format!("{}/", gitlab.url()), &[&session]).await;
    assert!(home.text().contains("<a href=\"/gitlab/g/p/-/artifacts\">g/p</a>"), "{}", home.text());
}

#[tokio::test]
async fn users_without_a_password_cannot_sign_in() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    gitlab.user("bob");
    let sign_in = format!("{}/users/sign_in", gitlab.url());
    let page = get(&sign_in, &["X-Forwarded-Proto: https"]).await;
    assert!(page.header("set-cookie").unwrap().ends_with("; path=/; HttpOnly; secure; SameSite=None"));
    let lines = [&cookie(&page), "Content-Type: application/x-www-form-urlencoded"];
    let form = format!("authenticity_token={}&user%5Blogin%5D=bob&user%5Bpassword%5D=", token(&page));
    let answer = put("POST", &sign_in, &lines, form.as_bytes()).await;
    assert!(answer.text().contains("Invalid login or password."));
}
