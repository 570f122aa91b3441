//! GitLab can't be asked: which status, which words, and none of ours about the inside.

use std::fs;
use std::time::Duration;

use gitlab_standin::{Certificate, Effect, Ending, Fault, Gate, GitLab, Listening, Server, Setup};
use http::Method;
use larder::config::Config;

use crate::scene::{MODES, Scene, archive};
use crate::support::{Larder, Reply, get, open, pem};

/// A gateway's answer of larder's own that says what happened and names nothing.
fn assert_says(reply: &Reply, status: u16, error: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.field("proxy-status"), Some(&*format!("larder; error={error}")));
    assert_eq!(reply.field("content-type"), Some("application/json"));
    let told: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with(&status.to_string()), "{message}");
    let inside = message.contains("127.0.0.1") || message.contains("localhost") || message.contains(':');
    assert!(!inside && message.bytes().filter(u8::is_ascii_digit).count() == 3, "{message}");
    assert!(reply.whole && reply.body.len() < 200);
}

#[tokio::test]
async fn a_gitlab_that_does_not_answer_is_a_bad_gateway_on_every_route() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(10_000, 1)).await;
        for (listening, error) in
            [(Listening::Refuse, "connection_refused"), (Listening::Slam, "connection_terminated")]
        {
            scene.gitlab.set_listening(Server::Gitlab, listening).unwrap();
            assert_says(&scene.get().await, 502, error);
            assert_says(&get(&scene.api("/version"), &[]).await, 502, error);
            scene.gitlab.set_listening(Server::Gitlab, Listening::Open).unwrap();
        }
        assert!(scene.is_archive(&scene.get().await), "{storage:?}");
        scene.gitlab.set_listening(Server::Gitlab, Listening::Refuse).unwrap();
        let hit = scene.get().await;
        assert!(scene.is_archive(&hit) && hit.cache() == "larder; hit", "{storage:?}: within ttl");
        scene.larder.clock.advance(Duration::from_secs(61));
        assert_says(&scene.get().await, 502, "connection_refused");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_an_answer_is_a_bad_gateway() {
    let scene = Scene::start(MODES[0], archive(10_000, 2)).await;
    for ending in [Ending::Close, Ending::Reset] {
        scene.gitlab.clear_faults();
        scene.gitlab.fault(Fault::new(Effect::Drop(ending)));
        for (method, path) in [(Method::GET, "/version"), (Method::POST, "/jobs/request")] {
            let exchange = open(method, &scene.api(path), &[], "{}").await.unwrap();
            assert_says(&exchange.rest().await, 502, "connection_terminated");
        }
        assert_says(&scene.get().await, 502, "connection_terminated");
    }
}

/// Time-outs that pass while a test waits.
fn impatient(config: &mut Config) {
    config.upstream.connect_timeout = Duration::from_millis(50);
    config.upstream.read_timeout = Duration::from_millis(50);
    config.upstream.answer_timeout = Duration::from_millis(50);
    config.upstream.resume_timeout = Duration::ZERO;
}

#[tokio::test]
async fn a_gitlab_that_is_silent_is_a_gateway_time_out() {
    for storage in MODES {
        let scene = Scene::with(storage, archive(10_000, 3), impatient).await;
        let head = Gate::new();
        scene.gitlab.fault(Fault::new(Effect::Hold(head.clone())));
        assert_says(&scene.get().await, 504, "connection_read_timeout");
        assert_says(&get(&scene.api("/version"), &[]).await, 504, "connection_read_timeout");
        assert!(head.arrivals() >= 2);
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_breaks_its_answer() {
    for storage in MODES {
        let scene = Scene::with(storage, archive(500_000, 4), impatient).await;
        let body = Gate::new();
        body.release(100_000);
        scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())));
        let reply = scene.get().await;
        assert!(!reply.whole && reply.body.len() <= 100_000, "{storage:?}");
        scene.gitlab.clear_faults();
        scene.gitlab.fault(Fault::new(Effect::Slow(Gate::new())));
        let url = format!("{}/bytes/100000", scene.larder.url());
        assert!(!get(&url, &[]).await.whole, "passed through");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_gateway() {
    let scene = Scene::start(MODES[0], archive(10_000, 5)).await;
    scene.gitlab.fault(Fault::new(Effect::Garbage));
    let reply = open(Method::GET, &scene.url(), &[("private-token", &scene.token)], "").await;
    let reply = reply.expect("a head").rest().await;
    assert!(reply.status == 502 || !reply.whole, "{reply:?}");
}

#[tokio::test]
async fn a_certificate_is_believed_if_the_operator_says_so() {
    let certificate = Certificate::self_signed(&["localhost"]).unwrap();
    let setup = Setup::default().tls(vec![certificate.der.clone()], certificate.key.clone());
    let gitlab = GitLab::start(setup).await.unwrap();
    let url = gitlab.tls_url().unwrap();
    let dir = || std::sync::Arc::new(tempfile::tempdir().unwrap());
    let larder = Larder::on(&url, dir(), |_| ()).await;
    assert_says(&get(&format!("{}/echo", larder.url()), &[]).await, 502, "tls_certificate_error");

    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.pem");
    fs::write(&ca_file, pem("CERTIFICATE", &certificate.der)).unwrap();
    let larder = Larder::on(&url, dir(), |config| config.upstream.ca_file = Some(ca_file)).await;
    let reply = get(&format!("{}/bytes/1000000", larder.url()), &[]).await;
    assert!(reply.status == 200 && reply.whole && reply.body.len() == 1_000_000);

    let plain = gitlab.url().replace("http://", "https://");
    let larder = Larder::on(&plain, dir(), |_| ()).await;
    assert_says(&get(&format!("{}/echo", larder.url()), &[]).await, 502, "tls_protocol_error");
}
