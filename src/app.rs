//! The composition root: the only place that sees the whole configuration and every part.

mod descriptors;
mod notify;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::Access;
use crate::admin::{self, Admin, Readiness, Stage};
use crate::clock::Clock;
use crate::config::{self, Config, Loaded, Sources};
use crate::entries::Entries;
use crate::fill::{Fills, Means};
use crate::grant::StorageRules;
use crate::hop::Hop;
use crate::num::to_u64;
use crate::origin::Origin;
use crate::proxy::{Proxy, Tunnels, Types};
use crate::secret::{Fingerprinter, NoRandomness, hex};
use crate::server::{self, Address, Draining, Listeners, Live};
use crate::store::{self, Scrub, Store};
use crate::telemetry::Metrics;
use crate::telemetry::log::Dial;
use crate::telemetry::metrics::Sizes;
use crate::upstream::{self, Upstream};
use notify::Notify;
pub use reload::{Changed, Error as ReloadError, Reload};

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

/// How often what has expired is let go of, and uses are noted.
const SWEEP: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or SIGINT, then drains, until there is another one. At SIGHUP the configuration is read again from `sources`.
pub fn run(loaded: Loaded, sources: &Sources, dial: &Dial) -> Result<(), Error> {
    descriptors::raise(loaded.config.server.max_connections);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("larder").build()?;
    runtime.block_on(async {
        let (mut signals, mut once_more) = (Signals::new()?, Signals::new()?);
        let mut hangups = signal(SignalKind::hangup())?;
        let app = App::start(loaded.config.clone(), Clock::system()).await?;
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
    })
}

/// Compares every archive in the cache directory with its record; see [`store::verify`]. Blocks.
pub fn verify(
    config: &Config,
    repair: bool,
    each: impl FnMut(store::verify::Step),
) -> Result<store::verify::Verified, Error> {
    let instance = config.store.instance.clone().unwrap_or_else(|| instance_name(&config.upstream.url));
    Ok(store::verify::verify(&config.store, &instance, repair, each)?)
}

/// Everything, ready to serve.
#[derive(Debug)]
pub struct App {
    listeners: Listeners,
    live: Arc<Live>,
    admin_listener: TcpListener,
    admin: Arc<Admin>,
    readiness: Readiness,
    proxy: Arc<Proxy>,
    scrub: Scrub,
}

