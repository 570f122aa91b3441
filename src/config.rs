//! From text to one typed [`Config`], or every reason why not.
//!
//! Four layers, each over the one before: the defaults of the key table, a TOML file, variables named
//! `LARDER__SECTION__KEY`, flags. figment merges them and remembers which layer a value came from; the table in
//! `keys` says which keys exist and what each may be.
//!
//! Owns: the keys, their defaults and bounds, the wording of what is wrong with a value. May know: the `Settings` of
//! the modules below it. Must not: do I/O beyond reading the file it is given, or be known by any module but `cli`
//! and the composition root.

mod build;
mod document;
mod keys;
mod layers;
mod named;
mod nearest;
mod problem;
mod read;
mod render;
mod size;
mod sources;
mod spec;
mod text;

pub use keys::KEYS;
pub(crate) use named::{NamedPath, named};
pub(crate) use problem::{Problem, Problems};
pub use render::{example, table};
pub use sources::{File, Sources};
pub(crate) use spec::{PathKind, Presence, Spec};

use crate::{access, admin, proxy, server, store, telemetry, upstream};

/// Everything the operator decides, valid as a whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// Section `[server]`.
    pub server: server::Settings,
    /// Section `[upstream]`.
    pub upstream: upstream::Settings,
    /// Section `[cache]`.
    pub store: store::Settings,
    /// The part of section `[cache]` that is about answers.
    pub serving: proxy::Settings,
    /// Section `[access]`.
    pub access: access::Settings,
    /// Section `[admin]`.
    pub admin: admin::Settings,
    /// Section `[log]`.
    pub log: telemetry::log::LogSettings,
}

/// A configuration and where each part of it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The typed settings.
    pub config: Config,
    effective: Vec<layers::Effective>,
}

impl Loaded {
    /// The effective configuration as a TOML document that names the layer of each value; loading it gives the same
    /// configuration again.
    pub(crate) fn to_toml(&self) -> String {
        render::effective(&self.effective)
    }

    /// The keys that have another value in `other`, wherever it comes from.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'static Spec> + 'a {
        let pairs = self.effective.iter().zip(&other.effective);
        pairs.filter(|(ours, theirs)| ours.value != theirs.value).map(|(ours, _)| ours.spec)
    }

    /// Takes over those keys of `new` that take effect at once, as what is in effect then.
    pub(crate) fn take_over(&mut self, new: Self) {
        for (ours, theirs) in self.effective.iter_mut().zip(new.effective) {
            if ours.spec.reloads {
                *ours = theirs;
            }
        }
        let listen = self.config.server.listen.clone();
        self.config.server = server::Settings { listen, ..new.config.server };
        self.config.access = new.config.access;
        self.config.log.level = new.config.log.level;
    }
}

/// Merges `sources` and checks the result. Pure: the file's text, the environment and the flags are arguments.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let (layers, mut problems) = layers::collect(sources);
    let effective = layers::merge(layers);
    let config = build::config(&effective, &mut problems);
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, effective }),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests;
