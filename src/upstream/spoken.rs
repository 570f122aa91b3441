//! HTTP/1 as it goes out to GitLab: targets as they came in.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower_service::Service;

use super::request_body::BoxError;
use crate::http::target;

/// Dials lines over which marked targets may go out, the first request's alone: none of them is used twice.
#[derive(Debug, Clone)]
pub(super) struct Speak<C>(pub(super) C);

impl<C> Service<Uri> for Speak<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
{
    type Response = FirstLine<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let dialling = self.0.call(to);
        Box::pin(async move { Ok(FirstLine { stream: dialling.await?, line: LineState::Due }) })
    }
}

/// A line on which a request is still to be spoken, or its first line on its way.
#[derive(Debug)]
pub(super) struct FirstLine<S> {
    stream: S,
    line: LineState,
}

#[derive(Debug)]
enum LineState {
    Due,
    /// So much of it is still to be written.
    Going(Vec<u8>),
    Gone,
}

impl<S: Write + Unpin> FirstLine<S> {
    /// Writes what is left of the first line.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let LineState::Going(left) = &mut self.line {
            if left.is_empty() {
                self.line = LineState::Gone;
                break;
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            left.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the first line out of what is to be written, which begins with a whole head; returns how long it is.
    fn take_line(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        if !matches!(self.line, LineState::Due) || bytes.is_empty() {
            return Ok(None);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n').and_then(|at| bytes.get(..=at));
        let line = end.and_then(|line| std::str::from_utf8(line).ok()).ok_or(io::ErrorKind::InvalidData)?;
        self.line = LineState::Going(target::unmarked(line));
        Ok(Some(line.len()))
    }
}

impl<S: Connection> Connection for FirstLine<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl<S: Read + Unpin> Read for FirstLine<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: Write + Unpin> Write for FirstLine<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(taken) = self.take_line(bytes)? {
            return Poll::Ready(Ok(taken));
        }
        ready!(self.poll_line(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_line(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_line(cx))?;
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
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if let Some(taken) = self.take_line(first)? {
            return Poll::Ready(Ok(taken));
        }
        ready!(self.poll_line(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_first_line_alone_goes_out_as_it_came() {
        // So small that it is written bit by bit.
        let (near, mut far) = tokio::io::duplex(3);
        let mut spoken = TokioIo::new(FirstLine { stream: TokioIo::new(near), line: LineState::Due });
        let (_, target) = target::marked(b"/<\xfc>?\"", target::Part::Path);
        let rest = "Host: x\r\n\r\n\u{f003c}".as_bytes();
        let sent = [b"GET ", &*target.unwrap(), b" HTTP/1.1\r\n", rest].concat();
        let writing = async {
            spoken.write_all(&sent).await.unwrap();
            spoken.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (read_all, ()) = tokio::join!(far.read_to_end(&mut read), writing);
        read_all.unwrap();
        assert_eq!(read, [b"GET /<\xfc>?\" HTTP/1.1\r\n", rest].concat());
    }
}
