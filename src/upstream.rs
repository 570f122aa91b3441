//! GitLab and its object store as services.
//!
//! Owns the connections to both, their time-outs, and the errors that can come of them. Knows nothing of caches,
//! grants or archives: it sends what it is given. Credentials go to GitLab's origin alone; the object store has a
//! client of its own, which never sees a client's fields.

mod again;
mod body;
mod client;
mod connect;
mod egress;
mod error;
mod expect;
mod failure;
mod limit;
mod resolve;
mod session;
mod shared;
mod tls;
mod way;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri};
use tokio::sync::Semaphore;

pub use body::{Body, Fetched};
use client::{Client, Manner};
pub use egress::{ProxyError, ProxySettings};
pub use error::{Error, Kind};
pub use tls::{TlsError, TlsSettings};

use crate::content;
use crate::hop::Hop;
use crate::origin::Origin;
use crate::telemetry::Metrics;
use egress::Egress;
use limit::Limit;
use way::Sharing;

/// What the operator decides about GitLab.
#[derive(Debug, Clone)]
pub struct Settings {
    /// GitLab's base URL; its path is the relative root.
    pub url: Origin,
    /// Certificates trusted besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// How GitLab is believed, and believes larder.
    pub tls: TlsSettings,
    /// Certificates trusted for the object store besides those, PEM.
    pub storage_ca_file: Option<PathBuf>,
    /// The way out.
    pub proxy: ProxySettings,
    /// Whether HTTP/2 is spoken with GitLab.
    pub http2: Http2,
    /// Object stores that redirects may lead to; `None`: any that is neither link-local nor a metadata service.
    pub storage_hosts: Option<Vec<String>>,
    /// Longest wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// Longest silence while an answer is passed through.
    pub read_timeout: Duration,
    /// Longest wait for the head of an answer to a question larder asks itself.
    pub answer_timeout: Duration,
    /// How long a transfer that broke off is tried again without a byte of progress; zero: not at all.
    pub resume_timeout: Duration,
    /// Requests under way to GitLab at once, questions of larder's own aside; as many more may wait.
    pub max_connections: usize,
}

/// Whether HTTP/2 is spoken with GitLab. Whatever is said here, a change of protocol and a request that waits for 100 go
/// by HTTP/1.1, and so does all with the object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2 {
    /// Over TLS, where GitLab offers it: for requests with a small body or none, and for gRPC. Archives that are fetched,
    /// long bodies and what is known to be answered by one have connections of their own.
    Auto,
    /// Not at all.
    Off,
    /// Without asking, also in the clear, for all that it can carry.
    PriorKnowledge,
}

impl Http2 {
    /// What shares connections of those that pass requests on or ask questions, and of those that fetch archives.
    fn sharing(self, url: &Origin) -> (Option<Sharing>, Option<Sharing>) {
        match self {
            Self::Auto if *url.scheme() == Scheme::HTTPS => (Some(Sharing::Small), None),
            Self::Auto | Self::Off => (None, None),
            Self::PriorKnowledge => (Some(Sharing::All), Some(Sharing::All)),
        }
    }
}

/// Why GitLab can't be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The proxy's credentials.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// How long a call of gRPC may be silent: a stream of events may be for hours, and the connection's own pings find peers
/// that are gone. It ends with its client, or when it says so (`grpc-timeout`).
const CALL: Duration = Duration::from_secs(24 * 3600);

/// Questions under way at once. GitLab's Puma has a few dozen threads; more would only queue there, where other
/// work waits behind them.
const QUESTIONS: usize = 64;

/// Bytes read at once of an answer that is passed through: a file of 64 KiB and its head, which many servers write at once.
/// Some three times as much waits for a client that doesn't take it, and hundreds of such clients shall not fill memory.
const THROUGH: usize = 80 << 10;

/// Bytes that GitLab may send ahead of one answer over a shared connection: 5 MB/s at a distance of 100 ms.
const WINDOW: u32 = 512 << 10;

/// GitLab, and the object store it redirects to.
#[derive(Debug)]
pub struct Upstream {
    settings: Settings,
    /// For what is passed through.
    through: Client,
    /// For probes: small buffers, since their answers are small.
    probing: Client,
    /// For fills: large buffers.
    filling: Client,
    /// For the object store.
    storage: Client,
    questions: Arc<Semaphore>,
    requests: Limit,
    /// Runners that wait for a job: Workhorse holds each for up to a minute, and no other work shall wait behind them.
    polls: Limit,
    hop: Hop,
}

