//! Whether a file is SVG by its content, as Workhorse has it (`workhorse/internal/utils/svg/svg.go`).

/// Bytes that Workhorse looks at (`headers.MaxDetectSize`).
pub(crate) const LOOKED_AT: usize = 4096;

/// Bytes that are looked at for whether an image might be text at all; what is shorter is text.
const PLAIN: usize = 24;

/// Whether a file that begins with `head` is SVG: `<svg` as the first element, behind an XML declaration, a document type
/// and comments.
pub(crate) fn is_svg(head: &[u8]) -> bool {
    let head = head.get(..LOOKED_AT).unwrap_or(head);
    if head.get(..PLAIN).is_some_and(|first| first.iter().any(|byte| *byte <= 8)) {
        return false;
    }
    let bare = without_comments(head);
    let mut rest = skip_space(&bare);
    for prefix in [b"<?xml".as_slice(), b"<!doctype svg"] {
        if begins_with(rest, prefix) {
            // Whatever it holds, the first `>` ends it.
            let end =
                rest.iter().position(|byte| *byte == b'>').map_or(rest.len(), |at| at.saturating_add(1));
            rest = skip_space(rest.get(end..).unwrap_or_default());
        }
    }
    begins_with(rest, b"<svg")
}

fn begins_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(prefix))
}

/// What is a space in Go's regular expressions.
fn skip_space(text: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ');
    let begins = text.iter().position(|byte| !space(byte)).unwrap_or(text.len());
    text.get(begins..).unwrap_or_default()
}

/// Without comments that end, wherever they stand.
fn without_comments(text: &[u8]) -> Vec<u8> {
    let mut bare = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, comment)) = split_once(rest, b"<!--") {
        let Some((_, after)) = split_once(comment, b"-->") else { break };
        bare.extend_from_slice(before);
        rest = after;
    }
    bare.extend_from_slice(rest);
    bare
}

fn split_once<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = text.windows(at.len()).position(|window| window == at)?;
    let (before, rest) = text.split_at_checked(place)?;
    Some((before, rest.get(at.len()..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn svg_is_what_workhorse_takes_for_it() {
        let late = [vec![b' '; LOOKED_AT - 4], b"<svg>".to_vec()].concat();
        let too_late = [vec![b' '; LOOKED_AT - 3], b"<svg>".to_vec()].concat();
        for (head, expected) in [
            (b"".as_slice(), false),
            (b"plain\n", false),
            (b"<html><svg></svg></html>", false),
            (b"text <svg>", false),
            (b"<svg xmlns='http://www.w3.org/2000/svg'>", true),
            (b"<svg", true),
            (b"<svgfoo", true),
            (b"<sv", false),
            (b" \t\r\n\x0c<SVG>", true),
            (b"\x0b<svg>", false),
            ("\u{a0}<svg>".as_bytes(), false),
            (b"\xef\xbb\xbf<svg>", false),
            (b"<?xml version='1.0'?>\n<!-- drawn --><!DOCTYPE svg PUBLIC 'x'>\n<SVG>", true),
            (b"<?xml version='1.0'?><html>", false),
            (b"<?xml version='1.0'", false),
            (b"<!DOCTYPE svg [ <!ENTITY a 'b'> ]><svg>", false),
            (b"<!DOCTYPE svg><?xml version='1.0'?><svg>", false),
            (b"<!DOCTYPE html><svg>", false),
            (b"<!-- <html> --><svg>", true),
            (b"<s<!-- in -->vg>", true),
            (b"<!-- open <svg>", false),
            (b"<!--><svg>", false),
            (b"<!--><svg>--><svg>", true),
            (b"<!-- <svg> -->plain", false),
            (b"<svg \x01>", true),
            (b"<svg \x01 xmlns='http://www.w3.org/2000/svg'>", false),
            (b"<svg xmlns='http://www.w3.\x00", true),
            (b"<svg xmlns='http://www.\x00", false),
            (b"<svg xmlns='http://www\x00", true),
            (b"<svg title='caf\xe9 in Latin-1'>", true),
            (&late, true),
            (&too_late, false),
        ] {
            assert_eq!(is_svg(head), expected, "{}", String::from_utf8_lossy(head));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(head: Vec<u8>) {
            let _ = is_svg(&head);
            let _ = is_svg(&[b"<?xml><!--".as_slice(), &head].concat());
        }
    }
}
