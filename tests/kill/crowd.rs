//! Thousands of clients at once: memory stays within its bound, and nothing is left open behind them.
//!
//! Bounds are for an unoptimised build and count the process's own memory: not its program, and not mapped archives, whose
//! pages are the kernel's to take back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use gitlab_standin::{Archive, Class, Etag, JobId, Storage};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::process::{Download, Process, Town, command};

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the kernel takes for a client that doesn't read: little, so that larder has to wait for it.
const RECEIVED: usize = 64 << 10;

const MIB: u64 = 1 << 20;

/// The most of it, KiB: what a thousand downloads may take.
const MOST: u64 = 120 << 10;

/// A larder that nobody who waits is too slow for, with a store that holds one archive.
struct Scene {
    town: Town,
    larder: Process,
    job: JobId,
    archive: Archive,
    descriptors: usize,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new(size: u64) -> Self {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        let town = Town::new(Storage::Local { etag: Etag::Sha256 }, 1, size);
        let dir = tempfile::tempdir().unwrap();
        let mut command = command(&town.gitlab.url(), dir.path());
        command.env("LARDER__SERVER__MAX_CONNECTIONS_PER_ADDRESS", "0");
        command.env("LARDER__SERVER__HEADER_TIMEOUT", "10m");
        let larder = Process::run(&mut command);
        let (job, archive) = town.jobs[0].clone();
        let descriptors = larder.descriptors();
        Self { town, larder, job, archive, descriptors, _dir: dir }
    }

    /// Begins a download on a connection that takes little.
    fn begin(&self, target: &str) -> Download {
        let stream = narrow(self.larder.address);
        Download::on(stream, "GET", target, &[("Private-Token", &self.town.token)])
    }

    fn target(&self) -> String {
        format!("/api/v4/projects/{}/jobs/{}/artifacts", self.town.project, self.job)
    }

    /// Once what is under way has filled its buffers.
    fn assert_little_memory(&self) {
        let mut seen = [0; 4];
        until(|| {
            // Asking takes its time.
            self.larder.metric("larder_connections").unwrap();
            seen.rotate_left(1);
            seen[3] = self.larder.own_memory();
            seen.iter().all(|memory| *memory == seen[3])
        });
        assert!(seen[3] < MOST, "{} KiB", seen[3]);
    }

    /// All clients are gone: what is left open is the store's archive, and no connection to GitLab once that is gone too.
    fn assert_nothing_is_left(self) {
        until(|| self.larder.metric("larder_connections").as_deref() == Some("0"));
        drop(self.town);
        until(|| {
            // Asking takes a connection, and its time.
            self.larder.metric("larder_connections").unwrap();
            self.larder.descriptors() <= self.descriptors + 1
        });
    }
}

/// Asks again and again; what is asked is another process.
fn until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "it never came to be");
    }
}

fn narrow(address: SocketAddr) -> TcpStream {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, RECEIVED).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    TcpStream::from(socket)
}

/// A connection over which one thing was asked, and that is kept.
fn asked(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /bytes/300 HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    reader.read_exact(&mut [0; 300]).unwrap();
    stream
}

#[test]
fn five_thousand_idle_connections_take_little_memory() {
    let scene = Scene::new(MIB);
    let address = scene.larder.address;
    let silent: Vec<_> = (0..2500).map(|_| TcpStream::connect(address).unwrap()).collect();
    let kept: Vec<_> = (0..2500).map(|_| asked(address)).collect();
    until(|| scene.larder.metric("larder_connections").as_deref() == Some("5000"));
    scene.assert_little_memory();
    drop((silent, kept));
    scene.assert_nothing_is_left();
}

#[test]
fn five_hundred_slow_readers_take_little_memory() {
    let scene = Scene::new(16 * MIB);
    scene.town.check(&scene.larder, scene.job, &scene.archive);
    let through = format!("/bytes/{}", 16 * MIB);
    let targets = [scene.target(), through];
    let mut readers: Vec<_> = targets.iter().cycle().take(500).map(|target| scene.begin(target)).collect();
    for one in &mut readers {
        assert_eq!(one.head(), 200);
    }
    scene.assert_little_memory();
    drop(readers);
    scene.assert_nothing_is_left();
}

#[test]
fn two_thousand_downloads_of_one_archive_take_little_memory_and_one_transfer() {
    let scene = Scene::new(MIB);
    let target = scene.target();
    let mut downloads: Vec<_> = (0..2000).map(|_| scene.begin(&target)).collect();
    for one in &mut downloads {
        assert_eq!(one.head(), 200);
    }
    scene.assert_little_memory();
    let expected = scene.archive.bytes().unwrap();
    for download in downloads {
        assert!(download.rest().unwrap() == expected);
    }
    scene.assert_little_memory();
    // Whoever comes when it is held asks for a last KiB.
    let counters = scene.town.gitlab.counters();
    let questions = counters.requests_of(Class::JobArchive);
    assert!((MIB..MIB + questions * 1024).contains(&counters.artifact_bytes()), "{counters:?}");
    scene.assert_nothing_is_left();
}
