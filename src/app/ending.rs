//! How a running larder ends: who tells it to, and how long what still runs may go on.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::proxy::Proxy;
use crate::server::Draining;

/// Lets what runs finish until `deadline`; returns how many connections haven't.
pub(super) async fn drained(draining: &Draining, proxy: &Proxy, deadline: Instant) -> usize {
    // Tunnels are connections as well, of which the first doesn't wait; those left at the deadline are in both.
    let busy = draining.finish(deadline).await;
    let tunnels = proxy.tunnels.finish(deadline).await;
    // Changes whose clients have left are under way all the same.
    let _ = tokio::time::timeout_at(deadline, proxy.left.is_over()).await;
    // What was being fetched is worth its last bytes, if nobody has to wait longer than he was told.
    let _ = tokio::time::timeout_at(deadline, proxy.fills.idle()).await;
    busy.max(tunnels)
}

pub(super) async fn ended(mut end: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = end.wait_for(|end| *end).await;
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
