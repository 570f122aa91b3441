//! The thin I/O around `answer`: accept, one request a connection, end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Answer, answer};
use super::{Admin, Error};

/// Connections at once: a scraper, two probes and a person, many times over.
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

type Body = Either<Full<Bytes>, Empty<Bytes>>;

/// Takes the address, so that a failure is known before anything else starts.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::InUse { address },
        _ => Error::Bind { address, source },
    })
}

/// Answers until `shutdown` is ready, then finishes what was begun: each connection ends after its one request.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, shutdown: impl Future<Output = ()> + Send) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, place) = accept(&listener, &places) => {
                connections.spawn(connection(stream, Arc::clone(&admin), place));
            }
        }
    }
    drop(listener);
    // What isn't done by then is dropped with the set.
    let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

/// The next connection with a place for it; without a place it waits in the kernel's backlog.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a permit in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, admin: Arc<Admin>, place: Option<OwnedSemaphorePermit>) {
    let service = service_fn(|request: Request<Incoming>| {
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
    drop(place);
}

fn respond(request: Request<Incoming>, admin: &Admin) -> Response<Body> {
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
fn bodiless(answer: &Answer) -> Result<Response<Body>, http::Error> {
    let mut response = answer.head(Either::Right(Empty::new()))?;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
    Ok(response)
}
