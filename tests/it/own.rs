//! Answers that larder makes itself.

use std::sync::Arc;

use larder::config::Config;
use tokio::net::{TcpListener, TcpStream};

use crate::raw::{self, request};
use crate::support::Larder;

/// A larder before a GitLab that is down.
async fn alone() -> Larder {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), |_: &mut Config| ()).await
}

#[tokio::test]
async fn a_browser_gets_a_page_and_a_program_what_gitlab_would_say() {
    let larder = alone().await;
    let html: &[u8] = b"Accept: text/html,application/xhtml+xml,*/*;q=0.8";
    for (target, lines, page) in [
        ("/users/sign_in", &[html][..], true),
        ("/users/sign_in", &[], false),
        ("/api/v4/projects", &[html], false),
        ("/group/project/-/jobs/1/artifacts/download", &[html], true),
        ("/api/v4/projects/1/jobs/1/artifacts", &[html], false),
    ] {
        let answer = raw::exchange(larder.address, &request("GET", target.as_bytes(), lines, b"")).await;
        assert_eq!(answer.status(), 502, "{target}");
        assert_eq!(answer.field("proxy-status"), Some("larder; error=connection_refused"), "{target}");
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{target}");
        let text = String::from_utf8(answer.body.clone()).unwrap();
        if page {
            assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"), "{target}");
            assert!(text.contains("<h1>502 Bad Gateway</h1>"), "{text}");
        } else {
            let message = "502 Bad Gateway - GitLab refuses connections";
            assert_eq!(answer.json(), serde_json::json!({ "message": message }), "{target}");
        }
        let head = raw::exchange(larder.address, &request("HEAD", target.as_bytes(), lines, b"")).await;
        assert_eq!(head.field("content-length"), Some(&*text.len().to_string()), "{target}");
    }
}

#[tokio::test]
async fn a_larder_that_leads_to_itself_says_so_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let larder = Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), |_: &mut Config| ()).await;
    let address = larder.address;
    let relaying = tokio::spawn(async move {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(address).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    for target in ["/x", "/api/v4/projects/1/jobs/1/artifacts", "/api/v4/projects/1/jobs/1/artifacts/a.txt"] {
        let answer = raw::exchange(address, &request("GET", target.as_bytes(), &[], b"")).await;
        assert_eq!(answer.status(), 508, "{target}");
        assert_eq!(answer.field("proxy-status"), Some("larder; error=proxy_loop_detected"), "{target}");
    }
    let post = request("POST", b"/x", &[b"Content-Length: 2"], b"{}");
    assert_eq!(raw::exchange(address, &post).await.status(), 508);
    relaying.abort();
}
