//! Where requests begin in what an HTTP/1 client sends, and what becomes of their targets there.
//!
//! Pure. It follows a connection only for as long as it is sure where the next request begins: behind requests without a
//! body, or with one whose length is said once and plainly. Behind anything else (chunks, a change of protocol, a length that
//! could be read in two ways) it looks no more, and targets are what hyper makes of them.

use crate::base::num::{to_u64, to_usize};
use crate::http::target::{self, Part};

/// Longest line of which enough is remembered to read what it says: a length and its name.
const LINE: usize = 64;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A request's first line: its method, or its target.
    Method,
    Target(Part),
    Fields,
    /// So many bytes of a body.
    Body(u64),
    /// Nobody knows.
    Lost,
}

/// What is said of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Other,
}

/// A connection's requests, as far as they have been read.
#[derive(Debug)]
pub(super) struct Heads {
    at: At,
    framing: Framing,
    /// The beginning of the present line, at the most [`LINE`] bytes and one more.
    line: Vec<u8>,
    /// The beginning of a character in a target, whose rest is to come; at the most 3 bytes.
    begun: Vec<u8>,
}

impl Heads {
    pub(super) const fn new() -> Self {
        Self { at: At::Method, framing: Framing::None, line: Vec::new(), begun: Vec::new() }
    }

    /// Reads on. Returns what is to be read instead, if not the same.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut kept, mut rest) = (Vec::new(), bytes, bytes);
        let mut changed = false;
        while !rest.is_empty() && self.at != At::Lost {
            let (piece, after) = rest.split_at_checked(self.piece(rest))?;
            if let Some(other) = self.take(piece) {
                changed = true;
                // All that was before it stays.
                let same = kept.len().saturating_sub(rest.len());
                out.extend_from_slice(kept.get(..same)?);
                out.extend(other);
                kept = after;
            }
            rest = after;
        }
        changed.then(|| {
            out.extend_from_slice(kept);
            out
        })
    }

    /// How many of these bytes belong together.
    fn piece(&self, bytes: &[u8]) -> usize {
        let to = |stop: fn(&u8) -> bool| bytes.iter().position(stop).map_or(bytes.len(), |at| at + 1);
        match self.at {
            At::Method => to(|byte| matches!(byte, b' ' | b'\n')),
            At::Target(_) | At::Fields => to(|byte| *byte == b'\n'),
            At::Body(left) => bytes.len().min(to_usize(left)),
            At::Lost => bytes.len(),
        }
    }

    /// Takes such a piece; returns what it becomes, if that is something else.
    fn take(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        match self.at {
            At::Target(part) => return self.take_target(piece, part),
            At::Body(left) => match left.saturating_sub(to_u64(piece.len())) {
                0 => self.at = At::Method,
                left => self.at = At::Body(left),
            },
            At::Method => {
                self.remember(piece);
                match piece.last() {
                    Some(b' ') => self.at = At::Target(Part::Path),
                    // Empty lines before a request are passed over (RFC 9112, 2.2).
                    Some(b'\n') if self.is_empty_line() => self.line.clear(),
                    Some(b'\n') => self.at = At::Lost,
                    _ => {}
                }
            }
            At::Fields => {
                self.remember(piece);
                if piece.ends_with(b"\n") {
                    self.end_line();
                }
            }
            At::Lost => {}
        }
        None
    }

    fn take_target(&mut self, piece: &[u8], part: Part) -> Option<Vec<u8>> {
        let joined = (!self.begun.is_empty()).then(|| [&std::mem::take(&mut self.begun), piece].concat());
        let whole = joined.as_deref().unwrap_or(piece);
        let (whole, begun) = whole.split_at_checked(whole.len() - target::unfinished(whole))?;
        self.begun.extend_from_slice(begun);
        let (part, marked) = target::marked(whole, part);
        self.at = At::Target(part);
        if whole.ends_with(b"\n") {
            self.line.clear();
            (self.at, self.framing) = (At::Fields, Framing::None);
        }
        let same = joined.is_none() && self.begun.is_empty();
        marked.or_else(|| (!same).then(|| whole.to_vec()))
    }

    fn remember(&mut self, piece: &[u8]) {
        let room = (LINE + 1).saturating_sub(self.line.len());
        self.line.extend(piece.iter().take(room));
    }

    fn is_empty_line(&self) -> bool {
        matches!(&*self.line, b"\n" | b"\r\n")
    }

    /// Reads a line of fields, or the empty one behind them.
    fn end_line(&mut self) {
        if self.is_empty_line() {
            self.at = match self.framing {
                Framing::None | Framing::Length(0) => At::Method,
                Framing::Length(length) => At::Body(length),
                Framing::Other => At::Lost,
            };
        } else {
            self.read_field();
        }
        self.line.clear();
    }

    fn read_field(&mut self) {
        let mut halves = self.line.splitn(2, |byte| *byte == b':');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next());
        let is = |known: &str| name.trim_ascii().eq_ignore_ascii_case(known.as_bytes());
        if is("content-length") {
            let value = value.filter(|_| self.line.len() <= LINE).and_then(length);
            self.framing = match (self.framing, value) {
                (Framing::None, Some(length)) => Framing::Length(length),
                _ => Framing::Other,
            };
        } else if ["transfer-encoding", "upgrade", "expect"].into_iter().any(is) {
            self.framing = Framing::Other;
        }
    }
}

