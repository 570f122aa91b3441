//! The routes that GitLab doesn't have.

use gitlab_standin::{Class, Fixture, GitLab, Setup, pattern};

use super::client::{get, put};

#[tokio::test]
async fn the_mirror_shows_order_spelling_and_body() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let url = format!("{}/echo/a%2Fb//../c?q=%20&&r", gitlab.url());
    let answer = put("PROPFIND", &url, &["x-LOWER: 1", "X-a: é", "x-lower: 2"], b"hello").await;
    let text = answer.text();
    assert!(text.contains("\"target\":\"/echo/a%2Fb//../c?q=%20&&r\""), "{text}");
    assert!(text.contains("[\"x-LOWER\",\"1\"],[\"X-a\",\"é\"],[\"x-lower\",\"2\"]"), "{text}");
    assert!(text.contains("\"length\":5") && text.contains("2cf24dba5fb0a30e26e83b2ac5b9e29e"), "{text}");
    let seen = gitlab.requests_of(Class::Echo);
    assert_eq!((seen[0].method.as_str(), seen[0].header("X-LOWER")), ("PROPFIND", Some("1")));
}

#[tokio::test]
async fn bytes_repeat_and_the_sink_counts() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let answer = get(&format!("{}/bytes/1000003", gitlab.url()), &[]).await;
    assert!(answer.is_whole());
    assert_eq!(answer.body[700_000..700_100], pattern(700_000, 100));
    let sunk = put("POST", &format!("{}/sink", gitlab.url()), &[], &answer.body).await;
    assert!(sunk.text().contains("\"length\":1000003"), "{}", sunk.text());
    let counters = gitlab.counters();
    assert_eq!(
        (counters.bytes_of(Class::Bytes), counters.received_bytes[&Class::Sink]),
        (1_000_003, 1_000_003)
    );
}

#[tokio::test]
async fn the_fixture_has_known_credentials() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let fixture = Fixture::install(&gitlab, 2, 4096).unwrap();
    let url = format!("{}/api/v4/projects/group%2Fsub%2Fproject/jobs/2/artifacts", gitlab.url());
    for field in ["PRIVATE-TOKEN: glpat-demo", "JOB-TOKEN: glcbt-demo", "Cookie: _gitlab_session=demosession"]
    {
        assert_eq!(get(&url, &[field]).await.body, fixture.jobs[1].1.bytes().unwrap(), "{field}");
    }
    let counters = get(&format!("{}/standin/counters", gitlab.url()), &[]).await.text();
    assert!(counters.contains("\"job_archive\":{\"GET\":3}"), "{counters}");
}
