//! `multipart/form-data` as it streams by (RFC 7578, RFC 2046 section 5.1): the part named `file` is kept.

use std::io::{self, Write};

/// Part headers longer than this are no part headers.
const HEAD: usize = 16 << 10;

/// Takes a body in pieces of any size.
pub(super) struct Multipart {
    /// `CR LF - - boundary`.
    delimiter: Vec<u8>,
    /// How far the search may jump on each last byte (Horspool).
    skips: [usize; 256],
    pending: Vec<u8>,
    place: Place,
    has_file: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a delimiter, in what is thrown away or in the file.
    Content { file: bool },
    /// Right behind a delimiter.
    Head,
    /// Behind the last one.
    Done,
}

impl Multipart {
    /// The reader for this `Content-Type`, if it is `multipart/form-data` with a boundary.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let rest = content_type.strip_prefix("multipart/form-data")?;
        let mut params = rest.split(';').filter_map(|param| param.trim().split_once('='));
        let boundary = params.find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?.1.trim_matches('"');
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let last = delimiter.len() - 1;
        let mut skips = [delimiter.len(); 256];
        for (at, &byte) in delimiter.iter().take(last).enumerate() {
            if let Some(skip) = skips.get_mut(usize::from(byte)) {
                *skip = last - at;
            }
        }
        // The first delimiter may stand at the very start, without its line end.
        let (pending, place) = (b"\r\n".to_vec(), Place::Content { file: false });
        Some(Self { delimiter, skips, pending, place, has_file: false })
    }

    /// Whether a part named `file` came, with its end.
    pub(super) fn has_file(&self) -> bool {
        self.has_file && self.place == Place::Done
    }

    /// Takes the next piece; what belongs to the file goes to `file`.
    pub(super) fn feed(&mut self, piece: &[u8], file: &mut impl Write) -> io::Result<()> {
        self.pending.extend_from_slice(piece);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        loop {
            let before = (rest.len(), self.place);
            rest = match self.place {
                Place::Content { file: true } => self.content(rest, file)?,
                Place::Content { file: false } => self.content(rest, &mut io::sink())?,
                Place::Head => self.head(rest),
                Place::Done => &[],
            };
            if (rest.len(), self.place) == before {
                break;
            }
        }
        self.pending = rest.to_vec();
        Ok(())
    }

    /// Passes content on up to the delimiter, or as far as no delimiter can have begun.
    fn content<'a>(&mut self, rest: &'a [u8], out: &mut impl Write) -> io::Result<&'a [u8]> {
        let found = self.find(rest);
        let end = found.unwrap_or_else(|| rest.len().saturating_sub(self.delimiter.len() - 1));
        let (content, behind) = rest.split_at(end);
        out.write_all(content)?;
        if found.is_none() {
            return Ok(behind);
        }
        self.place = Place::Head;
        Ok(behind.get(self.delimiter.len()..).unwrap_or_default())
    }

    /// Part headers end with an empty line; two dashes instead end the whole.
    fn head<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        if rest.starts_with(b"--") {
            self.place = Place::Done;
            return &[];
        }
        let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
            if rest.len() > HEAD {
                self.place = Place::Done;
            }
            return rest;
        };
        let head = String::from_utf8_lossy(rest.get(..end).unwrap_or_default());
        let mut params = head.split([';', '\r', '\n']).map(str::trim);
        let file = params.any(|param| param == "name=\"file\"" || param == "name=file");
        self.has_file |= file;
        self.place = Place::Content { file };
        rest.get(end + 4..).unwrap_or_default()
    }

    fn find(&self, text: &[u8]) -> Option<usize> {
        let last = self.delimiter.len() - 1;
        let mut at = 0;
        while let Some(&byte) = text.get(at + last) {
            if byte == *self.delimiter.last()? && text.get(at..=at + last) == Some(self.delimiter.as_slice())
            {
                return Some(at);
            }
            at += self.skips.get(usize::from(byte)).copied().unwrap_or(1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "--XyZ\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nno\r\n--XyZ\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a.zip\"\r\n\
        Content-Type: application/octet-stream\r\n\r\nyes\r\n--Xy\r\n--nearly\r\n--XyZ--\r\n";

    #[test]
    fn the_file_comes_through_however_the_body_is_cut() {
        for size in 1..BODY.len() {
            let mut parts = Multipart::of("multipart/form-data; boundary=XyZ").unwrap();
            let mut file = Vec::new();
            for piece in BODY.as_bytes().chunks(size) {
                parts.feed(piece, &mut file).unwrap();
            }
            assert_eq!(String::from_utf8(file).unwrap(), "yes\r\n--Xy\r\n--nearly", "pieces of {size}");
            assert!(parts.has_file());
        }
    }

    #[test]
    fn a_cut_body_has_no_file() {
        let mut parts = Multipart::of("multipart/form-data; boundary=XyZ").unwrap();
        let cut = BODY.get(..BODY.len() - 12).unwrap();
        parts.feed(cut.as_bytes(), &mut io::sink()).unwrap();
        assert!(!parts.has_file());
    }
}
