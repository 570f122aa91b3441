//! One pooled HTTP/1.1 client.

use std::time::Duration;

use http::{Extensions, Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;

use super::again::Copy;
use super::body::{Body, Fetched};
use super::connect::{Dial, Used};
use super::egress::Egress;
use super::error::{Error, Kind};
use super::resolve::Resolver;
use crate::hop;

/// How long a connection is kept for the next request: below the 65 to 75 s after which servers in front of GitLab
/// close theirs, so that few requests meet a closing one.
const IDLE: Duration = Duration::from_secs(50);

/// Idle connections kept; as many as GitLab's front needs to see at a steady load, a few MiB.
const MAX_IDLE: usize = 128;

type Inner = legacy::Client<HttpsConnector<Dial>, Body>;

/// A pooled client.
#[derive(Debug)]
pub(super) struct Client {
    kept: Inner,
    /// For what is sent once more: a connection of its own can't have been closed already.
    fresh: Inner,
    connect_timeout: Duration,
    retries: Counter,
}

/// How a client reads, and what it may reach.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// Names that resolve to forbidden addresses don't resolve.
    pub(super) guarded: bool,
    /// Bytes that it reads at once.
    pub(super) buffer: usize,
    /// The way out.
    pub(super) egress: Egress,
}

impl Client {
    /// A client that gives up connecting after `connect_timeout` and counts what it sends once more.
    pub(super) fn new(
        tls: &ClientConfig,
        connect_timeout: Duration,
        manner: Manner,
        retries: Counter,
    ) -> Self {
        let tcp = |guarded| {
            let mut tcp = HttpConnector::new_with_resolver(Resolver { guarded });
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            tcp.set_connect_timeout(Some(connect_timeout));
            tcp.set_keepalive(Some(Duration::from_secs(60)));
            tcp
        };
        let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http().enable_http1();
        let connector = https.wrap_connector(Dial::new(tcp(manner.guarded), tcp(false), manner.egress));
        let client = |idle| {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                // By its own rule it would send an unwritten request any number of times, uncounted.
                .retry_canceled_requests(false)
                .http1_max_buf_size(manner.buffer)
                .http1_preserve_header_case(true)
                .http1_title_case_headers(true)
                .build(connector.clone())
        };
        Self { kept: client(MAX_IDLE), fresh: client(0), connect_timeout, retries }
    }

    /// Sends a request and waits for the head of its answer for `wait`, then allows its body to pause for `silence`.
    /// [Another attempt](super::again) may follow.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Error> {
        let (request, copy) = Copy::of(request);
        let failure = match self.attempt(&self.kept, request, wait, silence).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        let allowed = failure.unwritten || (failure.reused && copy.is_repeatable());
        let Some(again) = allowed.then(|| copy.request()).flatten() else {
            return Err(failure.error);
        };
        self.retries.inc();
        self.attempt(&self.fresh, again, wait, silence).await.map_err(|failure| failure.error)
    }

    async fn attempt(
        &self,
        client: &Inner,
        request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Failure> {
        // The wait begins once there is a connection; TLS isn't part of the connector's own time-out.
        let answer = tokio::time::timeout(wait.saturating_add(self.connect_timeout), client.request(request));
        match answer.await {
            Ok(Ok(mut response)) => {
                if let Some(used) = Used::of(response.extensions_mut()) {
                    used.mark();
                }
                // Such a body would go on, or be stored, without the coding's name.
                if !hop::is_plainly_coded(response.headers()) {
                    let error = Error::from_kind(Kind::Coding);
                    return Err(Failure { error, unwritten: false, reused: false });
                }
                Ok(response.map(|inner| Fetched::new(inner, silence)))
            }
            Ok(Err(error)) => Err(Failure::of(error)),
            Err(_) => {
                let error = Error::from_kind(Kind::ReadTimeout);
                Err(Failure { error, unwritten: false, reused: false })
            }
        }
    }
}

/// An attempt that failed.
struct Failure {
    error: Error,
    /// Not one byte of the request has gone out.
    unwritten: bool,
    /// Its connection had brought an answer before, and ended without one.
    reused: bool,
}

impl Failure {
    fn of(error: legacy::Error) -> Self {
        let connecting = error.is_connect();
        // A request that its connection hasn't even taken over is given back as cancelled.
        let source =
            std::error::Error::source(&error).and_then(|source| source.downcast_ref::<hyper::Error>());
        let unwritten = source.is_some_and(hyper::Error::is_canceled);
        let mut extensions = Extensions::new();
        if let Some(connected) = error.connect_info() {
            connected.get_extras(&mut extensions);
        }
        let reused = Used::of(&mut extensions).is_some_and(|used| used.is_marked());
        let error = Error::classify(error, connecting);
        Self { unwritten, reused: reused && error.kind() == Kind::Terminated, error }
    }
}
