//! Sending a request once more.
//!
//! A kept connection may turn out closed just when it is used, and a server may refuse what it is sent over a shared one.
//! Three things allow another attempt, and there is at most one: not one byte of the request has been written; or GitLab
//! said that it has done nothing with it (RFC 9113, 8.7), and its body is still here; or it changes nothing (RFC 9110,
//! 9.2.1), has no body, and met a connection over which an answer had come before. A repeated `POST /jobs/request` would
//! lose a job.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use super::error;
use super::request_body::{self, BoxError, RequestBody};
use crate::base::num::to_u64;
use crate::base::pace::TooSlow;

/// Bytes of a body that are kept until GitLab answers, one frame more at most. What a server hasn't looked at can't be
/// longer: it is the window that a stream begins with (RFC 9113, 6.9.2), and the one that nginx gives
/// (`http2_body_preread_size`).
pub(super) const KEPT: usize = 64 << 10;

/// What a request is made of again.
#[derive(Debug)]
pub(super) struct ReplayRequest {
    method: Method,
    uri: Uri,
    version: Version,
    fields: HeaderMap,
    extensions: http::Extensions,
    /// `None`: there was no body.
    body: Option<Keeping>,
}

impl ReplayRequest {
    /// Splits a request into one that can be sent and what it can be made of again, for as long as no more than `limit`
    /// bytes of its body have been read; 0: until it is begun.
    pub(super) fn of(request: Request<RequestBody>, limit: usize) -> (Request<RequestBody>, Self) {
        let (parts, body) = request.into_parts();
        let mut copy = Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            fields: parts.headers.clone(),
            extensions: parts.extensions.clone(),
            body: None,
        };
        if body.is_end_stream() {
            return (Request::from_parts(parts, body), copy);
        }
        let kept = ReplayBuffer {
            rest: body,
            read: VecDeque::new(),
            bytes: 0,
            limit,
            attempt: 0,
            lost: false,
            slow: false,
        };
        let kept = Arc::new(Mutex::new(kept));
        copy.body = Some(Keeping(Arc::clone(&kept)));
        (
            Request::from_parts(
                parts,
                ReplayBody { kept, ahead: VecDeque::new(), attempt: 0 }.boxed_unsync(),
            ),
            copy,
        )
    }

    /// Whether it changes nothing, and all of it is here.
    pub(super) fn is_repeatable(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
            && self.body.is_none()
    }

    /// Whether its body came too slowly. Over a shared connection the stream's error doesn't say so.
    pub(super) fn was_slow(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.0.lock().slow)
    }

    /// The request again; `None` if its body isn't all here any more.
    pub(super) fn request(self) -> Option<Request<RequestBody>> {
        let body = match self.body {
            Some(keeping) => keeping.again()?,
            None => request_body::empty(),
        };
        let mut again = Request::new(body);
        *again.method_mut() = self.method;
        *again.uri_mut() = self.uri;
        *again.version_mut() = self.version;
        *again.headers_mut() = self.fields;
        *again.extensions_mut() = self.extensions;
        Some(again)
    }
}

/// A body, and what has been read of it.
#[derive(Debug)]
struct ReplayBuffer {
    rest: RequestBody,
    read: VecDeque<ReadFrame>,
    bytes: usize,
    limit: usize,
    /// Whose turn it is to read: of the first attempt, or the second.
    attempt: u8,
    /// Something that was read isn't kept.
    lost: bool,
    slow: bool,
}

impl ReplayBuffer {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) if self.bytes < self.limit => ReadFrame::Data(data.clone()),
            (_, Some(trailers)) if self.limit > 0 => ReadFrame::Trailers(trailers.clone()),
            _ => return self.forget(),
        };
        self.bytes = self.bytes.saturating_add(piece.length());
        if !self.lost {
            self.read.push_back(piece);
        }
    }

    fn forget(&mut self) {
        (self.lost, self.limit) = (true, 0);
        self.read = VecDeque::new();
    }
}

