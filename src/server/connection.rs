//! One connection, from its first byte to its last.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::client_stream::ClientStream;
use super::conn_state::ConnState;
use super::handler::{ConnInfo, Handler, Protocol, Unhandled};
use super::http1::{Patience, RequestReader};
use super::places::ConnPermit;
use super::quiet::Quiet;
use super::requests::Requests;
use super::socket::Socket;
use super::stream::{HttpStream, Transport};
use super::tls::{self, Certificates};
use crate::base::num::to_u64;
use crate::base::pace::Least;
use crate::http::hop::Peer;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CutLabel;

/// Largest request head: what GitLab's nginx takes (`large_client_header_buffers 4 8k`), doubled for long job tokens.
const MAX_HEAD: usize = 64 << 10;

/// Bytes of an answer of which no more is taken while they wait in a connection: two slices of what is copied; one of a
/// mapping, which isn't, may be longer alone. It also bounds what is read at once, and a request's head, so it is more
/// than that.
const WAITING: usize = 96 << 10;

/// The same in HTTP/2, of each stream, beside its head: two frames.
const STREAM_WAITING: usize = 32 << 10;

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

/// What a connection is served with.
pub(super) struct Serving<H> {
    pub(super) handler: Arc<H>,
    pub(super) metrics: Arc<Metrics>,
    /// `None`: it is plain.
    pub(super) tls: Option<Arc<Certificates>>,
    /// Longest wait for a handshake, and for a request's head.
    pub(super) patience: Duration,
    /// Longest wait for the next request.
    pub(super) idle: Duration,
    pub(super) least: Least,
    pub(super) address: IpAddr,
    pub(super) trusted: bool,
    pub(super) permit: Arc<ConnPermit>,
    pub(super) stopping: watch::Receiver<()>,
    pub(super) quiet: Arc<Quiet>,
}

impl<H: Handler> Serving<H> {
    /// Serves it to its end, or until it is quiet and others want in.
    pub(super) async fn run(self, socket: Socket) {
        let socket = ClientStream::new(socket, self.least);
        let guest = self.quiet.enter(socket.state());
        tokio::select! {
            () = self.serve(socket) => {}
            () = guest.told() => {
                self.metrics.cut(CutLabel::Quiet);
                tracing::debug!(client = %self.address, "a quiet connection made room for another");
            }
        }
    }

    async fn serve(&self, socket: ClientStream) {
        let state = socket.state();
        let begun = tokio::select! {
            begun = self.begin(socket) => begun,
            () = self.stopped() => None,
        };
        let Some((stream, protocol)) = begun else { return };
        let peer = Peer { address: self.address, trusted: self.trusted, secure: self.tls.is_some() };
        let connection = ConnInfo { peer, protocol, least: self.least, permit: Arc::clone(&self.permit) };
        let ended = match protocol {
            Protocol::Http1 | Protocol::Http1Tls => self.http1(stream, connection, &state).await,
            Protocol::Http2 => Box::pin(self.http2(stream, connection, &state)).await,
        };
        match (state.cut(), ended) {
            (Some(why), _) => {
                self.metrics.cut(why);
                let said = match why {
                    CutLabel::SlowHead => "a request's head came too slowly",
                    _ => "a client took less than server.min_rate",
                };
                tracing::debug!(client = %self.address, "{said}");
            }
            (None, Err(error)) => self.ended(&error),
            (None, Ok(())) => {}
        }
    }

    /// Waits until it shows what is spoken.
    async fn begin(&self, mut socket: ClientStream) -> Option<(Transport, Protocol)> {
        if let Some(certificates) = &self.tls {
            return Box::pin(self.handshake(certificates, socket)).await;
        }
        // Whoever says nothing for so long, or is gone, isn't missed.
        let http2 = timeout(self.patience, socket.begins_with(PREFACE)).await.ok()?.ok()?;
        Some((Either::Left(socket), if http2 { Protocol::Http2 } else { Protocol::Http1 }))
    }

