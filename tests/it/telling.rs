//! A refusal looks the same whether larder holds the archive, fetches it or has never seen it: to the byte, and but for
//! what larder adds to every answer as GitLab sent it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gitlab_standin::{Archive, Member};
use http::{Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use larder::upstream::Http2;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::offered::Offered;
use crate::raw::{Answer, End, exchange, request};
use crate::support::{Larder, get, open};

/// Each route on which archives or files of them are asked for; `#` is a number that names the archive.
const ROUTES: [&str; 7] = [
    "/api/v4/projects/7/jobs/#/artifacts",
    "/api/v4/projects/7/jobs/#/artifacts/small",
    "/api/v4/projects/7/jobs/artifacts/main/download?job=j#",
    "/api/v4/projects/7/jobs/artifacts/main/raw/small?job=j#",
    "/api/v4/jobs/#/artifacts",
    "/g/p/-/jobs/#/artifacts/download",
    "/g/p/-/jobs/#/artifacts/raw/small",
];

/// What those ask for who may have the archive; `late` ones get half of it and wait.
fn whole(route: &str) -> &'static str {
    if route.contains("main") { ROUTES[2] } else { ROUTES[0] }
}

/// Who asks, and what they say with it.
const ASKING: [(&str, &[&str]); 8] = [
    ("GET", &[]),
    ("HEAD", &[]),
    ("GET", &["Range: bytes=0-9"]),
    ("GET", &["If-None-Match: \"x\"", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"]),
    ("GET", &["Accept-Encoding: gzip, br"]),
    ("GET", &["Accept-Encoding: identity", "Accept: text/html"]),
    ("GET", &["Accept-Language: de", "TE: trailers", "Connection: TE"]),
    ("HEAD", &["Accept-Encoding: gzip"]),
];

/// A GitLab that lets `good` and `late` have everything, and says one thing to all others.
struct Plain {
    address: SocketAddr,
    says: Arc<Mutex<Vec<u8>>>,
    serving: JoinHandle<()>,
}

impl Plain {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, says) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let said = Arc::clone(&says);
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(serve(stream, Arc::clone(&said)));
            }
        });
        Self { address, says, serving }
    }

    fn says(&self, refusal: &[u8]) {
        *self.says.lock().unwrap() = refusal.to_vec();
    }

    async fn larder(&self) -> Larder {
        let url = format!("http://{}", self.address);
        Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), |config| {
            // Each question is asked.
            config.access.ttl = std::time::Duration::ZERO;
        })
        .await
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn archive() -> Vec<u8> {
    let member = Member::stored("small", vec![b's'; 300]);
    Archive::runner([member]).bytes().unwrap().to_vec()
}

async fn serve(mut stream: TcpStream, says: Arc<Mutex<Vec<u8>>>) {
    let mut read = Vec::new();
    loop {
        let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head = String::from_utf8_lossy(&read[..at]).to_lowercase();
        read.drain(..at + 4);
        let to_head = head.starts_with("head ");
        let mut answer = if head.contains("token: good") || head.contains("token: late") {
            admitted(&head)
        } else {
            let gzip = head.contains("accept-encoding: gzip");
            let told = if to_head {
                "head"
            } else if gzip {
                "gzip"
            } else {
                "plain"
            };
            let said = says.lock().unwrap().clone();
            said.split(|byte| *byte == b'~').collect::<Vec<_>>().join(told.as_bytes())
        };
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        if to_head {
            answer.truncate(end);
        }
        let late = head.contains("token: late") && !head.contains("range: bytes");
        if late {
            answer.truncate(end + 100);
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        let told = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        if late {
            std::future::pending::<()>().await;
        }
        if told.starts_with("http/1.0") || told.contains("connection: close") {
            return;
        }
    }
}

/// The archive, or the part of it that was asked for.
fn admitted(head: &str) -> Vec<u8> {
    let bytes = archive();
    let fields = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/octet-stream";
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let part = range.and_then(|range| {
        let (first, last) = range.split_once('-')?;
        let first: usize = first.parse().ok()?;
        Some((first, last.parse().unwrap_or(usize::MAX).min(bytes.len() - 1)))
    });
    let (line, part) = match part {
        Some((first, last)) => (
            format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}", bytes.len()),
            &bytes[first..=last],
        ),
        None => ("200 OK".to_owned(), &bytes[..]),
    };
    let head = format!("HTTP/1.1 {line}\r\n{fields}\r\nContent-Length: {}\r\n\r\n", part.len());
    [head.as_bytes(), part].concat()
}

