//! The operator's own listener: health, readiness, metrics; everything else behind a token.
//!
//! Owns: its address, its connections, the token, who may ask for what there. May know: text to serve, handed in as a
//! function. Must not: know the modules it reports on, or trust a caller for being local: any CI job beside larder
//! reaches loopback, and so does a web page in the operator's browser.

mod answer;
mod host;
mod serve;
mod token;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use serve::{bind, serve};
pub(crate) use token::{Token, make_token};

/// What the operator decides about the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Names it may be addressed by besides IP literals and `localhost`; lower case.
    pub hosts: Vec<String>,
}

/// What can go wrong while it is set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody has the port.
    #[error("admin.listen {address} is in use by another process; stop that one or set another address")]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address can't be had for another reason.
    #[error(
        "admin.listen {address} cannot be listened on; set an address of this machine and a port it may use"
    )]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// The token can't be kept.
    #[error("the admin token {path} cannot be written; make cache.dir writable for larder")]
    Token {
        /// Where it should be.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The system has no random numbers.
    #[error("the admin token cannot be made: the system gives no random bytes; check its random device")]
    Random,
}

/// How far larder is, as `/readyz` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Not serving yet.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what runs, taking nothing new.
    Draining,
}

/// Shared by those who know the stage and those who tell it. It only moves on: what drains never is ready again.
#[derive(Debug, Clone)]
pub(crate) struct Readiness(watch::Sender<Phase>);

impl Readiness {
    /// Starting.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }

    /// Moves on to `stage`; going back is ignored.
    pub(crate) fn set(&self, stage: Phase) {
        self.0.send_if_modified(|current| {
            let moves = stage > *current;
            *current = stage.max(*current);
            moves
        });
    }

    /// The stage now.
    pub(crate) fn stage(&self) -> Phase {
        *self.0.borrow()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// Renders the metrics, as `OpenMetrics` text.
pub(crate) type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Everything an answer is made from.
pub(crate) struct Admin {
    hosts: Vec<String>,
    token: Token,
    readiness: Readiness,
    metrics: RenderMetrics,
}

impl Admin {
    /// Puts it together; [`serve`] gives it connections.
    pub(crate) fn new(
        settings: &Settings,
        token: Token,
        readiness: Readiness,
        metrics: RenderMetrics,
    ) -> Self {
        Self { hosts: settings.hosts.clone(), token, readiness, metrics }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("hosts", &self.hosts)
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
