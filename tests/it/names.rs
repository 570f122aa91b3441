//! GitLab under larder's name: redirects, pages, cookies, and signing in by a form.

use gitlab_standin::{GitLab, Setup};

use crate::raw::{self, request};
use crate::script::Script;
use crate::support::Larder;

#[tokio::test]
async fn what_names_gitlab_in_an_answer_names_larder() {
    let script = Script::start().await;
    let gitlab = script.address();
    let (mut client, mut wire) = script.sent(&request("GET", b"/x", &[], b"")).await;
    assert_eq!(wire.request().await.field("host"), Some(&*gitlab.to_string()));
    let answer = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{gitlab}/users/sign_in?a=b\r\n\
        Link: <http://{gitlab}/p?page=2>; rel=\"next\", <http://other.test/>; rel=\"x\"\r\n\
        Set-Cookie: a=1; domain=127.0.0.1; HttpOnly\r\nSet-Cookie: b=2; path=/\r\n\
        Refresh: 0; url=https://{gitlab}/y\r\nGitlab-Workhorse-Send-Data: send-url:x\r\nX-Accel-Buffering: no\r\n\
        Content-Length: 0\r\n\r\n"
    );
    wire.send(answer.as_bytes()).await;
    let got = client.answer(false).await;
    assert_eq!(got.field("location"), Some("http://larder.test/users/sign_in?a=b"));
    let link = "<http://larder.test/p?page=2>; rel=\"next\", <http://other.test/>; rel=\"x\"";
    assert_eq!(got.field("link"), Some(link));
    assert_eq!(got.field("refresh"), Some("0; url=http://larder.test/y"));
    let cookies = got.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    assert_eq!(cookies.map(|(_, value)| &**value).collect::<Vec<_>>(), ["a=1; HttpOnly", "b=2; path=/"]);
    assert_eq!((got.field("gitlab-workhorse-send-data"), got.field("x-accel-buffering")), (None, None));
}

#[tokio::test]
async fn what_names_gitlabs_external_url_names_larder() {
    let script = Script::with(|config| {
        config.upstream.external_url = Some("https://gitlab.public.test".parse().unwrap());
    })
    .await;
    let gitlab = script.address();
    for place in ["https://gitlab.public.test", &format!("http://{gitlab}")] {
        let ask = request("GET", b"/api/v4/projects/old%2Fname/jobs/1/artifacts", &[], b"");
        let (mut client, mut wire) = script.sent(&ask).await;
        wire.request().await;
        let answer = format!(
            "HTTP/1.1 301 Moved Permanently\r\nLocation: {place}/api/v4/projects/7/jobs/1/artifacts\r\n\
            Link: <{place}/p?page=2>; rel=\"next\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        wire.send(answer.as_bytes()).await;
        // What a fill can't follow goes to GitLab once more, as the client's own.
        let got = tokio::select! {
            got = client.answer(false) => got,
            () = async {
                let (mut wire, _) = script.request().await;
                wire.send(answer.as_bytes()).await;
                std::future::pending::<()>().await;
            } => unreachable!(),
        };
        assert_eq!(got.field("location"), Some("http://larder.test/api/v4/projects/7/jobs/1/artifacts"));
        assert_eq!(got.field("link"), Some("<http://larder.test/p?page=2>; rel=\"next\""));
    }
}

#[tokio::test]
async fn a_moved_project_is_found_at_larder() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    let location = format!("http://{}/api/v4/projects/7/jobs/1/artifacts", gitlab.address());
    gitlab.fault(gitlab_standin::Fault::new(gitlab_standin::Effect::Redirect { status: 301, location }));
    let ask = request("GET", b"/api/v4/projects/old%2Fname/jobs/1/artifacts", &[], b"");
    let answer = raw::exchange(larder.address, &ask).await;
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.field("location"), Some("http://larder.test/api/v4/projects/7/jobs/1/artifacts"));
}

/// What Rails compares a form's `Origin` with, made as it makes it: `ActionDispatch::Request#base_url`.
fn base_url(asked: &raw::Answer) -> String {
    let last = |name| asked.field(name).and_then(|value| value.rsplit(", ").next());
    let scheme =
        if asked.field("x-forwarded-ssl") == Some("on") { Some("https") } else { last("x-forwarded-proto") };
    format!("{}://{}", scheme.unwrap(), last("x-forwarded-host").or(asked.field("host")).unwrap())
}

#[tokio::test]
async fn a_form_from_larders_own_page_is_believed_and_one_from_elsewhere_is_not() {
    let plain = Script::start().await;
    let trusting =
        Script::with(|config| config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let outer: [&[u8]; 2] = [b"X-Forwarded-Proto: https", b"X-Forwarded-Host: larder.test"];
    for (script, lines, origin, believed) in [
        (&plain, &[][..], "http://larder.test", true),
        (&plain, &[], "http://evil.test", false),
        (&plain, &[], "https://larder.test", false),
        (&plain, &outer, "https://larder.test", false),
        (&trusting, &outer, "https://larder.test", true),
        (&trusting, &outer, "http://larder.test", false),
    ] {
        let origin = format!("Origin: {origin}");
        let mut lines = lines.to_vec();
        lines.extend([origin.as_bytes(), b"Content-Length: 3", b"Cookie: _gitlab_session=s"]);
        let (mut client, mut gitlab) = script.sent(&request("POST", b"/users/sign_in", &lines, b"a=b")).await;
        let asked = gitlab.request().await;
        let base = base_url(&asked);
        assert_eq!(asked.field("origin") == Some(&base), believed, "{origin} {base}");
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: {base}/dashboard\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        gitlab.send(answer.as_bytes()).await;
        assert_eq!(client.answer(false).await.field("location"), Some(&*format!("{base}/dashboard")));
    }
}
