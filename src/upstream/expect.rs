//! Bodies that wait until GitLab wants them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::request_body::{BoxError, RequestBody};

/// How long GitLab may take to say 100 or to answer. Many of the fronts that it stands behind never say it, and nobody is to
/// wait for ever then (RFC 9110, 10.1.1): curl and Go's clients wait for a second themselves.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lets a body go when 100 has come. Once all of these are gone the answer has been had without the body, which ends then.
#[derive(Debug, Clone)]
pub(super) struct Permission(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl Permission {
    fn grant(&self) {
        if let Some(go) = self.0.lock().take() {
            // A body that is gone needs none.
            let _ = go.send(());
        }
    }
}

/// Where a request expects 100, holds its body back until it comes, or [`PATIENCE`] is over. What is returned is kept until
/// the answer's body has ended. A client of HTTP/2 can't be told 100 by hyper, which otherwise says it where a body is
/// asked for; it sends when it likes, and what it sends goes on.
pub(super) fn hold(request: Request<RequestBody>) -> (Request<RequestBody>, Option<Permission>) {
    let expects = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if request.version() == Version::HTTP_2
        || request.body().is_end_stream()
        || !request.headers().get(header::EXPECT).is_some_and(expects)
    {
        return (request, None);
    }
    let (send, go) = oneshot::channel();
    let permission = Permission(Arc::new(Mutex::new(Some(send))));
    let mut request = request.map(|inner| HeldBody { inner, wait: Some(Wait::new(go)) }.boxed_unsync());
    let given = permission.clone();
    hyper::ext::on_informational(&mut request, move |answer| {
        if answer.status() == StatusCode::CONTINUE {
            given.grant();
        }
    });
    (request, Some(permission))
}

#[derive(Debug)]
struct Wait {
    go: oneshot::Receiver<()>,
    alarm: Pin<Box<Sleep>>,
}

impl Wait {
    fn new(go: oneshot::Receiver<()>) -> Self {
        Self { go, alarm: Box::pin(tokio::time::sleep(PATIENCE)) }
    }

    /// Whether the body may go, at last.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match Pin::new(&mut self.go).poll(cx) {
            Poll::Ready(granted) => Poll::Ready(granted.is_ok()),
            Poll::Pending => self.alarm.as_mut().poll(cx).map(|()| true),
        }
    }
}

/// A body that isn't begun before it may.
#[derive(Debug)]
struct HeldBody {
    inner: RequestBody,
    wait: Option<Wait>,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(wait) = &mut self.wait {
            if !ready!(wait.poll(cx)) {
                return Poll::Ready(Some(Err("GitLab answered and didn't want the body".into())));
            }
            self.wait = None;
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::time::Instant;

    use super::*;

    fn upload(version: Version) -> Request<RequestBody> {
        let body = Full::new(Bytes::from_static(b"abc")).map_err(|never| match never {}).boxed_unsync();
        Request::put("/x").version(version).header(header::EXPECT, "100-Continue").body(body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_asks_for_goes_after_a_second() {
        let (request, permission) = hold(upload(Version::HTTP_11));
        let begun = Instant::now();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!((&*body, begun.elapsed()), (&b"abc"[..], Duration::from_secs(1)));
        drop(permission);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_goes_at_once_where_it_may_or_where_the_client_cannot_be_told() {
        let begun = Instant::now();
        let (request, permission) = hold(upload(Version::HTTP_11));
        permission.unwrap().grant();
        assert_eq!(&*request.into_body().collect().await.unwrap().to_bytes(), b"abc");
        let (request, permission) = hold(upload(Version::HTTP_2));
        assert!(permission.is_none());
        assert_eq!(&*request.into_body().collect().await.unwrap().to_bytes(), b"abc");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_wanted_never_goes() {
        let (request, permission) = hold(upload(Version::HTTP_11));
        let (parts, body) = request.into_parts();
        drop((permission, parts));
        assert!(body.collect().await.is_err());
    }
}
