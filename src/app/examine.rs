//! Whether all that a configuration names is there and can be used: what a start would run into, all of it at once.

use std::fs;
use std::path::{Path, PathBuf};

use super::attempt::attempt;
use crate::config::{self, Config, Loaded, NamedPath, PathKind, Problem, Problems, Sources};
use crate::server::tls;
use crate::upstream::{self, ProxyError, SetupError, TlsError};

/// Loads the configuration and looks at what it names. Takes nothing and leaves nothing behind. Blocks.
pub(crate) fn examine(sources: &Sources) -> Result<Loaded, Problems> {
    let loaded = config::load(sources);
    let config = loaded.as_ref().ok().map(|loaded| &loaded.config);
    let named = config::named(sources);
    let mut found: Vec<Problem> = named.iter().flat_map(|named| problems(named, config)).collect();
    if let Some(config) = config.filter(|_| found.is_empty()) {
        found.extend(together(config));
    }
    match loaded {
        Ok(loaded) if found.is_empty() => Ok(loaded),
        Ok(_) => Err(found.into_iter().collect()),
        Err(mut problems) => {
            problems.extend(found);
            Err(problems)
        }
    }
}

fn problems(named: &NamedPath, config: Option<&Config>) -> Vec<Problem> {
    match named.what {
        PathKind::File => {
            file(named).err().map(|reason| Problem::named(named, &named.path, reason)).into_iter().collect()
        }
        PathKind::Directory => {
            let instance = config.map(super::instance);
            let wrong = attempt(&named.path, instance.as_deref());
            wrong.into_iter().map(|(path, error)| Problem::named(named, &path, error.to_string())).collect()
        }
    }
}

/// Opens a file and reads what it is for.
fn file(NamedPath { spec, path, .. }: &NamedPath) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| error.to_string())?;
    if found.is_dir() {
        return Err("it is a directory".to_owned());
    }
    // What comes out of a pipe comes out once.
    if !found.is_file() {
        return Ok(());
    }
    fs::File::open(path).map_err(|error| error.to_string())?;
    if spec.path.starts_with("server.tls.") {
        tls::check_file(spec.path, path).map_err(|error| match error {
            tls::Error::Unreadable { reason, .. } => reason.to_string(),
            tls::Error::Unusable { reason, .. } => reason,
            other => other.to_string(),
        })
    } else {
        upstream::check_file(spec.path, path).map_err(|error| match error {
            SetupError::Tls(TlsError::File { reason, .. }) | SetupError::Proxy(ProxyError { reason, .. }) => {
                reason
            }
            SetupError::Tls(other) => other.to_string(),
        })
    }
}

/// What only shows where files are taken together, each of which is well by itself.
fn together(config: &Config) -> Vec<Problem> {
    let served = config
        .server
        .tls
        .iter()
        .flat_map(|settings| settings.pairs.iter().filter_map(|pair| tls::check_pair(pair).err()));
    let served = served.map(|error| Problem::together(&error));
    served
        .chain(upstream::check_identity(&config.upstream).err().map(|error| Problem::together(&error)))
        .collect()
}

/// Reads the one line of a file that holds a token: at most a few KiB. The error repeats nothing of it.
pub(crate) fn token(path: &Path) -> Result<http::HeaderValue, Problem> {
    let wrong =
        |reason: String| Problem::Argument { name: "--token-file", path: PathBuf::from(path), reason };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut token = http::HeaderValue::from_str(text.trim())
        .ok()
        .filter(|token| !token.is_empty() && token.len() <= 4096)
        .ok_or_else(|| wrong("it isn't one line with a token".to_owned()))?;
    token.set_sensitive(true);
    Ok(token)
}
