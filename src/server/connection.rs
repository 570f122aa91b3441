//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::io::Breakable;
use super::stream::Stream;
use super::tls::Certificates;
use crate::hop::Peer;
use crate::proxy::{Connection, Proxy, Reported, Seat};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Cut;

/// Largest request head: what GitLab's nginx takes (`large_client_header_buffers 4 8k`), doubled for long job tokens.
const MAX_HEAD: usize = 64 << 10;

/// Bytes of an answer that wait in a connection where they are copies: two slices, and room for a head. It also bounds a
/// request's head, so it is more than that.
const COPIES: usize = 128 << 10;

/// What a connection is served with.
pub(super) struct Serving {
    pub(super) proxy: Arc<Proxy>,
    pub(super) metrics: Arc<Metrics>,
    /// `None`: it is plain.
    pub(super) tls: Option<Arc<Certificates>>,
    /// Longest wait for a handshake, for a request's head, and for the next request.
    pub(super) patience: Duration,
    pub(super) address: IpAddr,
    pub(super) trusted: bool,
    pub(super) seat: Seat,
    pub(super) stopping: watch::Receiver<()>,
}

impl Serving {
    /// Serves it to its end.
    pub(super) async fn run(self, stream: TcpStream) {
        let socket = Breakable::new(stream);
        let wire = socket.wire();
        let stream = match &self.tls {
            None => {
                wire.set_direct();
                Stream::Plain(socket)
            }
            Some(certificates) => match self.handshake(certificates, socket).await {
                Some(stream) => stream,
                None => return,
            },
        };
        let peer = Peer { address: self.address, trusted: self.trusted, secure: self.tls.is_some() };
        let connection = Connection { peer, wire, seat: Arc::clone(&self.seat) };
        if let Err(error) = self.http1(stream, connection).await {
            self.ended(&error);
        }
    }

    async fn handshake(&self, certificates: &Arc<Certificates>, socket: Breakable) -> Option<Stream> {
        if certificates.is_due() {
            let certificates = Arc::clone(certificates);
            // A panic in it is logged; the old ones are there.
            let _ = crate::rt::blocking(move || certificates.look()).await;
        }
        let handshake = TlsAcceptor::from(certificates.current()).accept(socket);
        match timeout(self.patience, handshake).await {
            Ok(Ok(stream)) => return Some(Stream::Tls(Box::new(stream))),
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
            // What GitLab sent keeps its case; what we add is written as it writes: scripts grep.
            .preserve_header_case(true)
            .title_case_headers(true);
        if self.tls.is_some() {
            builder.max_buf_size(COPIES);
        }
        let proxy = Arc::clone(&self.proxy);
        let service = service_fn(move |request| answer(Arc::clone(&proxy), request, connection.clone()));
        let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        self.until_stopped(serving, http1::UpgradeableConnection::graceful_shutdown).await
    }

    /// Serves a connection that is told to end when all are: what runs finishes, what is idle is closed.
    async fn until_stopped<C>(&self, serving: C, end: fn(Pin<&mut C>)) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut serving = std::pin::pin!(serving);
        let mut stopping = self.stopping.clone();
        tokio::select! {
            ended = &mut serving => ended,
            _ = stopping.changed() => {
                end(serving.as_mut());
                serving.await
            }
        }
    }

    fn ended(&self, error: &hyper::Error) {
        if error.is_parse() {
            self.metrics.malformed();
            tracing::debug!(%error, client = %self.address, "a connection sent what isn't HTTP");
        }
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
