//! The requests of a connection: each is handed on, and the connection is told how far its answer is.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;

use super::conn_state::ConnState;
use super::handler::{AnswerBody, ConnInfo, Handler};
use super::stall::Stall;
use crate::base::num::to_u64;

/// What answers the requests of a connection.
pub(super) struct Requests<H> {
    pub(super) handler: Arc<H>,
    pub(super) connection: ConnInfo,
    pub(super) state: Arc<ConnState>,
}

impl<H: Handler> Service<Request<Incoming>> for Requests<H> {
    type Response = Response<TrackedBody<H::Body>>;
    type Error = Infallible;
    /// Boxed, since hyper keeps room for an answer's making beside each connection: idle ones have none then.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (handler, connection) = (Arc::clone(&self.handler), self.connection.clone());
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            let open = OpenRequest::new(state, request.method());
            let response = handler.handle(request, connection.clone()).await;
            Ok(open.answered_by(&connection, response))
        })
    }
}

/// A request that has come and hasn't ended; dropped, it has.
#[derive(Debug)]
struct OpenRequest {
    state: Arc<ConnState>,
    is_head: bool,
    upgraded: bool,
}

impl OpenRequest {
    fn new(state: Arc<ConnState>, method: &Method) -> Self {
        state.begin();
        Self { state, is_head: method == Method::HEAD, upgraded: false }
    }

    /// It is answered.
    fn answered_by<B: AnswerBody>(
        mut self,
        connection: &ConnInfo,
        response: Response<B>,
    ) -> Response<TrackedBody<B>> {
        // A connection that has changed its protocol is never idle again: what is written to it isn't HTTP's.
        self.upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let has_body = self.has_body(response.status());
        response.map(|body| {
            // Nothing else than a plain socket is handed the bytes of a mapping.
            let source = body.mapped().filter(|_| connection.is_direct());
            self.state.answers(source, has_body && !body.is_complete());
            let stall = connection.is_shared().then(|| Stall::new(&self.state, connection.least)).flatten();
            TrackedBody { open: self, stall, body }
        })
    }

    /// Whether such an answer has a body (RFC 9110, 6.4.1): otherwise nobody asks for one.
    fn has_body(&self, status: StatusCode) -> bool {
        const NONE: [StatusCode; 3] =
            [StatusCode::SWITCHING_PROTOCOLS, StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        !self.is_head && !NONE.contains(&status)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if !self.upgraded {
            self.state.end();
        }
    }
}

/// A body whose connection is told how far it is.
#[derive(Debug)]
pub(super) struct TrackedBody<B> {
    /// Before the body: whoever learns that a body is gone finds its connection idle.
    open: OpenRequest,
    stall: Option<Stall>,
    body: B,
}

impl<B: AnswerBody> HttpBody for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(stall) = &self.stall {
            stall.wants();
        }
        let next = Pin::new(&mut self.body).poll_frame(cx);
        match &next {
            Poll::Ready(Some(Ok(frame))) => {
                if self.body.is_complete() {
                    self.open.state.answered();
                } else if let Some(stall) = &mut self.stall {
                    stall.has(frame.data_ref().map_or(0, |data| to_u64(data.len())));
                }
            }
            Poll::Ready(Some(Err(_))) => self.open.state.break_off(),
            Poll::Ready(None) => self.open.state.answered(),
            Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
