//! What is counted.
//!
//! Every label is an enum of ours or a name from a fixed list: no label comes from a request, so the number of series
//! is bounded by construction.

use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub use super::labels::{BodySource, FillLabel, GrantLabel, ProbeLabel, RouteLabel};
pub(crate) use super::labels::{CutLabel, Mend, Resume, Unstored};
use super::outcome::Outcome;

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
    /// Shards of the store whose files haven't been looked at since the start.
    pub unchecked: u64,
    /// Whether the disk took the last archive that was tried.
    pub writable: bool,
    /// Grants remembered.
    pub grants: u64,
    /// Fills under way.
    pub fills: u64,
    /// Bytes of memory that answers under way hold.
    pub held: u64,
    /// Bytes that they may.
    pub memory: u64,
    /// Requests and answers that found no room for longer than anybody waits.
    pub crowded: u64,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Vec<(RouteLabel, Counters<Outcome>)>,
    seconds: Vec<(RouteLabel, Histogram, Histogram)>,
    served: Counters<BodySource>,
    fetched: Counter,
    fills: Counters<FillLabel>,
    unstored: Counters<Unstored>,
    mends: Counters<Mend>,
    resumes: Counters<Resume>,
    scrubbed: Counter,
    unpacked: Counter,
    probes: Counters<ProbeLabel>,
    grants: Counters<GrantLabel>,
    upstream_errors: Family<Labels, Counter>,
    malformed: Counter,
    cuts: Counters<CutLabel>,
    evictions: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections that have changed their protocol and are open now.
    pub upgrades: Gauge,
    /// Requests to GitLab that were sent once more.
    pub retries: Counter,
    /// Log lines that nobody will read.
    pub log_lines_dropped: Counter,
    crowded: Counter,
    sizes: [Gauge; 9],
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("larder");
        let requests = family(&mut registry, "requests", "Requests by route and outcome");
        let whole = histograms(&mut registry, "request_duration", "Time to the last byte");
        let head = histograms(&mut registry, "answer_delay", "Time to an answer's head");
        let served = Family::default();
        registry.register_with_unit("served", "Body bytes sent to clients", Unit::Bytes, served.clone());
        let fetched = Counter::default();
        registry.register_with_unit("fetched", "Body bytes fetched by fills", Unit::Bytes, fetched.clone());
        let fills = family(&mut registry, "fills", "Fills by result");
        let unstored =
            family(&mut registry, "unstored_archives", "Archives that were passed on without being stored");
        let mends = family(&mut registry, "damaged_chunks", "Damaged chunks of archives by result");
        let resumes = family(&mut registry, "resumes", "Transfers that broke off by what came of it");
        let scrubbed = Counter::default();
        let help = "Bytes of stored archives compared again";
        registry.register_with_unit("scrubbed", help, Unit::Bytes, scrubbed.clone());
        let unpacked = Counter::default();
        let help = "Bytes unpacked from archives, for clients and to find out whether an archive is right";
        registry.register_with_unit("unpacked", help, Unit::Bytes, unpacked.clone());
        let probes = family(&mut registry, "probes", "Questions to GitLab about access by result");
        let grants = family(&mut registry, "grants", "Admissions by how they were had");
        let upstream_errors =
            family(&mut registry, "upstream_errors", "Failed exchanges with GitLab or its store");
        let malformed = Counter::default();
        registry.register("malformed_requests", "Requests that were not HTTP", malformed.clone());
        let cuts = family(&mut registry, "connections_cut", "Client connections cut off by reason");
        let evictions = Counter::default();
        registry.register("evictions", "Archives that made room for others", evictions.clone());
        let crowded = Counter::default();
        let help = "Answers that weren't begun, or broke off, as there was no memory for them";
        registry.register("answers_without_memory", help, crowded.clone());
        let connections = Gauge::default();
        registry.register("connections", "Client connections open now", connections.clone());
        let upgrades = Gauge::default();
        registry.register("upgrades", "Upgraded connections (WebSockets) open now", upgrades.clone());
        let retries = Counter::default();
        let help = "Requests sent once more, as a kept connection to GitLab had closed or GitLab refused them unseen";
        registry.register("upstream_retries", help, retries.clone());
        let log_lines_dropped = Counter::default();
        let help = "Log lines dropped, as standard error was read too slowly or refused them";
        registry.register("log_lines_dropped", help, log_lines_dropped.clone());
        let outcomes = |route: RouteLabel| {
            Counters::of(&requests, &Outcome::ALL, |outcome| {
                vec![("route", route.as_str()), ("outcome", outcome.as_str())]
            })
        };
        let by_route = |family: &Family<Labels, Histogram, fn() -> Histogram>, route: RouteLabel| {
            family.get_or_create(&vec![("route", route.as_str())]).clone()
        };
        Self {
            requests: RouteLabel::ALL.iter().map(|route| (*route, outcomes(*route))).collect(),
            seconds: RouteLabel::ALL
                .iter()
                .map(|route| (*route, by_route(&head, *route), by_route(&whole, *route)))
                .collect(),
            served: Counters::of(&served, &BodySource::ALL, |from| vec![("source", from.as_str())]),
            fetched,
            fills: Counters::of(&fills, &FillLabel::ALL, |fill| vec![("result", fill.as_str())]),
            unstored: Counters::of(&unstored, &Unstored::ALL, |why| vec![("reason", why.as_str())]),
            mends: Counters::of(&mends, &Mend::ALL, |mend| vec![("result", mend.as_str())]),
            resumes: Counters::of(&resumes, &Resume::ALL, |resume| vec![("result", resume.as_str())]),
            scrubbed,
            unpacked,
            probes: Counters::of(&probes, &ProbeLabel::ALL, |probe| vec![("result", probe.as_str())]),
            grants: Counters::of(&grants, &GrantLabel::ALL, |grant| vec![("result", grant.as_str())]),
            upstream_errors,
            malformed,
            cuts: Counters::of(&cuts, &CutLabel::ALL, |why| vec![("why", why.as_str())]),
            evictions,
            connections,
            upgrades,
            retries,
            log_lines_dropped,
            crowded,
            sizes: sizes(&mut registry),
            registry,
        }
    }
}

