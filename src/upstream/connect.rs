//! Connections as they are made.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tower_service::Service;

use super::egress::{self, Egress, Via};
use super::request_body::BoxError;
use super::resolve::{self, AddressGuard, Resolver};

/// What is known of a connection beside its stream: whether an answer has come over it, and whether it is gone.
#[derive(Debug, Clone)]
pub(super) struct StreamInfo(Arc<ConnFlags>);

#[derive(Debug)]
struct ConnFlags {
    taken: AtomicBool,
    used: AtomicBool,
    /// Its other side goes with the stream.
    open: watch::Receiver<()>,
}

impl StreamInfo {
    /// Of the connection that an answer's or an error's extensions belong to.
    pub(super) fn of(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }

    /// A request goes over it. One that comes after another finds it used, for the pool gives a connection away again only
    /// when an answer has come; that the answer's own mark follows at some time after that doesn't matter then.
    /// Whether it is the first.
    pub(super) fn take(&self) -> bool {
        let taken = self.0.taken.swap(true, Ordering::Relaxed);
        if taken {
            self.mark_used();
        }
        !taken
    }

    /// An answer has come.
    pub(super) fn mark_used(&self) {
        self.0.used.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether the connection is gone.
    pub(super) fn has_gone(&self) -> bool {
        self.0.open.has_changed().is_err()
    }

    /// Ready once the connection is gone.
    pub(super) async fn is_gone(&self) {
        // Nothing is ever sent.
        let _ = self.0.open.clone().changed().await;
    }
}

/// Dials.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    direct: HttpConnector<Resolver>,
    /// To the proxy, whose name the operator gave and nobody else.
    unguarded: HttpConnector<Resolver>,
    egress: Egress,
    guard: Option<AddressGuard>,
    /// Bytes that are read at once, at the most: hyper's own bound is that of a head.
    most: u64,
}

impl Dial {
    pub(super) const fn new(
        direct: HttpConnector<Resolver>,
        unguarded: HttpConnector<Resolver>,
        egress: Egress,
        guard: Option<AddressGuard>,
        most: u64,
    ) -> Self {
        Self { direct, unguarded, egress, guard, most }
    }
}

impl Service<Uri> for Dial {
    type Response = TrackedStream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TrackedStream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        if self.guard.is_some() && resolve::is_refused(&to) {
            return Box::pin(async { Err(resolve::forbidden().into()) });
        }
        let Some(Via { proxy, credentials }) = self.egress.of(&to) else {
            let (dialling, most) = (self.direct.call(to), self.most);
            return Box::pin(async move { Ok(TrackedStream::new(dialling.await?, most)) });
        };
        let mut tunnel = Tunnel::new(proxy, self.unguarded.clone());
        if let Some(credentials) = credentials {
            tunnel = tunnel.with_auth(credentials);
        }
        let (guard, most) = (self.guard, self.most);
        let tunnelling = tunnel.call(egress::with_port(to.clone()));
        Box::pin(async move {
            if let Some(guard) = guard {
                guard.look_up(&to).await?;
            }
            Ok(TrackedStream::new(tunnelling.await?, most))
        })
    }
}

/// How long a connection that GitLab has reset takes what is written to it. Where a request was refused before its end
/// its answer lies there to be read; a failed write, seen first, would take it away.
const LINGER: Duration = Duration::from_secs(30);

/// A connection, marked once it is used.
#[derive(Debug)]
pub(super) struct TrackedStream {
    stream: TokioIo<Sipped>,
    known: StreamInfo,
    _open: watch::Sender<()>,
    /// It has been reset; what is written goes nowhere, until then.
    reset: Option<Instant>,
}

impl TrackedStream {
    fn new(stream: TokioIo<TcpStream>, most: u64) -> Self {
        let stream = TokioIo::new(Sipped { stream: stream.into_inner(), most });
        let (sender, open) = watch::channel(());
        let known = StreamInfo(Arc::new(ConnFlags {
            taken: AtomicBool::new(false),
            used: AtomicBool::new(false),
            open,
        }));
        Self { stream, known, _open: sender, reset: None }
    }

    /// What a write of `length` bytes came to: nothing that has failed since a reset, for a while.
    fn taken(&mut self, length: usize, written: io::Result<usize>) -> io::Result<usize> {
        match written {
            Err(error) if is_reset(&error) => {
                let until = *self.reset.get_or_insert_with(|| Instant::now() + LINGER);
                if Instant::now() < until { Ok(length) } else { Err(error) }
            }
            written => written,
        }
    }
}

/// A stream of which no more than so many bytes are read at once.
#[derive(Debug)]
struct Sipped {
    stream: TcpStream,
    most: u64,
}

impl AsyncRead for Sipped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = self.most;
        Pin::new(&mut (&mut self.stream).take(most)).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Sipped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

impl Connection for TrackedStream {
    fn connected(&self) -> Connected {
        self.stream.inner().stream.connected().extra(self.known.clone())
    }
}

impl Read for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for TrackedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(self.taken(bytes.len(), written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        Poll::Ready(self.taken(slices.iter().map(|slice| slice.len()).sum(), written))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_known_to_be_gone_once_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let line = TrackedStream::new(TokioIo::new(stream), 1);
        let mut extensions = Extensions::new();
        line.connected().get_extras(&mut extensions);
        let known = StreamInfo::of(&mut extensions).unwrap();
        let mut gone = std::pin::pin!(known.is_gone());
        tokio::select! {
            biased;
            () = &mut gone => panic!("it is there"),
            () = std::future::ready(()) => {}
        }
        drop(line);
        gone.await;
    }
}
