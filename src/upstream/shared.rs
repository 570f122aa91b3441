//! Connections of HTTP/2 to GitLab, each shared by many requests.
//!
//! Whether GitLab offers it is found out by asking (ALPN, RFC 7301) when the first request wants one. One connection is
//! dialled at a time: whoever comes meanwhile will share it. A further one is dialled when all are full, so that requests
//! which GitLab holds, such as runners' that wait for a job, keep nothing else waiting.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::Connection as _;
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::Instant;
use tower_service::Service;

use super::connect::Dial;
use super::error::{Error, Kind};
use super::session::{Session, Stream};

/// How long a connection without a request is good for the next one: below the 75 s after which nginx closes it.
const IDLE: Duration = Duration::from_secs(50);

/// For how long it is believed that GitLab doesn't offer HTTP/2. Finding out costs a connection.
const DECLINED: Duration = Duration::from_secs(600);

/// The connections to one place. There are no more than requests at once, which `upstream.max_connections` bounds.
#[derive(Debug)]
pub(super) struct Shared {
    connector: HttpsConnector<Dial>,
    /// It is spoken without asking.
    prior: bool,
    /// Bytes that GitLab may send ahead for one request.
    window: u32,
    connect_timeout: Duration,
    state: Mutex<Known>,
    /// Held while one is dialled.
    dialling: tokio::sync::Mutex<()>,
}

/// What is known of the place.
#[derive(Debug, Default)]
struct Known {
    sessions: Vec<Session>,
    dialled: u64,
    declined: Option<Instant>,
    /// How often dialling has failed, and how last.
    failures: u64,
    failure: Option<Kind>,
}

/// What is there.
enum Found {
    /// Room on a connection.
    Stream(Stream),
    /// That GitLab doesn't offer HTTP/2.
    Declined,
}

impl Found {
    fn stream(self) -> Option<Stream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Declined => None,
        }
    }
}

impl Shared {
    /// None yet. Where `prior`, HTTP/2 is spoken without asking, also in the clear.
    pub(super) fn new(
        dial: Dial,
        tls: &ClientConfig,
        prior: bool,
        window: u32,
        connect_timeout: Duration,
    ) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if prior {
            tls.alpn_protocols.pop();
        }
        Self {
            connector: HttpsConnector::from((dial, Arc::new(tls))),
            prior,
            window,
            connect_timeout,
            state: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        }
    }

    /// A stream to `place`, on a connection dialled after number `after`; `None`: GitLab doesn't offer HTTP/2.
    pub(super) async fn enter(&self, place: &Uri, after: Option<u64>) -> Result<Option<Stream>, Error> {
        let failures = self.state.lock().failures;
        if let Some(found) = self.find(after) {
            return Ok(found.stream());
        }
        let _turn = self.dialling.lock().await;
        // Somebody else may have dialled meanwhile, or tried.
        if let Some(found) = self.find(after) {
            return Ok(found.stream());
        }
        if let Some(kind) = self.failed_since(failures) {
            return Err(Error::from_kind(kind));
        }
        let dialled = tokio::time::timeout(self.connect_timeout, self.dial(place)).await;
        let dialled = dialled.unwrap_or_else(|_| Err(Error::from_kind(Kind::ConnectTimeout)));
        dialled.inspect_err(|error| self.note_failure(error.kind()))
    }

    /// What can be said without dialling.
    fn find(&self, after: Option<u64>) -> Option<Found> {
        let mut known = self.state.lock();
        known.sessions.retain(|session| !session.is_over(IDLE));
        // The first with room: those that aren't needed fall idle.
        let mut fit =
            known.sessions.iter().filter(|session| after.is_none_or(|after| session.number() > after));
        if let Some(stream) = fit.find_map(Session::stream) {
            return Some(Found::Stream(stream));
        }
        known.declined.is_some_and(|at| at.elapsed() < DECLINED).then_some(Found::Declined)
    }

    fn failed_since(&self, failures: u64) -> Option<Kind> {
        let known = self.state.lock();
        known.failure.filter(|_| known.failures != failures)
    }

    fn note_failure(&self, kind: Kind) {
        let mut known = self.state.lock();
        known.failures = known.failures.wrapping_add(1);
        known.failure = Some(kind);
    }

    async fn dial(&self, place: &Uri) -> Result<Option<Stream>, Error> {
        let mut connector = self.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await.map_err(Error::connecting)?;
        let line = connector.call(place.clone()).await.map_err(Error::connecting)?;
        if !self.prior && !line.connected().is_negotiated_h2() {
            self.state.lock().declined = Some(Instant::now());
            tracing::debug!("GitLab doesn't offer HTTP/2");
            return Ok(None);
        }
        let number = {
            let mut known = self.state.lock();
            known.dialled += 1;
            known.dialled
        };
        let session = Session::open(line, self.window, number).await;
        let session = session.map_err(|error| Error::classify(error, true))?;
        let stream = session.stream();
        self.state.lock().sessions.push(session);
        stream.map(Some).ok_or_else(|| Error::from_kind(Kind::Terminated))
    }
}
