//! Bodies on their way to a client.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::repair::{Sound, Unpacked};
use crate::base::num::to_u64;
use crate::fill::FillFollower;
use crate::http::hop;
use crate::store::{Mapped, ReadError, Reader};
use crate::telemetry::metrics::BodySource;
use crate::upstream::Fetched;

/// What makes a body break off. The connection breaks with it.
pub(crate) type Error = Box<dyn StdError + Send + Sync>;

/// A text so short that counting it takes as much.
const FEW: usize = 1024;

/// What unpacks an entry: deflate's window and tables, and bytes read ahead.
const UNPACKING: usize = 64 << 10;

/// A body. Its size, where it has one, is the answer's `Content-Length`.
pub(crate) enum Body {
    /// Text of ours, or a refusal of GitLab's; also no body.
    Whole(Bytes),
    /// A refusal of GitLab's whose length GitLab didn't say.
    Unsized(Option<Bytes>),
    /// An entry that is kept unpacked.
    Stored(Bytes),
    /// Slices of an archive.
    Slices(Sound),
    /// An archive that is arriving; it stays counted while it is read.
    Growing(Reader, #[expect(dead_code, reason = "it is kept for its drop")] FillFollower),
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
            Self::Whole(_) | Self::Unsized(_) | Self::Stored(_) | Self::Entry(_) | Self::Through(..) => {}
        }
    }

    /// Makes it hand out little at a time: its connection holds a piece of each of its streams.
    pub(super) fn keep_little(&mut self) {
        match self {
            Self::Slices(slices) => slices.keep_little(),
            Self::Growing(growing, _) => growing.keep_little(),
            Self::Entry(entry) => entry.keep_little(),
            Self::Chain(chain) => chain.bodies.iter_mut().for_each(Self::keep_little),
            Self::Whole(_) | Self::Unsized(_) | Self::Stored(_) | Self::Through(..) => {}
        }
    }

    /// Whether its pieces are memory that nobody counts yet; `direct`: it goes to a plain socket, where mappings are allowed.
    pub(super) fn is_copied(&self, direct: bool) -> bool {
        match self {
            Self::Stored(_) => false,
            Self::Whole(bytes) => bytes.len() > FEW,
            Self::Unsized(bytes) => bytes.as_ref().is_some_and(|bytes| bytes.len() > FEW),
            Self::Slices(slices) => !(direct && slices.is_mappable()),
            Self::Growing(growing, _) => !(direct && growing.is_mappable()),
            Self::Entry(_) | Self::Through(..) => true,
            Self::Chain(chain) => chain.bodies.iter().any(|body| body.is_copied(direct)),
        }
    }

    /// What unpacks it takes, bytes, beside its pieces. Ranges of one entry share it.
    pub(super) fn unpacking(&self) -> usize {
        match self {
            Self::Entry(_) => UNPACKING,
            Self::Chain(chain) => chain.bodies.iter().map(Self::unpacking).max().unwrap_or_default(),
            _ => 0,
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
    pub(super) const fn from(&self) -> BodySource {
        match self {
            Self::Stored(_) | Self::Slices(_) | Self::Entry(_) => BodySource::Store,
            Self::Chain(chain) => chain.from,
            Self::Growing(..) => BodySource::Fill,
            Self::Whole(_) | Self::Unsized(_) | Self::Through(..) => BodySource::Upstream,
        }
    }
}

/// Bodies one after the other.
#[derive(Debug)]
pub(crate) struct Chain {
    bodies: VecDeque<Body>,
    left: u64,
    from: BodySource,
}

impl Chain {
    /// Chains bodies; `None` if the length of one isn't known.
    pub(super) fn new(bodies: impl IntoIterator<Item = Body>, from: BodySource) -> Option<Self> {
        let bodies: VecDeque<Body> = bodies.into_iter().collect();
        let mut left: u64 = 0;
        for body in &bodies {
            left = left.checked_add(body.size_hint().exact()?)?;
        }
        Some(Self { bodies, left, from })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame> {
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

type NextFrame = Option<Result<Frame<Bytes>, Error>>;

fn slice(next: Option<io::Result<Bytes>>) -> NextFrame {
    next.map(|slice| slice.map(Frame::data).map_err(Into::into))
}

fn read(next: Option<Result<Bytes, ReadError>>) -> NextFrame {
    next.map(|slice| slice.map(Frame::data).map_err(Into::into))
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<NextFrame> {
        match &mut *self {
            Self::Whole(bytes) | Self::Stored(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) | Self::Stored(bytes) => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Self::Unsized(bytes) => Poll::Ready(
                bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            ),
            Self::Slices(slices) => slices.poll_next(cx).map(slice),
            Self::Growing(growing, _) => growing.poll_next(cx).map(read),
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
            Self::Unsized(bytes) => bytes.is_none(),
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
            Self::Unsized(bytes) => {
                bytes.as_ref().map_or_else(|| SizeHint::with_exact(0), |_| SizeHint::new())
            }
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
