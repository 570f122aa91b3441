//! An entry's bytes, piece by piece.
//!
//! Owns inflating and checking. Memory doesn't depend on what an archive says: one buffer of compressed bytes, one
//! piece of inflated ones, deflate's window. The last piece stays inside until length and CRC-32 have been found right,
//! so that who gets to the end has had the entry, and nobody gets a whole wrong one.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};

use super::{BadEntry, Entry, Method, ReadAt, read_exact};
use crate::num::{to_u64, to_usize};

/// Most bytes in a piece. Inflating into less is slower: deflate's window is kept aside between pieces.
pub const PIECE: usize = 256 << 10;

/// Most compressed bytes read at once.
const READ: usize = 64 << 10;

/// An entry that is being read.
pub struct Member<S> {
    data: Data<S>,
    inflating: Option<Decompress>,
    entry: Entry,
    /// Bytes that have come out.
    found: u64,
    hasher: Hasher,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Reading,
    Over,
    Failed,
}

impl<S: ReadAt> Member<S> {
    /// Begins to read an entry whose data [`Entry::locate`] has found.
    pub fn new(source: S, entry: Entry, data: Range<u64>) -> Self {
        let inflating = (entry.method != Method::Stored).then(|| Decompress::new(false));
        let data = Data { source, range: data, buffer: Vec::new(), used: 0 };
        Self { data, inflating, entry, found: 0, hasher: Hasher::new(), state: State::Reading }
    }

    /// The next piece, of at most [`PIECE`] bytes; `None` when all has come and everything has added up. After an error
    /// there are only errors. Blocks.
    #[expect(
        clippy::should_implement_trait,
        reason = "an end that follows a failure must not look like the end"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, BadEntry> {
        match self.state {
            State::Reading => {}
            State::Over => return Ok(None),
            State::Failed => return Err(BadEntry::Failed),
        }
        self.state = State::Failed;
        let (piece, is_last) = self.piece()?;
        self.state = if is_last { State::Over } else { State::Reading };
        Ok((!piece.is_empty()).then(|| piece.into()))
    }

    /// Reads a piece and, once it is the last one, checks what has come.
    fn piece(&mut self) -> Result<(Vec<u8>, bool), BadEntry> {
        let left = self.entry.size.saturating_sub(self.found);
        let (piece, is_last) = match &mut self.inflating {
            Some(inflating) => inflate(inflating, &mut self.data, left)?,
            None => copy(&mut self.data, left)?,
        };
        self.found = self.found.saturating_add(to_u64(piece.len()));
        self.hasher.update(&piece);
        if self.found > self.entry.size {
            return Err(BadEntry::Long(self.entry.size));
        }
        if is_last {
            self.check()?;
        }
        Ok((piece, is_last))
    }

    fn check(&self) -> Result<(), BadEntry> {
        let (found, size) = (self.found, self.entry.size);
        if found != size {
            return Err(BadEntry::Short { found, size });
        }
        let slack = self.data.left();
        if slack > 0 {
            return Err(BadEntry::Slack(slack));
        }
        let found = self.hasher.clone().finalize();
        match self.entry.crc32 {
            Some(promised) if promised != found => Err(BadEntry::Checksum { found, promised }),
            _ => Ok(()),
        }
    }
}

/// Reads an entry to its end without keeping it, and tells whether everything adds up. Blocks.
pub fn verify<S: ReadAt>(source: S, entry: Entry, data: Range<u64>) -> Result<(), BadEntry> {
    let mut member = Member::new(source, entry, data);
    while member.next()?.is_some() {}
    Ok(())
}

/// The next piece of a stored entry, and whether it is the last.
fn copy(data: &mut Data<impl ReadAt>, left: u64) -> Result<(Vec<u8>, bool), BadEntry> {
    let length = left.min(to_u64(PIECE));
    if length > data.left() {
        return Err(BadEntry::Cut);
    }
    let mut piece = vec![0; to_usize(length)];
    data.take(&mut piece)?;
    Ok((piece, length == left))
}

/// The next piece of a deflated entry, and whether the stream ended with it. It is longer than `left` if the stream is.
fn inflate(
    inflating: &mut Decompress,
    data: &mut Data<impl ReadAt>,
    left: u64,
) -> Result<(Vec<u8>, bool), BadEntry> {
    // With room for one byte too many, a stream that should come to its end in this piece does or shows itself.
    let room = if left <= to_u64(PIECE) { left.saturating_add(1) } else { to_u64(PIECE) };
    let mut piece = Vec::with_capacity(to_usize(room));
    loop {
        let input = data.more()?;
        let ends = input.is_empty();
        let (before, had) = (inflating.total_in(), piece.len());
        let status = inflating.decompress_vec(input, &mut piece, FlushDecompress::None)?;
        data.used(inflating.total_in().saturating_sub(before));
        match status {
            Status::StreamEnd => return Ok((piece, true)),
            Status::Ok | Status::BufError if piece.len() == piece.capacity() => return Ok((piece, false)),
            Status::Ok | Status::BufError if ends && piece.len() == had => return Err(BadEntry::Cut),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// An entry's data: those read ahead, and the place of the rest.
struct Data<S> {
    source: S,
    /// What hasn't been read yet.
    range: Range<u64>,
    buffer: Vec<u8>,
    /// How much of the buffer has been used.
    used: usize,
}

impl<S: ReadAt> Data<S> {
    /// How many bytes haven't been used.
    fn left(&self) -> u64 {
        let ahead = self.buffer.len().saturating_sub(self.used);
        self.range.end.saturating_sub(self.range.start).saturating_add(to_u64(ahead))
    }

    /// Fills `piece` with what comes next.
    fn take(&mut self, piece: &mut [u8]) -> io::Result<()> {
        read_exact(&self.source, piece, self.range.start)?;
        self.range.start = self.range.start.saturating_add(to_u64(piece.len()));
        Ok(())
    }

    /// Bytes that haven't been used; none only at the end.
    fn more(&mut self) -> io::Result<&[u8]> {
        if self.used >= self.buffer.len() {
            let length = to_usize(self.range.end.saturating_sub(self.range.start)).min(READ);
            self.buffer.resize(length, 0);
            self.used = 0;
            read_exact(&self.source, &mut self.buffer, self.range.start)?;
            self.range.start = self.range.start.saturating_add(to_u64(length));
        }
        Ok(self.buffer.get(self.used..).unwrap_or_default())
    }

    /// Says that `n` of those bytes have been used.
    fn used(&mut self, n: u64) {
        self.used = self.used.saturating_add(to_usize(n));
    }
}
