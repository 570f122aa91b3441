//! Who answers requests, as the server sees it: it stands above, and the server names nothing of it.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;

use super::places::ConnPermit;
use crate::base::pace::Least;
use crate::http::hop::Peer;
use crate::store::Mapped;

/// What is spoken on a connection, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1 over a plain socket: the kernel alone reads what answers consist of.
    Http1,
    /// HTTP/1 in TLS.
    Http1Tls,
    /// HTTP/2, in TLS or without: several requests at once.
    Http2,
}

/// What a connection tells of itself with each request.
#[derive(Debug, Clone)]
pub(crate) struct ConnInfo {
    /// The peer.
    pub peer: Peer,
    /// What is spoken.
    pub protocol: Protocol,
    /// The slowest that its client may take or send a body.
    pub least: Least,
    /// What it holds while it is open. Whoever keeps the connection beyond HTTP keeps it as well.
    pub permit: Arc<ConnPermit>,
}

impl ConnInfo {
    /// Whether several requests share the connection.
    pub(crate) fn is_shared(&self) -> bool {
        self.protocol == Protocol::Http2
    }

    /// Whether answers go to a plain socket as they are. Anything else, TLS and the frames of HTTP/2, is read by code of
    /// ours on its way.
    pub(crate) fn is_direct(&self) -> bool {
        self.protocol == Protocol::Http1
    }
}

/// Why there is no request to hand on, and all the same somebody to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unhandled {
    /// A head has begun and didn't come in time.
    SlowHead,
    /// It came as plain HTTP to a port that speaks TLS.
    Unencrypted,
}

/// Answers requests. One for all connections.
pub(crate) trait Handler: Send + Sync + 'static {
    /// What answers consist of.
    type Body: AnswerBody;

    /// Answers a request of a connection. What goes wrong is an answer, or breaks its body off.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: ConnInfo,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The bytes of an HTTP/1.1 answer behind which the connection ends.
    fn refuse(&self, why: Unhandled) -> Vec<u8>;
}

/// An answer's body, and what a connection has to know of it.
pub(crate) trait AnswerBody:
    HttpBody<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static
{
    /// The mapping that its bytes lie in, if they lie in one: the kernel sends them from the file then.
    fn mapped(&self) -> Option<Mapped>;

    /// Whether all of it has been handed out, as far as anybody asks for it.
    fn is_complete(&self) -> bool;
}
