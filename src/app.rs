//! The composition root: the only place that sees the whole configuration and every part.

mod attempt;
mod connect;
mod descriptors;
mod ending;
mod examine;
mod notify;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::Access;
use crate::admin::{self, Admin, Phase, Readiness};
use crate::base::clock::Clock;
use crate::base::memory::Memory;
use crate::base::num::to_u64;
use crate::base::secret::{Fingerprinter, Ids, NoRandomness, hex};
use crate::config::{self, Config, Loaded, Sources};
use crate::entries::Entries;
use crate::fill::{Deps, Fills, GitLabOrigin};
use crate::gitlab::grant::StorageRules;
use crate::gitlab::urls::Origin;
use crate::http::hop::Hop;
use crate::proxy::{FirstMisses, Proxy, Spelling, Tunnels, Types};
use crate::server::{self, ListenAddress, Listeners, LiveSettings};
use crate::store::{self, Scrub, Store};
use crate::telemetry::Metrics;
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::Sizes;
use crate::upstream::{self, Upstream};
pub(crate) use attempt::beyond;
pub(crate) use connect::connect;
use ending::{Signals, drained, ended};
pub(crate) use examine::{examine, token};
use notify::Notify;
pub use reload::{Changed, Reload};

/// Why larder doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gave no threads or signals.
    #[error(
        "the operating system gives no threads or signals; raise the limits on processes and descriptors"
    )]
    System(#[from] std::io::Error),
    /// The client's port.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The operator's port or token.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// The cache directory.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// GitLab's certificates, or credentials for a proxy.
    #[error(transparent)]
    Upstream(#[from] upstream::SetupError),
    /// Certificates of larder's own.
    #[error(transparent)]
    Certificates(#[from] reload::Error),
    /// No key for fingerprints.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

impl Error {
    /// Whether the configuration is to blame: what it names can't be had. Whatever else there is may pass.
    pub(crate) const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Store(store::Error::Directory { .. }) | Self::Upstream(_) | Self::Certificates(_)
        )
    }
}

/// How often what has expired is let go of, and uses are noted.
const SWEEP: Duration = Duration::from_secs(30);

/// Longest wait for what blocks to end, once nobody is answered any more: it has been told to, and ends with its next read.
/// Twice, for the store and for everything else; together at most a tenth of `server.drain`, where that is shorter.
const LAST: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT, then drains, until there is another one. At SIGHUP the configuration is read again from `sources`.
pub(crate) fn run(loaded: Loaded, sources: &Sources, dial: &LogControl) -> Result<(), Error> {
    descriptors::raise(loaded.config.server.max_connections);
    make_for_ourselves();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("larder").build()?;
    let ended = runtime.block_on(serve(loaded, sources, dial));
    // What blocks nevertheless ends with the process.
    runtime.shutdown_timeout(LAST);
    ended
}

async fn serve(loaded: Loaded, sources: &Sources, dial: &LogControl) -> Result<(), Error> {
    let (mut signals, mut once_more) = (Signals::new()?, Signals::new()?);
    let mut hangups = signal(SignalKind::hangup())?;
    let app = tokio::select! {
        app = App::start(loaded.config.clone(), Clock::system()) => app?,
        // Whatever it finds in its directory.
        () = signals.next() => return Ok(()),
    };
    dial.count_lost(app.metrics().log_lines_dropped.clone());
    let notify = Notify::from_environment(&sources.environment);
    notify.ready();
    let reload = app.reload();
    let stop = async {
        signals.next().await;
        notify.stopping();
    };
    let hurry = async {
        once_more.next().await;
        once_more.next().await;
    };
    let reloading = async {
        let mut held = loaded;
        while hangups.recv().await.is_some() {
            notify.reloading();
            let again = sources.again();
            reload.told(&mut held, config::load(&again), dial).await;
            notify.ready();
        }
    };
    tokio::select! {
        () = app.serve_until(stop, hurry) => {}
        () = notify.live() => {}
        () = async { reloading.await; std::future::pending().await } => {}
    }
    Ok(())
}

/// From now on what this process makes is for its user alone, also what a library makes with modes of its own.
fn make_for_ourselves() {
    let _ = rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Compares every archive in the cache directory with its record; see [`store::verify`]. Blocks.
pub(crate) fn verify(
    config: &Config,
    repair: bool,
    each: impl FnMut(store::scan::verify::Step),
) -> Result<store::scan::verify::Verified, Error> {
    make_for_ourselves();
    Ok(store::scan::verify::verify(&config.store, &instance(config), repair, each)?)
}

/// The instance that a configuration names.
fn instance(config: &Config) -> String {
    config.store.instance.clone().unwrap_or_else(|| instance_name(&config.upstream.url))
}

/// Everything, ready to serve.
#[derive(Debug)]
pub struct App {
    listeners: Listeners,
    live: Arc<LiveSettings>,
    admin_listener: TcpListener,
    admin: Arc<Admin>,
    readiness: Readiness,
    proxy: Arc<Proxy>,
    scrub: Scrub,
}

impl App {
    /// Takes ports and the cache directory and puts the parts together. Connects nowhere.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, Error> {
        warn_of(&config);
        let metrics = Arc::new(Metrics::default());
        let key = Fingerprinter::random()?;
        let run: String = key.of([b"run".as_slice()]).as_hex().chars().take(16).collect();
        let upstream = Upstream::new(config.upstream.clone(), &metrics, Hop::new(&run))?;
        let upstream = Arc::new(upstream.timed_by(clock.clone()));
        let certificates = reload::certificates(config.server.tls.clone(), &clock).await?;
        let listeners = Listeners::bind(&config.server.listen).await?;
        let admin_listener = admin::bind(config.admin.listen).await?;
        let instance = instance(&config);
        let store = {
            let (settings, instance, clock) = (config.store.clone(), instance.clone(), clock.clone());
            Arc::new(crate::base::rt::blocking(move || Store::open(&settings, &instance, clock)).await??)
        };
        store.check_all();
        let token = admin::make_token(&config.store.dir)?;
        let scrub = {
            let (store, metrics, share) = (Arc::clone(&store), Arc::clone(&metrics), config.store.scrub);
            crate::base::rt::blocking(move || Scrub::new(store, metrics, share)).await?
        };
        let memory = Memory::new(config.server.memory);
        let upstream::Settings { url, external_url, storage_hosts, .. } = config.upstream;
        let rules = StorageRules { gitlab: url, external: external_url, hosts: storage_hosts };
        let access = Access::new(
            config.access,
            rules,
            Arc::clone(&upstream),
            key.clone(),
            clock.clone(),
            Arc::clone(&metrics),
        );
        let access = Arc::new(access);
        let fills = Fills::new(Deps {
            origin: Arc::new(GitLabOrigin::new(
                Arc::clone(&upstream),
                Arc::clone(&access),
                Arc::clone(&metrics),
            )),
            upstream: Arc::clone(&upstream),
            store: Arc::clone(&store),
            access: Arc::clone(&access),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            memory: Arc::clone(&memory),
            instance,
        });
        let proxy = Proxy {
            upstream,
            store,
            access,
            fills,
            entries: Entries::new(Arc::clone(&metrics), Arc::clone(&memory)),
            memory,
            first_misses: FirstMisses::default(),
            types: Types::default(),
            serving: config.serving,
            left: Arc::default(),
            tunnels: Arc::new(Tunnels::new(metrics.upgrades.clone())),
            clock,
            metrics,
            ids: Ids::default(),
            spelling: Spelling::read().await,
        };
        let proxy = Arc::new(proxy);
        let readiness = Readiness::new();
        let page = metrics_page(Arc::clone(&proxy), proxy.store.budget());
        let admin = Arc::new(Admin::new(&config.admin, token, readiness.clone(), page));
        let live = Arc::new(LiveSettings::new(config.server, certificates));
        Ok(Self { listeners, live, admin_listener, admin, readiness, proxy, scrub })
    }

    /// Where clients connect.
    pub fn listening(&self) -> std::io::Result<Vec<ListenAddress>> {
        self.listeners.addresses()
    }

    /// Where clients connect first by TCP, and where operators do.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        let first = self.listening()?.iter().find_map(ListenAddress::tcp);
        let first = first.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        Ok((first, self.admin_listener.local_addr()?))
    }

    /// What changes its configuration while it serves.
    pub fn reload(&self) -> Reload {
        let (live, access) = (Arc::clone(&self.live), Arc::clone(&self.proxy.access));
        let upstream = Arc::clone(&self.proxy.upstream);
        Reload { live, access, upstream, clock: self.proxy.clock.clone() }
    }

    /// What is counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.proxy.metrics)
    }

    /// Serves until `stop` is ready, then drains.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        self.serve_until(stop, std::future::pending()).await;
    }

    /// The same; the drain ends early once `hurry` is ready.
    pub(crate) async fn serve_until(self, stop: impl Future<Output = ()>, hurry: impl Future<Output = ()>) {
        for address in self.listening().unwrap_or_default() {
            tracing::info!(%address, upstream = %self.proxy.upstream.origin(), "listening");
        }
        if let Ok(address) = self.admin_listener.local_addr() {
            tracing::info!(%address, "admin listening");
        }
        let (end_admin, admin_ended) = watch::channel(false);
        let admin = crate::base::rt::spawn(admin::serve(self.admin_listener, self.admin, ended(admin_ended)));
        let sweeping = crate::base::rt::spawn(sweep(Arc::clone(&self.proxy)));
        let scrubbing = crate::base::rt::spawn(self.scrub.run());
        self.readiness.set(Phase::Ready);
        let readiness = self.readiness.clone();
        let (tell, told) = watch::channel(false);
        let hurrying = async {
            hurry.await;
            tell.send_replace(true);
            std::future::pending().await
        };
        let live = Arc::clone(&self.live);
        let delayed = ended(told.clone());
        let stop = async move {
            stop.await;
            // The disk belongs to what is still to be finished.
            scrubbing.abort();
            readiness.set(Phase::Draining);
            let delay = live.settings().shutdown_delay;
            if !delay.is_zero() {
                tracing::info!(
                    seconds = delay.as_secs_f64(),
                    "about to drain: serving on until load balancers know"
                );
                let _ = tokio::time::timeout(delay, delayed).await;
            }
            tracing::info!("draining");
        };
        let (live, proxy) = (Arc::clone(&self.live), Arc::clone(&self.proxy));
        let metrics = Arc::clone(&proxy.metrics);
        let serving = async {
            let draining = server::serve(self.listeners, live, proxy, metrics, stop).await;
            let drain = self.live.settings().drain;
            let deadline = Instant::now() + drain.saturating_sub((drain / 10).min(2 * LAST));
            tokio::select! {
                broken = drained(&draining, &self.proxy, deadline) => broken,
                () = ended(told) => {
                    tracing::warn!("told to end once more: what still runs is broken off");
                    drained(&draining, &self.proxy, Instant::now()).await
                }
            }
        };
        let broken = tokio::select! {
            broken = serving => broken,
            broken = hurrying => broken,
        };
        if broken > 0 {
            tracing::warn!(connections = broken, "connections were still busy at the end of the drain");
        }
        // Nothing that an archive holds is worth a later end.
        self.proxy.store.stop();
        sweeping.abort();
        end_admin.send_replace(true);
        // The admin listener ends by itself; a panic in it has been logged and stops nothing.
        let _ = admin.await;
        let store = Arc::clone(&self.proxy.store);
        let closed = crate::base::rt::blocking(move || store.close());
        if tokio::time::timeout(LAST, closed).await.is_err() {
            tracing::warn!("the store isn't closed in order: the next start takes longer");
        }
        tracing::info!("stopped");
    }
}

