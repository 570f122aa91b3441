//! What is counted.
//!
//! Every label is an enum of ours or a name from a fixed list: no label comes from a request, so the number of series
//! is bounded by construction.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::outcome::Outcome;

type Bytes = Counter<u64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Where served bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The store.
    Store,
    /// A fill that was still growing.
    Fill,
    /// GitLab, passed through.
    Upstream,
}

impl From {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Fill => "fill",
            Self::Upstream => "upstream",
        }
    }
}

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// In the store.
    Stored,
    /// GitLab refused the leader.
    Refused,
    /// What came isn't an archive.
    NotArchive,
    /// No room for it.
    NoRoom,
    /// It broke off.
    Broken,
    /// Something happened to the job meanwhile.
    Overtaken,
    /// The store failed.
    Unstored,
}

impl Fill {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Refused => "refused",
            Self::NotArchive => "not_archive",
            Self::NoRoom => "no_room",
            Self::Broken => "broken",
            Self::Overtaken => "overtaken",
            Self::Unstored => "unstored",
        }
    }
}

/// What came of a question about access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Yes, to what is held.
    Yes,
    /// Yes, to something else.
    Other,
    /// No.
    Refused,
    /// Not an answer to the question.
    NotOurs,
    /// GitLab couldn't be asked.
    Down,
}

impl Probe {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Other => "other",
            Self::Refused => "refused",
            Self::NotOurs => "not_ours",
            Self::Down => "down",
        }
    }
}

/// How access was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A remembered grant opened the archive.
    Remembered,
    /// GitLab was asked.
    Asked,
    /// GitLab was down and the last answer within `access.grace` had been a yes.
    Grace,
}

impl Grant {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Remembered => "remembered",
            Self::Asked => "asked",
            Self::Grace => "grace",
        }
    }
}

/// Sizes that are read when metrics are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// Archives in the store.
    pub archives: u64,
    /// Bytes taken.
    pub store_bytes: u64,
    /// Bytes that may be taken.
    pub budget_bytes: u64,
    /// Archives evicted since the start.
    pub evicted: u64,
    /// Grants remembered.
    pub grants: u64,
    /// Fills under way.
    pub fills: u64,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    duration: Family<Route, Histogram, fn() -> Histogram>,
    first_byte: Family<Route, Histogram, fn() -> Histogram>,
    served: Family<Source, Bytes>,
    fetched: Bytes,
    fills: Family<Result, Counter>,
    probes: Family<Result, Counter>,
    grants: Family<Result, Counter>,
    upstream_errors: Family<Kind, Counter>,
    malformed: Counter,
    evictions: Counter,
    /// Connections open now.
    pub connections: Gauge,
    sizes: [Gauge; 5],
}

/// 1 ms to 65 s in steps of 4: from a hit to a long download.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 9))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("larder");
        let requests = Family::default();
        registry.register("requests", "Requests by route and outcome", requests.clone());
        let duration = Family::<Route, Histogram, fn() -> Histogram>::new_with_constructor(seconds);
        registry.register_with_unit(
            "request_duration",
            "Time to the last byte",
            Unit::Seconds,
            duration.clone(),
        );
        let first_byte = Family::<Route, Histogram, fn() -> Histogram>::new_with_constructor(seconds);
        registry.register_with_unit(
            "answer_delay",
            "Time to an answer's head",
            Unit::Seconds,
            first_byte.clone(),
        );
        let served = Family::default();
        registry.register_with_unit("served", "Body bytes sent to clients", Unit::Bytes, served.clone());
        let fetched = Bytes::default();
        registry.register_with_unit("fetched", "Body bytes fetched by fills", Unit::Bytes, fetched.clone());
        let fills = Family::default();
        registry.register("fills", "Fills by result", fills.clone());
        let probes = Family::default();
        registry.register("probes", "Questions to GitLab about access by result", probes.clone());
        let grants = Family::default();
        registry.register("grants", "Admissions by how they were had", grants.clone());
        let upstream_errors = Family::default();
        registry.register(
            "upstream_errors",
            "Failed exchanges with GitLab or its store",
            upstream_errors.clone(),
        );
        let malformed = Counter::default();
        registry.register("malformed_requests", "Requests that were not HTTP", malformed.clone());
        let evictions = Counter::default();
        registry.register("evictions", "Archives that made room for others", evictions.clone());
        let connections = Gauge::default();
        registry.register("connections", "Client connections open now", connections.clone());
        let sizes: [Gauge; 5] = std::array::from_fn(|_| Gauge::default());
        let names = [
            ("store_archives", "Archives in the store"),
            ("store_size_bytes", "Bytes taken of the store's budget"),
            ("store_budget_bytes", "The store's budget"),
            ("grants_remembered", "Grants remembered now"),
            ("fills_running", "Fills under way now"),
        ];
        for ((name, help), gauge) in names.iter().zip(&sizes) {
            registry.register(*name, *help, gauge.clone());
        }
        Self {
            registry,
            requests,
            duration,
            first_byte,
            served,
            fetched,
            fills,
            probes,
            grants,
            upstream_errors,
            malformed,
            evictions,
            connections,
            sizes,
        }
    }
}

