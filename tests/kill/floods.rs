//! The program under attack: what it keeps answering, and that it ends when it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::process::{Download, Process, command, spawn};

/// `server.drain` here.
const DRAIN: &str = "2s";

/// Well above it, and well below any time-out that an attack could wait for.
const PROMPTLY: Duration = Duration::from_secs(10);

/// A GitLab that takes whatever comes and answers nothing. It ends with this process.
fn mute() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            held.push(stream);
        }
    });
    url
}

/// A connection with as many requests as it takes; where they are taken back, again and again.
async fn ask(address: SocketAddr, method: &str, ends: bool, take_back: bool) -> Vec<impl Sized> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut held = Vec::new();
    for _ in 0..if take_back { 300 } else { 100 } {
        let Ok(mut ready) = sender.clone().ready().await else { break };
        let request = http::Request::builder()
            .method(method)
            .uri("http://larder.test/api/v4/projects/1/jobs/2/artifacts")
            .header("content-type", "application/grpc");
        let (answer, body): (_, h2::SendStream<Bytes>) =
            ready.send_request(request.body(()).unwrap(), ends).unwrap();
        tokio::task::yield_now().await;
        if !take_back {
            held.push((answer, body));
        }
    }
    held
}

#[test]
fn told_to_end_during_floods_it_ends_within_the_drain() {
    let dir = tempfile::tempdir().unwrap();
    let larder = Process::run(command(&mute(), dir.path()).env("LARDER__SERVER__DRAIN", DRAIN));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let held = runtime.block_on(async {
        let mut held = Vec::new();
        for (method, ends, take_back) in
            [("POST", true, false), ("POST", false, false), ("GET", true, false), ("DELETE", true, true)]
        {
            for _ in 0..3 {
                held.extend(ask(larder.address, method, ends, take_back).await);
            }
        }
        held
    });
    let mut silent = Vec::new();
    for address in [larder.address, larder.admin] {
        for _ in 0..200 {
            silent.push(TcpStream::connect(address).unwrap());
        }
    }
    let mut health = Download::new(larder.admin, "GET", "/healthz", &[]);
    assert_eq!(health.head(), 200);
    let begun = Instant::now();
    larder.terminate();
    assert_eq!(larder.wait().code(), Some(0));
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    drop((silent, held));
}

const DROPPED: &str = "larder_log_lines_dropped_total ";

/// Has lines logged until some have been dropped, more than before.
fn drown(address: SocketAddr, admin: SocketAddr, before: u64) -> u64 {
    // Project and ID are logged.
    let (project, id) = ("p".repeat(200), "i".repeat(128));
    let request = format!(
        "GET /api/v4/projects/{project}/jobs/1/artifacts HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\n\r\n"
    );
    let last = request.replace("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n");
    let many = request.repeat(500) + &last;
    loop {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(many.as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let mut page = Download::new(admin, "GET", "/metrics", &[]);
        assert_eq!(page.head(), 200);
        let page = String::from_utf8(page.rest().unwrap()).unwrap();
        let dropped = page.lines().find_map(|line| line.strip_prefix(DROPPED)).unwrap().parse().unwrap();
        if dropped > before {
            return dropped;
        }
    }
}

#[test]
fn lines_that_a_slow_reader_costs_are_counted_and_told_of_and_hold_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there: an answer each, and a line.
    let mut command = command("http://127.0.0.1:1", dir.path());
    let mut child = spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&log.next().unwrap().unwrap()).unwrap() };
    let mut listening = |message: &str| -> SocketAddr {
        loop {
            let line = next();
            if line["message"] == message {
                return line["address"].as_str().unwrap().parse().unwrap();
            }
        }
    };
    let (address, admin) = (listening("listening"), listening("admin listening"));
    let dropped = drown(address, admin, 0);
    let told = loop {
        let line = next();
        if line["message"].as_str().unwrap().starts_with("log lines were lost") {
            break line;
        }
    };
    assert_eq!((&told["lines"], &told["level"]), (&dropped.into(), &"WARN".into()));
    // Nobody reads any more.
    drown(address, admin, dropped);
    let begun = Instant::now();
    let kill = format!("kill -TERM {}", child.id());
    assert!(spawn(std::process::Command::new("/bin/sh").args(["-c", &kill])).wait().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
}
