//! Types by content, as Workhorse has them: Go's `http.DetectContentType`, an implementation of
//! <https://mimesniff.spec.whatwg.org/> over the first 512 bytes, with two rules of its own.

use super::UNKNOWN;

/// Bytes that Workhorse looks at (`headers.MaxDetectSize`); all but the rule for SVG look at [`BY_GO`].
pub const SNIFFED: usize = 4096;

/// Bytes that Go looks at.
const BY_GO: usize = 512;

/// Bytes that are looked at for whether an image might be text at all (the rule for SVG).
const PLAIN: usize = 24;

const TEXT: &str = "text/plain; charset=utf-8";

/// The type of a file that begins with `head`. Whatever is text is plain text, so that no page of somebody's job runs
/// in GitLab's origin; SVG is an image though Go takes it for text.
pub fn sniffed(head: &[u8]) -> &'static str {
    let head = head.get(..SNIFFED).unwrap_or(head);
    if is_svg(head) {
        return "image/svg+xml";
    }
    let head = head.get(..BY_GO).unwrap_or(head);
    let unspaced = skip_space(head);
    if is_page(unspaced) {
        return TEXT;
    }
    let magic = MAGIC.iter().find(|(pattern, _)| pattern.is_at(head)).map(|(_, kind)| *kind);
    magic.or_else(|| is_mp4(head).then_some("video/mp4")).unwrap_or(if is_text(unspaced) {
        TEXT
    } else {
        UNKNOWN
    })
}

