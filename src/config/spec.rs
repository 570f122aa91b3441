//! What is said about a key: how it is written, what it must be, what it is for.

/// What the table says about a key besides its type.
#[derive(Debug)]
pub struct Spec {
    /// `section.key`.
    pub path: &'static str,
    /// Whether it has a default, may be left out or must be given.
    pub presence: Presence,
    /// How its value is written.
    pub shape: Shape,
    /// What a value must be, ready to follow the word "expected".
    pub expects: &'static str,
    /// One line for the help, the example file and the README.
    pub doc: &'static str,
    /// Whether a new value takes effect at SIGHUP; else it takes a restart.
    pub reloads: bool,
    /// Its flag, if it is wanted often enough to have one.
    pub flag: Option<Flag>,
    /// What its value, or each of them, is the path of.
    pub names: Option<PathKind>,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A file that must be there.
    File,
    /// A directory that is made if it isn't.
    Directory,
}

/// What holds when no layer sets a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// This value holds, spelled as in the environment.
    Default(&'static str),
    /// It stays unset; the text is a plausible value for the example file.
    Optional(&'static str),
    /// Nothing works without it; the text is a plausible value for the example file.
    Required(&'static str),
}

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// A list of strings; comma-separated in the environment.
    List,
    /// A string, or a list of them that isn't empty; comma-separated in the environment.
    OneOrMore,
}

/// A command-line flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// The name after `--`.
    pub long: &'static str,
    /// What the help calls its value.
    pub value: &'static str,
}

impl Spec {
    /// The part before the dot.
    pub(crate) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The part after the dot.
    pub(crate) fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    /// The variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("LARDER__{}", self.path.replace('.', "__").to_uppercase())
    }
}

pub(super) const fn key(
    path: &'static str,
    presence: Presence,
    expects: &'static str,
    doc: &'static str,
) -> Spec {
    Spec { path, presence, shape: Shape::Text, expects, doc, reloads: false, flag: None, names: None }
}

impl Spec {
    pub(super) const fn shaped(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    pub(super) const fn names(mut self, what: PathKind) -> Self {
        self.names = Some(what);
        self
    }

    pub(super) const fn reloads(mut self) -> Self {
        self.reloads = true;
        self
    }

    pub(super) const fn flag(mut self, long: &'static str, value: &'static str) -> Self {
        self.flag = Some(Flag { long, value });
        self
    }
}
