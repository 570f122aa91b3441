//! Connections of HTTP/2 to GitLab, each shared by many requests.
//!
//! Whether GitLab offers it is found out by asking (ALPN, RFC 7301) when the first request wants one. One connection is
//! dialled at a time, in a task of its own: whoever comes meanwhile will share it, and whoever leaves takes nobody's along.
//! A further one is dialled when all are full, so that requests which GitLab holds, such as runners' that wait for a job,
//! keep nothing else waiting.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::Connection as _;
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower_service::Service;

use super::ages::ReuseLimits;
use super::connect::Dial;
use super::error::{Error, FailureKind};
use super::session::{Session, Stream};

/// How long a connection without a request is good for the next one: below the 75 s after which nginx closes it.
const IDLE: Duration = Duration::from_secs(50);

/// For how long it is believed that GitLab doesn't offer HTTP/2. Finding out costs a connection.
const DECLINED: Duration = Duration::from_secs(600);

/// The connections to one place. There are no more than requests at once, which `upstream.max_connections` bounds.
#[derive(Debug)]
pub(super) struct SharedConns(Arc<SharedInner>);

#[derive(Debug)]
struct SharedInner {
    connector: HttpsConnector<Dial>,
    /// It is spoken without asking.
    prior: bool,
    /// Bytes that GitLab may send ahead for one request.
    window: u32,
    connect_timeout: Duration,
    life: ReuseLimits,
    state: Mutex<SharedState>,
}

/// What is known of the place.
#[derive(Debug, Default)]
struct SharedState {
    sessions: Vec<Session>,
    dialled: u64,
    declined: Option<Instant>,
    /// Whether a task dials.
    dialling: bool,
    /// Those for whom it does, in the order in which they came: requests that have a place, and so no more than these.
    waiting: VecDeque<Dialer>,
}

/// A request that waits for a connection.
#[derive(Debug)]
struct Dialer {
    /// The connection must be dialled after this one.
    after: Option<u64>,
    tell: oneshot::Sender<Result<Reuse, FailureKind>>,
}

/// What is there.
#[derive(Debug)]
enum Reuse {
    /// Room on a connection.
    Stream(Stream),
    /// That GitLab doesn't offer HTTP/2.
    Declined,
}

impl Reuse {
    fn stream(self) -> Option<Stream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Declined => None,
        }
    }
}

impl SharedConns {
    /// None yet. Where `prior`, HTTP/2 is spoken without asking, also in the clear.
    pub(super) fn new(
        dial: Dial,
        tls: &ClientConfig,
        prior: bool,
        window: u32,
        (connect_timeout, life): (Duration, ReuseLimits),
    ) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if prior {
            tls.alpn_protocols.pop();
        }
        Self(Arc::new(SharedInner {
            connector: HttpsConnector::from((dial, Arc::new(tls))),
            prior,
            window,
            connect_timeout,
            life,
            state: Mutex::default(),
        }))
    }

    /// A stream to `place`, on a connection dialled after number `after`; `None`: GitLab doesn't offer HTTP/2.
    pub(super) async fn enter(&self, place: &Uri, after: Option<u64>) -> Result<Option<Stream>, Error> {
        let told = {
            let mut known = self.0.state.lock();
            known.retire_old(&self.0.life);
            if let Some(found) = known.find(after) {
                return Ok(found.stream());
            }
            let (tell, told) = oneshot::channel();
            known.waiting.push_back(Dialer { after, tell });
            if !std::mem::replace(&mut known.dialling, true) {
                let dialling = Dialling { inner: Arc::clone(&self.0), place: place.clone(), ended: false };
                crate::base::rt::spawn(dialling.run());
            }
            told
        };
        match told.await {
            Ok(found) => found.map(Reuse::stream).map_err(Error::from_kind),
            // Its task has died.
            Err(_) => Err(Error::from_kind(FailureKind::Terminated)),
        }
    }

    /// A stream on a connection that isn't dialled yet.
    pub(super) async fn enter_new(&self, place: &Uri) -> Result<Option<Stream>, Error> {
        let dialled = self.0.state.lock().dialled;
        self.enter(place, Some(dialled)).await
    }

    /// Those that are there take no further request.
    pub(super) fn retire_all(&self) {
        self.0.state.lock().sessions.iter().for_each(Session::retire);
    }

    /// Whether GitLab offers HTTP/2; `None`: that isn't known.
    pub(super) fn is_offered(&self) -> Option<bool> {
        let known = self.0.state.lock();
        if known.declined.is_some_and(|at| at.elapsed() < DECLINED) {
            return Some(false);
        }
        (self.0.prior || known.dialled > 0).then_some(true)
    }
}

