//! The TOML file as settings.

use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};

use super::keys::{self, KEYS, Spec};
use super::layers::{File, Setting};
use super::problem::{Problem, Problems};
use super::read::kind;
use super::text::plain;

/// The settings in `file`; what is no known key becomes a problem.
pub(super) fn settings(file: &File, problems: &mut Problems) -> Vec<Setting> {
    let layer = format!("file {}", plain(&file.path.to_string_lossy()));
    let mut found = Vec::new();
    match parse(file, &layer) {
        Ok(document) => {
            for (section, value) in document {
                read_section(&layer, &section, value, &mut found, problems);
            }
        }
        Err(problem) => problems.push(problem),
    }
    found
}

fn parse(file: &File, layer: &str) -> Result<Dict, Problem> {
    let text = file
        .text
        .as_ref()
        .map_err(|reason| Problem::Unreadable { layer: layer.to_owned(), reason: plain(reason) })?;
    // The error's own Display repeats the line, which may hold a password.
    Toml::from_str::<Dict>(text).map_err(|error| Problem::Syntax {
        layer: layer.to_owned(),
        line: error.span().map_or(1, |span| line(text, span.start)),
        message: plain(error.message().lines().next().unwrap_or("not understood")),
    })
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn read_section(layer: &str, section: &str, value: Value, found: &mut Vec<Setting>, problems: &mut Problems) {
    let example = KEYS.iter().find(|spec| spec.section() == section);
    match (value, example) {
        (Value::Dict(_, keys), _) if !keys.is_empty() => {
            for (name, value) in keys.into_iter().flat_map(|(name, value)| flat(section, name, value)) {
                match known(section, &name) {
                    Some(spec) => found.push(Setting { spec, layer: layer.to_owned(), value }),
                    None => problems.push(Problem::unknown(&format!("{section}.{name}"), layer)),
                }
            }
        }
        (Value::Dict(..), Some(_)) => {}
        (_, None) => problems.push(Problem::unknown(section, layer)),
        (value, Some(spec)) => problems.push(Problem::Section {
            key: section.to_owned(),
            layer: layer.to_owned(),
            found: kind(&value).to_owned(),
            example: spec.path,
        }),
    }
}

/// The keys of a table within a section, such as `tls.cert`; any other value as it is.
fn flat(section: &str, name: String, value: Value) -> Vec<(String, Value)> {
    let prefix = format!("{section}.{name}.");
    match value {
        Value::Dict(_, keys) if KEYS.iter().any(|spec| spec.path.starts_with(&prefix)) => {
            keys.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)).collect()
        }
        value => vec![(name, value)],
    }
}

/// A quoted key may hold a dot, which then isn't ours.
fn known(section: &str, name: &str) -> Option<&'static Spec> {
    keys::find(&format!("{section}.{name}")).filter(|spec| spec.section() == section)
}
