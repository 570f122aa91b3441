//! Bodies: where their bytes come from, and the ways in which a fault bends them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::archive::Content;
use crate::counters::Meter;
use crate::fault::Ending;
use crate::gate::Gate;
use crate::net::Conn;

/// Bytes a frame at most: big enough for throughput, small enough for thousands of connections.
const FRAME: u64 = 256 << 10;

/// What a body is made of, in order. Nothing is read before it is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source(VecDeque<(Content, Range<u64>)>);

impl Source {
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::whole(Content::Memory(bytes.into()))
    }

    pub(crate) fn whole(content: Content) -> Self {
        let range = 0..content.len();
        Self::slice(content, range)
    }

    pub(crate) fn slice(content: Content, range: Range<u64>) -> Self {
        Self([(content, range)].into())
    }

    pub(crate) fn push(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(_, range)| range.end - range.start).sum()
    }

    /// Up to `max` bytes; none at the end.
    pub(crate) fn read(&mut self, max: u64) -> io::Result<Option<Bytes>> {
        while let Some((content, range)) = self.0.front_mut() {
            if range.is_empty() {
                self.0.pop_front();
                continue;
            }
            let want = max.min(range.end - range.start);
            let bytes = content.read(range.start, usize::try_from(want).map_err(io::Error::other)?)?;
            range.start += u64::try_from(bytes.len()).map_err(io::Error::other)?;
            return Ok(Some(bytes));
        }
        Ok(None)
    }
}

/// How a body is to be sent.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Break off after so many bytes.
    pub(crate) cut: Option<(u64, Ending)>,
    /// Every byte passes this gate.
    pub(crate) gate: Option<Gate>,
    /// Don't tell hyper the length.
    pub(crate) unsized_body: bool,
}

/// A body on its way out.
pub(crate) struct Payload {
    source: Source,
    plan: Plan,
    sent: u64,
    granted: u64,
    reached_gate: bool,
    flush_mark: Option<u64>,
    conn: Arc<Conn>,
    meter: Meter,
}

impl Payload {
    pub(crate) fn new(source: Source, plan: Plan, conn: Arc<Conn>, meter: Meter) -> Self {
        Self { source, plan, sent: 0, granted: 0, reached_gate: false, flush_mark: None, conn, meter }
    }

    /// The most that the next frame may hold, as the gate has it.
    fn poll_grant(&mut self, context: &mut Context<'_>) -> Poll<u64> {
        let to_cut = self.plan.cut.map_or(u64::MAX, |(after, _)| after - self.sent);
        let want = FRAME.min(to_cut).min(self.source.len());
        let Some(gate) = self.plan.gate.clone() else {
            return Poll::Ready(want);
        };
        if !std::mem::replace(&mut self.reached_gate, true) {
            gate.reach();
        }
        if self.granted == 0 {
            self.granted = ready!(gate.poll_take(want, context));
        }
        Poll::Ready(self.granted.min(want))
    }

    /// Lets out what was sent so far, then breaks the connection.
    fn poll_cut(&mut self, ending: Ending, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.conn.poll_flushed(&mut self.flush_mark, context));
        if ending == Ending::Reset {
            self.conn.reset_on_close();
        }
        Poll::Ready(io::Error::other("cut by a fault"))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if let Some((after, ending)) = this.plan.cut
            && this.sent >= after
        {
            return Poll::Ready(Some(Err(ready!(this.poll_cut(ending, context)))));
        }
        let most = ready!(this.poll_grant(context));
        let Some(bytes) = this.source.read(most)? else {
            return Poll::Ready(None);
        };
        let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        this.sent += read;
        this.granted = this.granted.saturating_sub(read);
        this.meter.sent(read);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        !self.plan.unsized_body && self.plan.cut.is_none() && self.source.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.plan.unsized_body { SizeHint::default() } else { SizeHint::with_exact(self.source.len()) }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.conn.answered();
    }
}