    async fn handshake(
        &self,
        certificates: &Arc<Certificates>,
        mut socket: ClientStream,
    ) -> Option<(Transport, Protocol)> {
        if certificates.is_due() {
            let certificates = Arc::clone(certificates);
            // A panic in it is logged; the old ones are there.
            let _ = crate::base::rt::blocking(move || certificates.look()).await;
        }
        let handshake = async {
            // What TLS begins with is no character (RFC 8446, 5.1), and what HTTP begins with is one or ends a line.
            match socket.first().await? {
                Some(byte) if byte.is_ascii_graphic() || matches!(byte, b'\r' | b'\n') => {
                    Ok(Either::Left(socket))
                }
                _ => TlsAcceptor::from(certificates.current())
                    .accept(socket)
                    .await
                    .map(|stream| Either::Right(Box::new(stream))),
            }
        };
        match timeout(self.patience, handshake).await {
            Ok(Ok(Either::Left(socket))) => self.refuse_plain(socket).await,
            Ok(Ok(Either::Right(stream))) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
                let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1Tls };
                return Some((Either::Right(stream), protocol));
            }
            // Whoever only looks whether somebody listens is no error.
            Ok(Err(error)) if is_gone(&error) => {}
            Ok(Err(error)) => {
                self.metrics.cut(CutLabel::Tls);
                tracing::debug!(%error, client = %self.address, "a TLS handshake failed");
            }
            Err(_) => {
                self.metrics.cut(CutLabel::TlsTimeout);
                tracing::debug!(client = %self.address, "a TLS handshake took too long");
            }
        }
        None
    }

    /// Tells a client that speaks HTTP where TLS is spoken, and reads what it still sends for a while: a reset would take the
    /// answer with it.
    async fn refuse_plain(&self, mut socket: ClientStream) {
        self.metrics.cut(CutLabel::Tls);
        tracing::debug!(client = %self.address, "plain HTTP on a port that speaks TLS");
        let telling = async {
            socket.write_all(&self.handler.refuse(Unhandled::Unencrypted)).await?;
            socket.shutdown().await?;
            tokio::io::copy(&mut socket.take(to_u64(MAX_HEAD)), &mut tokio::io::sink()).await
        };
        // Whoever has gone meanwhile need not know.
        let _ = timeout(self.patience, telling).await;
    }

    async fn http1(
        &self,
        transport: Transport,
        connection: ConnInfo,
        state: &Arc<ConnState>,
    ) -> hyper::Result<()> {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // hyper knows one time for a head and for the wait before it.
            .header_read_timeout(None)
            .max_header_size(MAX_HEAD)
            .max_buf_size(WAITING)
            // What GitLab sent keeps its case; what we add is written as it writes: scripts grep.
            .preserve_header_case(true)
            .title_case_headers(true);
        let requests = self.requests(connection, state);
        let patience = Patience { head: self.patience, idle: self.idle };
        let reader = RequestReader::new(Arc::clone(state), patience);
        let stream = self.stream(transport, state, Some(reader));
        let serving = builder.serve_connection(TokioIo::new(stream), requests).with_upgrades();
        until(serving, self.stopped(), http1::UpgradeableConnection::graceful_shutdown).await
    }

    async fn http2(
        &self,
        transport: Transport,
        connection: ConnInfo,
        state: &Arc<ConnState>,
    ) -> hyper::Result<()> {
        state.multiplex();
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
        let requests = self.requests(connection, state);
        let stream = self.stream(transport, state, None);
        let serving = builder.serve_connection(TokioIo::new(stream), requests);
        let enough = async {
            tokio::select! {
                () = self.stopped() => {}
                () = self.unasked(state) => {}
            }
        };
        let serving = until(serving, enough, http2::Connection::graceful_shutdown);
        tokio::select! {
            ended = serving => ended,
            () = state.is_given_up() => Ok(()),
            // Last bytes that nobody takes are all that can be left then.
            () = self.unended(state) => Ok(()),
        }
    }

    fn stream(
        &self,
        transport: Transport,
        state: &Arc<ConnState>,
        reader: Option<RequestReader>,
    ) -> HttpStream<H> {
        HttpStream::new(transport, Arc::clone(state), Arc::clone(&self.handler), reader)
    }

    fn requests(&self, connection: ConnInfo, state: &Arc<ConnState>) -> Requests<H> {
        Requests { handler: Arc::clone(&self.handler), connection, state: Arc::clone(state) }
    }

    /// Ready once an idle connection has been told to go, and hasn't gone in as much time again.
    async fn unended(&self, state: &ConnState) {
        self.unasked(state).await;
        tokio::time::sleep(self.patience).await;
        if state.idle_since().is_none() {
            // A request came before the client had heard of it.
            std::future::pending::<()>().await;
        }
        state.give_up();
    }

    /// Ready once nothing has been asked for too long, and nothing is being answered. hyper keeps HTTP/2 connections for as
    /// long as their clients answer its pings.
    async fn unasked(&self, state: &ConnState) {
        let mut before = None;
        loop {
            let first = state.idle_since() == Some(0);
            tokio::time::sleep(if first { self.patience } else { self.idle }).await;
            let now = state.idle_since();
            if now.is_some() && now == before {
                return;
            }
            before = now;
        }
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

/// Serves a connection to its end. Once it is enough it is told so: what runs finishes, what is idle is closed.
async fn until<C>(serving: C, enough: impl Future<Output = ()>, end: fn(Pin<&mut C>)) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended,
        () = enough => {
            end(serving.as_mut());
            serving.as_mut().await
        }
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
        crate::base::rt::spawn(work);
    }
}

/// Whether a client has left before it had sent anything worth a word.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}
