//! Connections from clients.
//!
//! Owns the listener, the connections' limits, and how they end: each by itself, with a signal, or broken. Knows HTTP
//! and a service to call; knows nothing of what the service does.

mod io;

use std::convert::Infallible;
use std::future::Future;
use std::io as stdio;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::hop::Peer;
use crate::proxy::{Connection, Proxy, Reported};
use crate::telemetry::Metrics;
use io::Breakable;

/// What the operator decides about the listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections held at once; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Longest wait for a request's head, which is also the longest idle time of a kept-alive connection.
    pub header_timeout: Duration,
    /// How long running requests may go on after SIGTERM.
    pub drain: Duration,
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody has the port.
    #[error(
        "server.listen {address} is in use by another process; stop that one or choose another (server.listen)"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address can't be had.
    #[error("can't listen on {address}: {reason}; choose an address of this machine (server.listen)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        reason: stdio::Error,
    },
}

/// Largest request head: what GitLab's nginx takes (`large_client_header_buffers 4 8k`), doubled for long job tokens.
const MAX_HEAD: usize = 64 << 10;

/// A pause after a failed accept, most often for want of descriptors: others must close theirs first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the listener.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|reason| match reason.kind() {
        stdio::ErrorKind::AddrInUse => Error::InUse { address },
        _ => Error::Listen { address, reason },
    })
}

/// Accepts until `stop` is ready, and returns what still runs then.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    proxy: Arc<Proxy>,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) -> Draining {
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let stopping = watch::Sender::new(());
    let settings = Arc::new(settings);
    let accepting = async {
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let (Ok(slot), Some((stream, peer))) = (slot, accept(&listener).await) else {
                continue;
            };
            let connection = Serving {
                settings: Arc::clone(&settings),
                proxy: Arc::clone(&proxy),
                metrics: Arc::clone(&metrics),
            };
            connection.start(stream, peer, slot, stopping.subscribe());
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
    drop(listener);
    Draining { stopping, slots, max_connections: settings.max_connections }
}

/// Connections after the listener is gone.
#[must_use]
pub struct Draining {
    /// Each connection that speaks HTTP holds a receiver. hyper-util's own of this kind doesn't know connections that may
    /// be upgraded.
    stopping: watch::Sender<()>,
    slots: Arc<Semaphore>,
    max_connections: usize,
}

impl Draining {
    /// Closes what is idle and lets running requests finish until `deadline`. Returns how many connections are still
    /// busy then; they are broken off when the program ends.
    pub async fn finish(self, deadline: Instant) -> usize {
        self.stopping.send_replace(());
        match tokio::time::timeout_at(deadline, self.stopping.closed()).await {
            Ok(()) => 0,
            Err(_) => self.max_connections - self.slots.available_permits(),
        }
    }
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, IpAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // A connection that is gone already says so at its first read.
            let _ = stream.set_nodelay(true);
            // The system's probes end tunnels whose client is gone without a word.
            let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
            Some((stream, peer.ip().to_canonical()))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection can't be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One connection of those that may be open, counted for as long as it is, in whatever protocol.
struct Seated {
    _slot: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Seated {
    fn new(slot: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self { _slot: slot, metrics }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

/// What a connection is served with.
struct Serving {
    settings: Arc<Settings>,
    proxy: Arc<Proxy>,
    metrics: Arc<Metrics>,
}

impl Serving {
    fn start(
        self,
        stream: TcpStream,
        address: IpAddr,
        slot: OwnedSemaphorePermit,
        mut stopping: watch::Receiver<()>,
    ) {
        let trusted = self.settings.trusted_proxies.iter().any(|net| net.contains(&address));
        let stream = Breakable::new(stream);
        let seat = Seated::new(slot, Arc::clone(&self.metrics));
        let connection = Connection {
            peer: Peer { address, trusted, secure: false },
            wire: stream.wire(),
            seat: Arc::new(seat),
        };
        let proxy = self.proxy;
        let service = service_fn(move |request: Request<Incoming>| {
            let (proxy, connection) = (Arc::clone(&proxy), connection.clone());
            async move { Ok::<Response<Reported>, Infallible>(proxy.handle(request, connection).await) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_header_size(MAX_HEAD)
            // What GitLab sent keeps its case; what we add is written as it writes: scripts grep.
            .preserve_header_case(true)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let metrics = self.metrics;
        crate::rt::spawn(async move {
            let mut serving = std::pin::pin!(serving);
            let ended = tokio::select! {
                ended = &mut serving => ended,
                _ = stopping.changed() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = ended
                && error.is_parse()
            {
                metrics.malformed();
                tracing::debug!(%error, client = %address, "a connection sent what isn't HTTP");
            }
        });
    }
}