impl SharedState {
    fn retire_old(&self, life: &ReuseLimits) {
        self.sessions.iter().filter(|session| life.is_over(session.made())).for_each(Session::retire);
    }

    /// What can be said without dialling.
    fn find(&mut self, after: Option<u64>) -> Option<Reuse> {
        self.sessions.retain(|session| !session.is_over(IDLE));
        // The first with room: those that aren't needed fall idle.
        let mut fit =
            self.sessions.iter().filter(|session| after.is_none_or(|after| session.number() > after));
        if let Some(stream) = fit.find_map(Session::stream) {
            return Some(Reuse::Stream(stream));
        }
        self.declined.is_some_and(|at| at.elapsed() < DECLINED).then_some(Reuse::Declined)
    }

    /// Tells those who wait what can be said without dialling, and forgets those who have left; whether any is left.
    fn serve(&mut self) -> bool {
        self.waiting.retain(|waiting| !waiting.tell.is_closed());
        while let Some(found) =
            self.waiting.front().map(|first| first.after).and_then(|after| self.find(after))
        {
            if let Some(first) = self.waiting.pop_front() {
                // Whoever has left in this moment leaves its stream to the next.
                let _ = first.tell.send(Ok(found));
            }
        }
        !self.waiting.is_empty()
    }

    /// Tells the first of those who wait.
    fn tell_first(&mut self, found: Result<Reuse, FailureKind>) {
        if let Some(first) = self.waiting.pop_front() {
            let _ = first.tell.send(found);
        }
    }

    /// Tells all who wait that there is no connection.
    fn fail(&mut self, kind: FailureKind) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.tell.send(Err(kind));
        }
    }
}

impl SharedInner {
    /// A connection; `None`: GitLab doesn't offer HTTP/2.
    async fn dial(&self, place: &Uri) -> Result<Option<Session>, Error> {
        let mut connector = self.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await.map_err(Error::connecting)?;
        let line = connector.call(place.clone()).await.map_err(Error::connecting)?;
        if !self.prior && !line.connected().is_negotiated_h2() {
            return Ok(None);
        }
        let number = {
            let mut known = self.state.lock();
            known.dialled += 1;
            known.dialled
        };
        let session = Session::open(line, self.window, (number, self.life.clock.now())).await;
        session.map(Some).map_err(|error| Error::classify(error, true))
    }

    /// Notes what came of it, and tells whom it concerns.
    fn dialled(&self, dialled: Result<Option<Session>, Error>) {
        let mut known = self.state.lock();
        match dialled {
            Ok(Some(session)) => {
                let stream = session.stream().map(Reuse::Stream);
                known.sessions.push(session);
                // One that has ended already is somebody's answer: nobody dials for ever.
                known.tell_first(stream.ok_or(FailureKind::Terminated));
            }
            Ok(None) => {
                known.declined = Some(Instant::now());
                tracing::debug!("GitLab doesn't offer HTTP/2");
            }
            Err(error) => {
                tracing::debug!(error = error.chain(), "no connection of HTTP/2 to GitLab");
                known.fail(error.kind());
            }
        }
    }
}

/// Dials for all who wait, until none does.
struct Dialling {
    inner: Arc<SharedInner>,
    place: Uri,
    /// Nobody waits, and the next to come begins another one.
    ended: bool,
}

impl Dialling {
    async fn run(mut self) {
        while self.is_wanted() {
            let dialled =
                tokio::time::timeout(self.inner.connect_timeout, self.inner.dial(&self.place)).await;
            let late = |_| Err(Error::from_kind(FailureKind::ConnectTimeout));
            self.inner.dialled(dialled.unwrap_or_else(late));
        }
    }

    fn is_wanted(&mut self) -> bool {
        let mut known = self.inner.state.lock();
        let wanted = known.serve();
        (self.ended, known.dialling) = (!wanted, wanted);
        wanted
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        if !self.ended {
            // A panic, or the end of the runtime: who waits hears of it.
            let mut known = self.inner.state.lock();
            known.dialling = false;
            known.waiting.clear();
        }
    }
}
