//! Where settings come from, and what one is before the layers are merged.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::spec::Spec;

/// Where values come from, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file named by `--config`.
    pub file: Option<File>,
    /// The whole environment; what isn't ours is left alone.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags that were given.
    pub flags: Vec<(&'static Spec, OsString)>,
}

impl Sources {
    /// The same with the file read again. The environment and the flags of a process don't change.
    #[must_use]
    pub(crate) fn again(&self) -> Self {
        let file = self.file.as_ref().map(|file| File::open(&file.path));
        Self { file, environment: self.environment.clone(), flags: self.flags.clone() }
    }
}

/// A file and its text, or why there is none.
#[derive(Debug, Clone)]
pub struct File {
    /// As it was named.
    pub path: PathBuf,
    /// What it holds, or the system's word.
    pub text: Result<String, String>,
}

impl File {
    /// Reads it; a failure becomes one problem among the others.
    pub(crate) fn open(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        Self { path: path.to_owned(), text }
    }
}

/// One key set in one layer.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) spec: &'static Spec,
    /// The layer's name as people know it.
    pub(super) layer: String,
    pub(super) value: Value,
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.layer.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(self.spec.path, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}
