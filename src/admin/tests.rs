//! Answers as a table, and the listener over real sockets.

use std::sync::Arc;

use http::header::{ALLOW, AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderName, Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::answer::{AdminAnswer, answer};
use super::*;

const TOKEN: &str = "5ec2e7";

fn admin(stage: Phase) -> Admin {
    admin_with(stage, "# EOF\n")
}

fn admin_with(stage: Phase, page: &str) -> Admin {
    let page = page.to_owned();
    let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), hosts: vec!["larder.example".to_owned()] };
    let readiness = Readiness::new();
    readiness.set(stage);
    Admin::new(&settings, Token::fixed(TOKEN), readiness, Arc::new(move || page.clone()))
}

fn ask(method: Method, uri: &str, fields: &[(HeaderName, &str)]) -> AdminAnswer {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(name, *value);
    }
    answer(&request.body(()).unwrap().into_parts().0, &admin(Phase::Ready))
}

fn get(path: &str, fields: &[(HeaderName, &str)]) -> StatusCode {
    let mut all = vec![(HOST, "localhost")];
    all.extend_from_slice(fields);
    ask(Method::GET, path, &all).status
}

#[test]
fn host_must_be_ours() {
    let cases = [
        ("127.0.0.1", 200),
        ("127.0.0.1:9090", 200),
        ("[::1]", 200),
        ("[::1]:9090", 200),
        ("10.1.2.3:1", 200),
        ("localhost", 200),
        ("LocalHost:9090", 200),
        ("larder.example", 200),
        ("LARDER.example:9090", 200),
        ("evil.example", 403),
        ("larder.example.evil", 403),
        ("localhost.", 403),
        ("127.0.0.1.evil.example", 403),
        ("0x7f000001", 403),
        ("::1", 400),
        ("[::1", 400),
        ("[evil.example]", 403),
        ("[::1]x", 400),
        ("localhost:", 400),
        ("localhost:99999", 400),
        ("localhost:+1", 400),
        ("user@localhost", 403),
        ("localhost/x", 403),
        (":80", 400),
        ("", 400),
    ];
    for (host, expected) in cases {
        assert_eq!(ask(Method::GET, "/healthz", &[(HOST, host)]).status, expected, "{host:?}");
    }
    assert_eq!(ask(Method::GET, "/healthz", &[]).status, 400);
    assert_eq!(get("/healthz", &[(HOST, "localhost")]), 400);
}

#[test]
fn a_target_in_absolute_form_must_agree_with_host() {
    assert_eq!(get("http://localhost/healthz", &[]), 200);
    assert_eq!(get("http://evil.example/healthz", &[]), 400);
}

#[test]
fn origin_must_be_the_same_host() {
    let cases = [
        (&["http://localhost"][..], 200),
        (&["HTTP://localhost"], 403),
        (&["https://localhost"], 403),
        (&["http://localhost:9090"], 403),
        (&["null"], 403),
        (&[""], 403),
        (&["http://evil.example"], 403),
        (&["http://localhost", "http://localhost"], 403),
    ];
    for (origins, expected) in cases {
        let fields: Vec<_> = origins.iter().map(|origin| (ORIGIN, *origin)).collect();
        assert_eq!(get("/metrics", &fields), expected, "{origins:?}");
    }
}

#[test]
fn open_pages_are_read_only() {
    for path in ["/healthz", "/readyz", "/metrics", "/healthz?verbose"] {
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(ask(method, path, &[(HOST, "localhost")]).status, 200, "{path}");
        }
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            let answer = ask(method, path, &[(HOST, "localhost")]);
            assert_eq!(
                (answer.status, answer.field),
                (StatusCode::METHOD_NOT_ALLOWED, Some((ALLOW, "GET, HEAD")))
            );
        }
    }
}

