//! Starting and stopping in order.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use gitlab_standin::{Effect, Etag, Fault, Gate, Listening, Storage};

use crate::process::{Download, Process, Town, command, spawn};

const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };

/// Well below `server.drain`, 30 s: nothing was waited for.
const PROMPTLY: Duration = Duration::from_secs(10);

fn town() -> Town {
    Town::new(LOCAL, 1, 32 << 20)
}

#[test]
fn a_second_process_on_one_directory_says_so_and_ends() {
    let (town, dir) = (town(), tempfile::tempdir().unwrap());
    let first = Process::start(&town.gitlab.url(), dir.path());
    let mut second = command(&town.gitlab.url(), dir.path());
    let second = spawn(second.stdout(Stdio::null()).stderr(Stdio::piped())).wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    let sentences: Vec<&str> = said.lines().filter(|line| line.starts_with("larder: ")).collect();
    assert_eq!(sentences.len(), 1, "{said}");
    assert!(sentences[0].contains("in use") && sentences[0].contains(dir.path().to_str().unwrap()), "{said}");
    let (job, archive) = &town.jobs[0];
    town.check(&first, *job, archive);
    first.kill();
    let third = Process::start(&town.gitlab.url(), dir.path());
    town.check(&third, *job, archive);
}

#[test]
fn told_to_end_when_idle_it_ends_at_once() {
    let (town, dir) = (town(), tempfile::tempdir().unwrap());
    let larder = Process::start(&town.gitlab.url(), dir.path());
    let (job, archive) = &town.jobs[0];
    town.check(&larder, *job, archive);
    // A connection on which nothing happens holds nobody up.
    let idle = std::net::TcpStream::connect(larder.address).unwrap();
    let begun = Instant::now();
    larder.terminate();
    assert_eq!(larder.wait().code(), Some(0));
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    drop(idle);
}

/// A server whose answer has no length and no end. It ends with this process.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    });
    url
}

/// A client that knows no chunks, in the middle of its answer.
fn in_the_middle(larder: &Process) -> TcpStream {
    let mut client = TcpStream::connect(larder.address).unwrap();
    client.write_all(b"GET /endless HTTP/1.0\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"first") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    client
}

#[test]
fn what_the_drains_end_breaks_off_does_not_look_whole() {
    let dir = tempfile::tempdir().unwrap();
    let larder = Process::run(command(&endless(), dir.path()).env("LARDER__SERVER__DRAIN", "1ms"));
    let mut client = in_the_middle(&larder);
    larder.terminate();
    assert_eq!(larder.wait().code(), Some(0));
    let end = client.read(&mut [0; 100]);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn told_to_end_twice_it_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let larder = Process::run(command(&endless(), dir.path()).env("LARDER__SERVER__DRAIN", "24h"));
    let client = in_the_middle(&larder);
    larder.terminate();
    larder.said("draining");
    larder.terminate();
    larder.said("told to end once more: what still runs is broken off");
    assert_eq!(larder.wait().code(), Some(0));
    drop(client);
}

#[test]
fn told_to_end_during_downloads_it_finishes_them() {
    let (town, dir) = (town(), tempfile::tempdir().unwrap());
    let (job, archive) = &town.jobs[0];
    let expected = archive.bytes().unwrap();
    let body = Gate::new();
    body.release(1 << 20);
    town.gitlab.fault(Fault::new(Effect::Slow(body.clone())).when(|seen| seen.header("range").is_none()));
    let larder = Process::start(&town.gitlab.url(), dir.path());
    let mut cold = town.open(&larder, *job);
    assert_eq!(cold.head(), 200);
    let mut passed = Download::new(larder.address, "GET", "/bytes/30000000", &[]);
    assert_eq!(passed.head(), 200);
    larder.terminate();
    body.open();
    assert!(cold.rest().unwrap() == expected);
    assert_eq!(passed.rest().unwrap().len(), 30_000_000);
    assert_eq!(larder.wait().code(), Some(0));

    let larder = Process::start(&town.gitlab.url(), dir.path());
    let mut hot = town.open(&larder, *job);
    assert_eq!((hot.head(), hot.field("cache-status").as_deref()), (200, Some("larder; hit")));
    larder.terminate();
    assert!(hot.rest().unwrap() == expected);
    assert_eq!(larder.wait().code(), Some(0));
}

#[test]
fn it_starts_in_front_of_a_gitlab_that_is_down() {
    let (town, dir) = (town(), tempfile::tempdir().unwrap());
    town.listen(Listening::Refuse);
    let larder = Process::start(&town.gitlab.url(), dir.path());
    let mut ready = Download::new(larder.admin, "GET", "/readyz", &[]);
    assert_eq!(ready.head(), 200);
    let (job, archive) = &town.jobs[0];
    let mut early = town.open(&larder, *job);
    assert_eq!(early.head(), 502);
    let mut told = String::new();
    early.stream().read_to_string(&mut told).unwrap();
    assert!(told.contains("GitLab refuses connections"), "{told}");
    town.listen(Listening::Open);
    assert_eq!(town.check(&larder, *job, archive), "larder; fwd=miss; stored");
}

/// The status of an answer of the admin listener's, asked as load balancers do: over and over.
fn admin(larder: &Process, path: &str) -> u16 {
    Download::new(larder.admin, "GET", path, &[]).head()
}

#[test]
fn with_a_delay_it_serves_on_while_it_says_that_it_is_about_to_end() {
    let (town, dir) = (town(), tempfile::tempdir().unwrap());
    let mut program = command(&town.gitlab.url(), dir.path());
    let larder = Process::run(program.env("LARDER__SERVER__SHUTDOWN_DELAY", "24h"));
    assert_eq!(admin(&larder, "/readyz"), 200);
    larder.terminate();
    larder.said("about to drain: serving on until load balancers know");
    assert_eq!((admin(&larder, "/readyz"), admin(&larder, "/healthz")), (503, 200));
    let (job, archive) = &town.jobs[0];
    for _ in 0..3 {
        town.check(&larder, *job, archive);
    }
    // Whoever can't wait says so once more.
    larder.terminate();
    larder.said("draining");
    assert_eq!(larder.wait().code(), Some(0));
}

#[test]
fn a_delay_ends_by_itself() {
    let (town, dir) = (town(), tempfile::tempdir().unwrap());
    let mut program = command(&town.gitlab.url(), dir.path());
    let larder = Process::run(program.env("LARDER__SERVER__SHUTDOWN_DELAY", "10ms"));
    larder.terminate();
    larder.said("draining");
    assert_eq!(larder.wait().code(), Some(0));
}
