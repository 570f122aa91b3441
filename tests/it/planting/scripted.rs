//! Answers that no GitLab should give, byte by byte, from an upstream that says what it is told.

use std::sync::Arc;

use bytes::Bytes;
use gitlab_standin::Archive;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::scene::come_to;
use crate::support::{Larder, Reply, get};

const LENGTH: usize = 20_000;
const ETAG: &str = "\"0123456789abcdef\"";
const DATE: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

/// An upstream with one archive, that answers otherwise while it has been told to.
struct Scripted {
    url: String,
    archive: Bytes,
    otherwise: Arc<Mutex<Option<Vec<u8>>>>,
    serving: JoinHandle<()>,
}

impl Scripted {
    async fn start() -> Self {
        let archive = Archive::sized(LENGTH.try_into().unwrap()).unwrap().bytes().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let otherwise: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
        let (bytes, told) = (archive.clone(), Arc::clone(&otherwise));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, bytes.clone(), Arc::clone(&told)));
            }
        });
        Self { url, archive, otherwise, serving }
    }

    fn say(&self, answer: Option<&[u8]>) {
        *self.otherwise.lock() = answer.map(<[u8]>::to_vec);
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut stream: TcpStream, archive: Bytes, told: Arc<Mutex<Option<Vec<u8>>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let told = told.lock().clone();
    let answer = told.unwrap_or_else(|| good(&String::from_utf8(head).unwrap(), &archive));
    // A client that closes early is larder's to explain.
    let _ = stream.write_all(&answer).await;
}

/// What GitLab would say: the archive, or the part that was asked for.
fn good(head: &str, archive: &Bytes) -> Vec<u8> {
    let lower = head.to_ascii_lowercase();
    let asked = lower.lines().find_map(|line| line.strip_prefix("range: bytes=")?.split_once('-'));
    let common = format!("etag: {ETAG}\r\nlast-modified: {DATE}\r\ncontent-type: application/zip\r\n");
    match asked {
        None => raw("200 OK", &common, archive),
        Some((first, last)) => {
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let range = format!("{common}content-range: bytes {first}-{last}/{LENGTH}\r\n");
            raw("206 Partial Content", &range, &archive[first..=last])
        }
    }
}

fn raw(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn part(range: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    raw("206 Partial Content", &format!("content-range: {range}\r\n{fields}"), body)
}

/// Answers that must be nothing but the answer of the one who gets them.
fn bad(archive: &Bytes) -> Vec<(&'static str, Vec<u8>)> {
    let (tail, head) = (&archive[LENGTH - 1024..], &archive[..1024]);
    let gzip = format!("content-encoding: gzip\r\netag: {ETAG}\r\n");
    let tagged = format!("etag: {ETAG}\r\n");
    let places = "location: http://127.0.0.1:1/a?X-Amz-Signature=0\r\nlocation: http://127.0.0.1:1/b?X-Amz-Signature=0\r\n";
    let last = format!("bytes {}-{}", LENGTH - 1024, LENGTH - 1);
    vec![
        ("the first KiB for the last", part("bytes 0-1023/20000", &tagged, head)),
        ("the last KiB said to be the first", part("bytes 0-1023/20000", &tagged, tail)),
        ("another unit", part("items 18976-19999/20000", &tagged, tail)),
        ("no total", part(&format!("{last}/*"), &tagged, tail)),
        ("the end before the beginning", part("bytes 19999-18976/20000", &tagged, tail)),
        ("beyond the total", part("bytes 18976-19999/19000", &tagged, tail)),
        ("signs in numbers", part("bytes +18976-19999/20000", &tagged, tail)),
        ("a larger total", part(&format!("{last}/20001"), "", tail)),
        ("another end", part(&format!("{last}/20000"), "", &[0; 1024])),
        ("another tag", part(&format!("{last}/20000"), "etag: \"other\"\r\n", tail)),
        ("a part in gzip", part(&format!("{last}/20000"), &gzip, tail)),
        ("a whole in gzip", raw("200 OK", &gzip, b"\x1f\x8b\x08\x00 not ours to unpack")),
        ("a whole in two codings", raw("200 OK", "content-encoding: br, gzip\r\n", b"PK\x03\x04")),
        ("203", raw("203 Non-Authoritative Information", &tagged, b"PK\x03\x04")),
        ("another tag's 304", raw("304 Not Modified", "etag: \"other\"\r\n", b"")),
        ("300", raw("300 Multiple Choices", places, b"choose")),
        ("two places", raw("302 Found", places, b"choose")),
        ("no place", raw("302 Found", "", b"lost")),
        ("416", raw("416 Range Not Satisfiable", "content-range: bytes */5\r\n", b"")),
        ("412", raw("412 Precondition Failed", "", b"")),
        ("401", raw("401 Unauthorized", "www-authenticate: Bearer\r\n", b"{}")),
    ]
}

fn path(job: usize) -> String {
    format!("/api/v4/projects/1/jobs/{}/artifacts", job + 1)
}

async fn ask(larder: &Larder, job: usize) -> Reply {
    get(&format!("{}{}", larder.url(), path(job)), &[("private-token", "t")]).await
}

/// A larder before an upstream that asks it each time.
async fn larder(upstream: &Scripted) -> Larder {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    Larder::on(&upstream.url, dir, |config| config.access.ttl = std::time::Duration::ZERO).await
}

async fn goes_through_and_leaves_no_trace(hot: bool) {
    let upstream = Scripted::start().await;
    let larder = larder(&upstream).await;
    for (job, (name, answer)) in bad(&upstream.archive).into_iter().enumerate() {
        if hot {
            assert_eq!(ask(&larder, job).await.body, upstream.archive);
            larder.stored(job + 1).await;
        }
        upstream.say(Some(&answer));
        let theirs = get(&format!("{}{}", upstream.url, path(job)), &[("private-token", "t")]).await;
        for _ in 0..2 {
            let ours = ask(&larder, job).await;
            assert_eq!(ours.status, theirs.status, "{name}, hot: {hot}");
            assert_eq!(ours.body, theirs.body, "{name}, hot: {hot}");
            for field in ["content-range", "content-encoding", "etag", "location"] {
                let values = |reply: &Reply| reply.fields.get_all(field).iter().cloned().collect::<Vec<_>>();
                assert_eq!(values(&ours), values(&theirs), "{name}, hot: {hot}, {field}");
            }
        }
        upstream.say(None);
        let next = ask(&larder, job).await;
        assert!(next.body == upstream.archive, "{name}, hot: {hot}");
        let expected = if hot { "larder; hit" } else { "larder; fwd=miss; stored" };
        assert_eq!(next.cache(), expected, "{name}");
        larder.stored(job + 1).await;
        come_to(larder.dir.path(), job + 1, name).await;
    }
}

#[tokio::test]
async fn a_strange_answer_to_the_first_caller_is_his_alone() {
    goes_through_and_leaves_no_trace(false).await;
}

#[tokio::test]
async fn a_strange_answer_to_a_question_neither_opens_nor_drops_what_is_stored() {
    goes_through_and_leaves_no_trace(true).await;
}

#[tokio::test]
async fn a_304_to_the_tag_that_was_sent_is_a_yes() {
    let upstream = Scripted::start().await;
    let larder = larder(&upstream).await;
    assert_eq!(ask(&larder, 0).await.body, upstream.archive);
    larder.stored(1).await;
    upstream.say(Some(&raw("304 Not Modified", &format!("etag: {ETAG}\r\n"), b"")));
    let hit = ask(&larder, 0).await;
    assert!(hit.cache() == "larder; hit" && hit.body == upstream.archive);
}
