//! Text from outside, made fit to be shown or to be written as TOML.

use std::fmt::Write;

/// Longest value that a message repeats: enough to recognise it.
const SHOWN: usize = 80;

/// A wrong value as a message shows it: quoted, shortened, and not at all where it may hold a credential, which in a
/// URL stands before an `@` or after a `?`.
pub(super) fn shown(value: &str) -> String {
    if value.contains(['@', '?']) {
        return "a value with \"@\" or \"?\" (not shown, it may hold a credential)".to_owned();
    }
    let mut start: String = value.chars().take(SHOWN).collect();
    if start.len() < value.len() {
        start.push('…');
    }
    quoted(&start)
}

/// `text` as a TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            _ => push_plain(&mut out, c),
        }
    }
    out.push('"');
    out
}

/// `text` on one line without control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        push_plain(&mut out, c);
        out
    })
}

fn push_plain(out: &mut String, c: char) {
    if c.is_control() {
        // Writing to a String can't fail.
        let _ = write!(out, "\\u{:04X}", u32::from(c));
    } else {
        out.push(c);
    }
}