/// A length that everybody reads alike.
fn length(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of a connection that comes in pieces of this many bytes.
    fn read(sent: &[u8], pieces: usize) -> Vec<u8> {
        let mut heads = Heads::new();
        sent.chunks(pieces).flat_map(|piece| heads.read(piece).unwrap_or_else(|| piece.to_vec())).collect()
    }

    fn marked(target: &[u8]) -> Vec<u8> {
        target::marked(target, Part::Path).1.unwrap()
    }

    #[test]
    fn targets_are_marked_wherever_they_are_cut_and_nothing_else_is() {
        let odd = b"/<a>/\xfc\xf3\xb0\x80\xbc?\"`";
        for (before, after) in [
            (&b"GET "[..], &b" HTTP/1.1\r\nHost: <x>\r\nX-Y: \xfc `\r\n\r\n"[..]),
            (b"\r\n\nG`T ", b" HTTP/1.1\nHost: <x>\n\n"),
            (b"GET /a HTTP/1.1\r\nHost: \xfc\r\n\r\nGET ", b" HTTP/1.1\r\n\r\n"),
            (b"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nGET /<> x\n\r\nGET ", b" HTTP/1.1\r\n\r\n"),
            (b"POST / HTTP/1.1\r\ncontent-length:0\r\n\r\nGET ", b" HTTP/1.1\r\n\r\n"),
            (b"GET ", b" HTTP/1.1\r\nContent-Length: 8\r\n\r\nGET /<> "),
        ] {
            let sent = [before, odd, after].concat();
            let expected = [before, &marked(odd), after].concat();
            for pieces in 1..=sent.len() {
                assert_eq!(read(&sent, pieces), expected, "{} in {pieces}", String::from_utf8_lossy(&sent));
            }
        }
    }

    #[test]
    fn behind_what_could_be_read_in_two_ways_nothing_is_marked() {
        for head in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding : chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length:                                                     1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "GET\r\n\r\n",
        ] {
            let sent = [head.as_bytes(), b"GET /<> HTTP/1.1\r\n\r\n"].concat();
            for pieces in [1, 7, sent.len()] {
                assert_eq!(read(&sent, pieces), sent, "{head}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_is_lost(sent in proptest::collection::vec(any::<u8>(), 0..200), pieces in 1..9_usize) {
            // But for the beginning of a character that never came to its end.
            let read = String::from_utf8_lossy(&read(&sent, pieces)).into_owned();
            prop_assert!(read.chars().count() + 3 >= String::from_utf8_lossy(&sent).chars().count());
        }

        #[test]
        fn what_needs_no_mark_passes_untouched(sent in "[ -;=?-_a-~\r\n]{0,200}", pieces in 1..40_usize) {
            let sent = sent.replace(['"', '`'], "").into_bytes();
            prop_assert_eq!(read(&sent, pieces), sent);
        }
    }
}