/// Answers to those who aren't let in. `~` is a word of four or five letters that depends on how it was asked.
fn refusals() -> Vec<(Vec<u8>, usize)> {
    let long = "l".repeat(100_000);
    let sized = |line: &str, fields: &str, body: &str| {
        format!("HTTP/1.1 {line}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let odd = "Server: nginx\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
        Connection: keep-alive, x-mine\r\nX-Mine: 1\r\nETag: W/\"x\"\r\nx-CASE-Kept: 1\r\nX-Accel-Buffering: no\r\n\
        Gitlab-Workhorse-Send-Data: x\r\nSet-Cookie: a=1\r\nX-Between: 1\r\nset-cookie: b=2\r\n\
        X-Runtime: 0.1\r\nvary: Origin\r\nKeep-Alive: timeout=5\r\nX_Sendfile-Type: x\r\nX-Last: 1\r\n";
    let json = r#"{"message":"404 Not found"}"#;
    let chunked = |line: &str, fields: &str, rest: &str| {
        format!("HTTP/1.1 {line}\r\nX-A: 1\r\n{fields}Transfer-Encoding: chunked\r\nX-B: 2\r\n\r\n{rest}")
    };
    let mut rows = vec![
        sized("404 Nicht da", odd, json),
        sized("404 Not Found", "ETag: W/\"12ae32cb1ec02d01eda3581b127c1fee\"\r\nX-A: 1\r\nX-B: 2\r\n", json),
        sized("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"x\"\r\nX-Request-Id: theirs\r\n", json),
        sized("403 Forbidden", "Via: 1.1 front\r\nCache-Status: front; fwd=miss\r\nAge: 3\r\n", json),
        sized("429 Too Many Requests", "Retry-After: 60\r\nRateLimit-Remaining: 0\r\n", "Retry later\n"),
        sized("404 ", "", ""),
        sized("500 Internal Server Error", "content-type: text/html\r\n", &long),
        sized("503 Service Unavailable", "Connection: close\r\n", "down"),
        sized("502 Bad Gateway", "X-A: 1\r\nConnection: close\r\nX-B: 1\r\nX-C: 1\r\n", "down"),
        sized("504 Gateway Time-out", "", "down"),
        chunked("404 Not Found", "", "4\r\ngone\r\n0\r\n\r\n"),
        chunked("404 Not Found", "", "0\r\n\r\n"),
        chunked("403 Forbidden", "", "2\r\nfo\r\n4\r\nrbid\r\n0\r\n\r\n"),
        chunked("404 Not Found", "Trailer: X-Sum\r\n", "2\r\nfo\r\n0\r\nX-Sum: 1\r\n\r\n"),
        chunked("404 Not Found", "", &format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len())),
        "HTTP/1.1 404 Not Found\r\nX-A: 1\r\nConnection: close\r\nX-B: 2\r\n\r\nends with it".to_owned(),
        "HTTP/1.0 403 Forbidden\r\nX-A: 1\r\nX-B: 2\r\n\r\nold".to_owned(),
        sized("404 Not Found", "Content-Encoding: ~\r\nVary: Accept-Encoding\r\n", ""),
        sized(
            "302 Found",
            "Location: /users/sign_in\r\nX-A: 1\r\nConnection: close\r\nX-B: 1\r\n",
            "You are",
        ),
        sized("301 Moved Permanently", "Location: /elsewhere\r\n", ""),
        sized(
            "200 OK",
            "Content-Type: text/html\r\nX-A: 1\r\nConnection: close\r\nX-B: 1\r\n",
            "<html>sign in",
        ),
    ];
    for status in
        [400, 402, 405, 406, 409, 410, 411, 413, 414, 415, 417, 421, 422, 423, 426, 428, 431, 451, 501]
    {
        rows.push(sized(&format!("{status} Some Reason"), "x-odd-CASE: 1\r\n", "body"));
    }
    // What differs in its status alone is asked for by a GET and a HEAD.
    let asked = |row: &String| if row.contains("Some Reason") { 2 } else { ASKING.len() };
    rows.into_iter().map(|row| (row.clone().into_bytes(), asked(&row))).collect()
}

async fn asked(to: SocketAddr, method: &str, target: &str, lines: &[&str]) -> Answer {
    let own = ["Private-Token: bad", "X-Request-Id: r"];
    let lines: Vec<&[u8]> = own.iter().chain(lines).map(|line| line.as_bytes()).collect();
    exchange(to, &request(method, target.as_bytes(), &lines, b"")).await
}

/// What larder adds to each answer, taken off; the rest as GitLab would have sent it to this client alone.
fn without_additions(answer: &Answer) -> Answer {
    let mut bare = answer.clone();
    for added in [("Via", "1.1 larder"), ("X-Request-Id", "r")] {
        let is_it = |(name, value): &(String, String)| name.eq_ignore_ascii_case(added.0) && value == added.1;
        if let Some(at) = bare.fields.iter().rposition(is_it) {
            bare.fields.remove(at);
        }
    }
    let added = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("cache-status") && value.starts_with("larder")
    };
    bare.fields.retain(|field| !added(field));
    bare
}

