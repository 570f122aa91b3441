//! What hyper says by itself, in larder's words.
//!
//! hyper answers a request that it can't read with a bare status, and one whose head doesn't come in time with nothing. No
//! service hears of either. On an HTTP/1 connection whatever is written while no request is being answered, and all
//! answers have been written, is such a status: larder's own answer goes out in its place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;
use crate::proxy::{Proxy, Wire};

/// An HTTP/1 connection's stream.
pub(super) struct Worded {
    stream: Stream,
    wire: Arc<Wire>,
    proxy: Arc<Proxy>,
    /// How many requests there had been when everything was written last, if none was being answered.
    quiet: Option<u64>,
    /// What is being said in the place of hyper's words.
    words: Vec<u8>,
}

impl Worded {
    pub(super) const fn new(stream: Stream, wire: Arc<Wire>, proxy: Arc<Proxy>) -> Self {
        Self { stream, wire, proxy, quiet: Some(0), words: Vec::new() }
    }

    /// The status in hyper's own words, if these are some.
    fn status(&self, bytes: &[u8]) -> Option<StatusCode> {
        if self.quiet.is_none() || self.wire.idle_since() != self.quiet {
            return None;
        }
        let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        StatusCode::from_bytes(status).ok().filter(StatusCode::is_client_error)
    }

    /// Writes other words than these, which are all of hyper's; `None` if they aren't hyper's.
    fn poll_words(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<()>>> {
        if self.words.is_empty() {
            self.words = self.proxy.unread(self.status(bytes)?);
        }
        Some(self.poll_rest(cx))
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.words.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.words))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.words.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Worded {
    fn drop(&mut self) {
        if self.wire.is_late() {
            self.stream.write_now(&self.proxy.unread(StatusCode::REQUEST_TIMEOUT));
        }
    }
}

impl AsyncRead for Worded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.wire.hears();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Worded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_words(cx, bytes) {
            Some(said) => said.map_ok(|()| bytes.len()),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.first().map_or(&[][..], |slice| slice);
        match self.poll_words(cx, first) {
            Some(said) => said.map_ok(|()| slices.iter().map(|slice| slice.len()).sum()),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.quiet = self.wire.idle_since();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
