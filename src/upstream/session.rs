//! One connection of HTTP/2 to GitLab, and what requests have of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::request_body::RequestBody;
use crate::base::clock::Moment;

/// Requests at once on one connection: as many as RFC 9113 (6.5.2) recommends that servers take at least; nginx takes 128.
const STREAMS: u32 = 100;

/// Largest list of fields in an answer, each counting 32 bytes more (RFC 9113, 6.5.2): as much as over HTTP/1.1.
const FIELDS: u32 = 432 << 10;

/// Largest frame that GitLab may send. Larger ones than the least (16 KiB) save work where archives come.
const FRAME: u32 = 64 << 10;

/// Bytes of a request's body that wait in a connection.
const WAITING: usize = 128 << 10;

/// How long GitLab may say nothing, while an answer is due, before it is asked whether it is still there, and how long it
/// may take to say so: a connection that died silently isn't to take new requests for the quarter of an hour after which
/// TCP notices.
const PING: Duration = Duration::from_secs(20);

/// Streams of ours that GitLab may break the rules on before the connection is given up.
const ERRORS: usize = 256;

/// A connection that requests share.
#[derive(Debug)]
pub(super) struct Session {
    sender: SendRequest<RequestBody>,
    usage: Arc<Mutex<Usage>>,
    /// Which of its place's connections it is, in the order in which they were dialled.
    number: u64,
    made: Moment,
}

#[derive(Debug)]
struct Usage {
    open: usize,
    /// What GitLab allows, at the most [`STREAMS`].
    most: usize,
    /// Something didn't come in time, or GitLab refused it: others had better not follow.
    retired: bool,
    /// An answer has come over it.
    answered: bool,
    idle_since: Instant,
}

impl Session {
    /// Begins to speak over `line`. `window`: bytes that GitLab may send ahead for one request.
    pub(super) async fn open<T>(line: T, window: u32, (number, made): (u64, Moment)) -> hyper::Result<Self>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            // All that its streams may have: what nobody reads holds up nothing else.
            .initial_connection_window_size(window.saturating_mul(STREAMS))
            .max_frame_size(FRAME)
            .max_header_list_size(FIELDS)
            .max_send_buf_size(WAITING)
            .max_local_error_reset_streams(ERRORS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(line)
            .await?;
        let usage =
            Usage { open: 0, most: streams(), retired: false, answered: false, idle_since: Instant::now() };
        let usage = Arc::new(Mutex::new(usage));
        crate::base::rt::spawn(run(connection, Arc::clone(&usage)));
        Ok(Self { sender, usage, number, made })
    }

    /// A stream of it, if it takes more.
    pub(super) fn stream(&self) -> Option<Stream> {
        let mut usage = self.usage.lock();
        // None at all is said only for a while.
        if usage.retired || self.sender.is_closed() || usage.open >= usage.most.max(1) {
            return None;
        }
        usage.open += 1;
        Some(Stream { sender: self.sender.clone(), usage: Arc::clone(&self.usage), number: self.number })
    }

    /// When it was made.
    pub(super) const fn made(&self) -> Moment {
        self.made
    }

    /// No further request takes it; what is under way goes on.
    pub(super) fn retire(&self) {
        self.usage.lock().retired = true;
    }

    /// Which connection it is.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether it is of no use any more: ended, given up, or idle for so long that nobody knows.
    pub(super) fn is_over(&self, idle: Duration) -> bool {
        let usage = self.usage.lock();
        self.sender.is_closed() || usage.retired || (usage.open == 0 && usage.idle_since.elapsed() >= idle)
    }
}

fn streams() -> usize {
    usize::try_from(STREAMS).unwrap_or(usize::MAX)
}

/// Runs a connection to its end, and notes what GitLab allows.
async fn run<T>(mut connection: Connection<T, RequestBody, TokioExecutor>, usage: Arc<Mutex<Usage>>)
where
    T: Read + Write + Unpin + Send + 'static,
{
    let ended = poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        if polled.is_pending() {
            usage.lock().most = connection.current_max_send_streams().min(streams());
        }
        polled
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection of HTTP/2 to GitLab has ended");
    }
}

/// One request's part of a connection, from before it is sent until its answer's body has ended.
#[derive(Debug)]
pub(super) struct Stream {
    sender: SendRequest<RequestBody>,
    usage: Arc<Mutex<Usage>>,
    number: u64,
}

impl Stream {
    /// What sends the request.
    pub(super) fn sender(&self) -> SendRequest<RequestBody> {
        self.sender.clone()
    }

    /// Which connection it is on.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Its answer has come.
    pub(super) fn answered(&self) {
        self.usage.lock().answered = true;
    }

    /// Whether an answer has come over its connection.
    pub(super) fn has_answered(&self) -> bool {
        self.usage.lock().answered
    }

    /// No further request takes this connection; what is under way goes on.
    pub(super) fn retire(&self) {
        self.usage.lock().retired = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut usage = self.usage.lock();
        usage.open = usage.open.saturating_sub(1);
        usage.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::base::clock::Clock;
    use crate::upstream::request_body;

    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    /// A connection, and its other end, which has said its settings.
    async fn session() -> (Session, DuplexStream) {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        far.write_all(&SETTINGS).await.unwrap();
        (Session::open(TokioIo::new(near), 1 << 16, (1, Clock::manual(0).now())).await.unwrap(), far)
    }

    fn request() -> Request<RequestBody> {
        Request::get("http://gitlab.test/").body(request_body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_died_silently_is_noticed_while_an_answer_is_due() {
        let (session, mut far) = session().await;
        let mut first = session.stream().unwrap().sender();
        let begun = Instant::now();
        let error = first.try_send_request(request()).await.unwrap_err().into_error();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(begun.elapsed(), 2 * super::PING);
        assert!(session.stream().is_none());
        // It was asked whether it is there: a PING (RFC 9113, 6.7).
        let mut sent = vec![0; 1 << 16];
        let length = far.read(&mut sent).await.unwrap();
        assert!(sent[..length].windows(9).any(|window| window == &PING[..9]));
    }

    #[tokio::test(start_paused = true)]
    async fn settings_and_pings_are_read_no_faster_than_gitlab_takes_the_answers() {
        for frame in [&SETTINGS[..], &PING[..]] {
            let (session, mut far) = session().await;
            let many = frame.repeat(100_000);
            // Time passes here once nothing moves any more.
            let stuck = tokio::time::timeout(super::PING / 2, far.write_all(&many)).await;
            assert!(stuck.is_err());
            // And it was no mistake to send them.
            assert!(session.stream().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_over_when_it_has_been_idle_or_retired() {
        let idle = Duration::from_secs(50);
        let (session, _far) = session().await;
        let (first, second) = (session.stream().unwrap(), session.stream().unwrap());
        drop(first);
        tokio::time::advance(2 * idle).await;
        assert!(!session.is_over(idle), "one is open");
        drop(second);
        assert!(!session.is_over(idle), "it has just ended");
        tokio::time::advance(idle).await;
        assert!(session.is_over(idle));
        let again = session.stream().unwrap();
        assert!(!session.is_over(idle));
        again.retire();
        assert!(session.is_over(idle) && session.stream().is_none());
    }

    #[tokio::test]
    async fn no_more_streams_than_a_hundred_are_open_at_once() {
        let (session, _far) = session().await;
        let mut open: Vec<Stream> = std::iter::from_fn(|| session.stream()).collect();
        assert_eq!(open.len(), streams());
        open.pop();
        assert!(session.stream().is_some());
    }
}