/// The same of what GitLab sent straight: without what concerns its connection and its own parts.
fn for_clients(straight: &Answer) -> Answer {
    const STAY: [&str; 5] = ["connection", "keep-alive", "x-mine", "transfer-encoding", "x_sendfile-type"];
    let mut bare = straight.clone();
    bare.line = bare.line.replace("HTTP/1.0", "HTTP/1.1");
    bare.fields.retain(|(name, _)| {
        let name = name.to_lowercase();
        !STAY.contains(&&*name) && !name.starts_with("x-accel") && !name.starts_with("gitlab-workhorse")
    });
    bare
}

/// Fields without order, framing and date, which larder gives where there is none.
fn sorted(answer: &Answer, dated: bool) -> Vec<(String, String)> {
    let mut fields = answer.fields.clone();
    fields.retain(|(name, value)| {
        let old_tag = value.contains("12ae32cb1ec02d01eda3581b127c1fee");
        !name.eq_ignore_ascii_case("transfer-encoding")
            && (dated || !name.eq_ignore_ascii_case("date"))
            && !old_tag
    });
    fields.sort();
    fields
}

fn agrees_with_straight(straight: &Answer, through: &Answer, context: &str) {
    let (mut straight, mut through) = (for_clients(straight), without_additions(through));
    assert_eq!(through.line.trim_end(), straight.line.trim_end(), "{context}");
    // What ends with GitLab's connection doesn't end with the client's.
    let closed = straight.end == End::Closed;
    let dated = straight.field("date").is_some();
    if context.starts_with("HEAD") {
        // hyper announces no trailers where no body is.
        straight.fields.retain(|(name, _)| name != "Trailer");
        through.fields.retain(|(name, _)| name != "Trailer");
    }
    if closed {
        through.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
    }
    assert_eq!(sorted(&through, dated), sorted(&straight, dated), "{context}");
    // In the same order, but that values of one name stand together.
    let order = |answer: &mut Answer| {
        let mut names: Vec<String> = answer.fields.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.retain(|name| !matches!(name.as_str(), "set-cookie" | "date" | "transfer-encoding" | "etag"));
        names
    };
    assert_eq!(order(&mut through), order(&mut straight), "{context}");
    assert!(through.body == straight.body, "{context}: the body");
    assert_eq!(through.end, End::Framed, "{context}");
}

/// The very same, but for a date that larder gives where GitLab gave none.
fn same(one: &Answer, other: &Answer, dated: bool, context: &str) {
    let undated = |answer: &Answer| {
        let mut answer = answer.clone();
        let others = answer.fields.iter_mut().filter(|(name, _)| !dated && name.eq_ignore_ascii_case("date"));
        others.for_each(|(_, value)| value.clear());
        answer
    };
    assert_eq!(undated(one), undated(other), "{context}");
}

