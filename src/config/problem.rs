//! What can be wrong with a configuration, each in one line.

use std::fmt;
use std::path::{Path, PathBuf};

use super::keys::KEYS;
use super::named::NamedPath;
use super::nearest::nearest;
use super::spec::Spec;

/// One thing that is wrong. Values are shown shortened, and not at all where they could hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The file named by `--config` can't be had.
    #[error("{layer}: cannot be read: {reason}; expected a readable TOML file")]
    Unreadable {
        /// The file.
        layer: String,
        /// The system's word.
        reason: String,
    },
    /// The file isn't TOML.
    #[error("{layer}: line {line}: {message}; expected TOML")]
    Syntax {
        /// The file.
        layer: String,
        /// Counted from 1.
        line: usize,
        /// The parser's word, without the line's text.
        message: String,
    },
    /// No such key.
    #[error("{key} ({layer}): unknown key; expected {hint}")]
    Unknown {
        /// As it was written.
        key: String,
        /// Where it was written.
        layer: String,
        /// The nearest known name, or where to find them.
        hint: String,
    },
    /// A section's name with a value.
    #[error("{key} ({layer}): found {found}; expected a section with keys such as {example}")]
    Section {
        /// The section.
        key: String,
        /// Where it was written.
        layer: String,
        /// The kind of value.
        found: String,
        /// One of its keys.
        example: &'static str,
    },
    /// A value that doesn't fit its key.
    #[error("{key} ({layer}): found {found}; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// Where the value was written.
        layer: String,
        /// The value as far as it may be shown.
        found: String,
        /// What fits.
        expected: &'static str,
    },
    /// A key without which nothing works.
    #[error("{key} (default): not set; expected {expected}, from the file, {variable} or {flag}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What fits.
        expected: &'static str,
        /// The variable that sets it.
        variable: String,
        /// The flag that sets it.
        flag: String,
    },
    /// Two lists that belong together, of different lengths.
    #[error("{key} ({layer}): found {found} for {others} of {other}; expected one for each")]
    Unpaired {
        /// The later key.
        key: &'static str,
        /// Where its value was written.
        layer: String,
        /// How many values it has.
        found: usize,
        /// How many the earlier one has.
        others: usize,
        /// The earlier key.
        other: &'static str,
    },
    /// What a key names isn't there, or can't be used.
    #[error("{key} ({layer}): {path}: {reason}; expected {expected}")]
    Named {
        /// The key.
        key: &'static str,
        /// Where its value was written.
        layer: String,
        /// What it names, or something in it.
        path: String,
        /// Why not, without a word of its contents.
        reason: String,
        /// What fits.
        expected: &'static str,
    },
    /// What an argument names isn't there, or can't be used.
    #[error("{name}: {path}: {reason}", path = path.display())]
    Argument {
        /// The argument.
        name: &'static str,
        /// What it names.
        path: PathBuf,
        /// Why not, without a word of its contents.
        reason: String,
    },
    /// Files that are well, each by itself, and can't be used together.
    #[error("{0}")]
    Together(String),
    /// Two keys that can't hold together.
    #[error(
        "{key} ({layer}): found {found}, which {other} ({other_layer}) occupies; expected another address"
    )]
    Clash {
        /// The later key.
        key: &'static str,
        /// Where its value was written.
        layer: String,
        /// Its value.
        found: String,
        /// The earlier key.
        other: &'static str,
        /// Where that one's value was written.
        other_layer: String,
    },
}

impl Problem {
    pub(super) fn unknown(key: &str, layer: &str) -> Self {
        let hint = match nearest(key, KEYS.iter().map(|spec| spec.path)) {
            Some(known) => known.to_owned(),
            None => "one of the keys that `larder --help` lists".to_owned(),
        };
        Self::Unknown { key: super::text::plain(key), layer: layer.to_owned(), hint }
    }

    pub(super) fn variable(name: &str, hint: &str) -> Self {
        let layer = "environment".to_owned();
        Self::Unknown { key: super::text::plain(name), layer, hint: hint.to_owned() }
    }

    pub(super) fn value(spec: &Spec, layer: &str, found: String) -> Self {
        Self::Value { key: spec.path, layer: layer.to_owned(), found, expected: spec.expects }
    }

    /// Something is wrong with what a key names.
    pub(crate) fn named(named: &NamedPath, path: &Path, reason: String) -> Self {
        let path = super::text::plain(&path.display().to_string());
        let (key, layer) = (named.spec.path, named.layer.clone());
        Self::Named { key, layer, path, reason, expected: named.spec.expects }
    }

    /// Something is wrong with what several keys name.
    pub(crate) fn together(error: &dyn std::error::Error) -> Self {
        Self::Together(super::text::plain(&error.to_string()))
    }

    pub(super) fn missing(spec: &Spec) -> Self {
        let flag = spec.flag.map_or_else(|| "--config".to_owned(), |flag| format!("--{}", flag.long));
        Self::Missing { key: spec.path, expected: spec.expects, variable: spec.variable(), flag }
    }
}

/// Everything that is wrong, one line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each problem, in the order of the layers and then of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl Extend<Problem> for Problems {
    fn extend<T: IntoIterator<Item = Problem>>(&mut self, problems: T) {
        self.0.extend(problems);
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<T: IntoIterator<Item = Problem>>(problems: T) -> Self {
        Self(problems.into_iter().collect())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        if let Some(first) = lines.next() {
            write!(f, "{first}")?;
        }
        lines.try_for_each(|line| write!(f, "\n{line}"))
    }
}

impl std::error::Error for Problems {}
