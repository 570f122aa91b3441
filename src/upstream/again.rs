//! Sending a request once more.
//!
//! A kept connection may turn out closed just when it is used. Two things allow another attempt, and there is at most one:
//! not one byte of the request has been written; or it changes nothing (RFC 9110, 9.2.1), has no body, and met a
//! connection over which an answer had come before. A repeated `POST /jobs/request` would lose a job.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use super::body::{self, Body, BoxError};

/// What a request is made of again.
#[derive(Debug)]
pub(super) struct Copy {
    method: Method,
    uri: Uri,
    version: Version,
    fields: HeaderMap,
    extensions: http::Extensions,
    body: Home,
}

/// Where a body comes back to that nobody has begun to read; `None`: there was no body.
type Home = Option<Arc<Mutex<Option<Body>>>>;

impl Copy {
    /// Splits a request into one that can be sent and what it can be made of again.
    pub(super) fn of(request: Request<Body>) -> (Request<Body>, Self) {
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
        let home = Arc::default();
        copy.body = Some(Arc::clone(&home));
        (Request::from_parts(parts, Returning { inner: Some(body), begun: false, home }.boxed_unsync()), copy)
    }

    /// Whether it changes nothing, and all of it is here.
    pub(super) fn is_repeatable(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
            && self.body.is_none()
    }

    /// The request again; `None` if its body has been begun.
    pub(super) fn request(self) -> Option<Request<Body>> {
        let body = match self.body {
            Some(home) => home.lock().take()?,
            None => body::empty(),
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

/// A body that goes home when it is dropped before it was begun.
#[derive(Debug)]
struct Returning {
    inner: Option<Body>,
    begun: bool,
    home: Arc<Mutex<Option<Body>>>,
}

impl Drop for Returning {
    fn drop(&mut self) {
        if !self.begun {
            *self.home.lock() = self.inner.take();
        }
    }
}

impl HttpBody for Returning {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.begun = true;
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
