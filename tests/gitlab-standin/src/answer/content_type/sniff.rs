//! Types by content: Workhorse's rule over Go's `http.DetectContentType` (`net/http/sniff.go`), which is the WHATWG
//! MIME Sniffing Standard, sections 6.1, 6.2 and 7.1.

/// Go looks at so many bytes.
const LOOKED_AT: usize = 512;
/// Workhorse gives an SVG no more than 24 bytes to show that it is text (`workhorse/internal/utils/svg/svg.go`).
const SVG_BINARY: usize = 24;

/// Signatures at the very start.
const STARTS: &[(&[u8], &str)] = &[
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\xfe\xff", TEXT),
    (b"\xff\xfe", TEXT),
    (b"\xef\xbb\xbf", TEXT),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"ID3", "audio/mpeg"),
    (b"OggS\x00", "application/ogg"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x00\x01\x00\x00", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"ttcf", "font/collection"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07\x00", "application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
    (b"\x00asm", "application/wasm"),
];
/// Signatures behind four bytes of form and four of length.
const FORMS: &[(&[u8], &[u8], &str)] = &[
    (b"RIFF", b"WEBPVP", "image/webp"),
    (b"FORM", b"AIFF", "audio/aiff"),
    (b"RIFF", b"AVI ", "video/avi"),
    (b"RIFF", b"WAVE", "audio/wave"),
];
pub(super) const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// The type of content that starts like this. SVG is told before Go is asked, and text of any kind (HTML, XML) is
/// plain, so that no browser runs it.
pub(super) fn sniffed(start: &[u8]) -> &'static str {
    if is_svg(start) { SVG } else { detect(start.get(..LOOKED_AT).unwrap_or(start)) }
}

fn detect(data: &[u8]) -> &'static str {
    let start = STARTS.iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, kind)| *kind);
    let form = |(form, kind, _): &&(&[u8], &[u8], &str)| {
        data.starts_with(form) && data.get(8..).is_some_and(|rest| rest.starts_with(kind))
    };
    let found = start.or_else(|| FORMS.iter().find(form).map(|(_, _, kind)| *kind));
    let embedded_font = data.get(34..36) == Some(b"LP");
    match found {
        Some(kind) => kind,
        None if is_mp4(data) => "video/mp4",
        None if embedded_font => "application/vnd.ms-fontobject",
        None if data.iter().any(|byte| is_binary(*byte)) => "application/octet-stream",
        // Go tells HTML, XML and text apart; Workhorse doesn't.
        None => TEXT,
    }
}

/// Section 6.2.1: a box `ftyp` of whole words, one of whose brands starts with `mp4`; the minor version is no brand.
fn is_mp4(data: &[u8]) -> bool {
    let Some(size) = data.first_chunk::<4>().map(|size| u32::from_be_bytes(*size)) else {
        return false;
    };
    let Ok(size) = usize::try_from(size) else {
        return false;
    };
    let whole = data.len() >= 12 && data.len() >= size && size % 4 == 0 && data.get(4..8) == Some(b"ftyp");
    let mut brands = data.get(8..size).unwrap_or_default().chunks(4).enumerate();
    whole && brands.any(|(index, brand)| index != 1 && brand.starts_with(b"mp4"))
}

/// A byte that no text has (section 3, "binary data byte").
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)
}

/// White space, an XML declaration, a document type, then `<svg`; comments don't count
/// (`workhorse/internal/utils/svg/svg.go`). Bytes are taken for letters of Latin-1: none beyond ASCII matters.
pub(super) fn is_svg(start: &[u8]) -> bool {
    if start.get(..SVG_BINARY).is_some_and(|first| first.iter().any(|byte| *byte <= 8)) {
        return false;
    }
    let letters: String = start.iter().map(|byte| char::from(*byte).to_ascii_lowercase()).collect();
    let space = |text: &str| text.trim_start_matches([' ', '\t', '\n', '\x0c', '\r']).to_owned();
    let behind = |text: String, tag: &str| match text.strip_prefix(tag).and_then(|rest| rest.split_once('>'))
    {
        Some((_, rest)) => space(rest),
        None => text,
    };
    let text = space(&without_comments(&letters));
    behind(behind(text, "<?xml"), "<!doctype svg").starts_with("<svg")
}

fn without_comments(text: &str) -> String {
    let (mut rest, mut out) = (text, String::new());
    while let Some((before, comment)) = rest.split_once("<!--") {
        let Some((_, after)) = comment.split_once("-->") else {
            break;
        };
        out.push_str(before);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_told_as_workhorse_tells_it() {
        let cases: [(&[u8], &str); 22] = [
            (b"", TEXT),
            (b"plain \x1b[31mtext", TEXT),
            (b"<!DOCTYPE HTML><html>", TEXT),
            (b"<?xml version='1.0'?><a/>", TEXT),
            (b"\xff\xfe\x00\x00", TEXT),
            ("ä".as_bytes(), TEXT),
            (b"\x89PNG\r\n\x1a\nrest", "image/png"),
            (b"GIF89a", "image/gif"),
            (b"%PDF-1.7", "application/pdf"),
            (b"PK\x03\x04", "application/zip"),
            (b"\x1f\x8b\x08", "application/x-gzip"),
            (b"RIFF....WEBPVP8", "image/webp"),
            (b"\x00\x00\x00\x14ftypisom\x00\x00\x02\x00mp41", "video/mp4"),
            (b"\x00\x00\x00\x14ftypisommp41abcd", "application/octet-stream"),
            (b"\x00asm\x01", "application/wasm"),
            (b"a\x00b", "application/octet-stream"),
            (b"<svg xmlns='x'>", SVG),
            (b" \n<?XML version='1.0'?>\n<!-- <b> --><!DOCTYPE svg PUBLIC 'x'>\n<SVG", SVG),
            (b"<!-- open <svg", TEXT),
            (b"<html><svg>", TEXT),
            (b"<svg \x01 xmlns='http://www.w3.org'>", "application/octet-stream"),
            (b"<svg \x01>", SVG),
        ];
        for (start, expected) in cases {
            assert_eq!(sniffed(start), expected, "{:?}", String::from_utf8_lossy(start));
        }
    }
}
