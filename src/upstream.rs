//! GitLab and its object store as services.
//!
//! Owns the connections to both, their time-outs, and the errors that can come of them. Knows nothing of caches,
//! grants or archives: it sends what it is given. Credentials go to GitLab's origin alone; the object store has a
//! client of its own, which never sees a client's fields.

mod again;
mod ages;
mod body;
mod client;
mod clients;
mod connect;
mod egress;
mod error;
mod expect;
mod failure;
mod limit;
mod moved;
mod pieces;
mod request_body;
mod resolve;
mod session;
mod settings;
mod shared;
mod spoken;
mod stores;
mod timely;
mod tls;
mod turns;
mod way;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

pub(crate) use body::Fetched;
use clients::Clients;
pub(crate) use clients::Trust;
pub(crate) use egress::ProxyError;
pub use egress::ProxySettings;
pub(crate) use error::{Error, FailureKind};
pub(crate) use limit::Place;
use moved::Moved;
pub(crate) use moved::leads_to;
pub(crate) use request_body::RequestBody;
pub use settings::{Http2, Settings};
pub(crate) use tls::TlsError;
pub use tls::TlsSettings;

use rustls::RootCertStore;

use crate::base::clock::Clock;
use crate::base::household::Household;
use crate::gitlab::urls::Origin;
use crate::http::content;
use crate::http::hop::{Hop, Sent};
use crate::telemetry::Metrics;
use egress::Egress;
use limit::Lane;
use stores::Stores;

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

/// Whether a file is what a key of [`Settings`] wants it to be. Blocks.
pub(crate) fn check_file(key: &'static str, path: &Path) -> Result<(), SetupError> {
    match key {
        "upstream.proxy_auth_file" => Ok(egress::check_file(path)?),
        _ => Ok(tls::check_file(key, path)?),
    }
}

/// Whether the certificate that larder shows GitLab and its key belong together. Blocks.
pub(crate) fn check_identity(settings: &Settings) -> Result<(), SetupError> {
    Ok(tls::for_gitlab(RootCertStore::empty(), &settings.tls).map(drop)?)
}

/// How long a call of gRPC may be silent once GitLab has answered it as one: a stream of events may be for hours, and the connection's own pings find peers
/// that are gone. It ends with its client, or when it says so (`grpc-timeout`).
const CALL: Duration = Duration::from_secs(24 * 3600);

/// Where GitLab looks for a token.
const TOKEN: HeaderName = HeaderName::from_static("private-token");

/// Questions under way at once. GitLab's Puma has a few dozen threads; more would only queue there, where other
/// work waits behind them.
const QUESTIONS: usize = 64;

/// How long it takes at most to find out whether GitLab is down, once a question has come to nothing.
const SETTLED: Duration = Duration::from_secs(1);

/// Questions that wait for their turn: of all the jobs of a busy GitLab that begin in one moment. Each holds a request's
/// head, some KiB.
const QUESTIONS_WAITING: usize = 4096;

/// GitLab, and the object store it redirects to.
#[derive(Debug)]
pub struct Upstream {
    settings: Settings,
    trust: Mutex<Trust>,
    egress: Egress,
    clock: Clock,
    retries: Counter,
    /// In use now.
    clients: RwLock<Arc<Clients>>,
    /// Those that fail.
    stores: Stores,
    questions: Arc<Lane>,
    requests: Arc<Lane>,
    /// Runners that wait for a job: Workhorse holds each for up to a minute, and no other work shall wait behind them.
    polls: Arc<Lane>,
    /// Calls of gRPC that GitLab has answered as such: they may last for days.
    calls: Arc<Lane>,
    /// Transfers from the object store.
    objects: Arc<Lane>,
    hop: Hop,
    moved: Moved,
}

/// Whether an object store is asked though it was found failing a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insists {
    /// It is for bytes that somebody waits for who can't be sent to the store any more.
    Yes,
    /// GitLab's redirect is there for whoever wants them.
    No,
}

/// GitLab's answer to a request that was passed on.
#[derive(Debug)]
pub(crate) struct Passed {
    /// The answer.
    pub response: Response<Fetched>,
    /// Whether it is one to a call of gRPC, in which either side may be silent for as long as it likes.
    pub call: bool,
}