impl Metrics {
    /// A request has been answered to its last byte, or has ended otherwise.
    pub fn request(&self, route: &'static str, outcome: Outcome, head: Duration, whole: Duration) {
        self.requests.get_or_create(&Request { route, outcome: outcome.as_str() }).inc();
        self.first_byte.get_or_create(&Route { route }).observe(head.as_secs_f64());
        self.duration.get_or_create(&Route { route }).observe(whole.as_secs_f64());
    }

    /// Body bytes have been handed to a client's connection.
    pub fn served(&self, from: From, bytes: u64) {
        self.served.get_or_create(&Source { source: from.as_str() }).inc_by(bytes);
    }

    /// A fill has received bytes.
    pub fn fetched(&self, bytes: u64) {
        self.fetched.inc_by(bytes);
    }

    /// A fill has ended.
    pub fn fill(&self, result: Fill) {
        self.fills.get_or_create(&Result { result: result.as_str() }).inc();
    }

    /// GitLab has been asked about access.
    pub fn probe(&self, result: Probe) {
        self.probes.get_or_create(&Result { result: result.as_str() }).inc();
    }

    /// Somebody has been let in.
    pub fn grant(&self, how: Grant) {
        self.grants.get_or_create(&Result { result: how.as_str() }).inc();
    }

    /// An exchange with GitLab or its store has failed.
    pub fn upstream_error(&self, kind: &'static str) {
        self.upstream_errors.get_or_create(&Kind { kind }).inc();
    }

    /// A connection has sent what isn't HTTP.
    pub fn malformed(&self) {
        self.malformed.inc();
    }

    /// All metrics in the `OpenMetrics` text format, which Prometheus reads.
    pub fn render(&self, sizes: Sizes) -> String {
        let now = [sizes.archives, sizes.store_bytes, sizes.budget_bytes, sizes.grants, sizes.fills];
        for (gauge, value) in self.sizes.iter().zip(now) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.evictions.inc_by(sizes.evicted.saturating_sub(self.evictions.get()));
        let mut page = String::new();
        if text::encode(&mut page, &self.registry).is_err() {
            // Writing to a string doesn't fail; an encoder that does has nothing to say.
            let _ = page.write_str("# EOF\n");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_every_family() {
        let metrics = Metrics::default();
        metrics.request("job_archive", Outcome::Hit, Duration::ZERO, Duration::from_millis(2));
        metrics.served(From::Store, 10);
        metrics.fetched(20);
        metrics.fill(Fill::Stored);
        metrics.probe(Probe::Yes);
        metrics.grant(Grant::Asked);
        let page = metrics.render(Sizes { archives: 3, evicted: 2, ..Sizes::default() });
        for line in [
            "larder_requests_total{route=\"job_archive\",outcome=\"hit\"} 1",
            "larder_served_bytes_total{source=\"store\"} 10",
            "larder_fetched_bytes_total 20",
            "larder_fills_total{result=\"stored\"} 1",
            "larder_probes_total{result=\"yes\"} 1",
            "larder_grants_total{result=\"asked\"} 1",
            "larder_store_archives 3",
            "larder_evictions_total 2",
            "# EOF",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
