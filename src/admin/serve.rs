//! The thin I/O around `answer`: accept, one request a connection, end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::answer::{AdminAnswer, answer};
use super::{Admin, Error};
use crate::base::household::Household;

/// Connections at once: a scraper, two probes and a person, many times over. When one more comes, one makes room for it.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// Longest wait for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of a connection: a reader who stops reading doesn't keep its place.
const LIFETIME: Duration = Duration::from_secs(30);
/// How long running answers may go on at the end: they are short, and a silent connection must not hold up the exit.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Largest head; bearer tokens and browser cookies fit.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after a failed accept: mostly file descriptors ran out, which takes a moment to pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type AdminBody = Either<Full<Bytes>, Empty<Bytes>>;

/// Takes the address, so that a failure is known before anything else starts.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::InUse { address },
        _ => Error::Bind { address, source },
    })
}

/// Answers until `shutdown` is ready, then finishes what was begun: each connection ends after its one request.
pub(crate) async fn serve(
    listener: TcpListener,
    admin: Arc<Admin>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut open = Connections::default();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = open.tasks.join_next() => open.held.retain(|held| !held.task.is_finished()),
            (stream, from) = accept(&listener) => {
                if open.held.len() >= MAX_CONNECTIONS {
                    // Whoever has asked already is heard first.
                    tokio::task::yield_now().await;
                    open.make_room();
                }
                open.begin(stream, from, Arc::clone(&admin));
            }
        }
    }
    drop(listener);
    // What isn't done by then is dropped with the set.
    let _ = timeout(LAST_WORDS, async { while open.tasks.join_next().await.is_some() {} }).await;
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, Household) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => return (stream, Household::of(from.ip())),
            Err(error) => {
                tracing::warn!(%error, "admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections that are open, the oldest first: never more than [`MAX_CONNECTIONS`].
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    held: VecDeque<OpenConn>,
}

/// One of them.
struct OpenConn {
    task: AbortHandle,
    from: Household,
    asked: Arc<AtomicBool>,
}

impl Connections {
    fn begin(&mut self, stream: TcpStream, from: Household, admin: Arc<Admin>) {
        let asked = Arc::new(AtomicBool::new(false));
        let task = self.tasks.spawn(connection(stream, admin, Arc::clone(&asked)));
        self.held.push_back(OpenConn { task, from, asked });
    }

    /// Drops one that has ended, or else one that keeps others out: nobody waits here for anybody.
    fn make_room(&mut self) {
        self.held.retain(|held| !held.task.is_finished());
        while self.held.len() >= MAX_CONNECTIONS {
            let Some(held) = self.in_the_way().and_then(|at| self.held.remove(at)) else { return };
            held.task.abort();
        }
    }

    /// The oldest that has asked nothing yet, of the address that has most such; if all have asked, of all.
    fn in_the_way(&self) -> Option<usize> {
        let silent = |held: &&OpenConn| !held.asked.load(Ordering::SeqCst);
        let all = |_: &&OpenConn| true;
        self.oldest_of_most(silent).or_else(|| self.oldest_of_most(all))
    }

    fn oldest_of_most(&self, which: impl Fn(&&OpenConn) -> bool) -> Option<usize> {
        let count = |from| self.held.iter().filter(|held| held.from == from).filter(&which).count();
        let able = self.held.iter().enumerate().filter(|(_, held)| which(held));
        // Of those that have as many the first.
        able.rev().max_by_key(|(_, held)| count(held.from)).map(|(at, _)| at)
    }
}

async fn connection(stream: TcpStream, admin: Arc<Admin>, asked: Arc<AtomicBool>) {
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::SeqCst);
        let response = respond(request, &admin);
        async { Ok::<_, Infallible>(response) }
    });
    // One request a connection: an idle one never keeps a probe out.
    let serving = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(LIFETIME, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection failed"),
        Err(_) => tracing::debug!("admin connection took too long"),
    }
}

fn respond(request: Request<Incoming>, admin: &Admin) -> Response<AdminBody> {
    let (head, _) = request.into_parts();
    let mut answer = answer(&head, admin);
    let made = if head.method == Method::HEAD {
        bodiless(&answer)
    } else {
        let body = Full::from(std::mem::take(&mut answer.body));
        answer.head(Either::Left(body))
    };
    made.unwrap_or_else(|_| {
        let mut response = Response::new(Either::Right(Empty::new()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// The length that a GET would have had (RFC 9110 9.3.2).
fn bodiless(answer: &AdminAnswer) -> Result<Response<AdminBody>, http::Error> {
    let mut response = answer.head(Either::Right(Empty::new()))?;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
    Ok(response)
}
