//! Bodies up in small pieces.
//!
//! A connection of HTTP/1.1 holds up to 16 pieces of a body that GitLab doesn't take, whatever their length, as long as they
//! are together less than the longest head that it reads. The head may be long; so the pieces are short.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::request_body::{BoxError, RequestBody};
use crate::base::num::to_u64;

/// Longest piece: 16 of them are 128 KiB.
const LONGEST: usize = 8 << 10;

/// Has a request's body come in pieces.
pub(super) fn cut(request: Request<RequestBody>) -> Request<RequestBody> {
    if request.body().size_hint().upper().is_some_and(|size| size <= to_u64(LONGEST)) {
        return request;
    }
    request.map(|inner| Pieces { inner, rest: Bytes::new() }.boxed_unsync())
}

#[derive(Debug)]
struct Pieces {
    inner: RequestBody,
    /// What is left of a longer piece.
    rest: Bytes,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = self.rest.len().min(LONGEST);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (to_u64(self.rest.len()), self.inner.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_long_body_comes_whole_in_short_pieces() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * LONGEST + 5).collect();
        let body = Full::new(Bytes::from(bytes.clone())).map_err(|never| match never {}).boxed_unsync();
        let mut body = cut(Request::new(body)).into_body();
        let mut read = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some(to_u64(bytes.len() - read.len())));
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!((1..=LONGEST).contains(&piece.len()));
            read.extend(piece);
        }
        assert_eq!(read, bytes);
    }
}
