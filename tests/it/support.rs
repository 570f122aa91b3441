//! A larder in this process, and a client that tells a whole answer from one that broke off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gitlab_standin::GitLab;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use larder::app::{App, Reload};
use larder::base::clock::Clock;
use larder::config::Config;
use larder::store::{ReadMode, TimeShare};
use larder::telemetry::Metrics;
use larder::telemetry::metrics::Sizes;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The Unix time at which tests begin.
pub(crate) const START: u64 = 1_800_000_000;

/// A configuration for tests: ephemeral ports, one minute of ttl, the given upstream and directory.
pub(crate) fn config(upstream: &str, dir: &std::path::Path) -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Config {
        server: larder::server::Settings {
            listen: vec![larder::server::ListenAddress::Tcp { at: any, plain: false }],
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
            max_connections_per_address: 0,
            least: larder::base::pace::Least { rate: 1024, over: Duration::from_secs(60) },
            header_timeout: Duration::from_secs(30),
            memory: 256 << 20,
            idle_timeout: Duration::from_secs(75),
            shutdown_delay: Duration::ZERO,
            drain: Duration::from_secs(5),
            tls: None,
        },
        upstream: larder::upstream::Settings {
            url: upstream.parse().unwrap(),
            external_url: None,
            ca_file: None,
            tls: larder::upstream::TlsSettings::default(),
            storage_ca_file: None,
            proxy: larder::upstream::ProxySettings::default(),
            http2: larder::upstream::Http2::Auto,
            storage_hosts: None,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(60),
            resume_timeout: Duration::from_secs(60),
            max_connection_age: Duration::from_secs(600),
            retry_store: Duration::from_secs(30),
            max_connections: 4096,
        },
        store: larder::store::Settings {
            dir: dir.to_owned(),
            max_size: (8 << 30).into(),
            max_object: None,
            min_free: 0,
            max_age: Duration::from_secs(30 * 86_400),
            instance: Some("test".to_owned()),
            read: ReadMode::Mapped,
            scrub: TimeShare::NONE,
        },
        serving: larder::proxy::Settings {
            on_file: larder::proxy::OnFile::Archive,
            gzip: larder::proxy::GzipFor::Text,
            ignore_fields: Arc::default(),
        },
        access: larder::access::Settings { ttl: Duration::from_secs(60), grace: Duration::ZERO },
        admin: larder::admin::Settings { listen: any, hosts: Vec::new() },
        log: larder::telemetry::log::LogSettings {
            format: larder::telemetry::log::Format::Json,
            level: larder::telemetry::log::Level::Trace,
        },
    }
}

/// A running larder; it drains and ends when it is dropped or [stopped](Larder::stop).
pub(crate) struct Larder {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// All places where clients connect.
    pub(crate) listening: Vec<larder::server::ListenAddress>,
    pub(crate) clock: Clock,
    pub(crate) dir: Arc<TempDir>,
    /// What changes its configuration.
    pub(crate) reload: Reload,
    metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Larder {
    /// A larder with a directory of its own.
    pub(crate) async fn start(gitlab: &GitLab) -> Self {
        Self::with(gitlab, |_| ()).await
    }

    /// The same with another configuration.
    pub(crate) async fn with(gitlab: &GitLab, change: impl FnOnce(&mut Config)) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::on(&gitlab.url(), dir, change).await
    }

    /// A larder on a directory that may have been another's before.
    pub(crate) async fn on(upstream: &str, dir: Arc<TempDir>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(upstream, dir.path());
        change(&mut config);
        let clock = Clock::manual(START);
        let app = App::start(config, clock.clone()).await.unwrap();
        let (address, admin) = app.addresses().unwrap();
        let listening = app.listening().unwrap();
        let (metrics, reload) = (app.metrics(), app.reload());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(app.serve(async {
            let _ = stopped.await;
        }));
        Self { address, admin, listening, clock, dir, reload, metrics, stop: Some(stop), serving }
    }

