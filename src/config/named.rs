//! The files and directories that a configuration names, whatever else may be wrong with it.

use std::path::PathBuf;

use super::layers::{self, Effective};
use super::read::Written;
use super::sources::Sources;
use super::spec::{PathKind, Spec};

/// A path in a configuration.
#[derive(Debug, Clone)]
pub(crate) struct NamedPath {
    /// The key that names it.
    pub spec: &'static Spec,
    /// The layer that says so.
    pub layer: String,
    /// As it was written.
    pub path: PathBuf,
    /// What should be there.
    pub what: PathKind,
}

/// All of them, in the order of the keys.
pub(crate) fn named(sources: &Sources) -> Vec<NamedPath> {
    let (settings, _) = layers::collect(sources);
    layers::merge(settings).into_iter().flat_map(paths).collect()
}

/// What can't be a path is the loading's affair.
fn paths(effective: Effective) -> Vec<NamedPath> {
    let Effective { spec, layer, value } = effective;
    let (Some(what), Some(Ok(written))) = (spec.names, value) else { return Vec::new() };
    let texts = match written {
        Written::Text(text) => vec![text],
        Written::List(items) => items,
    };
    let paths = texts.into_iter().filter(|text| !text.is_empty() && !text.contains('\0')).map(PathBuf::from);
    paths.map(|path| NamedPath { spec, layer: layer.clone(), path, what }).collect()
}
