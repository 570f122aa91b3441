//! One client: connections of HTTP/1.1, each for one request at a time, and of HTTP/2, which requests share.

use std::time::Duration;

use http::{Extensions, Request, Response, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;

use super::again::{self, Copy};
use super::body::{Body, Fetched};
use super::connect::{Dial, Known};
use super::egress::Egress;
use super::error::{Error, Kind};
use super::failure::{Again, Failure};
use super::resolve::Resolver;
use super::session::Stream;
use super::shared::Shared;
use super::way::Sharing;
use crate::hop;
use crate::pace::TooSlow;

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
    /// For what shares connections, if anything does.
    shared: Option<(Sharing, Shared)>,
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
    /// What goes over HTTP/2, if anything does.
    pub(super) sharing: Option<Sharing>,
    /// HTTP/2 is spoken without asking.
    pub(super) prior: bool,
    /// Bytes that GitLab may send ahead for one request over HTTP/2.
    pub(super) window: u32,
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
        let dial = Dial::new(tcp(manner.guarded), tcp(false), manner.egress);
        let connector = https.wrap_connector(dial.clone());
        let shared = manner
            .sharing
            .map(|sharing| (sharing, Shared::new(dial, tls, manner.prior, manner.window, connect_timeout)));
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
        Self { kept: client(MAX_IDLE), fresh: client(0), shared, connect_timeout, retries }
    }

    /// Sends a request and waits for the head of its answer for `wait`, then allows its body to pause for `silence`.
    /// [Another attempt](super::again) may follow.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Error> {
        let shared =
            self.shared.as_ref().filter(|(sharing, _)| sharing.covers(&request)).map(|(_, shared)| shared);
        let (request, copy) = Copy::of(request, if shared.is_some() { again::KEPT } else { 0 });
        let failure = match self.first(shared, request, wait, silence).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        if copy.was_slow() && failure.error.kind() == Kind::ClientGone {
            return Err(Error::client_gone(TooSlow));
        }
        let allowed = match failure.again {
            Again::Never => false,
            Again::IfSafe => copy.is_repeatable(),
            Again::Unprocessed => true,
        };
        let Some(request) = allowed.then(|| copy.request()).flatten() else {
            return Err(failure.error);
        };
        self.retries.inc();
        self.second(shared.zip(failure.after), request, wait, silence).await
    }

    /// Over a connection that is there, if there is one.
    async fn first(
        &self,
        shared: Option<&Shared>,
        request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Failure> {
        if let Some(shared) = shared {
            let stream = shared.enter(request.uri(), None).await.map_err(Failure::from)?;
            if let Some(stream) = stream {
                return self.over(stream, request, wait, silence).await;
            }
        }
        self.alone(&self.kept, request, wait, silence).await
    }

    /// Over one that is newer than the first attempt's.
    async fn second(
        &self,
        shared: Option<(&Shared, u64)>,
        request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Error> {
        if let Some((shared, after)) = shared
            && let Some(stream) = shared.enter(request.uri(), Some(after)).await?
        {
            return self.over(stream, request, wait, silence).await.map_err(|failure| failure.error);
        }
        self.alone(&self.fresh, request, wait, silence).await.map_err(|failure| failure.error)
    }

    async fn alone(
        &self,
        client: &Inner,
        mut request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Failure> {
        let connection = capture_connection(&mut request);
        // The wait begins once there is a connection; TLS isn't part of the connector's own time-out.
        let answer = tokio::time::timeout(wait.saturating_add(self.connect_timeout), client.request(request));
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = lost(connection) => return Err(Failure::lost()),
        };
        match answer {
            Ok(Ok(mut response)) => {
                if let Some(known) = Known::of(response.extensions_mut()) {
                    known.mark_used();
                }
                // Such a body would go on, or be stored, without the coding's name.
                if !hop::is_plainly_coded(response.headers()) {
                    return Err(Failure::from(Error::from_kind(Kind::Coding)));
                }
                Ok(response.map(|inner| Fetched::new(inner, silence)))
            }
            Ok(Err(error)) => Err(Failure::alone(error)),
            Err(_) => Err(Failure::from(Error::from_kind(Kind::ReadTimeout))),
        }
    }

    async fn over(
        &self,
        stream: Stream,
        mut request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Failure> {
        *request.version_mut() = Version::HTTP_2;
        let answer = stream.sender().try_send_request(request);
        match tokio::time::timeout(wait, answer).await {
            Ok(Ok(response)) => {
                stream.answered();
                Ok(response.map(|inner| Fetched::new(inner, silence).over(stream)))
            }
            Ok(Err(mut error)) => {
                let unwritten = error.take_message().is_some();
                Err(Failure::over(&stream, error.into_error(), unwritten))
            }
            Err(_) => {
                // Slow, or dead: the next request had better not wait to learn which.
                stream.retire();
                Err(Failure::from(Error::from_kind(Kind::ReadTimeout)))
            }
        }
    }
}

/// How long after the end of its connection an answer, or an error, may take to reach whoever waits for it.
const NEWS: Duration = Duration::from_secs(1);

/// Takes a request's connection once there is one. Ready when that is gone and nobody has said what became of it. hyper
/// hands a request to its connection by a channel of tokio's; one that is handed over in the very moment in which the
/// connection ends stays in it, and isn't dropped either before its sender is, who waits for it. Whatever has been written
/// has its answer or its error before the connection goes.
async fn lost(mut connection: CaptureConnection) {
    let mut extensions = Extensions::new();
    if let Some(connected) = &*connection.wait_for_connection_metadata().await {
        connected.get_extras(&mut extensions);
    }
    match Known::of(&mut extensions) {
        Some(known) => {
            known.take();
            known.is_gone().await;
            tokio::time::sleep(NEWS).await;
        }
        // It has none yet.
        None => std::future::pending().await,
    }
}
