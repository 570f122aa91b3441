//! The clients by which GitLab and its object store are asked, made of the settings and of whom larder believes.

use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;

use super::ages::ReuseLimits;
use super::client::{Client, Manner};
use super::egress::Egress;
use super::{Http2, Settings, SetupError, tls};
use crate::base::clock::Clock;

/// Bytes read at once of an answer that is passed through. One less than a power of two: hyper doubles its buffer when a read
/// has filled one, up to the longest head, and some three times as much waits for a client that doesn't take it. Hundreds of
/// such clients shall not fill memory.
const THROUGH: usize = (64 << 10) - 1;

/// Bytes that GitLab may send ahead of one answer over a shared connection: 5 MB/s at a distance of 100 ms.
const WINDOW: u32 = 512 << 10;

/// Who is believed, and what larder shows of itself.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    gitlab: ClientConfig,
    pub(super) storage: ClientConfig,
}

impl Trust {
    /// Reads the files that the settings name. Blocks.
    pub(crate) fn read(settings: &Settings) -> Result<Self, SetupError> {
        let roots = tls::roots(settings.ca_file.as_deref())?;
        let storage = tls::for_storage(roots.clone(), settings.storage_ca_file.as_deref())?;
        Ok(Self { gitlab: tls::for_gitlab(roots, &settings.tls)?, storage })
    }
}

/// The connections to both, by what they are for.
#[derive(Debug)]
pub(super) struct Clients {
    /// For what is passed through.
    pub(super) through: Client,
    /// For probes: small buffers, since their answers are small.
    pub(super) probing: Client,
    /// For fills: large buffers.
    pub(super) filling: Client,
    /// For the object store.
    pub(super) storage: Client,
}

impl Clients {
    pub(super) fn new(
        settings: &Settings,
        trust: &Trust,
        egress: &Egress,
        clock: &Clock,
        retries: &Counter,
    ) -> Self {
        let client = |tls, guarded, (buffer, window), sharing| {
            let prior = settings.http2 == Http2::PriorKnowledge;
            let life = ReuseLimits { clock: clock.clone(), longest: settings.max_connection_age };
            let manner = Manner { guarded, buffer, sharing, prior, window, egress: egress.clone(), life };
            Client::new(tls, settings.connect_timeout, manner, retries.clone())
        };
        let (small, large) = settings.http2.sharing(&settings.url);
        let guard = settings.storage_hosts.is_none();
        Self {
            through: client(&trust.gitlab, false, (THROUGH, WINDOW), small),
            probing: client(&trust.gitlab, false, (16 << 10, 32 << 10), small),
            filling: client(&trust.gitlab, false, (256 << 10, WINDOW), large),
            storage: client(&trust.storage, guard, (256 << 10, WINDOW), None),
        }
    }

    /// No kept connection to GitLab takes a further request.
    pub(super) fn retire_all(&self) {
        for client in [&self.through, &self.probing, &self.filling] {
            client.retire_all();
        }
    }
}
