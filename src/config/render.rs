//! The key table as documents: `larder check`, the example file, the README's table.

use std::fmt::Write;

use super::keys::KEYS;
use super::layers::Effective;
use super::read::Written;
use super::spec::{Presence, Shape, Spec};
use super::text::{plain, quoted};

/// What is in effect and why, as TOML.
pub(super) fn effective(effective: &[Effective]) -> String {
    let mut out = Document::default();
    for Effective { spec, layer, value } in effective {
        out.section(spec);
        match value {
            Some(Ok(written)) => {
                out.line(&format!("{} = {} # {}", spec.name(), toml(spec.shape, written), plain(layer)));
            }
            Some(Err(_)) | None => out.line(&format!("# {} is not set # {}", spec.name(), plain(layer))),
        }
    }
    out.0
}

/// The example file: every key with its default; those without one commented out, but for what must be given.
pub fn example() -> String {
    let mut out = Document::default();
    out.line("# larder's configuration. Every key with its default; `larder check --config FILE` says what is in effect.");
    out.line("# Each key can also be set in the environment (LARDER__SERVER__LISTEN; lists separated by commas), some by");
    out.line("# flags: defaults < file < environment < flags. Durations like \"30s\" or \"1h 30m\", sizes like \"20GiB\".");
    for spec in KEYS {
        out.section(spec);
        let flag = spec.flag.map_or_else(String::new, |flag| format!(" [--{}]", flag.long));
        out.line(&format!("# {}{flag}", spec.doc));
        let (mark, text) = match spec.presence {
            Presence::Default(text) | Presence::Required(text) => ("", text),
            Presence::Optional(text) => ("# ", text),
        };
        out.line(&format!("{mark}{} = {}", spec.name(), sample(spec, text)));
    }
    out.0
}

/// The README's table.
pub fn table() -> String {
    let mut out = "| key | default | flag | meaning |\n|---|---|---|---|\n".to_owned();
    for spec in KEYS {
        let default = match spec.presence {
            Presence::Default(text) => format!("`{}`", sample(spec, text)),
            Presence::Optional(_) => "unset".to_owned(),
            Presence::Required(_) => "required".to_owned(),
        };
        let flag = spec.flag.map_or_else(String::new, |flag| format!("`--{}`", flag.long));
        // Writing to a String can't fail.
        let _ = writeln!(out, "| `{}` | {default} | {flag} | {} |", spec.path, spec.doc);
    }
    out
}

/// A value of the table, spelled for the environment, as TOML.
fn sample(spec: &Spec, text: &str) -> String {
    let written = match spec.shape {
        Shape::List | Shape::OneOrMore if text.is_empty() => Written::List(Vec::new()),
        Shape::List | Shape::OneOrMore => {
            Written::List(text.split(',').map(|item| item.trim().to_owned()).collect())
        }
        Shape::Text | Shape::Number => Written::Text(text.to_owned()),
    };
    toml(spec.shape, &written)
}

fn toml(shape: Shape, written: &Written) -> String {
    match written {
        Written::Text(text) if shape == Shape::Number && is_toml_number(text) => text.clone(),
        Written::Text(text) => quoted(text),
        Written::List(items) => {
            if let (Shape::OneOrMore, [item]) = (shape, &items[..]) {
                return quoted(item);
            }
            let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

/// `007` is a number to us and none to TOML.
fn is_toml_number(text: &str) -> bool {
    text.parse::<u64>().is_ok_and(|number| number.to_string() == text)
}

#[derive(Default)]
struct Document(String);

impl Document {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Begins the section of `spec` if it isn't the current one.
    fn section(&mut self, spec: &Spec) {
        let header = format!("[{}]", spec.section());
        if !self.0.lines().any(|line| line == header) {
            if !self.0.is_empty() {
                self.line("");
            }
            self.line(&header);
        }
    }
}
