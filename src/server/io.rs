//! A stream that can be reset instead of closed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::num::to_u64;
use crate::proxy::Wire;
use crate::store::Part;

/// A client's stream. Once it is marked as broken it ends with a reset: a client whose answer has no length (HTTP/1.0,
/// or chunks that a careless one doesn't count) would take an orderly close for the answer's end.
#[derive(Debug)]
pub(super) struct Breakable {
    stream: TcpStream,
    wire: Arc<Wire>,
    /// What was read to see which protocol it is, and is to be read again.
    ahead: Vec<u8>,
}

impl Breakable {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, wire: Arc::default(), ahead: Vec::new() }
    }

    /// Whether the first bytes that come are these. Waits until that shows.
    pub(super) async fn begins_with(&mut self, expected: &[u8]) -> io::Result<bool> {
        let mut ahead = Vec::with_capacity(expected.len());
        while expected.starts_with(&ahead) && ahead.len() < expected.len() {
            let left = to_u64(expected.len() - ahead.len());
            if (&mut self.stream).take(left).read_buf(&mut ahead).await? == 0 {
                break;
            }
        }
        self.ahead = ahead;
        Ok(self.ahead == expected)
    }

    /// What answers tell it.
    pub(super) fn wire(&self) -> Arc<Wire> {
        Arc::clone(&self.wire)
    }

    /// Whether an answer has broken off.
    pub(super) fn is_broken(&self) -> bool {
        self.wire.is_broken()
    }

    /// Writes a head as a beginning of what follows it, and a part of a file without a copy.
    fn poll_send(&self, cx: &mut Context<'_>, head: &[u8], part: &Part) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || send(&self.stream, head, part));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// What a write begins with that isn't part of a file, and the part of one that follows.
    fn split<'a>(&self, slices: &'a [io::IoSlice<'_>]) -> Option<(&'a [u8], Part)> {
        let source = self.wire.source()?;
        match slices {
            [first, rest @ ..] => match (source.find(first), rest) {
                (Some(part), _) => Some((&[], part)),
                (None, [second, ..]) => source.find(second).map(|part| (&**first, part)),
                (None, []) => None,
            },
            [] => None,
        }
    }
}

fn send(stream: &TcpStream, head: &[u8], part: &Part) -> io::Result<usize> {
    if head.is_empty() {
        return part.send(stream);
    }
    let sent = rustix::net::send(stream, head, SendFlags::MORE | SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    if sent < head.len() {
        return Ok(sent);
    }
    match part.send(stream) {
        Ok(more) => Ok(sent + more),
        // The head is out; what is wrong with the rest shows again at its own turn.
        Err(_) => Ok(sent),
    }
}

/// Whether a file system has no way to send its files but by a copy.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

impl Drop for Breakable {
    fn drop(&mut self) {
        if self.wire.is_broken() {
            // If it can't be set, the close that follows is all that is left.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let fits = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(self.ahead.drain(..fits).as_slice());
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some((head, part)) = self.split(slices) {
            match ready!(self.poll_send(cx, head, &part)) {
                Err(error) if is_unsupported(&error) => {}
                sent => return Poll::Ready(sent),
            }
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wire.is_broken() { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}
