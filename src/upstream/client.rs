//! One client: connections of HTTP/1.1, each for one request at a time, and of HTTP/2, which requests share.

use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Extensions, Request, Response, Version};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, Connect, HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::again::{self, ReplayRequest};
use super::ages::{Ages, ReuseLimits};
use super::body::Fetched;
use super::connect::{Dial, StreamInfo};
use super::egress::Egress;
use super::error::{Error, FailureKind};
use super::failure::{Again, Failure};
use super::pieces;
use super::request_body::RequestBody;
use super::resolve::{AddressGuard, Resolver};
use super::session::Stream;
use super::shared::SharedConns;
use super::spoken::Speak;
use super::timely::Timely;
use super::way::Sharing;
use crate::base::num::to_u64;
use crate::base::pace::TooSlow;
use crate::http::hop;
use crate::http::target;

/// How long a connection is kept for the next request: below the 65 to 75 s after which servers in front of GitLab
/// close theirs, so that few requests meet a closing one.
const IDLE: Duration = Duration::from_secs(50);

/// Idle connections kept; as many as GitLab's front needs to see at a steady load, a few MiB.
const MAX_IDLE: usize = 128;

type Inner<C> = legacy::Client<C, RequestBody>;
type Connector = Timely;

/// Largest head of an answer, and most fields in it: several times what any GitLab was seen to send (pages with hundreds of
/// links to what is to be loaded ahead), and more than the nginx in front of it passes by default.
const HEAD: usize = 400 << 10;
const FIELDS: usize = 1024;

/// A pooled client.
#[derive(Debug)]
pub(super) struct Client {
    kept: Inner<Connector>,
    /// For what is sent once more: a connection of its own can't have been closed already.
    fresh: Inner<Speak<Connector>>,
    /// For what shares connections, if anything does.
    shared: Option<(Sharing, SharedConns)>,
    ages: Ages,
    retries: Counter,
}

/// How a client reads, and what it may reach.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// No special address is reached.
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
    /// How long connections are kept.
    pub(super) life: ReuseLimits,
}

