//! Bodies on their way to a client.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::mend::{Sound, Unpacked};
use crate::fill::Awaited;
use crate::hop;
use crate::num::to_u64;
use crate::store::{Growing, Mapped};
use crate::telemetry::metrics::From;
use crate::upstream::Fetched;

/// What makes a body break off. The connection breaks with it.
pub(crate) type Error = Box<dyn StdError + Send + Sync>;

/// A body. Its size, where it has one, is the answer's `Content-Length`.
pub enum Body {
    /// Text of ours, or a refusal of GitLab's; also no body.
    Whole(Bytes),
    /// An entry that is kept unpacked.
    Stored(Bytes),
    /// Slices of an archive.
    Slices(Sound),
    /// An archive that is arriving; it stays counted while it is read.
    Growing(Growing, Awaited),
    /// An entry of an archive, checked on its way.
    Entry(Unpacked),
    /// One after the other, of known lengths: several ranges, or a gzip member.
    Chain(Chain),
    /// GitLab's, passed through: what was read already, and the rest.
    Through(Bytes, Fetched),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({:?})", self.size_hint())
    }
}

impl Body {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    /// Allows slices of mappings: the body goes to a plain socket and is read by nobody on its way.
    pub(super) fn allow_mapped(&mut self) {
        match self {
            Self::Slices(slices) => slices.allow_mapped(),
            Self::Growing(growing, _) => growing.allow_mapped(),
            Self::Chain(chain) => chain.bodies.iter_mut().for_each(Self::allow_mapped),
            Self::Whole(_) | Self::Stored(_) | Self::Entry(_) | Self::Through(..) => {}
        }
    }

    /// The mapping that its bytes lie in, if they lie in one.
    pub(super) fn mapped(&self) -> Option<Mapped> {
        match self {
            Self::Slices(slices) => slices.mapped(),
            _ => None,
        }
    }

    /// Where its bytes come from.
    pub(super) const fn from(&self) -> From {
        match self {
            Self::Stored(_) | Self::Slices(_) | Self::Entry(_) => From::Store,
            Self::Chain(chain) => chain.from,
            Self::Growing(..) => From::Fill,
            Self::Whole(_) | Self::Through(..) => From::Upstream,
        }
    }
}

/// Bodies one after the other.
#[derive(Debug)]
pub struct Chain {
    bodies: VecDeque<Body>,
    left: u64,
    from: From,
}

impl Chain {
    /// Chains bodies; `None` if the length of one isn't known.
    pub(super) fn new(bodies: impl IntoIterator<Item = Body>, from: From) -> Option<Self> {
        let bodies: VecDeque<Body> = bodies.into_iter().collect();
        let mut left: u64 = 0;
        for body in &bodies {
            left = left.checked_add(body.size_hint().exact()?)?;
        }
        Some(Self { bodies, left, from })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        while let Some(body) = self.bodies.front_mut() {
            let next = ready!(Pin::new(body).poll_frame(cx));
            if let Some(frame) = next {
                let length = frame.as_ref().map_or(0, |frame| frame.data_ref().map_or(0, Bytes::len));
                self.left = self.left.saturating_sub(to_u64(length));
                return Poll::Ready(Some(frame));
            }
            self.bodies.pop_front();
        }
        Poll::Ready(None)
    }
}

type Next = Option<Result<Frame<Bytes>, Error>>;

fn slice(next: Option<io::Result<Bytes>>) -> Next {
    next.map(|slice| slice.map(Frame::data).map_err(Into::into))
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        match &mut *self {
            Self::Whole(bytes) | Self::Stored(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) | Self::Stored(bytes) => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Self::Slices(slices) => slices.poll_next(cx).map(slice),
            Self::Growing(growing, _) => growing.poll_next(cx).map(slice),
            Self::Entry(entry) => entry.poll_next(cx).map(slice),
            Self::Chain(chain) => chain.poll_frame(cx),
            Self::Through(first, _) if !first.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(first)))))
            }
            Self::Through(_, rest) => {
                let frame = ready!(Pin::new(&mut *rest).poll_frame(cx)).map(|frame| {
                    let mut frame = frame?;
                    if let Some(trailers) = frame.trailers_mut() {
                        hop::strip_trailers(trailers);
                    }
                    Ok(frame)
                });
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) | Self::Stored(bytes) => bytes.is_empty(),
            Self::Through(first, rest) => first.is_empty() && rest.is_end_stream(),
            Self::Slices(slices) => slices.remaining() == 0,
            Self::Growing(growing, _) => growing.remaining() == Some(0),
            Self::Entry(entry) => entry.remaining() == 0,
            Self::Chain(chain) => chain.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) | Self::Stored(bytes) => SizeHint::with_exact(to_u64(bytes.len())),
            Self::Slices(slices) => SizeHint::with_exact(slices.remaining()),
            Self::Growing(growing, _) => growing.remaining().map_or_else(SizeHint::new, SizeHint::with_exact),
            Self::Entry(entry) => SizeHint::with_exact(entry.remaining()),
            Self::Chain(chain) => SizeHint::with_exact(chain.left),
            Self::Through(first, rest) => match rest.size_hint().exact() {
                Some(size) => SizeHint::with_exact(size.saturating_add(to_u64(first.len()))),
                None => SizeHint::new(),
            },
        }
    }
}
