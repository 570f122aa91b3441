//! Connections that have changed their protocol: bytes both ways until both sides have ended.

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::Instant;

use super::body::Body;
use crate::http::hop;
use crate::server::ConnPermit;
use crate::upstream::{self, Fetched};

/// Bytes read from one side before they are written to the other; a tunnel holds twice as much.
const BUFFER: usize = 16 << 10;

/// A client that wants its connection changed.
pub(super) struct Wish {
    /// The client's side, once it is free of HTTP.
    pub(super) client: OnUpgrade,
    /// Held until the tunnel ends.
    pub(super) permit: Arc<ConnPermit>,
    /// The request's ID, for the log.
    pub(super) id: Option<HeaderValue>,
}

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wish({:?})", self.id)
    }
}

/// The tunnels that are open. There is no time-out: a web terminal or a channel of live updates may be silent for hours,
/// and TCP's own probes find peers that are gone. Their number is bounded by `server.max_connections`.
#[derive(Debug)]
pub(crate) struct Tunnels {
    open: watch::Sender<usize>,
    end: watch::Sender<bool>,
    gauge: Gauge,
}

impl Tunnels {
    /// None yet; `gauge` shows how many there are.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self { open: watch::Sender::new(0), end: watch::Sender::new(false), gauge }
    }

    /// Waits until `deadline` for tunnels to end by themselves, then closes those that are left. Returns how many.
    pub(crate) async fn finish(&self, deadline: Instant) -> usize {
        let mut open = self.open.subscribe();
        if tokio::time::timeout_at(deadline, open.wait_for(|open| *open == 0)).await.is_ok() {
            return 0;
        }
        let left = *self.open.borrow();
        self.end.send_replace(true);
        // The sender is ours.
        let _ = open.wait_for(|open| *open == 0).await;
        left
    }

    /// Relays GitLab's 101, and the bytes that follow.
    pub(super) fn switch(
        self: &Arc<Self>,
        wish: Wish,
        response: Response<Fetched>,
    ) -> Result<Response<Body>, upstream::Error> {
        let (mut parts, _) = response.into_parts();
        let protocol = parts.headers.get(header::UPGRADE).cloned();
        let gitlab = parts.extensions.remove::<OnUpgrade>();
        let (Some(protocol), Some(gitlab)) = (protocol, gitlab) else {
            return Err(upstream::Error::unasked_upgrade());
        };
        hop::strip(&mut parts.headers);
        hop::set_upgrade(&mut parts.headers, protocol);
        let guard = OpenTunnel::new(Arc::clone(self));
        crate::base::rt::spawn(guard.run(wish, gitlab));
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = parts.headers;
        *answer.extensions_mut() = parts.extensions;
        Ok(answer)
    }
}

/// One open tunnel, counted.
struct OpenTunnel(Arc<Tunnels>);

impl OpenTunnel {
    fn new(tunnels: Arc<Tunnels>) -> Self {
        tunnels.open.send_modify(|open| *open += 1);
        tunnels.gauge.inc();
        Self(tunnels)
    }

    async fn run(self, wish: Wish, gitlab: OnUpgrade) {
        let mut end = self.0.end.subscribe();
        let id = wish.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let ended = tokio::select! {
            copied = join(wish.client, gitlab) => match copied {
                Ok((up, down)) => format!("closed after {up} bytes up and {down} down"),
                Err(error) => format!("broken: {error}"),
            },
            _ = end.wait_for(|end| *end) => "closed at the end of the drain".to_owned(),
        };
        tracing::info!(request_id = id, %ended, "an upgraded connection has ended");
        drop(wish.permit);
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.gauge.dec();
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// Copies both ways; a side that ends is shut down on the other, which may go on.
async fn join(
    client: OnUpgrade,
    gitlab: OnUpgrade,
) -> Result<(u64, u64), Box<dyn std::error::Error + Send + Sync>> {
    let (client, gitlab) = tokio::try_join!(client, gitlab)?;
    let (mut client, mut gitlab) = (TokioIo::new(client), TokioIo::new(gitlab));
    Ok(tokio::io::copy_bidirectional_with_sizes(&mut client, &mut gitlab, BUFFER, BUFFER).await?)
}
