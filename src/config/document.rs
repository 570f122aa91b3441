//! The TOML file as settings.

use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};

use super::keys::{self, KEYS};
use super::problem::{Problem, Problems};
use super::read::kind;
use super::sources::{File, Setting};
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
        (Value::Dict(_, keys), _) if !keys.is_empty() => read_table(layer, section, keys, found, problems),
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

/// The keys of a section, or of a table in one.
fn read_table(layer: &str, path: &str, keys: Dict, found: &mut Vec<Setting>, problems: &mut Problems) {
    for (name, value) in keys {
        let key = format!("{path}.{name}");
        // A quoted name may hold a dot, which then isn't ours.
        let known = keys::find(&key).filter(|_| !name.contains('.'));
        match (known, value) {
            (Some(spec), value) => found.push(Setting { spec, layer: layer.to_owned(), value }),
            (None, Value::Dict(_, keys)) if is_table(&key) => read_table(layer, &key, keys, found, problems),
            (None, _) => problems.push(Problem::unknown(&key, layer)),
        }
    }
}

/// Whether some key lies deeper than this one.
fn is_table(key: &str) -> bool {
    KEYS.iter().any(|spec| spec.path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}
