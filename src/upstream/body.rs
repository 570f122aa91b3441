//! Bodies from GitLab.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::error::{Error, FailureKind};
use super::expect::Permission;
use super::limit::Place;
use super::session::Stream;

/// A body that GitLab sends. It fails if it ends before it is whole, or if nothing comes for a while.
#[derive(Debug)]
pub(crate) struct Fetched {
    inner: Incoming,
    silence: Duration,
    /// Made at the first wait: most bodies are read as fast as they come.
    alarm: Option<Pin<Box<Sleep>>>,
    /// A place among the requests under way, until the body has ended.
    place: Option<Place>,
    /// Keeps a request's body waiting that GitLab hasn't asked for.
    permission: Option<Permission>,
    /// Its part of a shared connection, until it has ended.
    stream: Option<Stream>,
}

impl Fetched {
    pub(super) const fn new(inner: Incoming, silence: Duration) -> Self {
        Self { inner, silence, alarm: None, place: None, permission: None, stream: None }
    }

    /// The same, from a shared connection.
    pub(super) fn over(mut self, stream: Stream) -> Self {
        self.stream = Some(stream);
        self
    }

    /// The same, holding on to what was taken for its request.
    pub(super) fn holding(mut self, place: Place, permission: Option<Permission>) -> Self {
        self.place = Some(place);
        self.permission = permission;
        self
    }

    /// The same, allowed to pause for so long.
    pub(super) const fn silent_for(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Whether the silence has lasted too long; registers to be woken when it has.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let silence = self.silence;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        alarm.as_mut().poll(cx)
    }
}

impl HttpBody for Fetched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.poll_silence(cx));
                return Poll::Ready(Some(Err(Error::from_kind(FailureKind::ReadTimeout))));
            }
        };
        let frame = frame.map(|frame| frame.map_err(|error| Error::classify(error, false)));
        // hyper takes a stream that is reset without an error (RFC 9113, 8.1) for one that has ended.
        let cut = frame.is_none() && self.stream.is_some() && !self.inner.is_end_stream();
        let frame = if cut { Some(Err(Error::from_kind(FailureKind::Terminated))) } else { frame };
        if !matches!(frame, Some(Ok(_))) {
            (self.place, self.stream) = (None, None);
        }
        let silence = self.silence;
        if let Some(alarm) = &mut self.alarm {
            alarm.as_mut().reset(Instant::now() + silence);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
impl Fetched {
    /// A body of these bytes, of which the last `missing` never come.
    pub(crate) async fn for_test(bytes: &[u8], missing: usize) -> Self {
        use super::request_body::empty;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let line = hyper_util::rt::TokioIo::new(near);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(line).await.unwrap();
        tokio::spawn(connection);
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len()).into_bytes();
        answer.extend_from_slice(&bytes[..bytes.len() - missing]);
        tokio::spawn(async move {
            let mut asked = [0; 1024];
            let _ = far.read(&mut asked).await;
            far.write_all(&answer).await
        });
        let answer = sender.send_request(http::Request::new(empty())).await.unwrap();
        Self::new(answer.into_body(), Duration::from_secs(60))
    }
}
