//! Bodies on their way from a client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::body::Error;
use crate::base::num::to_u64;
use crate::base::pace::{Least, Paced};
use crate::gitlab::route;
use crate::http::hop;

/// How long a body that nobody wants is read on for its answer's sake, and how long a pause in it may be: nginx's
/// `lingering_time` and `lingering_timeout`. A connection that closes with bytes unread is reset, and a reset can take the
/// answer with it that the client hasn't read yet.
const LINGER: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(5);

/// A client's body as it goes on: of the same size, so that its framing stays what it was. What is left of it when
/// nobody wants it any more is read and dropped for a while, so that its sender gets to see its answer.
#[derive(Debug)]
pub(super) struct Upload {
    /// Gone once it lingers.
    inner: Option<Incoming>,
    /// The client sends, or will without being told to go on.
    sending: bool,
    done: bool,
    /// Several requests share the connection (HTTP/2).
    shared: bool,
    /// Whether its sender keeps up.
    sender: Option<Paced>,
    beginning: Option<Beginning>,
    silence: Silence,
}

/// The beginning of a body that goes on, up to 64 KiB: more than a runner's report has (GitLab takes 32 KiB of it).
#[derive(Debug, Clone, Default)]
pub(super) struct Beginning(Arc<Mutex<Vec<u8>>>);

const BEGINNING: usize = 64 << 10;

impl Beginning {
    fn add(&self, data: &[u8]) {
        let mut kept = self.0.lock();
        let room = BEGINNING.saturating_sub(kept.len());
        kept.extend_from_slice(data.get(..room).unwrap_or(data));
    }

    /// The token in a report that is JSON or a form, as runners of before sent it (`runner:network/gitlab.go`).
    pub(super) fn token(&self) -> Option<Vec<u8>> {
        let kept = self.0.lock();
        match serde_json::from_slice::<serde_json::Value>(&kept) {
            Ok(report) => Some(report.get("token")?.as_str()?.as_bytes().to_vec()),
            Err(_) => route::parameter(std::str::from_utf8(&kept).ok()?, "token"),
        }
    }
}

/// Lets a body's sender say nothing for as long as it likes.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence(Arc<AtomicBool>);

impl Silence {
    /// From now on.
    pub(super) fn allow(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_allowed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Upload {
    /// Takes a request's body. One whose sender waits for 100 (RFC 9110, 10.1.1) isn't begun before it is wanted: reading
    /// it is what tells the client to go on.
    pub(super) fn new(inner: Incoming, fields: &HeaderMap, least: Least, shared: bool) -> Self {
        let (sender, silence) = (Paced::new(least), Silence::default());
        let sending = !expects(fields);
        Self { inner: Some(inner), sending, done: false, shared, sender, silence, beginning: None }
    }

    /// Keeps the beginning of what is still to come.
    pub(super) fn keep_beginning(&mut self) -> Beginning {
        self.beginning.get_or_insert_default().clone()
    }

    /// What allows its sender to be silent: GitLab's answer to a call of gRPC does, the client's word that it is one would
    /// be a way around `server.min_rate`.
    pub(super) fn silence(&self) -> Silence {
        self.silence.clone()
    }
}

fn expects(fields: &HeaderMap) -> bool {
    let go_on = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    fields.get(header::EXPECT).is_some_and(go_on)
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        this.sending = true;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let mut next = Pin::new(inner).poll_frame(cx);
        match &mut next {
            Poll::Pending => {
                if this.silence.is_allowed() {
                    this.sender = None;
                }
                while let Some(Poll::Ready(look)) = this.sender.as_mut().map(|sender| sender.poll_wait(cx)) {
                    if let Err(slow) = look {
                        this.done = true;
                        return Poll::Ready(Some(Err(slow.into())));
                    }
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(sender) = &mut this.sender {
                    sender.moved(frame.data_ref().map_or(0, |data| to_u64(data.len())));
                }
                if let Some((beginning, data)) = this.beginning.as_ref().zip(frame.data_ref()) {
                    beginning.add(data);
                }
                if let Some(trailers) = frame.trailers_mut() {
                    hop::strip_trailers(trailers);
                }
            }
            Poll::Ready(None) => {
                this.done = true;
                // hyper takes a stream that is reset without an error for one that has ended.
                if this.shared && !this.is_end_stream() {
                    return Poll::Ready(Some(Err("the client took its request back".into())));
                }
            }
            Poll::Ready(Some(Err(_))) => this.done = true,
        }
        next.map(|next| next.map(|next| next.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take()
            && self.sending
            && !self.done
            && !inner.is_end_stream()
        {
            crate::base::rt::spawn_if_running(linger(inner));
        }
    }
}

/// Reads on until the end, a pause, or for as long as it is allowed.
async fn linger(mut body: Incoming) {
    let reading = async { while let Ok(Some(Ok(_))) = tokio::time::timeout(PAUSE, body.frame()).await {} };
    // Whoever still sends then has had the time to see the answer.
    let _ = tokio::time::timeout(LINGER, reading).await;
}
