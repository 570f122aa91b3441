//! One request to either server, from hyper and back: logged, counted, struck by faults, answered.

mod bodies;
mod mirror;
mod response;

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue, IF_RANGE, RANGE};
use http::{Request, Response, request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use crate::answer;
use crate::ask::Ask;
use crate::counters::Tally;
use crate::fault::{Effect, Ending, Faults};
use crate::net::{Conn, Door, Listening, Tap, Transport};
use crate::payload::Payload;
use crate::reply::Reply;
use crate::route::{Class, Route};
use crate::seen::Log;
use crate::store;
use crate::world::World;

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// GitLab itself, with its TLS listener if there is one.
    Gitlab,
    /// The object store.
    Store,
}

/// What both servers work on.
pub(crate) struct Shared {
    pub(crate) world: Mutex<World>,
    pub(crate) tally: Tally,
    pub(crate) faults: Arc<Faults>,
    pub(crate) log: Log,
    pub(crate) root: String,
    pub(crate) bare: bool,
}

/// A connection is to be closed instead of an answer.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("connection broken by a fault")
    }
}

impl std::error::Error for Broken {}

/// Serves one connection until it ends: HTTP/2 if it begins with its preface, as it does where TLS has agreed on it.
pub(crate) async fn connection<T: Transport>(
    shared: Arc<Shared>,
    door: Arc<Door>,
    server: Server,
    io: T,
    conn: Arc<Conn>,
) {
    let tap = Tap::new(io, Arc::clone(&conn));
    let service = service_fn(move |request| {
        respond(Arc::clone(&shared), Arc::clone(&door), server, Arc::clone(&conn), request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().preserve_header_case(true).title_case_headers(true);
    // How a connection ends is the client's business, or a fault's.
    let _ = builder.serve_connection(TokioIo::new(tap), service).await;
}

/// Counts a connection and describes it.
pub(crate) fn accepted(
    shared: &Shared,
    server: Server,
    stream: &TcpStream,
    peer: SocketAddr,
    secure: bool,
) -> Arc<Conn> {
    shared.tally.count(|counters| match server {
        Server::Gitlab => counters.connections += 1,
        Server::Store => counters.store_connections += 1,
    });
    // Without this, small answers wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    Arc::new(Conn::new(peer, secure))
}

async fn respond(
    shared: Arc<Shared>,
    door: Arc<Door>,
    server: Server,
    conn: Arc<Conn>,
    request: Request<Incoming>,
) -> Result<Response<Payload>, Broken> {
    let (mut parts, body) = request.into_parts();
    name_host(&mut parts);
    if shared.bare {
        read_as_rack(&mut parts);
    }
    let mut ask = match server {
        Server::Gitlab => Ask::to_gitlab(&parts, &conn, &shared.root),
        Server::Store => Ask::to_store(&parts, &conn),
    };
    if door.listening() != Listening::Open {
        return Err(Broken);
    }
    shared.tally.request(ask.seen.class, &ask.seen.method);
    shared.log.add(ask.seen.clone());
    let effects = shared.faults.strike(&ask.seen);
    before(&effects, &mut ask, &conn).await?;
    let reply = match response::replaced(&effects, &ask) {
        Some(reply) => reply,
        None => answered(&shared, server, &ask, body).await,
    };
    let reply = match server {
        Server::Gitlab => answer::dress(&mut shared.world.lock(), &ask, reply),
        Server::Store => reply,
    };
    Ok(response::build(&shared, &ask, reply, effects, conn))
}

/// Names of fields as Rack reads them.
fn read_as_rack(parts: &mut request::Parts) {
    let spelt: Vec<HeaderName> =
        parts.headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    for name in spelt {
        let read = HeaderName::try_from(name.as_str().replace('_', "-"));
        if let (Some(value), Ok(read)) = (parts.headers.remove(&name), read) {
            parts.headers.insert(read, value);
        }
    }
}

/// HTTP/2 says the host in its request line; nginx hands it on as a field.
fn name_host(parts: &mut request::Parts) {
    let named = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(named) = named.filter(|_| !parts.headers.contains_key(HOST)) {
        parts.headers.insert(HOST, named);
    }
}

/// The effects that come before an answer is even thought of.
async fn before(effects: &[Effect], ask: &mut Ask, conn: &Conn) -> Result<(), Broken> {
    for effect in effects {
        match effect {
            Effect::Hold(gate) => {
                gate.reach();
                poll_fn(|context| gate.poll_take(1, context)).await;
            }
            Effect::Drop(ending) => {
                if *ending == Ending::Reset {
                    conn.reset_on_close();
                }
                return Err(Broken);
            }
            Effect::IgnoreRange => {
                ask.headers.remove(RANGE);
                ask.headers.remove(IF_RANGE);
            }
            _ => {}
        }
    }
    Ok(())
}

async fn answered(shared: &Shared, server: Server, ask: &Ask, body: Incoming) -> Reply {
    if server == Server::Store {
        let stray = store::is_stray(ask);
        shared.tally.count(|counters| counters.stray_credentials += u64::from(stray));
        return store::answer(&shared.world.lock(), ask);
    }
    let mut received = bodies::Received::new(body, &shared.tally, ask.seen.class);
    let reply = match &ask.route {
        Route::Echo => mirror::echo(ask, &mut received).await,
        Route::Sink => mirror::sink(&mut received).await,
        Route::Bytes(count) => Ok(mirror::bytes(ask, *count)),
        Route::Counters => Ok(mirror::counters(&shared.tally.snapshot())),
        Route::ClearFaults => {
            shared.faults.clear();
            Ok(Reply::new(http::StatusCode::NO_CONTENT))
        }
        Route::Upload { job } => bodies::upload(shared, ask, *job, &mut received).await,
        Route::JobRequest => bodies::request_job(shared, ask, &mut received).await,
        Route::JobUpdate { job } => bodies::update_job(shared, ask, *job, &mut received).await,
        Route::Trace { job } => bodies::trace(shared, ask, *job, &mut received).await,
        Route::SignIn => {
            let form = bodies::form(ask, &mut received).await;
            form.map(|form| answer::sign_in(&mut shared.world.lock(), ask, &form))
        }
        Route::SignOut => {
            let form = bodies::form(ask, &mut received).await;
            form.map(|form| answer::sign_out(&mut shared.world.lock(), ask, &form))
        }
        Route::Web { project, page } => match bodies::form(ask, &mut received).await {
            Ok(form) => answer::web(&mut shared.world.lock(), ask, project, page, &form),
            Err(refusal) => Err(refusal),
        },
        _ => Ok(answer::answer(&mut shared.world.lock(), ask)),
    };
    reply.unwrap_or_else(|refusal| refusal)
}

/// Keeps serving what comes through `door`, without TLS.
pub(crate) fn plain(shared: Arc<Shared>, door: Arc<Door>, server: Server) -> impl Future<Output = ()> {
    Arc::clone(&door).accept(move |stream, peer| {
        let conn = accepted(&shared, server, &stream, peer, false);
        connection(Arc::clone(&shared), Arc::clone(&door), server, stream, conn)
    })
}

/// The class under which the store's share is counted.
pub(crate) fn leaves_store(class: Class, reply: &Reply) -> bool {
    class == Class::Object || reply.proxied
}
