//! Whether GitLab is down, or only silent to somebody.
//!
//! What stands before GitLab may drop a request for anything in it, and that looks like an outage to whoever sent it. So
//! it counts as one only if a question of larder's own, on the same route and with nothing of a caller in it, comes to
//! nothing as well. Once it does that is remembered: whoever comes meanwhile learns it at once, while one question of
//! larder's own at a time tries again. Any answer of GitLab's ends it. Since a question of larder's own may come to nothing
//! where a caller's doesn't, one caller every few seconds asks for itself all the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Access;
use crate::base::clock::{Clock, Moment};
use crate::gitlab::grant::judge;
use crate::gitlab::route::Class;
use crate::upstream::{self, FailureKind, Upstream};

/// For how long an outage is remembered before somebody asks for itself again.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How GitLab is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// Nothing comes.
    Silent(FailureKind),
    /// What stands before it, or itself, says so.
    Said,
}

/// A route, or all that passes.
pub(super) type HealthRoute = Option<Class>;

/// What a question of larder's own came to; `None`: it was answered.
type TrialResult = Option<Outage>;

/// What is known of one route, as long as there is anything to know.
#[derive(Debug, Default)]
struct RouteState {
    /// How it is down, and when a caller has left last to find that out.
    down: Option<(Outage, Moment)>,
    /// A question of larder's own that is under way.
    trial: Option<watch::Receiver<Option<TrialResult>>>,
    /// Whether anybody was answered since that was sent.
    heard: bool,
}

impl RouteState {
    fn outage(&self) -> TrialResult {
        self.down.map(|(outage, _)| outage)
    }

    /// Whether it is time for a caller to ask for itself. It is so for one.
    fn is_due(&mut self, now: Moment) -> bool {
        let Some((_, at)) = &mut self.down else { return false };
        let due = now.since(*at) >= REMEMBERED;
        if due {
            *at = now;
        }
        due
    }

    const fn is_over(&self) -> bool {
        self.down.is_none() && self.trial.is_none()
    }
}

/// What is known of GitLab's health: at most one question of larder's own a route at a time.
#[derive(Debug)]
pub(super) struct Health(Arc<HealthInner>);

#[derive(Debug)]
struct HealthInner {
    upstream: Arc<Upstream>,
    clock: Clock,
    /// Whether there is any state: nobody looks for it while all is well.
    troubled: AtomicBool,
    states: Mutex<HashMap<HealthRoute, RouteState>>,
}

impl Health {
    pub(super) fn new(upstream: Arc<Upstream>, clock: Clock) -> Self {
        let (troubled, states) = (AtomicBool::new(false), Mutex::default());
        Self(Arc::new(HealthInner { upstream, clock, troubled, states }))
    }

    /// How GitLab is down on a route, as far as that was found out. The first to ask has it tried again, and waits for what
    /// comes of it; whoever comes meanwhile is told at once. `None` also for one who asks for itself now and then.
    pub(super) async fn known(&self, route: HealthRoute) -> TrialResult {
        if !self.0.troubled.load(Ordering::Relaxed) {
            return None;
        }
        {
            let now = self.0.clock.now();
            let mut states = self.0.states.lock();
            if states.get_mut(&route).is_some_and(|state| state.is_due(now)) {
                return None;
            }
            let outage = |route| states.get(route).and_then(RouteState::outage);
            let is_tried = states.get(&route).is_some_and(|state| state.trial.is_some());
            match (outage(&route), outage(&None)) {
                (None, None) => return None,
                (Some(outage), _) if is_tried => return Some(outage),
                _ => {}
            }
        }
        self.settle(route).await
    }

    /// A caller has had no answer: finds out how GitLab is down.
    pub(super) async fn failed(&self, route: HealthRoute) -> TrialResult {
        let found = self.settle(route).await;
        let now = self.0.clock.now();
        if let Some((_, at)) = self.0.states.lock().get_mut(&route).and_then(|state| state.down.as_mut()) {
            *at = now;
        }
        found
    }

    /// Finds out whether GitLab leaves a route unanswered, whoever asks, and whether all of it. Both are remembered.
    async fn settle(&self, route: HealthRoute) -> TrialResult {
        let (one, all) = (self.trial(route), self.trial(None));
        let (one, _) = tokio::join!(outcome(one), outcome(all));
        one
    }

    /// GitLab has answered somebody.
    pub(super) fn heard(&self, route: HealthRoute) {
        if self.0.troubled.load(Ordering::Relaxed) {
            let mut states = self.0.states.lock();
            for route in [route, None] {
                if let Some(state) = states.get_mut(&route) {
                    (state.down, state.heard) = (None, true);
                }
            }
            self.0.tidy(&mut states);
        }
    }