    /// Stops it and waits until it has drained; gives its directory back.
    pub(crate) async fn stop(mut self) -> Arc<TempDir> {
        drop(self.stop.take());
        (&mut self.serving).await.unwrap();
        Arc::clone(&self.dir)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A line of the metrics page, as a number; 0 if there is none.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let page = self.metrics.render(Sizes::default());
        let found = page.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Drop for Larder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer, as far as it came.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether its body ended as its framing promised.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    /// The value of `Cache-Status`.
    pub(crate) fn cache(&self) -> &str {
        self.field("cache-status").unwrap_or_default()
    }
}

/// A request on its way: head there, body to be read.
pub(crate) struct Exchange {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    body: hyper::body::Incoming,
    connection: JoinHandle<()>,
}

impl Exchange {
    /// The next piece of the body; `None` at its end, `Err` if it broke off.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Everything that still comes.
    pub(crate) async fn rest(mut self) -> Reply {
        let mut body = Vec::new();
        let whole = loop {
            match self.next().await {
                Some(Ok(data)) => body.extend_from_slice(&data),
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        Reply { status: self.status, fields: self.fields.clone(), body: body.into(), whole }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Sends a request on a connection of its own and waits for the head of its answer; `None` if the connection ended
/// without one. `url` is absolute; its path and query go out byte for byte.
pub(crate) async fn open(
    method: Method,
    url: &str,
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Option<Exchange> {
    let (authority, target) = split(url);
    let stream = TcpStream::connect(authority).await.unwrap();
    exchange(stream, method, (authority, target), fields, body).await
}

/// The same over a stream that is there: `place` is the authority and the target.
pub(crate) async fn exchange<S>(
    stream: S,
    method: Method,
    (authority, target): (&str, &str),
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Option<Exchange>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().unwrap();
    request.headers_mut().insert("host", HeaderValue::from_str(authority).unwrap());
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_str(value).unwrap();
        if name == "host" {
            request.headers_mut().insert(name, value);
        } else {
            request.headers_mut().append(name, value);
        }
    }
    let response = sender.send_request(request).await.ok()?;
    let (parts, body) = response.into_parts();
    Some(Exchange { status: parts.status, fields: parts.headers, body, connection })
}

/// Sends a request and reads its answer; it must have a head.
pub(crate) async fn send(method: Method, url: &str, fields: &[(&str, &str)]) -> Reply {
    open(method, url, fields, Bytes::new()).await.expect("an answer").rest().await
}

/// GETs.
pub(crate) async fn get(url: &str, fields: &[(&str, &str)]) -> Reply {
    send(Method::GET, url, fields).await
}

/// The same URL at larder instead of GitLab.
pub(crate) fn through(gitlab: &GitLab, larder: &Larder, url: &str) -> String {
    let path = url.strip_prefix(&format!("http://{}", gitlab.address())).expect("a URL of GitLab's");
    format!("{}{path}", larder.url())
}

fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").expect("plain http");
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, target) = rest.split_at(slash);
    (authority, if target.is_empty() { "/" } else { target })
}

impl Larder {
    /// The same as a whole number.
    pub(crate) fn count(&self, line: &str) -> i64 {
        format!("{:.0}", self.metric(line)).parse().unwrap()
    }

    /// Waits until it has looked at the files that it found in its store.
    pub(crate) async fn checked(&self) {
        let url = format!("http://{}/metrics", self.admin);
        let checked = async {
            let done = b"larder_store_shards_unchecked 0\n";
            while !get(&url, &[]).await.body.windows(done.len()).any(|line| line == done) {}
        };
        tokio::time::timeout(Duration::from_secs(60), checked).await.expect("all files are looked at");
    }

    /// Waits until so many archives have been stored in all: an answer's last byte goes out before.
    pub(crate) async fn stored(&self, archives: usize) {
        self.counted("larder_fills_total{result=\"stored\"}", archives).await;
    }

    /// Waits until a line of the metrics page has come to this number.
    pub(crate) async fn counted(&self, line: &str, number: usize) {
        let number: f64 = u32::try_from(number).unwrap().into();
        let counted = async {
            while self.metric(line) < number {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), counted).await.expect("so many are counted");
    }
}

/// A DER object as a PEM file.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(der))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0u32, |bits, n| bits << 8 | u32::from(*chunk.get(n).unwrap_or(&0)));
        let digit = |n: usize| char::from(DIGITS[usize::try_from(bits >> (18 - 6 * n) & 63).unwrap()]);
        (0..4).map(|n| if n <= chunk.len() { digit(n) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
