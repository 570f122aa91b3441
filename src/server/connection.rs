//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::io::Breakable;
use super::socket::Socket;
use super::stream::Stream;
use super::tls::{self, Certificates};
use super::words::Worded;
use crate::hop::Peer;
use crate::pace::Least;
use crate::proxy::{Connection, Proxy, Reported, Seat, Wire};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Cut;

/// Largest request head: what GitLab's nginx takes (`large_client_header_buffers 4 8k`), doubled for long job tokens.
const MAX_HEAD: usize = 64 << 10;

/// Bytes of an answer of which no more is taken while they wait in a connection: two slices of what is copied; one of a
/// mapping, which isn't, may be longer alone. It also bounds what is read at once, and a request's head, so it is more
/// than that.
const WAITING: usize = 96 << 10;

/// The same in HTTP/2, of each stream, beside its head.
const STREAM_WAITING: usize = 128 << 10;

/// [`MAX_HEAD`] in HTTP/2, where each field counts 32 bytes more (RFC 9113, 6.5.2).
const MAX_HEAD_LIST: u32 = 64 << 10;

/// What HTTP/2 begins with (RFC 9113, 3.4): a client may know without having been told (3.3).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests at once on one HTTP/2 connection: as many as RFC 9113 (6.5.2) recommends at least.
const STREAMS: u32 = 100;

/// What a client may send ahead, one request and all of a connection's: enough for a line of 100 MB/s and 2.5 ms, or for
/// 10 of them, and all that an upload can make larder hold.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Requests that a client has taken back before they were looked at, and streams that were reset for mistakes of its: more
/// is an attack (CVE-2023-44487 and its kin), and ends the connection.
const RESETS: usize = 20;
const ERRORS: usize = 256;

/// Longest wait for the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// What a connection is served with.
pub(super) struct Serving {
    pub(super) proxy: Arc<Proxy>,
    pub(super) metrics: Arc<Metrics>,
    /// `None`: it is plain.
    pub(super) tls: Option<Arc<Certificates>>,
    /// Longest wait for a handshake, for a request's head, and for the next request.
    pub(super) patience: Duration,
    pub(super) least: Least,
    pub(super) address: IpAddr,
    pub(super) trusted: bool,
    pub(super) seat: Seat,
    pub(super) stopping: watch::Receiver<()>,
}

impl Serving {
    /// Serves it to its end.
    pub(super) async fn run(self, socket: Socket) {
        let socket = Breakable::new(socket, self.least);
        let wire = socket.wire();
        let begun = tokio::select! {
            begun = self.begin(socket) => begun,
            () = self.stopped() => None,
        };
        let Some((stream, protocol)) = begun else { return };
        let peer = Peer { address: self.address, trusted: self.trusted, secure: self.tls.is_some() };
        let (seat, least) = (Arc::clone(&self.seat), self.least);
        let connection = Connection { peer, wire: Arc::clone(&wire), seat, least };
        let ended = match protocol {
            Protocol::Http1 => self.http1(stream, connection).await,
            Protocol::Http2 => Box::pin(self.http2(stream, connection)).await,
        };
        if wire.was_slow() {
            self.metrics.cut(Cut::SlowReader);
            tracing::debug!(client = %self.address, "a client took less than server.min_rate");
        } else if let Err(error) = ended {
            self.ended(&error);
        }
    }

    /// Waits until it shows what is spoken.
    async fn begin(&self, mut socket: Breakable) -> Option<(Stream, Protocol)> {
        if let Some(certificates) = &self.tls {
            return Box::pin(self.handshake(certificates, socket)).await;
        }
        // Whoever says nothing for so long, or is gone, isn't missed.
        let http2 = timeout(self.patience, socket.begins_with(PREFACE)).await.ok()?.ok()?;
        Some((Stream::Plain(socket), if http2 { Protocol::Http2 } else { Protocol::Http1 }))
    }