/// Bytes at certain places.
enum Magic {
    /// At the beginning.
    At0(&'static [u8]),
    /// At the beginning, and at another place.
    And(&'static [u8], usize, &'static [u8]),
}

impl Magic {
    fn is_at(&self, head: &[u8]) -> bool {
        let at = |place: usize, bytes: &[u8]| head.get(place..).is_some_and(|rest| rest.starts_with(bytes));
        match self {
            Self::At0(bytes) => at(0, bytes),
            Self::And(first, place, bytes) => at(0, first) && at(*place, bytes),
        }
    }
}

use Magic::{And, At0};

/// In Go's order, as the first that fits counts. Marks of UTF-16 and UTF-8 make text.
const MAGIC: &[(Magic, &str)] = &[
    (At0(b"%PDF-"), "application/pdf"),
    (At0(b"%!PS-Adobe-"), "application/postscript"),
    (At0(b"\xfe\xff"), TEXT),
    (At0(b"\xff\xfe"), TEXT),
    (At0(b"\xef\xbb\xbf"), TEXT),
    (At0(b"\x00\x00\x01\x00"), "image/x-icon"),
    (At0(b"\x00\x00\x02\x00"), "image/x-icon"),
    (At0(b"BM"), "image/bmp"),
    (At0(b"GIF87a"), "image/gif"),
    (At0(b"GIF89a"), "image/gif"),
    (And(b"RIFF", 8, b"WEBPVP"), "image/webp"),
    (At0(b"\x89PNG\r\n\x1a\n"), "image/png"),
    (At0(b"\xff\xd8\xff"), "image/jpeg"),
    (And(b"FORM", 8, b"AIFF"), "audio/aiff"),
    (At0(b"ID3"), "audio/mpeg"),
    (At0(b"OggS\x00"), "application/ogg"),
    (At0(b"MThd\x00\x00\x00\x06"), "audio/midi"),
    (And(b"RIFF", 8, b"AVI "), "video/avi"),
    (And(b"RIFF", 8, b"WAVE"), "audio/wave"),
    (At0(b"\x1a\x45\xdf\xa3"), "video/webm"),
    (And(b"", 34, b"LP"), "application/vnd.ms-fontobject"),
    (At0(b"\x00\x01\x00\x00"), "font/ttf"),
    (At0(b"OTTO"), "font/otf"),
    (At0(b"ttcf"), "font/collection"),
    (At0(b"wOFF"), "font/woff"),
    (At0(b"wOF2"), "font/woff2"),
    (At0(b"\x1f\x8b\x08"), "application/x-gzip"),
    (At0(b"PK\x03\x04"), "application/zip"),
    (At0(b"Rar!\x1a\x07\x00"), "application/x-rar-compressed"),
    (At0(b"Rar!\x1a\x07\x01\x00"), "application/x-rar-compressed"),
    (At0(b"\x00asm"), "application/wasm"),
];

/// Tags by which HTML is known, where a space or `>` follows, and the beginning of XML. Both are text.
const TAGS: [&str; 17] = [
    "<!DOCTYPE HTML",
    "<HTML",
    "<HEAD",
    "<SCRIPT",
    "<IFRAME",
    "<H1",
    "<DIV",
    "<FONT",
    "<TABLE",
    "<A",
    "<STYLE",
    "<TITLE",
    "<B",
    "<BODY",
    "<BR",
    "<P",
    "<!--",
];

fn is_page(unspaced: &[u8]) -> bool {
    let is_tag = |tag: &&str| {
        let Some((begins, rest)) = unspaced.split_at_checked(tag.len()) else { return false };
        begins.eq_ignore_ascii_case(tag.as_bytes()) && matches!(rest.first(), Some(b' ' | b'>'))
    };
    unspaced.starts_with(b"<?xml") || TAGS.iter().any(is_tag)
}

fn skip_space(head: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ');
    let begins = head.iter().position(|byte| !space(byte)).unwrap_or(head.len());
    head.get(begins..).unwrap_or_default()
}

/// No byte that only binary files have.
fn is_text(unspaced: &[u8]) -> bool {
    !unspaced.iter().any(|byte| matches!(byte, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f))
}

/// An ISO base media file whose first box names an `mp4` brand.
fn is_mp4(head: &[u8]) -> bool {
    let size = head.first_chunk::<4>().map(|size| u32::from_be_bytes(*size));
    let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
    if head.len() < 12 || head.len() < size || !size.is_multiple_of(4) || head.get(4..8) != Some(b"ftyp") {
        return false;
    }
    // The third word is a version and no brand.
    let brands = (8..size).step_by(4).filter(|at| *at != 12);
    brands.filter_map(|at| head.get(at..at + 3)).any(|brand| brand == b"mp4")
}

/// `<svg` as the first element, behind an XML declaration, a document type and comments
/// (`workhorse/internal/utils/svg`).
fn is_svg(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    if text.chars().take(PLAIN).any(|c| c == char::REPLACEMENT_CHARACTER || u32::from(c) <= 8) {
        return false;
    }
    let bare = without_comments(&text);
    let mut rest = bare.trim_start();
    for (prefix, end) in [("<?xml", '>'), ("<!doctype svg", '>')] {
        if rest.starts_with(prefix) {
            rest = rest.split_once(end).map_or("", |(_, rest)| rest.trim_start());
        }
    }
    rest.starts_with("<svg") && rest.contains('>')
}

fn without_comments(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("<!--") {
        let Some((_, after)) = comment.split_once("-->") else { break };
        bare.push_str(before);
        rest = after;
    }
    bare.push_str(rest);
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_what_they_begin_with() {
        let mp4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42".as_slice();
        let eot = [&[1; 34][..], b"LP"].concat();
        for (head, kind) in [
            (b"".as_slice(), TEXT),
            (b"plain\n", TEXT),
            (b"  <!DOCTYPE html><script>", TEXT),
            (b"<html>", TEXT),
            (b"\n<?xml version='1.0'?><a/>", TEXT),
            (b"{\"a\": 1}", TEXT),
            (b"caf\xe9", TEXT),
            (b"a\x00b", UNKNOWN),
            (b"\x7fELF\x02\x01\x01\x00", UNKNOWN),
            (b"\xef\xbb\xbftext", TEXT),
            (b"\xff\xfet\x00", TEXT),
            (b"%PDF-1.7", "application/pdf"),
            (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
            (b"\x89PNG\r\n", TEXT),
            (b"GIF89a..", "image/gif"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"RIFF....WEBPVP8 ", "image/webp"),
            (b"RIFF....WAVEfmt ", "audio/wave"),
            (b"PK\x03\x04", "application/zip"),
            (b"\x1f\x8b\x08\x00", "application/x-gzip"),
            (b"\x00asm\x01\x00\x00\x00", "application/wasm"),
            (b"wOF2\x00", "font/woff2"),
            (mp4, "video/mp4"),
            (&mp4[..20], UNKNOWN),
            (&eot, "application/vnd.ms-fontobject"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'>", "image/svg+xml"),
            (b"<?xml version='1.0'?>\n<!-- drawn --><!DOCTYPE svg PUBLIC 'x'>\n<SVG>", "image/svg+xml"),
            (b"<!-- <svg> -->plain", TEXT),
            (b"text <svg>", TEXT),
            (b"<svg", TEXT),
        ] {
            assert_eq!(sniffed(head), kind, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn what_comes_late_is_not_looked_at() {
        let late = [vec![b'a'; BY_GO], vec![0]].concat();
        assert_eq!(sniffed(&late), TEXT);
        assert_eq!(sniffed(&late[1..]), UNKNOWN);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(head: Vec<u8>) {
            let _ = sniffed(&head);
            let _ = sniffed(&[b"\x00\x00\x00\x1cftyp".as_slice(), &head].concat());
        }
    }
}