#[test]
fn everything_else_needs_the_token() {
    let good = format!("Bearer {TOKEN}");
    let cases = [
        (vec![], 401),
        (vec![good.as_str()], 404),
        (vec!["bearer 5ec2e7"], 404),
        (vec!["Bearer  5ec2e7"], 404),
        (vec!["Bearer 5ec2e8"], 401),
        (vec!["Bearer 5ec2e"], 401),
        (vec!["Bearer 5ec2e70"], 401),
        (vec!["Bearer"], 401),
        (vec!["Bearer "], 401),
        (vec!["Basic 5ec2e7"], 401),
        (vec!["5ec2e7"], 401),
        (vec![good.as_str(), good.as_str()], 401),
    ];
    for path in ["/", "/api/v1/stats", "/healthz/", "//healthz", "/metrics/x", "*"] {
        for (values, expected) in &cases {
            let fields: Vec<_> = values.iter().map(|value| (AUTHORIZATION, *value)).collect();
            assert_eq!(get(path, &fields), *expected, "{path} {values:?}");
        }
    }
    let answer = ask(Method::POST, "/", &[(HOST, "localhost")]);
    assert_eq!(answer.field.map(|(name, _)| name), Some(WWW_AUTHENTICATE));
}

#[test]
fn readiness_follows_the_stage_and_only_moves_on() {
    for (stage, status, text) in [
        (Phase::Starting, 503, "starting\n"),
        (Phase::Ready, 200, "ready\n"),
        (Phase::Draining, 503, "draining\n"),
    ] {
        let request = Request::get("/readyz").header(HOST, "localhost").body(()).unwrap().into_parts().0;
        let answer = answer(&request, &admin(stage));
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (status, text));
    }
    let readiness = Readiness::new();
    readiness.set(Phase::Draining);
    readiness.set(Phase::Ready);
    assert_eq!(readiness.stage(), Phase::Draining);
}

#[test]
fn nothing_shows_the_token() {
    assert!(!format!("{:?}", admin(Phase::Ready)).contains(TOKEN));
}

/// A listener on a port of its own, and how to end it.
async fn start() -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
    start_with("# EOF\n").await
}

/// The same with this page of metrics.
async fn start_with(page: &str) -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, mut ended) = watch::channel(false);
    let shutdown = async move { drop(ended.wait_for(|end| *end).await) };
    (address, end, tokio::spawn(serve(listener, Arc::new(admin_with(Phase::Ready, page)), shutdown)))
}

/// Sends `text` and reads until the connection ends.
async fn talk(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn requests_are_answered_over_a_socket() {
    let (address, _end, _) = start().await;
    let text = talk(address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok\n"), "{text}");
    let text = talk(address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(
        text.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{text}"
    );
    assert!(text.contains("content-length: 6\r\n") && text.ends_with("\r\n\r\n# EOF\n"), "{text}");
    let text = talk(address, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(text.contains("content-length: 6\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    let text = talk(address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    let text =
        talk(address, "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 5ec2e7\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 404 "), "{text}");
    let text = talk(address, "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn connections_that_ask_nothing_keep_nobody_out() {
    for half in [0, 15, HEALTH.len() - 2] {
        let (said, rest) = HEALTH.split_at(half);
        let (address, _end, _) = start().await;
        let mut silent = Vec::new();
        for _ in 0..3 * serve::MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            silent.push(stream);
        }
        for _ in 0..3 {
            assert!(talk(address, HEALTH).await.starts_with("HTTP/1.1 200 "), "{said:?}");
        }
        // The last ones are still there, the first made room.
        let mut last = silent.pop().unwrap();
        last.write_all(rest.as_bytes()).await.unwrap();
        assert!(last.read(&mut [0; 12]).await.unwrap() > 0, "{said:?}");
        assert!(silent[0].read(&mut [0]).await.map_or(true, |read| read == 0), "{said:?}");
    }
}

#[tokio::test]
async fn connections_whose_answers_nobody_reads_keep_nobody_out() {
    // More than what the system takes on the way.
    let (address, _end, _) = start_with(&"x".repeat(8 << 20)).await;
    let mut unread = Vec::new();
    for _ in 0..=serve::MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(HEALTH.replace("healthz", "metrics").as_bytes()).await.unwrap();
        unread.push(stream);
    }
    assert!(talk(address, HEALTH).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn it_ends_when_told_though_a_connection_is_silent() {
    let (address, end, served) = start().await;
    let _silent = TcpStream::connect(address).await.unwrap();
    end.send(true).unwrap();
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_said_in_one_sentence() {
    let (address, _end, _) = start().await;
    let error = bind(address).await.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("admin.listen {address} is in use by another process")),
        "{error}"
    );
}