    async fn handshake(
        &self,
        certificates: &Arc<Certificates>,
        socket: Breakable,
    ) -> Option<(Stream, Protocol)> {
        if certificates.is_due() {
            let certificates = Arc::clone(certificates);
            // A panic in it is logged; the old ones are there.
            let _ = crate::rt::blocking(move || certificates.look()).await;
        }
        let handshake = TlsAcceptor::from(certificates.current()).accept(socket);
        match timeout(self.patience, handshake).await {
            Ok(Ok(stream)) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
                let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
                return Some((Stream::Tls(Box::new(stream)), protocol));
            }
            // Whoever only looks whether somebody listens is no error.
            Ok(Err(error)) if is_gone(&error) => {}
            Ok(Err(error)) => {
                self.metrics.cut(Cut::Tls);
                tracing::debug!(%error, client = %self.address, "a TLS handshake failed");
            }
            Err(_) => {
                self.metrics.cut(Cut::TlsTimeout);
                tracing::debug!(client = %self.address, "a TLS handshake took too long");
            }
        }
        None
    }

    async fn http1(&self, stream: Stream, connection: Connection) -> hyper::Result<()> {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience)
            .max_header_size(MAX_HEAD)
            .max_buf_size(WAITING)
            // What GitLab sent keeps its case; what we add is written as it writes: scripts grep.
            .preserve_header_case(true)
            .title_case_headers(true);
        if self.tls.is_none() {
            connection.wire.set_direct();
        }
        let (proxy, wire) = (Arc::clone(&self.proxy), Arc::clone(&connection.wire));
        // hyper keeps room for an answer's making beside each connection; boxed, idle ones have none.
        let service =
            service_fn(move |request| Box::pin(answer(Arc::clone(&proxy), request, connection.clone())));
        let stream = Worded::new(stream, Arc::clone(&wire), Arc::clone(&self.proxy));
        let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let late = |error: &hyper::Error| {
            // A kept connection on which nothing more is asked just ends.
            if error.is_timeout() && wire.is_half_asked() {
                wire.set_late();
                self.metrics.cut(Cut::SlowHead);
                tracing::debug!(client = %self.address, "a request's head came too slowly");
            }
        };
        until(serving, self.stopped(), http1::UpgradeableConnection::graceful_shutdown, late).await
    }

    async fn http2(&self, stream: Stream, connection: Connection) -> hyper::Result<()> {
        let wire = Arc::clone(&connection.wire);
        wire.set_shared();
        let mut builder = http2::Builder::new(Tasks);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD_LIST)
            .max_send_buf_size(STREAM_WAITING)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(ERRORS)
            .keep_alive_interval(self.patience)
            .keep_alive_timeout(PING_TIMEOUT);
        let proxy = Arc::clone(&self.proxy);
        let service = service_fn(move |request| answer(Arc::clone(&proxy), request, connection.clone()));
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        let enough = async {
            tokio::select! {
                () = self.stopped() => {}
                () = idle(&wire, self.patience) => {}
            }
        };
        let serving = until(serving, enough, http2::Connection::graceful_shutdown, |_| ());
        tokio::select! {
            ended = serving => ended,
            () = wire.is_given_up() => Ok(()),
            // Last bytes that nobody takes are all that can be left then.
            () = self.unended(&wire) => Ok(()),
        }
    }

    /// Ready once an idle connection has been told to go, and hasn't gone in as much time again.
    async fn unended(&self, wire: &Wire) {
        idle(wire, self.patience).await;
        tokio::time::sleep(self.patience).await;
        if wire.idle_since().is_none() {
            // A request came before the client had heard of it.
            std::future::pending::<()>().await;
        }
        wire.give_up();
    }

    /// Ready once all connections are told to end.
    async fn stopped(&self) {
        // A sender that is gone means the same.
        let _ = self.stopping.clone().changed().await;
    }

    fn ended(&self, error: &hyper::Error) {
        if error.is_parse() || is_misuse(error) {
            self.metrics.malformed();
            tracing::debug!(%error, client = %self.address, "a connection sent what isn't HTTP");
        }
    }
}

/// Serves a connection to its end. Once it is enough it is told so: what runs finishes, what is idle is closed. `failed`
/// is told what went wrong while there is the stream.
async fn until<C>(
    serving: C,
    enough: impl Future<Output = ()>,
    end: fn(Pin<&mut C>),
    failed: impl FnOnce(&hyper::Error),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = enough => {
            end(serving.as_mut());
            serving.as_mut().await
        }
    };
    ended.inspect_err(failed)
}

/// Ready once nothing has been asked for as long as `patience`, and nothing is being answered. hyper keeps HTTP/2
/// connections for as long as their clients answer its pings.
async fn idle(wire: &Wire, patience: Duration) {
    let mut before = None;
    loop {
        tokio::time::sleep(patience).await;
        let now = wire.idle_since();
        if now.is_some() && now == before {
            return;
        }
        before = now;
    }
}

/// Whether a client broke the rules of HTTP/2, or asked and took back too often; not whether its connection broke.
fn is_misuse(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.is_library())
}

/// Runs the streams of a connection.
#[derive(Debug, Clone, Copy)]
struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, work: F) {
        crate::rt::spawn(work);
    }
}

async fn answer(
    proxy: Arc<Proxy>,
    request: Request<Incoming>,
    connection: Connection,
) -> Result<Response<Reported>, Infallible> {
    Ok(proxy.handle(request, connection).await)
}

/// Whether a client has left before it had sent anything worth a word.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}
