//! Who is let in, who is let go, and through which doors.

use std::net::SocketAddr;
use std::time::Duration;

use gitlab_standin::{Effect, Fault, Gate, GitLab, Setup};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::base::pace::Least;
use larder::server::ListenAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::raw::{End, Wire};
use crate::scene::{MODES, Scene, archive};
use crate::support::{Larder, exchange, get};
use crate::tls::{Files, NAME, connector};

/// So much that no buffer of the kernel's holds it.
const LARGE: u64 = 64 << 20;

/// Whoever is slower for so long is let go; faster than that is nobody here who reads at all.
const LEAST: Least = Least { rate: 1000, over: Duration::from_millis(200) };

async fn strict() -> (GitLab, Larder) {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::with(&gitlab, |config| config.server.least = LEAST).await;
    (gitlab, larder)
}

const SLOW_READER: &str = "larder_connections_cut_total{why=\"slow_reader\"}";
const SLOW_BODY: &str = "larder_connections_cut_total{why=\"slow_body\"}";

#[tokio::test]
async fn an_address_has_so_many_connections_and_a_trusted_proxy_any_number() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    for trusted in [false, true] {
        let larder = Larder::with(&gitlab, |config| {
            config.server.max_connections_per_address = 2;
            if trusted {
                config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
            }
        })
        .await;
        let request = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut held = [Wire::to(larder.address).await, Wire::to(larder.address).await];
        for wire in &mut held {
            wire.send(request).await;
            assert_eq!(wire.answer(false).await.status(), 200);
        }
        if trusted {
            assert_eq!(get(&format!("{}/echo", larder.url()), &[]).await.status, 200);
            continue;
        }
        assert_eq!(Wire::to(larder.address).await.end().await, End::Reset);
        assert_eq!(larder.count("larder_connections_cut_total{why=\"address_limit\"}"), 1);
        drop(held);
        let free = async {
            while larder.metric("larder_connections") > 0.0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), free).await.unwrap();
        assert_eq!(get(&format!("{}/echo", larder.url()), &[]).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_from_a_hit_and_from_what_passes() {
    let scene = Scene::with(MODES[1], archive(LARGE, 1), |config| config.server.least = LEAST).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    let url = scene.url();
    let path = url.strip_prefix(&scene.larder.url()).unwrap();
    let hit = format!("GET {path} HTTP/1.1\r\nHost: x\r\nPrivate-Token: {}\r\n\r\n", scene.token);
    let passed = format!("GET /bytes/{LARGE} HTTP/1.1\r\nHost: x\r\n\r\n");
    for (count, request) in [hit, passed].iter().enumerate() {
        let mut stream = TcpStream::connect(scene.larder.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        scene.larder.counted(SLOW_READER, count + 1).await;
        let mut read = Vec::new();
        assert!(stream.read_to_end(&mut read).await.is_err(), "{} bytes and a clean end", read.len());
    }
    assert!(scene.is_archive(&scene.get().await), "whoever reads gets all");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_one_answer_is_let_go_by_tls_and_http2() {
    let files = Files::new();
    let root = files.make(NAME);
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::with(&gitlab, |config| {
        files.configure(config, &[NAME]);
        config.server.least = LEAST;
    })
    .await;
    let client = connector(&[root], &[b"h2"]);
    let stream = crate::tls::connect(&larder, &client, NAME).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get(format!("https://{NAME}/bytes/{LARGE}")).body(Empty::<&[u8]>::new());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    // The client reads its connection; it is this answer that it doesn't take.
    larder.counted(SLOW_READER, 1).await;
    assert!(answer.into_body().collect().await.is_err());
    assert!(connection.await.unwrap().is_err());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused_with_408() {
    let (_gitlab, larder) = strict().await;
    let heads = [
        "Content-Length: 1000",
        "Transfer-Encoding: chunked",
        // No call of gRPC comes by HTTP/1.
        "Content-Length: 1000\r\nContent-Type: application/grpc",
    ];
    for (count, head) in heads.iter().enumerate() {
        let mut wire = Wire::to(larder.address).await;
        wire.send(format!("POST /sink HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n3\r\n").as_bytes()).await;
        let answer = wire.answer(false).await;
        assert_eq!(answer.status(), 408, "{head}");
        assert_ne!(wire.end().await, End::Framed, "{head}");
        assert_eq!(larder.count(SLOW_BODY), i64::try_from(count).unwrap() + 1, "{head}");
    }
}

#[tokio::test]
async fn whoever_waits_for_gitlab_is_not_slow() {
    let (gitlab, larder) = strict().await;
    let gate = Gate::new();
    gate.release(10);
    gitlab.fault(Fault::new(Effect::Slow(gate.clone())));
    let mut wire = Wire::to(larder.address).await;
    wire.send(b"GET /bytes/100 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // Another connection is let go meanwhile: so much time has passed.
    let mut other = Wire::to(larder.address).await;
    other.send(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await;
    assert_eq!(other.answer(false).await.status(), 408);
    gate.open();
    let answer = wire.answer(false).await;
    assert_eq!((answer.status(), answer.body.len(), answer.end), (200, 100, End::Framed));
    assert_eq!(larder.count(SLOW_READER), 0);
}

#[tokio::test]
async fn every_listener_serves_and_the_file_system_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("larder.sock");
    let files = Files::new();
    let root = files.make(NAME);
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let scene = Scene::with(MODES[1], archive(3_000_000, 1), |config| {
        files.configure(config, &[NAME]);
        config.server.listen = vec![
            ListenAddress::Tcp { at: any, plain: false },
            ListenAddress::Unix(path.clone()),
            ListenAddress::Tcp { at: any, plain: true },
        ];
    })
    .await;
    let url = scene.url();
    let target = url.strip_prefix(&scene.larder.url()).unwrap();
    let token = [("private-token", scene.token.as_str())];
    let by_tls = crate::tls::get(&scene.larder, &connector(&[root], &[]), target, &token).await;
    assert!(scene.is_archive(&by_tls));
    scene.larder.stored(1).await;
    let plain = scene.larder.listening[2].tcp().unwrap();
    let by_plain = TcpStream::connect(plain).await.unwrap();
    let by_path = UnixStream::connect(&path).await.unwrap();
    let answers = [
        exchange(by_plain, Method::GET, (NAME, target), &token, "").await.unwrap(),
        exchange(by_path, Method::GET, (NAME, target), &token, "").await.unwrap(),
    ];
    for answer in answers {
        assert_eq!(answer.fields["cache-status"], "larder; hit");
        let reply = answer.rest().await;
        assert!(scene.is_archive(&reply));
    }
    let echo = UnixStream::connect(&path).await.unwrap();
    let echo = exchange(echo, Method::GET, (NAME, "/echo"), &[], "").await.unwrap().rest().await;
    assert_eq!(echo.status, StatusCode::OK);
    let told: serde_json::Value = serde_json::from_slice(&echo.body).unwrap();
    let fields = told["headers"].as_array().unwrap();
    let client = fields.iter().find(|field| field[0] == "X-Forwarded-For" || field[0] == "x-forwarded-for");
    assert_eq!(client.unwrap()[1], "127.0.0.1", "through the file system it is this machine");
    let Scene { larder, .. } = scene;
    larder.stop().await;
    assert!(!path.exists(), "it goes with larder");
}

#[tokio::test]
async fn when_all_connections_are_taken_the_quiet_ones_make_room_and_no_other() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::with(&gitlab, |config| config.server.max_connections = 4).await;
    let request = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n";
    let gate = Gate::new();
    gitlab.fault(Fault::new(Effect::Hold(gate.clone())).when(|seen| seen.target.contains("/bytes/")));
    let mut busy = Wire::to(larder.address).await;
    busy.send(b"GET /bytes/10 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut idle = Wire::to(larder.address).await;
    idle.send(request).await;
    assert_eq!(idle.answer(false).await.status(), 200);
    let mut silent = Vec::new();
    for half in 0..20 {
        let mut wire = Wire::to(larder.address).await;
        wire.send_what_is_taken(&request[..half]).await;
        silent.push(wire);
    }
    for _ in 0..5 {
        assert_eq!(get(&format!("{}/echo", larder.url()), &[]).await.status, 200);
    }
    // Those that had asked nothing went first.
    idle.send(request).await;
    assert_eq!(idle.answer(false).await.status(), 200);
    // More than there are of others: the idle one goes as well, the busy one doesn't.
    let mut more = Vec::new();
    for _ in 0..4 {
        let mut wire = Wire::to(larder.address).await;
        wire.send(request).await;
        assert_eq!(wire.answer(false).await.status(), 200);
        more.push(wire);
    }
    assert!(matches!(idle.end().await, End::Closed | End::Reset));
    gate.open();
    assert_eq!(busy.answer(false).await.body.len(), 10);
    assert!(larder.count("larder_connections_cut_total{why=\"quiet\"}") >= 20);
}
