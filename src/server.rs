//! Connections from clients.
//!
//! Owns the listeners, the connections' limits, and how they end: each by itself, with a signal, or broken. Knows HTTP
//! and a service to call; knows nothing of what the service does.

mod connection;
mod io;
mod listen;
mod live;
mod places;
mod socket;
mod stream;
pub mod tls;
mod words;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::pace::Least;
use crate::proxy::Proxy;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Cut;
use connection::Serving;
use listen::Accepted;
pub use listen::{Address, BadAddress, Error, Listeners};
pub use live::Live;
use places::{Place, Places};

/// What the operator decides about clients' connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect, at least one place.
    pub listen: Vec<Address>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections held at once; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Connections held at once from one address, a trusted proxy's aside; 0: no limit but that of all.
    pub max_connections_per_address: usize,
    /// Longest wait for a request's head, which is also the longest idle time of a kept-alive connection.
    pub header_timeout: Duration,
    /// The slowest that a client may take or send a body.
    pub least: Least,
    /// How long running requests may go on after SIGTERM.
    pub drain: Duration,
    /// Certificates; `None`: clients come without TLS.
    pub tls: Option<tls::Settings>,
}

/// A pause after a failed accept, most often for want of descriptors: others must close theirs first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a client comes from that connects through the file system: this machine.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Accepts until `stop` is ready, and returns what still runs then.
pub async fn serve(
    listeners: Listeners,
    live: Arc<Live>,
    proxy: Arc<Proxy>,
    stop: impl Future<Output = ()>,
) -> Draining {
    let door = Door { live, proxy, stopping: watch::Sender::new(()) };
    tokio::select! {
        () = door.accept(&listeners) => {}
        () = stop => {}
    }
    drop(listeners);
    Draining { stopping: door.stopping, live: door.live }
}

/// What lets connections in.
struct Door {
    live: Arc<Live>,
    proxy: Arc<Proxy>,
    /// Each connection that speaks HTTP holds a receiver. hyper-util's own of this kind doesn't know connections that may
    /// be upgraded.
    stopping: watch::Sender<()>,
}

impl Door {
    /// Never ends.
    async fn accept(&self, listeners: &Listeners) {
        let mut last = 0;
        loop {
            self.live.places().some(|| self.live.settings().max_connections).await;
            let (at, accepted) = listeners.accept(last).await;
            last = at;
            match accepted {
                Ok(accepted) => self.admit(accepted),
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
        let metrics = &self.proxy.metrics;
        let Some(place) = self.live.places().take(counted, settings.max_connections_per_address) else {
            metrics.cut(Cut::AddressLimit);
            tracing::debug!(client = %from, "a client has more connections than server.max_connections_per_address");
            socket.reset_at_close();
            return;
        };
        let serving = Serving {
            proxy: Arc::clone(&self.proxy),
            metrics: Arc::clone(metrics),
            tls: tls.filter(|_| !plain),
            patience: settings.header_timeout,
            least: settings.least,
            address: from,
            trusted,
            seat: Arc::new(Seated::new(place, Arc::clone(metrics))),
            stopping: self.stopping.subscribe(),
        };
        crate::rt::spawn(serving.run(socket));
    }
}

/// Connections after the listeners are gone.
#[must_use]
pub struct Draining {
    stopping: watch::Sender<()>,
    live: Arc<Live>,
}

impl Draining {
    /// Closes what is idle and lets running requests finish until `deadline`. Returns how many connections are still
    /// busy then; they are broken off when the program ends.
    pub async fn finish(&self, deadline: Instant) -> usize {
        self.stopping.send_replace(());
        match tokio::time::timeout_at(deadline, self.stopping.closed()).await {
            Ok(()) => 0,
            Err(_) => self.live.places().taken(),
        }
    }
}

/// One connection of those that may be open, counted for as long as it is, in whatever protocol.
struct Seated {
    _place: Place,
    metrics: Arc<Metrics>,
}

impl Seated {
    fn new(place: Place, metrics: Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self { _place: place, metrics }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
