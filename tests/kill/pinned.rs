//! Clients that ask for much and take nothing: memory stays within `server.memory` and a stated rest, and others are
//! answered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gitlab_standin::{Archive, Etag, JobStatus, Member, PipelineStatus, Storage};
use http::Request;

use crate::process::{Download, Process, Town, command};

const BY_DATE: Storage = Storage::Local { etag: Etag::Weak };

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a stream takes beside what is counted, KiB, in an unoptimised build: its head, its task, its place in h2.
const A_STREAM: u64 = 40;

/// What larder takes for itself, KiB.
const ITSELF: u64 = 60 << 10;

const CONNECTIONS: u64 = 30;
const STREAMS: u64 = 100;

/// The most that a process held while something went on, KiB.
fn most_while<T>(larder: &Process, work: impl FnOnce() -> T) -> (u64, T) {
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                most.fetch_max(larder.own_memory(), Ordering::SeqCst);
                // As often as the metrics are there.
                larder.metric("larder_connections").unwrap();
            }
        });
        let done = work();
        over.store(true, Ordering::SeqCst);
        (most.load(Ordering::SeqCst), done)
    })
}

/// A connection on which as many streams as there may be ask for something and give room for one byte each.
async fn greedy(larder: &Process, url: &str, token: &str) -> impl Sized + use<> {
    let stream = tokio::net::TcpStream::connect(larder.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (client, connection) = builder.initial_window_size(1).handshake::<_, Bytes>(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..STREAMS {
        let request = Request::get(url).header("private-token", token).body(()).unwrap();
        client = client.ready().await.unwrap();
        answers.push(client.send_request(request, true).unwrap().0);
    }
    (client, driving, answers)
}

#[test]
fn streams_with_a_window_of_one_byte_hold_what_they_may_and_others_are_answered() {
    const MEMORY: u64 = 64 << 10;
    let town = Town::new(BY_DATE, 0, 0);
    let text: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
    let (job, archive) = town.add(Archive::runner([Member::file("large.log", text)]));
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&town.gitlab.url(), dir.path());
    command.env("LARDER__SERVER__MAX_CONNECTIONS_PER_ADDRESS", "0");
    let larder = Process::run(command.env("LARDER__SERVER__MEMORY", "64MiB"));
    town.check(&larder, job, &archive);
    let begun = Instant::now();
    while town.check(&larder, job, &archive) != "larder; hit" {
        assert!(begun.elapsed() < PATIENCE, "it is never stored");
    }
    let url =
        format!("http://{}/api/v4/projects/{}/jobs/{job}/artifacts/large.log", larder.address, town.project);
    let (most, held) = most_while(&larder, || {
        let flood = town.runtime.block_on(async {
            let mut flood = Vec::new();
            for _ in 0..CONNECTIONS {
                flood.push(greedy(&larder, &url, &town.token).await);
            }
            flood
        });
        // Those who found no room are told so.
        let begun = Instant::now();
        while larder.metric("larder_answers_without_memory_total").as_deref() == Some("0") {
            assert!(begun.elapsed() < PATIENCE, "nobody is refused");
        }
        let held: u64 = larder.metric("larder_memory_held_bytes").unwrap().parse().unwrap();
        assert_eq!(town.check(&larder, job, &archive), "larder; hit");
        drop(flood);
        held
    });
    let bound = MEMORY + CONNECTIONS * STREAMS * A_STREAM + ITSELF;
    assert!(most < bound, "{most} KiB of {bound}, {held} of them counted");
    assert!(held > (MEMORY << 10) / 2, "{held}: they hold what they may");
    let begun = Instant::now();
    // What is kept for the next one stays.
    while larder.metric("larder_memory_held_bytes").unwrap().parse::<u64>().unwrap() > 1 << 20 {
        assert!(begun.elapsed() < PATIENCE, "it is never given back");
    }
}

#[test]
fn questions_about_a_ref_are_compared_without_being_kept() {
    let archive = Archive::many(38_000);
    let town = Town::new(BY_DATE, 0, 0);
    let pipeline = town.gitlab.pipeline(town.project, "main", PipelineStatus::Success);
    let job = town.gitlab.job_in(pipeline, "build", JobStatus::Success);
    town.gitlab.put_archive(job, archive.clone());
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&town.gitlab.url(), dir.path());
    let larder = Process::run(command.env("LARDER__ACCESS__TTL", "0s"));
    let target = format!("/api/v4/projects/{}/jobs/artifacts/main/download?job=build", town.project);
    let ask = |range: &str| {
        let fields = [("Private-Token", town.token.as_str()), ("Range", range)];
        Download::new(larder.address, "GET", &target, &fields)
    };
    let mut first = ask("bytes=0-");
    first.head();
    assert!(first.rest().unwrap() == archive.bytes().unwrap());
    let begun = Instant::now();
    loop {
        let mut again = ask("bytes=0-0");
        again.head();
        if again.field("cache-status").as_deref() == Some("larder; hit") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it is never stored");
    }
    let (most, ()) = most_while(&larder, || {
        let asked: Vec<Download> = (0..200).map(|_| ask("bytes=0-9")).collect();
        for mut download in asked {
            assert_eq!(
                (download.head(), download.field("cache-status").as_deref()),
                (206, Some("larder; hit"))
            );
            assert!(download.rest().unwrap() == archive.bytes().unwrap()[..10]);
        }
    });
    // Each of 200 would hold 4 MiB.
    assert!(most < 200 << 10, "{most} KiB");
}