#[derive(Debug, Clone)]
enum ReadFrame {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl ReadFrame {
    fn length(&self) -> usize {
        if let Self::Data(data) = self { data.len() } else { 0 }
    }

    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

/// Has what is read be kept; once it is gone there is no other attempt, and nothing is.
#[derive(Debug)]
struct Keeping(Arc<Mutex<ReplayBuffer>>);

impl Keeping {
    fn again(&self) -> Option<RequestBody> {
        let mut kept = self.0.lock();
        if kept.lost {
            return None;
        }
        kept.attempt = 1;
        let ahead = std::mem::take(&mut kept.read);
        kept.forget();
        Some(ReplayBody { kept: Arc::clone(&self.0), ahead, attempt: 1 }.boxed_unsync())
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.lock().forget();
    }
}

/// The body as one attempt reads it.
#[derive(Debug)]
struct ReplayBody {
    kept: Arc<Mutex<ReplayBuffer>>,
    ahead: VecDeque<ReadFrame>,
    attempt: u8,
}

impl HttpBody for ReplayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(piece) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(piece.frame())));
        }
        let mut kept = self.kept.lock();
        if kept.attempt != self.attempt {
            // A stream that was refused may look once more before it hears of it.
            return Poll::Ready(Some(Err("the request is sent again".into())));
        }
        // Without a limit a body is lost with the first look: its reader may wait for what comes.
        kept.lost |= kept.limit == 0;
        let next = ready!(Pin::new(&mut kept.rest).poll_frame(cx));
        match &next {
            Some(Ok(frame)) => kept.keep(frame),
            Some(Err(error)) => {
                kept.slow = error::is_behind::<TooSlow>(&**error);
                kept.forget();
            }
            None => {}
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.kept.lock().rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.iter().map(ReadFrame::length).fold(0, usize::saturating_add);
        match self.kept.lock().rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest.saturating_add(to_u64(ahead))),
            None => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of pieces, each of them ready.
    struct Pieces(VecDeque<Result<Frame<Bytes>, BoxError>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn request(lengths: &[usize]) -> Request<RequestBody> {
        let filled = |(at, length): (usize, &usize)| {
            Ok(Frame::data(Bytes::from(vec![u8::try_from(at).unwrap(); *length])))
        };
        let mut pieces: VecDeque<_> = lengths.iter().enumerate().map(filled).collect();
        pieces.push_back(Ok(Frame::trailers(HeaderMap::from_iter([(
            http::header::ETAG,
            http::HeaderValue::from_static("t"),
        )]))));
        let mut request = Request::new(Pieces(pieces).boxed_unsync());
        *request.method_mut() = Method::POST;
        request
    }

    async fn read(request: Request<RequestBody>) -> (Vec<u8>, bool) {
        let whole = request.into_body().collect().await.unwrap();
        let trailers = whole.trailers().is_some();
        (whole.to_bytes().to_vec(), trailers)
    }

    #[tokio::test]
    async fn a_body_is_whole_again_wherever_the_first_attempt_has_left_it() {
        let lengths = [10_000, 20_000, 40_000, 3];
        let whole = read(request(&lengths)).await;
        for (taken, again) in [(0, true), (1, true), (3, true), (4, false), (5, false)] {
            let (first, copy) = ReplayRequest::of(request(&lengths), KEPT);
            assert!(!copy.is_repeatable());
            let mut first = first.into_body();
            for _ in 0..taken {
                first.frame().await.unwrap().unwrap();
            }
            let second = copy.request();
            assert_eq!(second.is_some(), again, "{taken}");
            if let Some(second) = second {
                assert!(first.frame().await.unwrap().is_err(), "it is the other's now");
                // Whatever becomes of the first.
                drop(first);
                assert_eq!(read(second).await, whole, "{taken}");
            }
        }
    }

    #[tokio::test]
    async fn without_a_limit_a_body_is_whole_again_until_it_is_begun() {
        let (mut first, copy) = ReplayRequest::of(request(&[3]), 0);
        assert_eq!(first.body_mut().size_hint().lower(), 0);
        first.body_mut().frame().await.unwrap().unwrap();
        assert!(copy.request().is_none());
        let (first, copy) = ReplayRequest::of(request(&[3]), 0);
        drop(first);
        assert_eq!(read(copy.request().unwrap()).await.0, [0; 3]);
    }

    #[tokio::test]
    async fn nothing_is_kept_once_there_is_no_other_attempt() {
        let (first, copy) = ReplayRequest::of(request(&[100, 50]), KEPT);
        let mut first = first.into_body();
        first.frame().await.unwrap().unwrap();
        drop(copy);
        let rest = first.collect().await.unwrap();
        assert_eq!(rest.to_bytes().len(), 50);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_lost_and_says_whether_it_was_slow() {
        for (error, slow) in [(BoxError::from(TooSlow), true), (BoxError::from("gone"), false)] {
            let broken = Request::new(Pieces([Err(error)].into()).boxed_unsync());
            let (first, copy) = ReplayRequest::of(broken, KEPT);
            assert!(first.into_body().frame().await.unwrap().is_err());
            assert_eq!(copy.was_slow(), slow);
            assert!(copy.request().is_none());
        }
    }
}
