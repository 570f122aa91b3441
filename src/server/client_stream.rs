//! A stream that can be reset instead of closed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::conn_state::ConnState;
use super::socket::{self, Socket};
use crate::base::num::to_u64;
use crate::base::pace::{Least, Paced};
use crate::store::MappedPart;

/// A client's stream. Once it is marked as broken, or if it ends while an answer is under way (at a drain's end), it ends
/// with a reset: a client whose answer has no length (HTTP/1.0, or chunks that a careless one doesn't count) would take an
/// orderly close for the answer's end. A client that doesn't take what is sent is such a break as well.
#[derive(Debug)]
pub(super) struct ClientStream {
    socket: Socket,
    state: Arc<ConnState>,
    /// What was read to see which protocol it is, and is to be read again.
    ahead: Vec<u8>,
    reader: Option<Paced>,
}

impl ClientStream {
    pub(super) fn new(socket: Socket, least: Least) -> Self {
        Self { socket, state: Arc::default(), ahead: Vec::new(), reader: Paced::new(least) }
    }

    /// Whether the first bytes that come are these. Waits until that shows.
    pub(super) async fn begins_with(&mut self, expected: &[u8]) -> io::Result<bool> {
        let mut ahead = Vec::with_capacity(expected.len());
        while expected.starts_with(&ahead) && ahead.len() < expected.len() {
            let left = to_u64(expected.len() - ahead.len());
            if (&mut self.socket).take(left).read_buf(&mut ahead).await? == 0 {
                break;
            }
        }
        self.ahead = ahead;
        Ok(self.ahead == expected)
    }

    /// The first byte that comes, which is read again; `None` if there is none.
    pub(super) async fn first(&mut self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let length = self.socket.read(&mut first).await?;
        self.ahead = first.get(..length).unwrap_or_default().to_vec();
        Ok(self.ahead.first().copied())
    }

    /// Writes what there is room for.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        socket::write_now(&self.socket, bytes)
    }

    /// What the requests on it tell it.
    pub(super) fn state(&self) -> Arc<ConnState> {
        Arc::clone(&self.state)
    }

    /// Judges a write: one that finds no room is the client's turn, for as long as `server.min_rate` allows.
    fn poll_taken(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, reader: Some(reader), state, .. } = self else { return written };
        if let Poll::Ready(written) = written {
            reader.moved(to_u64(written.as_ref().copied().unwrap_or_default()));
            return Poll::Ready(written);
        }
        loop {
            let judged = ready!(reader.poll_wait(cx));
            match socket::write_now(socket, bytes) {
                Ok(written) => {
                    reader.moved(to_u64(written));
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
            if let Err(slow) = judged {
                state.give_up();
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, slow)));
            }
        }
    }

    /// Writes a head as a beginning of what follows it, and a part of a file without a copy.
    fn poll_send(&self, cx: &mut Context<'_>, head: &[u8], part: &MappedPart) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket::poll_write_ready(&self.socket, cx))?;
            let sent = socket::try_write(&self.socket, || send(&self.socket, head, part));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// What a write begins with that isn't part of a file, and the part of one that follows.
    fn split<'a>(&self, slices: &'a [io::IoSlice<'_>]) -> Option<(&'a [u8], MappedPart)> {
        let source = self.state.source()?;
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

fn send(socket: &Socket, head: &[u8], part: &MappedPart) -> io::Result<usize> {
    let socket = socket::descriptor(socket);
    if head.is_empty() {
        return part.send(socket);
    }
    let sent = rustix::net::send(socket, head, SendFlags::MORE | SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    if sent < head.len() {
        return Ok(sent);
    }
    match part.send(socket) {
        Ok(more) => Ok(sent + more),
        // The head is out; what is wrong with the rest shows again at its own turn.
        Err(_) => Ok(sent),
    }
}

/// Whether a file system has no way to send its files but by a copy.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.state.is_unfinished() {
            socket::reset_at_close(&self.socket);
        }
    }
}

impl AsyncRead for ClientStream {
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
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.poll_taken(cx, written, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if let Some((head, part)) = self.split(slices) {
            match self.poll_send(cx, head, &part) {
                Poll::Ready(Err(error)) if is_unsupported(&error) => {}
                sent => return self.poll_taken(cx, sent, first),
            }
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.poll_taken(cx, written, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.is_broken() {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        self.state.flushed();
        Poll::Ready(Ok(()))
    }
}
