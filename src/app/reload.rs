//! A configuration that changes while larder serves.
//!
//! A new one is taken as a whole or not at all: if anything in it is wrong, or its certificates can't be used, what was
//! in effect stays. Keys that can't change without a restart are named and keep their values.

use std::sync::Arc;

use crate::access::Access;
use crate::base::clock::Clock;
use crate::config::{Loaded, Problems};
use crate::server::LiveSettings;
use crate::server::tls::{self, Certificates};
use crate::telemetry::log::LogControl;
use crate::upstream::{SetupError, Upstream};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error("the configuration is wrong: {}", one_line(.0))]
    Configuration(#[from] Problems),
    /// Its certificates can't be used.
    #[error(transparent)]
    Certificates(#[from] tls::Error),
    /// What GitLab is believed by, or is shown, can't be used.
    #[error(transparent)]
    Trust(#[from] SetupError),
    /// A thread was lost.
    #[error("the files can't be read")]
    System(#[from] std::io::Error),
}

fn one_line(problems: &Problems) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What came of a new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Keys that are in effect now.
    pub now: Vec<&'static str>,
    /// Keys that keep their values until a restart.
    pub later: Vec<&'static str>,
}

/// The parts that a new configuration reaches.
#[derive(Debug, Clone)]
pub struct Reload {
    pub(super) live: Arc<LiveSettings>,
    pub(super) access: Arc<Access>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) clock: Clock,
}

impl Reload {
    /// Puts `new` in the place of `held`, as far as that is possible without a restart. `dial` sets the log's level.
    pub async fn apply(
        &self,
        held: &mut Loaded,
        new: Loaded,
        dial: Option<&LogControl>,
    ) -> Result<Changed, Error> {
        // Read anew even if their names are the same: that is what the operator asks for.
        let certificates = certificates(new.config.server.tls.clone(), &self.clock).await?;
        let (upstream, settings) = (Arc::clone(&self.upstream), new.config.upstream.clone());
        let trust = crate::base::rt::blocking(move || upstream.read_trust(&settings)).await??;
        let changed: Vec<_> = held.differing(&new).collect();
        let (now, later): (Vec<_>, Vec<_>) = changed.into_iter().partition(|spec| spec.reloads);
        self.live.change(new.config.server.clone(), certificates);
        self.upstream.trust(trust);
        self.access.change(new.config.access);
        if let Some(dial) = dial {
            dial.set(new.config.log.level);
        }
        held.take_over(new);
        let paths = |specs: Vec<&'static crate::config::Spec>| specs.iter().map(|spec| spec.path).collect();
        Ok(Changed { now: paths(now), later: paths(later) })
    }

    /// The same, with a word in the log. Whatever goes wrong, larder goes on with what it had.
    pub(super) async fn told(&self, held: &mut Loaded, new: Result<Loaded, Problems>, dial: &LogControl) {
        let applied = match new {
            Ok(new) => self.apply(held, new, Some(dial)).await,
            Err(problems) => Err(problems.into()),
        };
        match applied {
            Ok(Changed { now, later }) => {
                tracing::info!(
                    changed = now.join(", "),
                    "the configuration and the certificates were read again"
                );
                if !later.is_empty() {
                    tracing::warn!(keys = later.join(", "), "these keys have changed and need a restart");
                }
            }
            Err(error) => tracing::error!(%error, "nothing was changed; what was in effect stays"),
        }
    }
}

/// Reads them, where there are any.
pub(super) async fn certificates(
    settings: Option<tls::ServerTls>,
    clock: &Clock,
) -> Result<Option<Arc<Certificates>>, Error> {
    let Some(settings) = settings else { return Ok(None) };
    let clock = clock.clone();
    let loaded = crate::base::rt::blocking(move || Certificates::load(settings, clock)).await??;
    Ok(Some(Arc::new(loaded)))
}
