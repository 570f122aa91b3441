//! A GitLab that says what a test makes it say, byte for byte.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use larder::config::Config;
use tokio::net::TcpListener;

use crate::raw::{Answer, Wire};
use crate::support::Larder;

/// A listener, and a larder before it.
pub(crate) struct Script {
    listener: TcpListener,
    open: Mutex<Vec<Wire>>,
    pub(crate) larder: Larder,
}

impl Script {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let larder = Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), change).await;
        Self { listener, open: Mutex::default(), larder }
    }

    /// The authority by which larder knows it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection that larder makes.
    pub(crate) async fn accept(&self) -> Wire {
        Wire::of(self.listener.accept().await.unwrap().0)
    }

    /// The next request, over whichever connection it comes: larder may have made some that it doesn't need after all.
    pub(crate) async fn request(&self) -> (Wire, Answer) {
        let mut wire = poll_fn(|cx| {
            let mut open = self.open.lock().unwrap();
            while let Poll::Ready(accepted) = self.listener.poll_accept(cx) {
                open.push(Wire::of(accepted.unwrap().0));
            }
            // Those that have ended go: a task may only poll so many in one turn.
            open.retain(|wire| wire.poll_any(cx) != Poll::Ready(false));
            let ready = (0..open.len()).find(|at| open[*at].poll_any(cx) == Poll::Ready(true));
            ready.map_or(Poll::Pending, |at| Poll::Ready(open.swap_remove(at)))
        })
        .await;
        let request = wire.request().await;
        (wire, request)
    }

    /// Gives a connection back, over which further requests may come.
    pub(crate) fn keep(&self, wire: Wire) {
        self.open.lock().unwrap().push(wire);
    }

    /// Closes what was given back.
    pub(crate) fn close_kept(&self) {
        self.open.lock().unwrap().clear();
    }

    /// A client's connection to larder.
    pub(crate) async fn client(&self) -> Wire {
        Wire::to(self.larder.address).await
    }

    /// A connection of a client's on which this was sent, and the one over which it came out.
    pub(crate) async fn sent(&self, request: &[u8]) -> (Wire, Wire) {
        let mut client = self.client().await;
        client.send(request).await;
        (client, self.accept().await)
    }
}