#[tokio::test]
async fn a_refusal_does_not_tell_whether_the_archive_is_held_is_arriving_or_was_never_seen() {
    let gitlab = Plain::start().await;
    for route in ROUTES {
        let (cold, held, growing) = (gitlab.larder().await, gitlab.larder().await, gitlab.larder().await);
        let target = |path: &str, number: usize| path.replace('#', &number.to_string());
        let good = [("private-token", "good")];
        assert_eq!(get(&format!("{}{}", held.url(), target(whole(route), 1)), &good).await.body, archive());
        held.stored(1).await;
        let arriving = format!("{}{}", growing.url(), target(whole(route), 1));
        let mut arriving =
            open(http::Method::GET, &arriving, &[("private-token", "late")], "").await.unwrap();
        arriving.next().await.unwrap().unwrap();
        let mut number = 1;
        for (refusal, asking) in refusals() {
            gitlab.says(&refusal);
            for (method, lines) in ASKING.into_iter().take(asking) {
                number += 1;
                let first = String::from_utf8_lossy(&refusal[..refusal.len().min(60)]).into_owned();
                let context = format!("{method} {route} {lines:?} {first:?}");
                let straight = asked(gitlab.address, method, &target(route, 1), lines).await;
                let dated = straight.field("date").is_some();
                let unseen = asked(cold.address, method, &target(route, number), lines).await;
                agrees_with_straight(&straight, &unseen, &context);
                let again = asked(cold.address, method, &target(route, number), lines).await;
                same(&again, &unseen, dated, &format!("once more: {context}"));
                let about_held = asked(held.address, method, &target(route, 1), lines).await;
                same(&about_held, &unseen, dated, &format!("held: {context}"));
                let about_growing = asked(growing.address, method, &target(route, 1), lines).await;
                same(&about_growing, &unseen, dated, &format!("growing: {context}"));
            }
        }
    }
}

/// How a GitLab behind TLS, which may offer HTTP/2, is answered by: to whoever isn't let in, one refusal.
async fn answered_by(offered: &Offered, target: &str) -> Answer {
    let client = asked(offered.larder.address, "GET", target, &[]);
    let gitlab = async {
        loop {
            let asked = offered.asked().await;
            let mut head = Response::builder().status(StatusCode::NOT_FOUND).header("content-length", "4");
            head = head.header("etag", "W/\"x\"").header("x-ua-compatible", "y");
            if asked.version() == Version::HTTP_11 {
                head = head.extension(ReasonPhrase::from_static(b"Nicht da"));
            }
            asked.answer(head, "gone");
        }
    };
    tokio::select! {
        answer = client => answer,
        () = gitlab => unreachable!("it goes on"),
    }
}

#[tokio::test]
async fn nor_does_it_over_http2() {
    for (protocols, http2) in [
        (&[&b"h2"[..], b"http/1.1"][..], Http2::Auto),
        (&[&b"http/1.1"[..]], Http2::Auto),
        (&[&b"h2"[..], b"http/1.1"], Http2::Off),
        (&[&b"h2"[..]], Http2::PriorKnowledge),
    ] {
        let offered = Offered::start(protocols, |config| config.upstream.http2 = http2).await;
        let target = "/api/v4/projects/7/jobs/1/artifacts";
        let good = [("private-token", "good")];
        let url = format!("{}{target}", offered.larder.url());
        let first = answered_by(&offered, "/api/v4/projects/7/jobs/2/artifacts").await;
        let cold = answered_by(&offered, "/api/v4/projects/7/jobs/3/artifacts").await;
        same(&cold, &first, false, "cold");
        let held = async {
            let asked = offered.asked().await;
            let bytes = archive();
            let head = Response::builder().header("content-length", bytes.len().to_string());
            asked.answer(head.header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), bytes);
        };
        let (got, ()) = tokio::join!(get(&url, &good), held);
        assert_eq!(got.body, archive());
        offered.larder.stored(1).await;
        let held = answered_by(&offered, target).await;
        same(&held, &cold, false, "held");
        let passed = answered_by(&offered, "/api/v4/projects/7/jobs/4/artifacts/small").await;
        same(&passed, &cold, false, "passed");
    }
}
