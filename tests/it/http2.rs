//! HTTP/2 from clients: by TLS, and by those who know that it is spoken.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use gitlab_standin::{Effect, Ending, Fault, Gate, GitLab, Setup};
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::raw;
use crate::scene::{MODES, Scene, archive};
use crate::support::Larder;
use crate::tls::{Files, NAME, connect, connector, target};

/// A connection of HTTP/2.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Client {
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Self { sender, connection: tokio::spawn(connection) }
    }

    async fn plain(larder: &Larder) -> Self {
        Self::over(TcpStream::connect(larder.address).await.unwrap()).await
    }

    async fn open(&mut self, path: &str, fields: &[(&str, &str)]) -> Response<Incoming> {
        self.send(path, fields, "").await.unwrap()
    }

    async fn send(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        body: &'static str,
    ) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::builder().uri(format!("https://{NAME}{path}"));
        if !body.is_empty() {
            request = request.method("POST");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        self.sender.send_request(request.body(Full::from(body)).unwrap()).await
    }

    async fn get(&mut self, path: &str, fields: &[(&str, &str)]) -> (u16, Bytes) {
        whole(self.open(path, fields).await).await.unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn whole(response: Response<Incoming>) -> hyper::Result<(u16, Bytes)> {
    let status = response.status().as_u16();
    assert_eq!(response.version(), Version::HTTP_2);
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

async fn town() -> (GitLab, Larder) {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    (gitlab, larder)
}

#[tokio::test]
async fn archives_come_by_http2_many_at_once() {
    for storage in MODES {
        let files = Files::new();
        let root = files.make(NAME);
        let scene =
            Scene::with(storage, archive(2_000_000, 1), |config| files.configure(config, &[NAME])).await;
        let (url, bytes) = (scene.url(), scene.archive.bytes().unwrap());
        let path = target(&scene.larder, &url);
        let token = ("private-token", scene.token.as_str());
        let stream = connect(&scene.larder, &connector(&[root], &[b"h2", b"http/1.1"]), NAME).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = Client::over(stream).await;
        assert!(client.get(path, &[token]).await == (200, bytes.clone()), "{storage:?}");
        scene.larder.stored(1).await;
        let mut answers = Vec::new();
        for at in 0..20_usize {
            let range = format!("bytes={at}-");
            let answer = client.open(path, &[token, ("range", &range)]).await;
            assert_eq!(answer.headers()["cache-status"], "larder; hit", "{storage:?} {at}");
            // They share a window: one that isn't read holds the others up.
            answers.push((at, tokio::spawn(whole(answer))));
        }
        for (at, answer) in answers {
            let (status, body) = answer.await.unwrap().unwrap();
            assert!(status == 206 && body == bytes[at..], "{storage:?} {at}");
        }
    }
}

#[tokio::test]
async fn a_client_that_knows_needs_no_tls() {
    let scene = Scene::start(MODES[0], archive(300_000, 1)).await;
    let url = scene.url();
    let mut client = Client::plain(&scene.larder).await;
    for _ in 0..3 {
        let token = ("private-token", scene.token.as_str());
        let got = client.get(target(&scene.larder, &url), &[token]).await;
        assert!(got == (200, scene.archive.bytes().unwrap()));
    }
}

#[tokio::test]
async fn a_request_reaches_gitlab_as_one_of_http1() {
    let (_gitlab, larder) = town().await;
    let mut client = Client::plain(&larder).await;
    let cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("x-mine", "1")];
    let (status, body) = whole(client.send("/echo?q=%2F", &cookies, "hello").await.unwrap()).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let values = |name: &str| -> Vec<String> {
        let fields = told["headers"].as_array().unwrap().iter();
        let named = fields.filter(|field| field[0].as_str().unwrap().eq_ignore_ascii_case(name));
        named.map(|field| field[1].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((status, &told["length"]), (200, &5.into()));
    assert_eq!(values("cookie"), ["a=1; b=2"]);
    assert_eq!((values("x-mine"), values("x-forwarded-host")), (vec!["1".to_owned()], vec![NAME.to_owned()]));

    let other = client.get("/echo", &[("host", "other.test")]).await;
    assert_eq!(other.0, 400, "two names for one server");
    assert_eq!(client.get("/echo", &[("host", NAME)]).await.0, 200);
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_its_stream_alone() {
    let (gitlab, larder) = town().await;
    let mut client = Client::plain(&larder).await;
    let gate = Gate::new();
    gate.release(1000);
    gitlab.fault(Fault::new(Effect::Slow(gate.clone())).once());
    let other = client.open("/bytes/200000", &[]).await;
    for effect in [Effect::Chunked, Effect::Cut { after: 100_000, ending: Ending::Close }] {
        gitlab.fault(Fault::new(effect).once());
    }
    let broken = client.open("/bytes/250000", &[]).await;
    let error = whole(broken).await.unwrap_err();
    let cause = error.source().unwrap().downcast_ref::<h2::Error>().unwrap();
    assert!(cause.is_reset() && cause.reason() == Some(h2::Reason::INTERNAL_ERROR), "{cause}");
    gate.open();
    assert_eq!(whole(other).await.unwrap().1.len(), 200_000);
    assert_eq!(client.get("/bytes/10", &[]).await.1.len(), 10);
}

/// Frames as they are.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Reads frames until the connection ends; the code of the last GOAWAY.
async fn goodbye(stream: &mut TcpStream) -> Option<u32> {
    let mut read = Vec::new();
    // Both ways to end are good: what counts was said before.
    let _ = stream.read_to_end(&mut read).await;
    let (mut rest, mut code) = (&read[..], None);
    while let [a, b, c, kind, _, _, _, _, _, more @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        if *kind == GOAWAY && more.len() >= 8 {
            code = Some(u32::from_be_bytes(more[4..8].try_into().unwrap()));
        }
        rest = more.get(length..).unwrap_or_default();
    }
    code
}

#[tokio::test]
async fn requests_taken_back_again_and_again_end_the_connection() {
    let (_gitlab, larder) = town().await;
    let mut stream = TcpStream::connect(larder.address).await.unwrap();
    // :method GET, :scheme http, :path /, :authority x (RFC 7541, appendix A).
    let head = [0x82, 0x86, 0x84, 0x41, 1, b'x'];
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for stream in (1..4000).step_by(2) {
        bytes.extend(frame(HEADERS, 5, stream, &head));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    // It may end before all is sent.
    let _ = stream.write_all(&bytes).await;
    assert_eq!(goodbye(&mut stream).await, Some(ENHANCE_YOUR_CALM));
    larder.counted("larder_malformed_requests_total", 1).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (_gitlab, larder) = town().await;
    let mut client = Client::plain(&larder).await;
    let long = "x".repeat(70_000);
    let refused = client.send("/echo", &[("x-long", &long)], "").await;
    assert!(refused.map_or(true, |answer| answer.status() == 431));
    assert_eq!(client.get("/echo", &[]).await.0, 200);
}

/// A body that begins and doesn't end.
struct Endless(Option<Bytes>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(first) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(first)))),
            None => std::task::Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_redirect_that_comes_early_reaches_a_client_that_still_sends() {
    let script = crate::script::Script::start().await;
    let stream = TcpStream::connect(script.larder.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for expect in [false, true] {
        let mut request =
            Request::post("http://larder.test/api/v4/jobs/42/artifacts").header("job-token", "t");
        if expect {
            request = request.header("expect", "100-continue");
        }
        let answer = sender.send_request(request.body(Endless(Some(Bytes::from_static(b"abc")))).unwrap());
        let redirecting = async {
            let mut gitlab = script.accept().await;
            gitlab.request_head().await;
            // What has come goes on, whoever says nothing.
            assert_eq!(gitlab.bytes(8).await, b"3\r\nabc\r\n");
            gitlab
                .send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
                .await;
            gitlab
        };
        let (answer, _gitlab) = tokio::join!(answer, redirecting);
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
            (307, "/there")
        );
    }
    connection.abort();
}

#[tokio::test]
async fn what_looks_like_a_mark_of_larders_own_is_no_other_byte() {
    let script = crate::script::Script::start().await;
    let mut client = Client::plain(&script.larder).await;
    for target in ["/\u{f003c}?\u{f0020}", "/gr\u{fc}n"] {
        let answering = async {
            let mut gitlab = script.accept().await;
            let asked = gitlab.request().await;
            let bytes: String = target.bytes().map(char::from).collect();
            assert_eq!(asked.line, format!("GET {bytes} HTTP/1.1"));
            gitlab.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        };
        let ((status, _), ()) = tokio::join!(client.get(target, &[]), answering);
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn an_idle_connection_is_ended_and_a_busy_one_is_not() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let patience = Duration::from_millis(50);
    let larder = Larder::with(&gitlab, |config| {
        config.server.header_timeout = patience;
        config.server.idle_timeout = patience;
    })
    .await;
    let gate = Gate::new();
    gate.release(1000);
    gitlab.fault(Fault::new(Effect::Slow(gate.clone())).once());
    let mut busy = Client::plain(&larder).await;
    let answer = busy.open("/bytes/200000", &[]).await;
    let mut idle = Client::plain(&larder).await;
    assert_eq!(idle.get("/echo", &[]).await.0, 200);
    (&mut idle.connection).await.unwrap().unwrap();
    // Half a preface is no reason to wait either.
    let mut silent = TcpStream::connect(larder.address).await.unwrap();
    silent.write_all(&PREFACE[..5]).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    gate.open();
    assert_eq!(whole(answer).await.unwrap().1.len(), 200_000);
}

#[tokio::test]
async fn at_the_end_what_runs_finishes_and_nothing_new_begins() {
    let (gitlab, larder) = town().await;
    let gate = Gate::new();
    gate.release(1000);
    gitlab.fault(Fault::new(Effect::Slow(gate.clone())).once());
    let mut busy = Client::plain(&larder).await;
    let mut idle = Client::plain(&larder).await;
    assert_eq!(idle.get("/echo", &[]).await.0, 200);
    let answer = busy.open("/bytes/200000", &[]).await;
    let stopping = tokio::spawn(larder.stop());
    (&mut idle.connection).await.unwrap().unwrap();
    gate.open();
    assert_eq!(whole(answer).await.unwrap().1.len(), 200_000);
    stopping.await.unwrap();
    assert!(busy.send("/echo", &[], "").await.is_err());
}

#[tokio::test]
async fn http1_goes_on_beside_it_pipelined_and_old() {
    let (_gitlab, larder) = town().await;
    let mut wire = raw::Wire::to(larder.address).await;
    // It begins as the preface does, for as long as that can be.
    let first = b"PROPFIND /echo?1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let second = b"GET /echo?2 HTTP/1.1\r\nHost: x\r\n\r\n";
    wire.send(&[&first[..], second].concat()).await;
    for query in ["?1", "?2"] {
        let answer = wire.answer(false).await;
        assert!(answer.json().to_string().contains(query), "{query}");
    }
    let old = raw::exchange(larder.address, b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(old.status(), 200);
    let tiny = raw::exchange(larder.address, b"P /echo HTTP/1.0\r\n\r\n").await;
    assert_ne!(tiny.status(), 0);
}
