//! Memory that an answer holds while its client takes it.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Response};
use http_body::Body as _;

use super::body::Body;
use super::{Proxy, answer};
use crate::base::memory::{Full, Lease, Share};
use crate::base::num::to_usize;
use crate::server::{ConnInfo, Protocol};
use crate::telemetry::Outcome;

/// What an HTTP/1 connection with TLS holds of an answer beside its pieces: bytes that were copied to be encrypted, and
/// those that are.
const ENCRYPTED: usize = 160 << 10;

/// Which way an answer goes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionKind {
    direct: bool,
    encrypted: bool,
}

impl ConnectionKind {
    pub(super) fn of(connection: &ConnInfo) -> Self {
        Self { direct: connection.is_direct(), encrypted: connection.protocol == Protocol::Http1Tls }
    }

    /// What an answer holds for as long as it lasts, whatever its client has taken.
    fn throughout(self, body: &Body) -> usize {
        let length = body.size_hint().exact().map_or(ENCRYPTED, |length| to_usize(length).min(ENCRYPTED));
        body.unpacking() + if self.encrypted { length } else { 0 }
    }
}

/// An answer's part of the memory.
#[derive(Debug)]
pub(super) struct Room {
    share: Share,
    /// Whether each piece is counted by itself, or has been already.
    pieces: bool,
    _throughout: Lease,
}

impl Room {
    /// Ready when another piece may be made.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Full>> {
        if self.pieces { self.share.poll_room(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Counts a piece for as long as anybody refers to it.
    pub(super) fn hold(&self, piece: Bytes) -> Bytes {
        if self.pieces { self.share.hold(piece) } else { piece }
    }
}

/// Waits until there is room for an answer; in vain, it is refused. An answer to a change is given all the same: what was
/// changed was. `None`: it holds nothing of ours.
pub(super) async fn make_room(
    proxy: &Arc<Proxy>,
    (method, client): (&Method, IpAddr),
    kind: &ConnectionKind,
    outcome: Outcome,
    response: Response<Body>,
) -> (Option<Room>, Outcome, Response<Body>) {
    let (body, safe) = (response.body(), method.is_safe());
    let pieces = body.is_copied(kind.direct);
    let throughout = kind.throughout(body);
    if body.is_end_stream() || (!pieces && throughout == 0) {
        return (None, outcome, response);
    }
    let mut share = proxy.memory.share(client);
    if safe && Box::pin(share.room()).await.is_err() {
        return (None, Outcome::NoRoom, answer::crowded());
    }
    let room = Room { pieces, _throughout: share.take(throughout), share };
    (Some(room), outcome, response)
}