impl Upstream {
    /// Prepares the clients; connects nowhere yet, so an upstream that is down doesn't keep larder from starting.
    pub fn new(settings: Settings, metrics: &Metrics, hop: Hop) -> Result<Self, SetupError> {
        let trust = Trust::read(&settings)?;
        let (egress, clock) = (Egress::new(&settings.proxy)?, Clock::system());
        let retries = metrics.retries.clone();
        let clients = Clients::new(&settings, &trust, &egress, &clock, &retries);
        let (most, patience) = (settings.max_connections, settings.connect_timeout);
        let lane = || Lane::new(most, most, patience);
        Ok(Self {
            trust: Mutex::new(trust),
            egress,
            clients: RwLock::new(Arc::new(clients)),
            stores: Stores::new(clock.clone(), settings.retry_store),
            clock,
            retries,
            questions: Lane::new(QUESTIONS, QUESTIONS_WAITING, settings.answer_timeout),
            requests: lane(),
            polls: lane(),
            calls: lane(),
            objects: lane(),
            hop,
            moved: Moved::default(),
            settings,
        })
    }

    /// The same by this clock.
    #[must_use]
    pub(crate) fn timed_by(mut self, clock: Clock) -> Self {
        self.stores = Stores::new(clock.clone(), self.settings.retry_store);
        self.clock = clock;
        self.renew();
        self
    }

    /// Believes these from now on. What is under way goes on over the connections that it has.
    pub(crate) fn trust(&self, trust: Trust) {
        *self.trust.lock() = trust;
        self.renew();
    }

    /// What a new configuration's files say; what else it says of GitLab needs a restart. Blocks.
    pub(crate) fn read_trust(&self, new: &Settings) -> Result<Trust, SetupError> {
        let tls = TlsSettings { insecure: self.settings.tls.insecure, ..new.tls.clone() };
        Trust::read(&Settings { tls, ..new.clone() })
    }

    fn renew(&self) {
        let trust = self.trust.lock();
        let clients = Clients::new(&self.settings, &trust, &self.egress, &self.clock, &self.retries);
        *self.clients.write() = Arc::new(clients);
    }

    fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.clients.read())
    }

    /// GitLab's base URL.
    pub(crate) const fn origin(&self) -> &Origin {
        &self.settings.url
    }

    /// The URL by which GitLab knows itself: what it makes URLs of, whatever name it was asked under.
    pub(crate) fn external(&self) -> &Origin {
        self.settings.external_url.as_ref().unwrap_or(&self.settings.url)
    }

    /// How long a transfer that broke off is tried again without a byte of progress.
    pub(crate) const fn resume_timeout(&self) -> Duration {
        self.settings.resume_timeout
    }

    /// Longest wait for a connection, and for a request's turn.
    pub(crate) const fn connect_timeout(&self) -> Duration {
        self.settings.connect_timeout
    }

    /// Longest wait for the answer to a question of larder's own.
    pub(crate) const fn answer_timeout(&self) -> Duration {
        self.settings.answer_timeout
    }

    /// How larder is named in `Via` to GitLab.
    pub(crate) const fn hop(&self) -> &Hop {
        &self.hop
    }

    /// Waits for the turn of a request that passes, of the client at this address, no longer than for a connection.
    pub(crate) async fn enter(&self, method: &Method, path: &str, from: IpAddr) -> Result<Place, Error> {
        let lane = if self.is_poll(method, path) { &self.polls } else { &self.requests };
        lane.enter(Household::of(from)).await
    }

    /// Sends a client's request as it is: method, raw target, fields (already stripped for this hop) and body. The place
    /// is held until the answer's body has ended.
    pub(crate) async fn pass(&self, place: Place, request: Request<RequestBody>) -> Result<Passed, Error> {
        let (request, permission) = expect::hold(request);
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = self.settings.url.uri(target.clone());
        // The authority in the URI becomes the Host that GitLab sees.
        parts.headers.remove(header::HOST);
        parts.version = http::Version::HTTP_11;
        self.hop.add(&mut parts.headers);
        let call = content::is_grpc(&parts.headers);
        let request = Request::from_parts(parts, body);
        let silence = self.settings.read_timeout;
        let response = self.clients().through.send(request, Instant::now() + silence, silence).await?;
        self.look(&target, &response);
        let (place, call) = if call { self.called(place, &response) } else { (place, false) };
        let response = response.map(|body| {
            let body = if call { body.silent_for(CALL) } else { body };
            body.holding(place, permission)
        });
        Ok(Passed { response, call })
    }

    /// Whether a request that says that it is a call of gRPC is one: GitLab has answered it as such, and there is a place
    /// for it among the calls, which it has from now on. Any other is as any other request is.
    fn called(&self, place: Place, response: &Response<Fetched>) -> (Place, bool) {
        let moved = content::is_grpc(response.headers()).then(|| self.calls.enter_now(place.who())).flatten();
        match moved {
            Some(call) => (call, true),
            None => (place, false),
        }
    }

    /// Whether a small request for this path goes by HTTP/2 when it is passed on, and so do questions; `None`: it isn't
    /// known yet.
    pub(crate) fn shares(&self, path: &str) -> Option<bool> {
        self.clients.read().through.shares(path)
    }

    /// Whether a request is a runner's that waits for a job (`workhorse/internal/builds/register.go`).
    fn is_poll(&self, method: &Method, path: &str) -> bool {
        *method == Method::POST && path.strip_prefix(self.settings.url.root()) == Some("/api/v4/jobs/request")
    }

    /// Asks GitLab whether a caller at this address may have something: a GET with the caller's fields and the probe's
    /// conditions. Waits its turn among [`QUESTIONS`], no longer than for an answer.
    pub(crate) async fn probe(
        &self,
        target: &PathAndQuery,
        head: Sent,
        from: IpAddr,
    ) -> Result<Response<Fetched>, Error> {
        let wait = self.settings.answer_timeout;
        let deadline = Instant::now() + wait;
        let place = self.questions.enter(Household::of(from)).await?;
        let response = self.clients().probing.send(self.question(target, head), deadline, wait).await?;
        self.look(target, &response);
        Ok(response.map(|body| body.holding(place, None)))
    }

    /// Asks GitLab something in nobody's name, to learn whether it answers. Takes no turn: whoever fills the queue must
    /// not make GitLab look as if it were down. By a connection of its own, to wherever GitLab's name leads now; those that
    /// are kept take nothing further, since somebody has had no answer.
    pub(crate) async fn ask_plainly(&self, target: &PathAndQuery) -> Result<StatusCode, Error> {
        let wait = SETTLED.min(self.settings.answer_timeout);
        let request = self.question(target, Sent::default());
        let clients = self.clients();
        clients.retire_all();
        let response = clients.probing.send_anew(request, Instant::now() + wait, wait).await?;
        Ok(response.status())
    }

    /// Asks GitLab something in the operator's name, with his token if he gave one.
    pub(crate) async fn ask(
        &self,
        target: &PathAndQuery,
        token: Option<HeaderValue>,
    ) -> Result<Response<Fetched>, Error> {
        let wait = self.settings.answer_timeout;
        let mut question = self.question(target, Sent::default());
        question.headers_mut().extend(token.map(|token| (TOKEN, token)));
        self.clients().probing.send(question, Instant::now() + wait, wait).await
    }

    fn look(&self, target: &PathAndQuery, response: &Response<Fetched>) {
        self.moved.look(&self.settings.url, target, response.status(), response.headers());
    }

    /// Asks GitLab for a whole archive in the name of a caller at this address.
    pub(crate) async fn fetch(
        &self,
        target: &PathAndQuery,
        head: Sent,
        from: IpAddr,
    ) -> Result<Response<Fetched>, Error> {
        let (deadline, silence) = (Instant::now() + self.settings.answer_timeout, self.settings.read_timeout);
        let place = self.requests.enter(Household::of(from)).await?;
        let response = self.clients().filling.send(self.question(target, head), deadline, silence).await?;
        self.look(target, &response);
        Ok(response.map(|body| body.holding(place, None)))
    }

    /// Asks the object store for an object, or a range of it, with nothing of the client's, whose address only says whose
    /// turn it is. `unchanged`: the validator by which a range is of the same object as what was had before (`If-Range`).
    /// A store that was found failing a moment ago is asked only by who insists.
    pub(crate) async fn fetch_object(
        &self,
        uri: &Uri,
        (range, unchanged): (Option<HeaderValue>, Option<HeaderValue>),
        from: IpAddr,
        insists: Insists,
    ) -> Result<Response<Fetched>, Error> {
        if insists == Insists::No {
            self.stores.may_ask(uri)?;
        }
        let mut request = Request::new(request_body::empty());
        *request.uri_mut() = uri.clone();
        let conditions = [(header::RANGE, range), (header::IF_RANGE, unchanged)];
        for (name, value) in conditions {
            request.headers_mut().extend(value.map(|value| (name, value)));
        }
        let (deadline, silence) = (Instant::now() + self.settings.answer_timeout, self.settings.read_timeout);
        let place = self.objects.enter(Household::of(from)).await?;
        match self.clients().storage.send(request, deadline, silence).await {
            Ok(response) => {
                self.stores.answered(uri, response.status());
                Ok(response.map(|body| body.holding(place, None)))
            }
            Err(error) => {
                self.store_failed(uri, error.kind());
                Err(error)
            }
        }
    }

    /// Nothing has come of an object.
    pub(crate) fn store_failed(&self, uri: &Uri, kind: FailureKind) {
        self.stores.failed(uri, kind);
    }

    fn question(&self, target: &PathAndQuery, head: Sent) -> Request<RequestBody> {
        let mut fields = head.into_fields();
        fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.hop.add(&mut fields);
        let mut request = Request::new(request_body::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.settings.url.uri(target.clone());
        *request.headers_mut() = fields;
        request
    }
}