/// Says what an operator should know of what it has decided.
fn warn_of(config: &Config) {
    let ignored = config.serving.ignore_fields.names();
    if !ignored.is_empty() {
        tracing::warn!(
            fields = ignored.join(", "),
            "access.ignore_fields: GitLab is asked without these; if its answer depends on one of them, clients get what others may have"
        );
    }
}

/// Lets go of what has expired, again and again.
async fn sweep(proxy: Arc<Proxy>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        proxy.access.sweep();
        proxy.store.sweep();
    }
}

fn metrics_page(proxy: Arc<Proxy>, budget: u64) -> admin::RenderMetrics {
    Arc::new(move || {
        let totals = proxy.store.totals();
        proxy.metrics.render(Sizes {
            archives: to_u64(totals.archives),
            store_bytes: totals.bytes,
            budget_bytes: budget,
            evicted: totals.evicted,
            unchecked: totals.unchecked.into(),
            writable: totals.writable,
            grants: proxy.access.remembered(),
            fills: proxy.fills.count(),
            held: proxy.memory.held(),
            memory: proxy.memory.budget(),
            crowded: proxy.memory.refused(),
        })
    })
}

/// A directory name for a GitLab: its host and port, readable, and a hash of the whole URL.
fn instance_name(origin: &Origin) -> String {
    let url = origin.to_string().to_ascii_lowercase();
    let digest = ring::digest::digest(&ring::digest::SHA256, url.as_bytes());
    let hash = hex(digest.as_ref().get(..4).unwrap_or_default());
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }
    };
    let host: String = origin.authority().as_str().to_ascii_lowercase().chars().map(plain).collect();
    format!("gitlab-{}-{hash}", host.chars().take(64).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_names_of_their_own() {
        let name = |url: &str| instance_name(&url.parse().unwrap());
        assert!(name("https://gitlab.example.com").starts_with("gitlab-gitlab.example.com-"));
        assert_ne!(name("https://gitlab.example.com"), name("http://gitlab.example.com"));
        assert_ne!(name("https://gitlab.example.com/a"), name("https://gitlab.example.com/b"));
        assert_eq!(name("https://GitLab.example.com"), name("https://gitlab.example.com"));
        assert!(!name("http://[::1]:80").contains(['[', ':', '/']));
    }
}
