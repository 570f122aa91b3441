//! The byte stream of a connection with an ear on it: it copies heads, notes flushes, garbles and resets.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::conn::Conn;

/// A byte stream over TCP.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The socket at the bottom.
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Transport for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A [`Transport`] that reports to a [`Conn`] and obeys it.
pub(crate) struct Tap<T: Transport> {
    io: T,
    conn: Arc<Conn>,
    /// A garbled answer's head is through.
    past_head: bool,
}

impl<T: Transport> Tap<T> {
    pub(crate) fn new(io: T, conn: Arc<Conn>) -> Self {
        Self { io, conn, past_head: false }
    }

    /// Writes the same bytes, but wrecked from the end of the head on.
    fn poll_garbled(&mut self, context: &mut Context<'_>, mut bytes: Vec<u8>) -> Poll<io::Result<usize>> {
        let found = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let body = if self.past_head { 0 } else { found.unwrap_or(bytes.len()) };
        bytes.iter_mut().skip(body).for_each(|byte| *byte ^= 0xa5);
        let written = ready!(Pin::new(&mut self.io).poll_write(context, &bytes))?;
        self.past_head |= found.is_some_and(|end| written >= end);
        Poll::Ready(Ok(written))
    }
}

impl<T: Transport> Drop for Tap<T> {
    fn drop(&mut self) {
        if self.conn.wants_reset() {
            // A socket that is gone already needs no reset.
            let _ = self.io.socket().set_zero_linger();
        }
    }
}

impl<T: Transport> AsyncRead for Tap<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
        this.conn.read(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for Tap<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.conn.is_garbled() {
            return this.poll_garbled(context, bytes.to_vec());
        }
        Pin::new(&mut this.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.conn.is_garbled() {
            return this.poll_garbled(context, slices.iter().flat_map(|slice| slice.to_vec()).collect());
        }
        Pin::new(&mut this.io).poll_write_vectored(context, slices)
    }

    // Without this hyper would copy each body into one buffer.
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(context))?;
        this.conn.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conn.wants_reset() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_shutdown(context)
    }
}