impl Upstream {
    /// Prepares the clients; connects nowhere yet, so an upstream that is down doesn't keep larder from starting.
    pub fn new(settings: Settings, metrics: &Metrics, hop: Hop) -> Result<Self, SetupError> {
        let roots = tls::roots(settings.ca_file.as_deref())?;
        let for_storage = tls::for_storage(roots.clone(), settings.storage_ca_file.as_deref())?;
        let for_gitlab = tls::for_gitlab(roots, &settings.tls)?;
        let egress = Egress::new(&settings.proxy)?;
        let client = |tls, guarded, (buffer, window), sharing| {
            let prior = settings.http2 == Http2::PriorKnowledge;
            let manner = Manner { guarded, buffer, sharing, prior, window, egress: egress.clone() };
            Client::new(tls, settings.connect_timeout, manner, metrics.retries.clone())
        };
        let (small, large) = settings.http2.sharing(&settings.url);
        let guard = settings.storage_hosts.is_none();
        let limit = || Limit::new(settings.max_connections, settings.connect_timeout);
        Ok(Self {
            through: client(&for_gitlab, false, (THROUGH, WINDOW), small),
            probing: client(&for_gitlab, false, (16 << 10, 32 << 10), small),
            filling: client(&for_gitlab, false, (256 << 10, WINDOW), large),
            storage: client(&for_storage, guard, (256 << 10, WINDOW), None),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            requests: limit(),
            polls: limit(),
            hop,
            settings,
        })
    }

    /// GitLab's base URL.
    pub const fn origin(&self) -> &Origin {
        &self.settings.url
    }

    /// How long a transfer that broke off is tried again without a byte of progress.
    pub const fn resume_timeout(&self) -> Duration {
        self.settings.resume_timeout
    }

    /// How larder is named in `Via` to GitLab.
    pub const fn hop(&self) -> &Hop {
        &self.hop
    }

    /// Sends a client's request as it is: method, raw target, fields (already stripped for this hop) and body.
    pub async fn pass(&self, request: Request<Body>) -> Result<Response<Fetched>, Error> {
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = self.settings.url.uri(target);
        // The authority in the URI becomes the Host that GitLab sees.
        parts.headers.remove(header::HOST);
        parts.version = http::Version::HTTP_11;
        self.hop.add(&mut parts.headers);
        let lane = if self.is_poll(&parts.method, &parts.uri) { &self.polls } else { &self.requests };
        let place = lane.enter().await?;
        let (request, permission) = expect::hold(Request::from_parts(parts, body));
        let silence = if content::is_grpc(request.headers()) { CALL } else { self.settings.read_timeout };
        let response = self.through.send(request, silence, silence).await?;
        Ok(response.map(|body| body.holding(Some(place), permission)))
    }

    /// Whether a request is a runner's that waits for a job (`workhorse/internal/builds/register.go`).
    fn is_poll(&self, method: &Method, uri: &Uri) -> bool {
        let below = uri.path().strip_prefix(self.settings.url.root());
        *method == Method::POST && below == Some("/api/v4/jobs/request")
    }

    /// Asks GitLab whether a caller may have something: a GET with the caller's fields and the probe's conditions.
    /// Waits its turn among [`QUESTIONS`], no longer than for an answer.
    pub async fn probe(&self, target: &PathAndQuery, fields: HeaderMap) -> Result<Response<Fetched>, Error> {
        let wait = self.settings.answer_timeout;
        let turn = tokio::time::timeout(wait, Arc::clone(&self.questions).acquire_owned()).await;
        let _turn = turn.map_err(|_| Error::from_kind(Kind::QueueTimeout))?;
        self.probing.send(self.question(target, fields), wait, wait).await
    }

    /// Asks GitLab for a whole archive in a caller's name.
    pub async fn fetch(&self, target: &PathAndQuery, fields: HeaderMap) -> Result<Response<Fetched>, Error> {
        let (wait, silence) = (self.settings.answer_timeout, self.settings.read_timeout);
        let place = self.requests.enter().await?;
        let response = self.filling.send(self.question(target, fields), wait, silence).await?;
        Ok(response.map(|body| body.holding(Some(place), None)))
    }

    /// Asks the object store for an object, or a range of it, with nothing of the client's. `unchanged`: the validator
    /// by which a range is of the same object as what was had before (`If-Range`).
    pub async fn fetch_object(
        &self,
        uri: &Uri,
        range: Option<HeaderValue>,
        unchanged: Option<HeaderValue>,
    ) -> Result<Response<Fetched>, Error> {
        let mut request = Request::new(body::empty());
        *request.uri_mut() = uri.clone();
        let conditions = [(header::RANGE, range), (header::IF_RANGE, unchanged)];
        for (name, value) in conditions {
            request.headers_mut().extend(value.map(|value| (name, value)));
        }
        self.storage.send(request, self.settings.answer_timeout, self.settings.read_timeout).await
    }

    fn question(&self, target: &PathAndQuery, mut fields: HeaderMap) -> Request<Body> {
        fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.hop.add(&mut fields);
        let mut request = Request::new(body::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.settings.url.uri(target.clone());
        *request.headers_mut() = fields;
        request
    }
}
