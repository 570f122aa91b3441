//! The layers over the defaults, and their merging.

use std::ffi::{OsStr, OsString};

use figment::Figment;
use figment::value::Value;

use super::document;
use super::keys::{self, KEYS};
use super::problem::{Problem, Problems};
use super::read::{Written, Wrong};
use super::sources::{Setting, Sources};
use super::spec::{Presence, Shape, Spec};
use super::text::plain;

const PREFIX: &str = "LARDER__";

/// What holds for a key after merging.
#[derive(Debug, Clone)]
pub(super) struct Effective {
    pub(super) spec: &'static Spec,
    pub(super) layer: String,
    /// `None`: unset.
    pub(super) value: Option<Result<Written, Wrong>>,
}

/// Every setting of every layer, lowest first, and what couldn't be understood as one.
pub(super) fn collect(sources: &Sources) -> (Vec<Setting>, Problems) {
    let mut problems = Problems::default();
    let mut settings: Vec<Setting> = KEYS.iter().filter_map(|spec| default(spec)).collect();
    settings.extend(environment_of_all(&sources.environment));
    if let Some(file) = &sources.file {
        settings.extend(document::settings(file, &mut problems));
    }
    for (name, value) in &sources.environment {
        settings.extend(variable(name, value, &mut problems));
    }
    for (spec, value) in &sources.flags {
        let layer = format!("flag --{}", spec.flag.map_or(spec.path, |flag| flag.long));
        settings.extend(text(spec, layer, value, &mut problems));
    }
    (settings, problems)
}

/// Merges the settings through figment: for each key the last one holds.
pub(super) fn merge(settings: Vec<Setting>) -> Vec<Effective> {
    let merged = settings.into_iter().fold(Figment::new(), Figment::merge);
    KEYS.iter().map(|spec| effective(spec, &merged)).collect()
}

fn effective(spec: &'static Spec, merged: &Figment) -> Effective {
    let value = merged.find_value(spec.path).ok();
    let layer = value.as_ref().and_then(|value| merged.get_metadata(value.tag()));
    Effective {
        spec,
        layer: layer.map_or_else(|| "default".to_owned(), |metadata| metadata.name.to_string()),
        value: value.map(|value| Written::from_value(spec.shape, &value)),
    }
}

fn default(spec: &'static Spec) -> Option<Setting> {
    match spec.presence {
        Presence::Default(text) => {
            Some(Setting { spec, layer: "default".to_owned(), value: from_text(spec.shape, text) })
        }
        Presence::Optional(_) | Presence::Required(_) => None,
    }
}

/// Variables that all programs which reach out know, and what they are the defaults of. As elsewhere the lower-case name
/// wins, a proxy may be written without its scheme, and nothing in it is none.
const COMMON: [(&str, &str); 4] = [
    ("HTTPS_PROXY", "upstream.proxy"),
    ("https_proxy", "upstream.proxy"),
    ("NO_PROXY", "upstream.no_proxy"),
    ("no_proxy", "upstream.no_proxy"),
];

fn environment_of_all(environment: &[(OsString, OsString)]) -> Vec<Setting> {
    let found = COMMON.iter().filter_map(|(name, path)| {
        let (_, value) = environment.iter().find(|(variable, _)| variable == name)?;
        let (spec, value) = (keys::find(path)?, value.to_str()?.trim());
        let value = match spec.shape {
            Shape::Text if !value.contains("://") => format!("http://{value}"),
            _ => value.trim_end_matches(',').to_owned(),
        };
        let empty = matches!(value.as_str(), "" | "http://");
        (!empty).then(|| Setting {
            spec,
            layer: format!("environment {name}"),
            value: from_text(spec.shape, &value),
        })
    });
    found.collect()
}

fn variable(name: &OsStr, value: &OsStr, problems: &mut Problems) -> Option<Setting> {
    let name = name.to_string_lossy();
    if let Some(spec) = KEYS.iter().find(|spec| spec.variable() == name) {
        return text(spec, format!("environment {name}"), value, problems);
    }
    if let Some(hint) = meant(&name) {
        problems.push(Problem::variable(&name, &hint));
    }
    None
}

/// What an unknown variable should have been called; `None` if it is no business of ours. Other software sets
/// variables such as `LARDER_PORT` (Kubernetes does for a service of that name): those are left alone.
fn meant(name: &str) -> Option<String> {
    let folded = |name: &str| name.replace("__", "_").to_uppercase();
    if let Some(spec) = KEYS.iter().find(|spec| folded(&spec.variable()) == folded(name)) {
        return Some(spec.variable());
    }
    let path = name.strip_prefix(PREFIX)?.replace("__", ".").to_lowercase();
    let known = super::nearest::nearest(&path, KEYS.iter().map(|spec| spec.path)).and_then(keys::find);
    Some(known.map_or_else(|| "LARDER__SECTION__KEY as in `larder --help`".to_owned(), Spec::variable))
}

fn text(spec: &'static Spec, layer: String, value: &OsStr, problems: &mut Problems) -> Option<Setting> {
    let Some(value) = value.to_str() else {
        problems.push(Problem::value(spec, &plain(&layer), "bytes that are no UTF-8".to_owned()));
        return None;
    };
    Some(Setting { spec, layer, value: from_text(spec.shape, value) })
}

/// Text is never guessed at: what looks like a number stays the text it was written as.
fn from_text(shape: Shape, text: &str) -> Value {
    match shape {
        Shape::Text | Shape::Number => Value::from(text),
        Shape::List | Shape::OneOrMore if text.trim().is_empty() => Value::from(Vec::<Value>::new()),
        Shape::List | Shape::OneOrMore => {
            Value::from(text.split(',').map(|item| Value::from(item.trim())).collect::<Vec<_>>())
        }
    }
}