impl App {
    /// Takes ports and the cache directory and puts the parts together. Connects nowhere.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::default());
        let key = Fingerprinter::random()?;
        let run: String = key.of([b"run".as_slice()]).as_hex().chars().take(16).collect();
        let upstream = Arc::new(Upstream::new(config.upstream.clone(), &metrics, Hop::new(&run))?);
        let certificates = reload::certificates(config.server.tls.clone(), &clock).await?;
        let listeners = Listeners::bind(&config.server.listen).await?;
        let admin_listener = admin::bind(config.admin.listen).await?;
        let instance = config.store.instance.clone().unwrap_or_else(|| instance_name(upstream.origin()));
        let store = {
            let (settings, instance, clock) = (config.store.clone(), instance.clone(), clock.clone());
            Arc::new(crate::rt::blocking(move || Store::open(&settings, &instance, clock)).await??)
        };
        store.check_all();
        let token = admin::make_token(&config.store.dir)?;
        let scrub = {
            let (store, metrics, share) = (Arc::clone(&store), Arc::clone(&metrics), config.store.scrub);
            crate::rt::blocking(move || Scrub::new(store, metrics, share)).await?
        };
        let rules = StorageRules { gitlab: config.upstream.url, hosts: config.upstream.storage_hosts };
        let access = Access::new(
            config.access,
            rules,
            Arc::clone(&upstream),
            key.clone(),
            clock.clone(),
            Arc::clone(&metrics),
        );
        let access = Arc::new(access);
        let fills = Fills::new(Means {
            upstream: Arc::clone(&upstream),
            store: Arc::clone(&store),
            access: Arc::clone(&access),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            instance,
        });
        let proxy = Proxy {
            upstream,
            store,
            access,
            fills,
            entries: Entries::default(),
            firsts: Arc::default(),
            types: Types::default(),
            serving: config.serving,
            tunnels: Arc::new(Tunnels::new(metrics.upgrades.clone())),
            clock,
            metrics,
            run,
            count: AtomicU64::new(0),
        };
        let proxy = Arc::new(proxy);
        let readiness = Readiness::new();
        let page = metrics_page(Arc::clone(&proxy), config.store.max_size);
        let admin = Arc::new(Admin::new(&config.admin, token, readiness.clone(), page));
        let live = Arc::new(Live::new(config.server, certificates));
        Ok(Self { listeners, live, admin_listener, admin, readiness, proxy, scrub })
    }

    /// Where clients connect.
    pub fn listening(&self) -> std::io::Result<Vec<Address>> {
        self.listeners.addresses()
    }

    /// Where clients connect first by TCP, and where operators do.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        let first = self.listening()?.iter().find_map(Address::tcp);
        let first = first.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        Ok((first, self.admin_listener.local_addr()?))
    }

    /// What changes its configuration while it serves.
    pub fn reload(&self) -> Reload {
        let (live, access) = (Arc::clone(&self.live), Arc::clone(&self.proxy.access));
        Reload { live, access, clock: self.proxy.clock.clone() }
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
    pub async fn serve_until(self, stop: impl Future<Output = ()>, hurry: impl Future<Output = ()>) {
        for address in self.listening().unwrap_or_default() {
            tracing::info!(%address, upstream = %self.proxy.upstream.origin(), "listening");
        }
        if let Ok(address) = self.admin_listener.local_addr() {
            tracing::info!(%address, "admin listening");
        }
        let (end_admin, admin_ended) = watch::channel(false);
        let admin = tokio::spawn(admin::serve(self.admin_listener, self.admin, ended(admin_ended)));
        let sweeping = tokio::spawn(sweep(Arc::clone(&self.proxy)));
        let scrubbing = tokio::spawn(self.scrub.run());
        self.readiness.set(Stage::Ready);
        let readiness = self.readiness.clone();
        let stop = async move {
            stop.await;
            // The disk belongs to what is still to be finished.
            scrubbing.abort();
            readiness.set(Stage::Draining);
            tracing::info!("draining");
        };
        let (live, proxy) = (Arc::clone(&self.live), Arc::clone(&self.proxy));
        let draining = server::serve(self.listeners, live, proxy, stop).await;
        let deadline = Instant::now() + self.live.settings().drain;
        let broken = tokio::select! {
            broken = drained(&draining, &self.proxy, deadline) => broken,
            () = hurry => {
                tracing::warn!("told to end once more: what still runs is broken off");
                drained(&draining, &self.proxy, Instant::now()).await
            }
        };
        if broken > 0 {
            tracing::warn!(connections = broken, "connections were still busy at the end of the drain");
        }
        sweeping.abort();
        end_admin.send_replace(true);
        // The admin listener ends by itself; a panic in it has been logged and stops nothing.
        let _ = admin.await;
        let store = Arc::clone(&self.proxy.store);
        let _ = crate::rt::blocking(move || store.close()).await;
        tracing::info!("stopped");
    }
}

/// Lets what runs finish until `deadline`; returns how many connections haven't.
async fn drained(draining: &Draining, proxy: &Proxy, deadline: Instant) -> usize {
    // Tunnels are connections as well, of which the first doesn't wait; those left at the deadline are in both.
    let busy = draining.finish(deadline).await;
    let tunnels = proxy.tunnels.finish(deadline).await;
    // What was being fetched is worth its last bytes, if nobody has to wait longer than he was told.
    let _ = tokio::time::timeout_at(deadline, proxy.fills.idle()).await;
    busy.max(tunnels)
}

async fn ended(mut end: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = end.wait_for(|end| *end).await;
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

fn metrics_page(proxy: Arc<Proxy>, budget: u64) -> admin::Metrics {
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

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
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
