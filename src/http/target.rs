//! Targets that hold bytes which no URI may hold, and which GitLab's nginx passes all the same.
//!
//! The HTTP library takes no `<`, `>`, nor bytes that aren't UTF-8. Where a request comes in each such byte becomes a *mark*, a
//! character that has no other use in a target, and where it goes out the byte comes back: in between it is only carried.
//! What can be mistaken for a mark is marked itself, so that nothing is lost and nothing can be made to say something else.
//! Pure, over hostile bytes.

use std::ops::RangeInclusive;

/// Marks: the byte's number in a plane that is nobody's (Unicode, private use).
const MARKS: RangeInclusive<char> = '\u{F0000}'..='\u{F00FF}';

fn mark(byte: u8) -> char {
    char::from_u32(u32::from(*MARKS.start()) + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn byte(mark: char) -> Option<u8> {
    let number = u32::from(mark).checked_sub(u32::from(*MARKS.start()))?;
    u8::try_from(number).ok()
}

/// Which part of a target is read: some bytes pass in one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Before the first `?`.
    Path,
    /// Behind it.
    Query,
}

/// Marks what needs it in a piece of a target that begins in `part`; returns the part that it ends in, and the marked
/// piece if it isn't the same. No character may be cut in two by where the piece ends.
pub(crate) fn marked(piece: &[u8], mut part: Part) -> (Part, Option<Vec<u8>>) {
    let needs = |c: char, part| match c {
        '<' | '>' => true,
        '`' => part == Part::Path,
        '"' => part == Part::Query,
        c => MARKS.contains(&c),
    };
    let (mut out, mut changed) = (String::with_capacity(piece.len()), false);
    for chunk in piece.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '?' {
                part = Part::Query;
            }
            if needs(c, part) {
                changed = true;
                out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(mark));
            } else {
                out.push(c);
            }
        }
        changed |= !chunk.invalid().is_empty();
        out.extend(chunk.invalid().iter().copied().map(mark));
    }
    (part, changed.then(|| out.into_bytes()))
}

/// Whether a target holds marks.
pub(crate) fn is_marked(target: &str) -> bool {
    !target.is_ascii() && target.contains(|c| MARKS.contains(&c))
}

/// The bytes that a target stands for. Of what ends lines or words nothing comes back: no mark is ever made of it.
pub(crate) fn unmarked(target: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(target.len());
    for c in target.chars() {
        match byte(c).filter(|byte| matches!(byte, b'<' | b'>' | b'`' | b'"' | 0x80..)) {
            Some(byte) => out.push(byte),
            None => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    out
}

/// How many bytes at the end of a piece may be the beginning of a character (RFC 3629, 3).
pub(crate) fn unfinished(piece: &[u8]) -> usize {
    let tail = piece.get(piece.len().saturating_sub(3)..).unwrap_or_default();
    let Some(at) = tail.iter().rposition(|byte| *byte >= 0xC0) else { return 0 };
    let begun = tail.get(at..).unwrap_or_default();
    let whole = match begun.first() {
        Some(0xF0..) => 4,
        Some(0xE0..) => 3,
        _ => 2,
    };
    let goes_on = begun.iter().skip(1).all(|byte| matches!(byte, 0x80..=0xBF));
    if goes_on && begun.len() < whole { begun.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(target: &[u8]) -> String {
        let (_, marked) = marked(target, Part::Path);
        String::from_utf8(marked.unwrap_or_else(|| target.to_vec())).unwrap()
    }

    #[test]
    fn what_a_uri_takes_stays_and_the_rest_is_marked() {
        for (target, changes) in [
            (&b"/a/b?c=d&e=%zz"[..], false),
            (b"/[x]{y}|^\\\"", false),
            ("/gr\u{fc}n/\u{1f600}?\u{fc}".as_bytes(), false),
            (b"/`", true),
            (b"/?`", false),
            (b"/\"", false),
            (b"/?\"", true),
            (b"/<>", true),
            (b"/?<>", true),
            (b"/gr\xfcn", true),
            (b"/?\xff\xfe", true),
            ("/\u{f003c}".as_bytes(), true),
        ] {
            let marked = passed(target);
            assert_eq!(marked.as_bytes() != target, changes, "{target:?}");
            assert_eq!(is_marked(&marked), changes, "{target:?}");
            assert!(marked.parse::<http::uri::PathAndQuery>().is_ok_and(|read| read == marked), "{target:?}");
            assert_eq!(unmarked(&marked), target);
        }
    }

    #[test]
    fn nothing_that_ends_a_line_or_a_word_comes_back() {
        for byte in (0..=0x7F_u8).filter(|byte| !b"<>`\"".contains(byte)) {
            let made = format!("/{}", mark(byte));
            assert_eq!(unmarked(&made), made.as_bytes(), "{byte}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_marked_comes_back(target in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(unmarked(&passed(&target)), target);
        }

        #[test]
        fn characters_near_the_marks_come_back(target in "[<>`\"?a\u{f0000}-\u{f00ff}\u{efffd}\u{f0100}]{0,16}") {
            prop_assert_eq!(unmarked(&passed(target.as_bytes())), target.into_bytes());
        }

        #[test]
        fn a_piece_may_end_anywhere_but_in_a_character(target in "[a?<\u{fc}\u{20ac}\u{1f600}]{0,16}", at in 0..64_usize) {
            let bytes = target.as_bytes();
            let at = at.min(bytes.len());
            let at = at - unfinished(&bytes[..at]);
            let (part, first) = marked(&bytes[..at], Part::Path);
            let (_, second) = marked(&bytes[at..], part);
            let whole = [first.unwrap_or(bytes[..at].to_vec()), second.unwrap_or(bytes[at..].to_vec())].concat();
            prop_assert_eq!(whole, passed(bytes).into_bytes());
        }
    }
}
