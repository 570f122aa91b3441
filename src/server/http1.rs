//! What an HTTP/1 client sends, on its way to hyper.
//!
//! Targets are marked as they come. And hyper knows one time for a head and for the wait before it, and tells nobody of a
//! head that came too slowly: here are two, and whoever takes too long for either finds the connection ended, by what looks
//! to hyper like its client's own end. To a head that has begun and doesn't come larder's answer is written then. What isn't
//! HTTP is hyper's to answer, with a bare status.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::conn_state::ConnState;
use super::heads::Heads;

/// Reads what an HTTP/1 client sends.
pub(super) struct RequestReader {
    state: Arc<ConnState>,
    patience: Patience,
    /// What is waited for, by how many requests there have been and whether the next one has begun, and until when.
    waits: Option<(u64, bool)>,
    alarm: Option<Pin<Box<Sleep>>>,
    /// How many requests had come when bytes came of which none is one yet.
    heard: Option<u64>,
    heads: Heads,
    /// What was read and is to be handed on, otherwise than it came.
    marked: VecDeque<u8>,
}

/// How long a connection is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a request's head, the first byte included where nothing was asked yet.
    pub(super) head: Duration,
    /// For the next request's first byte.
    pub(super) idle: Duration,
}

impl RequestReader {
    pub(super) fn new(state: Arc<ConnState>, patience: Patience) -> Self {
        let (heads, marked) = (Heads::new(), VecDeque::new());
        Self { state, patience, waits: None, alarm: None, heard: None, heads, marked }
    }

    pub(super) fn poll_read(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        while self.marked.is_empty() {
            match Pin::new(&mut *from).poll_read(cx, buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => return self.poll_late(cx).map(Ok),
            }
            let read = buffer.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.heard = self.state.idle_since().or(self.heard);
            match self.heads.read(read) {
                None => return Poll::Ready(Ok(())),
                Some(instead) => self.marked = instead.into(),
            }
            buffer.set_filled(before);
        }
        self.hand_on(buffer);
        Poll::Ready(Ok(()))
    }

    /// Hands on what is to be read instead of what came, as much of it as there is room for.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let (first, _) = self.marked.as_slices();
        let fits = first.len().min(buffer.remaining());
        buffer.put_slice(first.get(..fits).unwrap_or_default());
        self.marked.drain(..fits);
        if self.marked.is_empty() {
            self.marked = VecDeque::new();
        }
    }

    /// What is waited for, if no request is being answered: see `waits`.
    fn awaited(&self) -> Option<(u64, bool)> {
        let asked = self.state.idle_since()?;
        Some((asked, self.heard == Some(asked)))
    }

    /// Ready once a head, or the next request, has been waited for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wait @ (_, half)) = self.awaited() else {
            self.waits = None;
            return Poll::Pending;
        };
        loop {
            ready!(self.poll_alarm(wait, cx));
            if half || !self.state.is_unfinished() {
                break;
            }
            // The last bytes of an answer are still on their way.
            self.waits = None;
        }
        if half {
            self.state.set_late();
        }
        Poll::Ready(())
    }

    /// Ready once this has been waited for too long.
    fn poll_alarm(&mut self, wait: (u64, bool), cx: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience.head)));
        if self.waits != Some(wait) {
            let (asked, half) = wait;
            let patience = if half || asked == 0 { self.patience.head } else { self.patience.idle };
            alarm.as_mut().reset(Instant::now() + patience);
            self.waits = Some(wait);
        }
        alarm.as_mut().poll(cx)
    }

    /// Starts the timer of a wait that has just begun. A read that found nothing while a request was being answered is all
    /// that hyper waits for then: it doesn't read again when the answer is done, and a connection whose last request took
    /// longer than an earlier timer would have none. But it flushes at the end of each of its turns, also of the one in
    /// which it lets go of the answer. That the time is over is told to its next read.
    pub(super) fn begin_wait(&mut self, cx: &mut Context<'_>) {
        let begun = self.awaited().filter(|wait| self.waits != Some(*wait));
        if begun.is_some_and(|wait| self.poll_alarm(wait, cx).is_ready()) {
            cx.waker().wake_by_ref();
        }
    }
}
