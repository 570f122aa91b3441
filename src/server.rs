//! Connections from clients.
//!
//! Owns the listeners, the connections' limits, what each connection is doing, and how they end: each by itself, with a
//! signal, or broken. Knows HTTP, and a [`Handler`] that stands above it; knows nothing of what that does, and of archives
//! only that bytes of an answer may lie in a mapping.

mod client_stream;
mod conn_state;
mod connection;
mod handler;
mod heads;
mod http1;
mod listen;
mod live;
mod places;
mod quiet;
mod requests;
mod socket;
mod stall;
mod stream;
pub mod tls;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::pace::Least;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CutLabel;
use connection::Serving;
pub(crate) use handler::{AnswerBody, ConnInfo, Handler, Protocol, Unhandled};
use listen::Accepted;
pub(crate) use listen::Listeners;
pub use listen::{Error, ListenAddress};
pub(crate) use live::LiveSettings;
pub(crate) use places::ConnPermit;
use places::ConnPlaces;
use quiet::Quiet;

/// What the operator decides about clients' connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect, at least one place.
    pub listen: Vec<ListenAddress>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections held at once. When one more comes the oldest on which nothing is being asked makes room; if there is
    /// none, further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Connections held at once from one address, a trusted proxy's aside; 0: no limit but that of all.
    pub max_connections_per_address: usize,
    /// Longest wait for a request's head.
    pub header_timeout: Duration,
    /// How long a connection on which something was asked is kept for the next request.
    pub idle_timeout: Duration,
    /// The slowest that a client may take or send a body.
    pub least: Least,
    /// Memory that answers under way may hold, bytes.
    pub memory: u64,
    /// How long clients are served as before after SIGTERM, while it is said that they should go elsewhere.
    pub shutdown_delay: Duration,
    /// How long larder goes on after that at most; requests that run may take all of it but a tenth, or 2s.
    pub drain: Duration,
    /// Certificates; `None`: clients come without TLS.
    pub tls: Option<tls::ServerTls>,
}

/// A pause after a failed accept, most often for want of descriptors: others must close theirs first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a client comes from that connects through the file system: this machine.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Accepts until `stop` is ready, and returns what still runs then.
pub(crate) async fn serve<H: Handler>(
    listeners: Listeners,
    live: Arc<LiveSettings>,
    handler: Arc<H>,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) -> Draining {
    let door = Door { live, handler, metrics, quiet: Arc::default(), stopping: watch::Sender::new(()) };
    tokio::select! {
        () = door.accept(&listeners) => {}
        () = stop => {}
    }
    drop(listeners);
    Draining { stopping: door.stopping, live: door.live }
}

/// What lets connections in.
struct Door<H> {
    live: Arc<LiveSettings>,
    handler: Arc<H>,
    metrics: Arc<Metrics>,
    quiet: Arc<Quiet>,
    /// Each connection that speaks HTTP holds a receiver. hyper-util's own of this kind doesn't know connections that may
    /// be upgraded.
    stopping: watch::Sender<()>,
}

impl<H: Handler> Door<H> {
    /// Never ends.
    async fn accept(&self, listeners: &Listeners) {
        let mut last = 0;
        loop {
            let (at, accepted) = listeners.accept(last).await;
            last = at;
            match accepted {
                Ok(accepted) => {
                    // This one is more than there may be, for as long as it waits.
                    let most = || self.live.settings().max_connections;
                    self.live.places().some(most, || self.quiet.make_room()).await;
                    self.admit(accepted);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, accepted: Accepted) {
        let Accepted { socket, address, plain } = accepted;
        let (settings, tls) = (self.live.settings(), self.live.certificates());
        let from = address.unwrap_or(HERE);
        let trusted = settings.trusted_proxies.iter().any(|net| net.contains(&from));
        let counted = address.filter(|_| !trusted);
        let Some(place) = self.live.places().take(counted, settings.max_connections_per_address) else {
            self.metrics.cut(CutLabel::AddressLimit);
            tracing::debug!(client = %from, "a client has more connections than server.max_connections_per_address");
            socket::reset_at_close(&socket);
            return;
        };
        let serving = Serving {
            handler: Arc::clone(&self.handler),
            metrics: Arc::clone(&self.metrics),
            tls: tls.filter(|_| !plain),
            patience: settings.header_timeout,
            idle: settings.idle_timeout,
            least: settings.least,
            address: from,
            trusted,
            permit: Arc::new(ConnPermit::new(place, Arc::clone(&self.metrics))),
            stopping: self.stopping.subscribe(),
            quiet: Arc::clone(&self.quiet),
        };
        crate::base::rt::spawn(serving.run(socket));
    }
}

/// Connections after the listeners are gone.
#[must_use]
pub(crate) struct Draining {
    stopping: watch::Sender<()>,
    live: Arc<LiveSettings>,
}

impl Draining {
    /// Closes what is idle and lets running requests finish until `deadline`. Returns how many connections are still
    /// busy then; they are broken off when the program ends.
    pub(crate) async fn finish(&self, deadline: Instant) -> usize {
        self.stopping.send_replace(());
        match tokio::time::timeout_at(deadline, self.stopping.closed()).await {
            Ok(()) => 0,
            Err(_) => self.live.places().taken(),
        }
    }
}