impl Client {
    /// A client that gives up connecting after `connect_timeout` and counts what it sends once more.
    pub(super) fn new(
        tls: &ClientConfig,
        connect_timeout: Duration,
        manner: Manner,
        retries: Counter,
    ) -> Self {
        let guard = manner.guarded.then(|| AddressGuard::new(connect_timeout));
        let tcp = |guard| {
            let mut tcp = HttpConnector::new_with_resolver(Resolver { guard });
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            tcp.set_connect_timeout(Some(connect_timeout));
            tcp.set_keepalive(Some(Duration::from_secs(60)));
            tcp
        };
        let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http().enable_http1();
        let dial = Dial::new(tcp(guard), tcp(None), manner.egress, guard, to_u64(manner.buffer));
        let connector = Timely::new(https.wrap_connector(dial.clone()), connect_timeout);
        let life = manner.life;
        let ages = Ages::new(life.clone());
        let shared = manner.sharing.map(|sharing| {
            let (prior, window) = (manner.prior, manner.window);
            (sharing, SharedConns::new(dial, tls, prior, window, (connect_timeout, life)))
        });
        let builder = |idle| {
            let mut builder = legacy::Client::builder(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                // By its own rule it would send an unwritten request any number of times, uncounted.
                .retry_canceled_requests(false)
                .http1_max_buf_size(HEAD)
                .http1_max_headers(FIELDS)
                .http1_preserve_header_case(true)
                .http1_title_case_headers(true);
            builder
        };
        let kept = builder(MAX_IDLE).build(connector.clone());
        let fresh = builder(0).build(Speak(connector));
        Self { kept, fresh, shared, ages, retries }
    }

    /// Whether a small request for this path goes by HTTP/2; `None`: that isn't known before one has been sent.
    pub(super) fn shares(&self, path: &str) -> Option<bool> {
        match &self.shared {
            Some((sharing, shared)) if sharing.covers_small(path) => shared.is_offered(),
            _ => Some(false),
        }
    }

    /// Sends a request and waits for the head of its answer until `deadline`, the connection and
    /// [another attempt](super::again) included, then allows its body to pause for `silence`.
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        deadline: Instant,
        silence: Duration,
    ) -> Result<Response<Fetched>, Error> {
        let shared = self
            .shared
            .as_ref()
            .filter(|(sharing, _)| sharing.covers(&request) && !is_marked(&request))
            .map(|(_, shared)| shared);
        let (request, copy) = ReplayRequest::of(request, if shared.is_some() { again::KEPT } else { 0 });
        let failure = match self.first(shared, request, deadline, silence).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        if copy.was_slow() && failure.error.kind() == FailureKind::ClientGone {
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
        self.second(shared.zip(failure.after), request, deadline, silence).await
    }

    /// Over a connection that is there, if there is one.
    async fn first(
        &self,
        shared: Option<&SharedConns>,
        request: Request<RequestBody>,
        deadline: Instant,
        silence: Duration,
    ) -> Result<Response<Fetched>, Failure> {
        if let Some(shared) = shared {
            let stream = in_time(deadline, shared.enter(request.uri(), None)).await.map_err(Failure::from)?;
            if let Some(stream) = stream {
                return self.over(stream, request, deadline, silence).await;
            }
        }
        if is_marked(&request) {
            return self.alone(&self.fresh, request, deadline, silence).await;
        }
        self.alone(&self.kept, request, deadline, silence).await
    }

    /// Over one that is newer than the first attempt's.
    async fn second(
        &self,
        shared: Option<(&SharedConns, u64)>,
        request: Request<RequestBody>,
        deadline: Instant,
        silence: Duration,
    ) -> Result<Response<Fetched>, Error> {
        if let Some((shared, after)) = shared
            && let Some(stream) = in_time(deadline, shared.enter(request.uri(), Some(after))).await?
        {
            return self.over(stream, request, deadline, silence).await.map_err(|failure| failure.error);
        }
        self.alone(&self.fresh, request, deadline, silence).await.map_err(|failure| failure.error)
    }

    async fn alone<C>(
        &self,
        client: &Inner<C>,
        request: Request<RequestBody>,
        deadline: Instant,
        silence: Duration,
    ) -> Result<Response<Fetched>, Failure>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        self.ages.retire_old();
        let mut request = pieces::cut(request);
        let connection = capture_connection(&mut request);
        let answer = tokio::time::timeout_at(deadline, client.request(request));
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = self.lost(connection) => return Err(Failure::lost()),
        };
        match answer {
            Ok(Ok(mut response)) => {
                if let Some(known) = StreamInfo::of(response.extensions_mut()) {
                    known.mark_used();
                }
                // Such a body would go on, or be stored, without the coding's name.
                if !hop::is_plainly_coded(response.headers()) {
                    return Err(Failure::from(Error::from_kind(FailureKind::Coding)));
                }
                Ok(response.map(|inner| Fetched::new(inner, silence)))
            }
            Ok(Err(error)) => Err(Failure::alone(error)),
            Err(_) => Err(Failure::from(Error::from_kind(FailureKind::ReadTimeout))),
        }
    }

    async fn over(
        &self,
        stream: Stream,
        mut request: Request<RequestBody>,
        deadline: Instant,
        silence: Duration,
    ) -> Result<Response<Fetched>, Failure> {
        *request.version_mut() = Version::HTTP_2;
        let answer = stream.sender().try_send_request(request);
        match tokio::time::timeout_at(deadline, answer).await {
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
                Err(Failure::from(Error::from_kind(FailureKind::ReadTimeout)))
            }
        }
    }

    /// Takes a request's connection once there is one. Ready when that is gone and nobody has said what became of it. hyper
    /// hands a request to its connection by a channel of tokio's; one that is handed over in the very moment in which the
    /// connection ends stays in it, and isn't dropped either before its sender is, who waits for it. Whatever has been written
    /// has its answer or its error before the connection goes.
    async fn lost(&self, mut connection: CaptureConnection) {
        let mut extensions = Extensions::new();
        if let Some(connected) = &*connection.wait_for_connection_metadata().await {
            connected.get_extras(&mut extensions);
        }
        match StreamInfo::of(&mut extensions) {
            Some(known) => {
                if known.take() {
                    self.ages.note(connection.clone(), known.clone());
                }
                known.is_gone().await;
                tokio::time::sleep(NEWS).await;
            }
            // It has none yet.
            None => std::future::pending().await,
        }
    }

    /// Sends a request that changes nothing and has no body over a connection that is made for it, to wherever the name leads
    /// now.
    pub(super) async fn send_anew(
        &self,
        request: Request<RequestBody>,
        deadline: Instant,
        silence: Duration,
    ) -> Result<Response<Fetched>, Error> {
        if let Some((Sharing::All, shared)) = &self.shared
            && let Some(stream) = in_time(deadline, shared.enter_new(request.uri())).await?
        {
            return self.over(stream, request, deadline, silence).await.map_err(|failure| failure.error);
        }
        self.alone(&self.fresh, request, deadline, silence).await.map_err(|failure| failure.error)
    }

    /// What is kept takes no further request.
    pub(super) fn retire_all(&self) {
        self.ages.retire_all();
        if let Some((_, shared)) = &self.shared {
            shared.retire_all();
        }
    }
}

/// A connection that is there by then.
async fn in_time<T>(
    deadline: Instant,
    connecting: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| Err(Error::from_kind(FailureKind::ConnectTimeout));
    tokio::time::timeout_at(deadline, connecting).await.unwrap_or_else(late)
}

/// Whether a request's target can only be spoken over a connection of its own.
fn is_marked(request: &Request<RequestBody>) -> bool {
    target::is_marked(request.uri().path_and_query().map_or("", PathAndQuery::as_str))
}

/// How long after the end of its connection an answer, or an error, may take to reach whoever waits for it.
const NEWS: Duration = Duration::from_secs(1);
