//! Several parts in one body: `multipart/byteranges` (RFC 9110, 14.6; RFC 2046, 5.1).

use std::ops::Range;

use bytes::Bytes;

/// The body of an answer with several parts.
#[derive(Debug)]
pub(crate) struct Multipart<'a> {
    parts: Vec<Range<u64>>,
    length: u64,
    kind: Option<&'a [u8]>,
    boundary: &'a str,
}

/// What follows what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Delimiter and fields.
    Text(Bytes),
    /// Bytes of the representation.
    Bytes(Range<u64>),
}

impl<'a> Multipart<'a> {
    /// `parts` of a representation of `length` bytes and type `kind`. `boundary` must be plain and stand in none of them.
    pub(crate) const fn new(
        parts: Vec<Range<u64>>,
        length: u64,
        kind: Option<&'a [u8]>,
        boundary: &'a str,
    ) -> Self {
        Self { parts, length, kind, boundary }
    }

    /// The answer's own `Content-Type`.
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The body, in order.
    pub(crate) fn pieces(self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(self.parts.len() * 2 + 1);
        let mut line_end = "";
        for part in &self.parts {
            pieces.push(Piece::Text(self.head(line_end, part)));
            pieces.push(Piece::Bytes(part.clone()));
            line_end = "\r\n";
        }
        pieces.push(Piece::Text(format!("\r\n--{}--\r\n", self.boundary).into()));
        pieces
    }

    fn head(&self, line_end: &str, part: &Range<u64>) -> Bytes {
        let last = part.end.saturating_sub(1);
        let mut head = format!("{line_end}--{}\r\n", self.boundary).into_bytes();
        if let Some(kind) = self.kind {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(kind);
            head.extend_from_slice(b"\r\n");
        }
        let range = format!("Content-Range: bytes {}-{last}/{}\r\n\r\n", part.start, self.length);
        head.extend_from_slice(range.as_bytes());
        head.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a body back the way a client would: by its delimiters.
    fn parts(body: &str, boundary: &str) -> Vec<(String, String)> {
        let inner = body.strip_suffix(&format!("\r\n--{boundary}--\r\n")).unwrap();
        let delimited = format!("\r\n{inner}");
        delimited
            .split(&format!("\r\n--{boundary}\r\n"))
            .skip(1)
            .map(|part| part.split_once("\r\n\r\n").unwrap())
            .map(|(head, bytes)| (head.to_owned(), bytes.to_owned()))
            .collect()
    }

    #[test]
    fn a_client_finds_each_part_where_its_fields_say() {
        let whole = "0123456789";
        let multipart = Multipart::new(vec![2..5, 0..1, 9..10], 10, Some(b"application/zip"), "b0und");
        assert_eq!(multipart.content_type(), "multipart/byteranges; boundary=b0und");
        let pieces = multipart.pieces();
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            Piece::Bytes(range) => {
                whole[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_owned()
            }
        };
        let body: String = pieces.iter().map(text).collect();
        let head = |range| format!("Content-Type: application/zip\r\nContent-Range: bytes {range}/10");
        let expected =
            [(head("2-4"), "234".to_owned()), (head("0-0"), "0".to_owned()), (head("9-9"), "9".to_owned())];
        assert_eq!(parts(&body, "b0und"), expected);
    }
}