    /// The question of larder's own that is under way on a route, or a new one.
    fn trial(&self, route: HealthRoute) -> watch::Receiver<Option<TrialResult>> {
        let mut states = self.0.states.lock();
        let state = states.entry(route).or_default();
        self.0.troubled.store(true, Ordering::Relaxed);
        if let Some(trial) = &state.trial {
            return trial.clone();
        }
        let (tell, trial) = watch::channel(None);
        (state.trial, state.heard) = (Some(trial.clone()), false);
        drop(states);
        let ending = Ending { inner: Arc::clone(&self.0), route, found: None };
        crate::base::rt::spawn(async move {
            let found = ending.ask().await;
            tell.send_replace(Some(found));
        });
        trial
    }
}

/// What came of a trial. One whose task died has heard nothing that would let anybody in.
async fn outcome(mut trial: watch::Receiver<Option<TrialResult>>) -> TrialResult {
    trial.wait_for(Option::is_some).await.ok().and_then(|found| found.flatten())
}

impl HealthInner {
    fn tidy(&self, states: &mut HashMap<HealthRoute, RouteState>) {
        states.retain(|_, state| !state.is_over());
        self.troubled.store(!states.is_empty(), Ordering::Relaxed);
    }

    /// A question on this route about what no GitLab has: IDs begin at 1.
    fn target(&self, route: HealthRoute) -> PathAndQuery {
        let path = match route {
            Some(Class::Job) => "/api/v4/projects/0/jobs/0/artifacts",
            Some(Class::Runner) => "/api/v4/jobs/0/artifacts",
            Some(Class::Ref) => "/api/v4/projects/0/jobs/artifacts/0/download?job=0",
            Some(Class::Web) => "/0/0/-/jobs/0/artifacts/download",
            Some(Class::JobEntry) => "/api/v4/projects/0/jobs/0/artifacts/0",
            Some(Class::RefEntry) => "/api/v4/projects/0/jobs/artifacts/0/raw/0?job=0",
            Some(Class::WebEntry) => "/0/0/-/jobs/0/artifacts/raw/0",
            // Of the API, as most of what passes is: 401 to nobody.
            None => "/api/v4/version",
        };
        let target = format!("{}{path}", self.upstream.origin().root());
        // A root is part of a URL that was read.
        target.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"))
    }
}

/// Writes down what came of a trial when it ends, or when its task dies.
struct Ending {
    inner: Arc<HealthInner>,
    route: HealthRoute,
    found: TrialResult,
}

impl Ending {
    async fn ask(mut self) -> TrialResult {
        self.found = match self.inner.upstream.ask_plainly(&self.inner.target(self.route)).await {
            Ok(status) if judge::is_outage(status) => Some(Outage::Said),
            Ok(_) => None,
            Err(error) => Some(Outage::Silent(error.kind())),
        };
        self.note()
    }

    /// What it has found, unless somebody was answered meanwhile.
    fn note(&mut self) -> TrialResult {
        let now = self.inner.clock.now();
        let mut states = self.inner.states.lock();
        if let Some(state) = states.get_mut(&self.route).filter(|state| state.trial.is_some()) {
            self.found = self.found.filter(|_| !state.heard);
            let since = state.down.map_or(now, |(_, at)| at);
            (state.trial, state.down) = (None, self.found.map(|outage| (outage, since)));
        }
        self.inner.tidy(&mut states);
        self.found
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // After it was noted this finds nothing, or the next one's, which is its own task's.
        if std::thread::panicking() {
            self.note();
        }
    }
}

impl Access {
    /// How GitLab is down on a route, or for all that passes, if that was found out a moment ago, and nobody who tries
    /// again just now has heard of it. An error to be told to whoever would have asked it.
    pub(crate) async fn known_down(&self, route: Option<Class>) -> Option<upstream::Error> {
        match self.health.known(route).await? {
            Outage::Silent(kind) => Some(upstream::Error::known(kind)),
            // What says so says it to whoever asks.
            Outage::Said => None,
        }
    }

    /// GitLab has answered somebody on a route, or something that passes.
    pub(crate) fn heard(&self, route: Option<Class>, status: StatusCode) {
        if !judge::is_outage(status) {
            self.health.heard(route);
        }
    }

    /// GitLab has left somebody without an answer: finds out whether it is down, and remembers it.
    pub(crate) async fn unheard(&self, class: Class, error: &upstream::Error) {
        if error.kind().may_be_outage() {
            self.health.failed(Some(class)).await;
        }
    }
}
