//! A client's connection as hyper reads and writes it, with TLS or without.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::client_stream::ClientStream;
use super::conn_state::ConnState;
use super::handler::{Handler, Unhandled};
use super::http1::RequestReader;
use crate::telemetry::metrics::CutLabel;

/// What HTTP is spoken over.
pub(super) type Transport = Either<ClientStream, Box<TlsStream<ClientStream>>>;

/// A connection's bytes.
pub(super) struct HttpStream<H: Handler> {
    transport: Transport,
    state: Arc<ConnState>,
    handler: Arc<H>,
    /// What looks at what an HTTP/1 client sends; HTTP/2 is read as it comes.
    reader: Option<RequestReader>,
}

impl<H: Handler> HttpStream<H> {
    pub(super) const fn new(
        transport: Transport,
        state: Arc<ConnState>,
        handler: Arc<H>,
        reader: Option<RequestReader>,
    ) -> Self {
        Self { transport, state, handler, reader }
    }
}

impl<H: Handler> Drop for HttpStream<H> {
    fn drop(&mut self) {
        if self.state.cut() == Some(CutLabel::SlowHead) {
            write_now(&mut self.transport, &self.handler.refuse(Unhandled::SlowHead));
        }
    }
}

/// Says the last words of a connection that ends at once, as far as there is room for them.
fn write_now(transport: &mut Transport, words: &[u8]) {
    // A client that can't be told isn't told.
    let _ = match transport {
        Either::Left(socket) => socket.write_now(words).map(|_| ()),
        Either::Right(stream) => {
            let (socket, session) = stream.get_mut();
            let queued = session.writer().write_all(words);
            session.send_close_notify();
            queued.and_then(|()| session.write_tls(&mut Now(socket)).map(|_| ()))
        }
    };
}

/// Writes what there is room for.
struct Now<'a>(&'a ClientStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_now(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<H: Handler> AsyncRead for HttpStream<H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { transport, reader, .. } = &mut *self;
        match reader {
            Some(reader) => reader.poll_read(transport, cx, buffer),
            None => Pin::new(transport).poll_read(cx, buffer),
        }
    }
}

impl<H: Handler> AsyncWrite for HttpStream<H> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
        if let Some(reader) = &mut self.reader {
            reader.begin_wait(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.is_broken() {
            // TLS's own word for an orderly end (RFC 8446, 6.1) would make a broken answer look whole.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