type Labels = Vec<(&'static str, &'static str)>;

/// The counters of one family, found once: a look-up by label for each request costs more than the counting.
#[derive(Debug)]
struct Counters<L>(Vec<(L, Counter)>);

impl<L: Copy + PartialEq> Counters<L> {
    fn of(family: &Family<Labels, Counter>, all: &[L], labels: impl Fn(L) -> Labels) -> Self {
        Self(all.iter().map(|label| (*label, family.get_or_create(&labels(*label)).clone())).collect())
    }

    fn add(&self, label: L, n: u64) {
        if let Some((_, counter)) = self.0.iter().find(|(other, _)| *other == label) {
            counter.inc_by(n);
        }
    }
}

fn family(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Counter> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// 1 ms to 65 s in steps of 4: from a hit to a long download.
fn histograms(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> Family<Labels, Histogram, fn() -> Histogram> {
    let family = Family::<Labels, Histogram, fn() -> Histogram>::new_with_constructor(|| {
        Histogram::new(exponential_buckets(0.001, 4.0, 9))
    });
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    family
}

fn sizes(registry: &mut Registry) -> [Gauge; 9] {
    [
        ("store_archives", "Archives in the store"),
        ("store_size_bytes", "Bytes taken of the store's budget"),
        ("store_budget_bytes", "The store's budget"),
        ("store_shards_unchecked", "Shards, of 256, whose files haven't been looked at since the start"),
        ("store_writable", "1 unless the disk refused the last archive that was tried"),
        ("grants_remembered", "Grants remembered now"),
        ("fills_running", "Fills under way now"),
        ("memory_held_bytes", "Memory that answers under way hold now"),
        ("memory_budget_bytes", "Memory that answers under way may hold"),
    ]
    .map(|(name, help)| {
        let gauge = Gauge::default();
        registry.register(name, help, gauge.clone());
        gauge
    })
}

impl Metrics {
    /// A request has been answered to its last byte, or has ended otherwise.
    pub fn request(&self, route: RouteLabel, outcome: Outcome, head: Duration, whole: Duration) {
        if let Some((_, outcomes)) = self.requests.iter().find(|(other, _)| *other == route) {
            outcomes.add(outcome, 1);
        }
        if let Some((_, heads, wholes)) = self.seconds.iter().find(|(other, ..)| *other == route) {
            heads.observe(head.as_secs_f64());
            wholes.observe(whole.as_secs_f64());
        }
    }

    /// Body bytes have been handed to a client's connection.
    pub fn served(&self, from: BodySource, bytes: u64) {
        self.served.add(from, bytes);
    }

    /// A fill has received bytes.
    pub fn fetched(&self, bytes: u64) {
        self.fetched.inc_by(bytes);
    }

    /// A fill has ended.
    pub fn fill(&self, result: FillLabel) {
        self.fills.add(result, 1);
    }

    /// An archive isn't stored.
    pub(crate) fn unstored(&self, why: Unstored) {
        self.unstored.add(why, 1);
    }

    /// A chunk was found damaged.
    pub(crate) fn mend(&self, result: Mend) {
        self.mends.add(result, 1);
    }

    /// A transfer broke off.
    pub(crate) fn resume(&self, result: Resume) {
        self.resumes.add(result, 1);
    }

    /// Bytes of a stored archive were compared again.
    pub(crate) fn scrubbed(&self, bytes: u64) {
        self.scrubbed.inc_by(bytes);
    }

    /// Bytes were unpacked from an archive.
    pub(crate) fn unpacked(&self, bytes: u64) {
        self.unpacked.inc_by(bytes);
    }

    /// GitLab has been asked about access.
    pub fn probe(&self, result: ProbeLabel) {
        self.probes.add(result, 1);
    }

    /// Somebody has been let in.
    pub fn grant(&self, how: GrantLabel) {
        self.grants.add(how, 1);
    }

    /// An exchange with GitLab or its store has failed.
    pub fn upstream_error(&self, kind: &'static str) {
        self.upstream_errors.get_or_create(&vec![("kind", kind)]).inc();
    }

    /// A connection has sent what isn't HTTP.
    pub fn malformed(&self) {
        self.malformed.inc();
    }

    /// A client's connection was cut off.
    pub(crate) fn cut(&self, why: CutLabel) {
        self.cuts.add(why, 1);
    }

    /// All metrics in the `OpenMetrics` text format, which Prometheus reads.
    pub fn render(&self, sizes: Sizes) -> String {
        let Sizes { archives, store_bytes, budget_bytes, unchecked, writable, grants, fills, .. } = sizes;
        let stored = [archives, store_bytes, budget_bytes, unchecked, writable.into(), grants, fills];
        let now = stored.into_iter().chain([sizes.held, sizes.memory]);
        for (gauge, value) in self.sizes.iter().zip(now) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.crowded.inc_by(sizes.crowded.saturating_sub(self.crowded.get()));
        self.evictions.inc_by(sizes.evicted.saturating_sub(self.evictions.get()));
        let mut page = String::new();
        // Writing to a string doesn't fail, and an encoder that does has nothing to say.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_every_family() {
        let metrics = Metrics::default();
        metrics.request(RouteLabel::JobArchive, Outcome::Hit, Duration::ZERO, Duration::from_millis(2));
        metrics.served(BodySource::Store, 10);
        metrics.fetched(20);
        metrics.fill(FillLabel::Stored);
        metrics.probe(ProbeLabel::Yes);
        metrics.grant(GrantLabel::Asked);
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
