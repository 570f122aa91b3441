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
use crate::base::num::{to_u64, to_usize};

/// Most bytes in a piece. Inflating into less is slower: deflate's window is kept aside between pieces.
pub const PIECE: usize = 256 << 10;

/// Most compressed bytes read at once.
const READ: usize = 64 << 10;

/// An entry that is being read.
pub struct Member<S> {
    data: Data<S>,
    /// Most bytes in a piece.
    most: usize,
    inflating: Option<Decompress>,
    entry: Entry,
    /// Bytes that have come out.
    found: u64,
    hasher: Hasher,
    state: MemberState,
}

#[derive(Clone, Copy)]
enum MemberState {
    Reading,
    Over,
    Failed,
}

impl<S: ReadAt> Member<S> {
    /// Begins to read an entry whose data [`Entry::locate`] has found.
    pub fn new(source: S, entry: Entry, data: Range<u64>) -> Self {
        let inflating = (entry.method != Method::Stored).then(|| Decompress::new(false));
        let data = Data { source, range: data, buffer: Vec::new(), used: 0, most: READ };
        Self {
            data,
            most: PIECE,
            inflating,
            entry,
            found: 0,
            hasher: Hasher::new(),
            state: MemberState::Reading,
        }
    }

    /// Makes pieces of at most `most` bytes from now on, and reads half as much ahead. At most [`PIECE`].
    pub(crate) fn keep_to(&mut self, most: usize) {
        self.most = most.clamp(1, PIECE);
        self.data.most = (self.most / 2).clamp(1, READ);
    }

    /// Where in the archive the bytes lie that the next piece is made of, unless they pack hardly anything.
    pub(crate) fn next_reads(&self) -> Range<u64> {
        let from = self.data.range.start;
        from..self.data.range.end.min(from.saturating_add(to_u64(PIECE + READ)))
    }

    /// The next piece, of at most [`PIECE`] bytes; `None` when all has come and everything has added up. After an error
    /// there are only errors. Blocks.
    #[expect(
        clippy::should_implement_trait,
        reason = "an end that follows a failure must not look like the end"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, BadEntry> {
        match self.state {
            MemberState::Reading => {}
            MemberState::Over => return Ok(None),
            MemberState::Failed => return Err(BadEntry::Failed),
        }
        self.state = MemberState::Failed;
        let (piece, is_last) = self.piece()?;
        self.state = if is_last { MemberState::Over } else { MemberState::Reading };
        Ok((!piece.is_empty()).then(|| piece.into()))
    }

    /// Reads a piece and, once it is the last one, checks what has come.
    fn piece(&mut self) -> Result<(Vec<u8>, bool), BadEntry> {
        let left = self.entry.size.saturating_sub(self.found);
        let (piece, is_last) = match &mut self.inflating {
            Some(inflating) => inflate(inflating, &mut self.data, left, self.most)?,
            None => copy(&mut self.data, left, self.most)?,
        };
        self.data.source.unpacked(to_u64(piece.len()));
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
fn copy(data: &mut Data<impl ReadAt>, left: u64, most: usize) -> Result<(Vec<u8>, bool), BadEntry> {
    let length = left.min(to_u64(most));
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
    most: usize,
) -> Result<(Vec<u8>, bool), BadEntry> {
    // With room for one byte too many, a stream that should come to its end in this piece does or shows itself.
    let room = if left <= to_u64(most) { left.saturating_add(1) } else { to_u64(most) };
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
    /// Most bytes read at once.
    most: usize,
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
            let length = to_usize(self.range.end.saturating_sub(self.range.start)).min(self.most);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::tests::writer::{File, Zip};
    use crate::zip::tests::{Slice, content, open};

    /// Bytes that don't repeat soon.
    fn noise(length: usize) -> Vec<u8> {
        let step = |n: &u32| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        std::iter::successors(Some(1), step).map(|n| n.to_be_bytes()[0]).take(length).collect()
    }

    fn read(file: File) -> Result<Vec<u8>, BadEntry> {
        content(&Zip::of([file]).bytes(), b"a")
    }

    #[test]
    fn all_lengths_come_out_in_pieces() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7] {
            for content in [noise(length), vec![b'x'; length]] {
                assert!(read(File::stored("a", &content)).unwrap() == content, "{length} stored");
                assert!(read(File::deflated("a", &content)).unwrap() == content, "{length} deflated");
            }
        }
    }

    #[test]
    fn what_does_not_add_up_says_why() {
        let (stored, deflated) = (File::stored("a", b"content"), File::deflated("a", b"content"));
        let sized = |file: &File, size| File { size, ..file.clone() };
        let with =
            |data: &[u8]| File { data: data.to_vec(), compressed: to_u64(data.len()), ..deflated.clone() };
        let (last, packed) = (deflated.data.len() - 1, deflated.data.clone());
        let cases = [
            (File { crc: 1, ..stored.clone() }, "the CRC-32 fec530a9 and should have 00000001"),
            (File { data: b"Content".to_vec(), ..stored }, "the CRC-32"),
            (File { crc: 1, ..deflated.clone() }, "the CRC-32"),
            (sized(&deflated, 6), "has more bytes than the 6"),
            (sized(&deflated, 0), "has more bytes than the 0"),
            (sized(&deflated, 8), "has 7 bytes and should have 8"),
            (sized(&deflated, u64::from(u32::MAX)), "has 7 bytes and should have 4294967295"),
            (with(&packed[..last]), "end too early"),
            (with(b""), "end too early"),
            (with(&[&packed[..], b"xyz"].concat()), "3 bytes behind"),
            (with(&[0xff; 9]), "can't be inflated"),
        ];
        for (file, message) in cases {
            let error = read(file).unwrap_err().to_string();
            assert!(error.contains(message), "{error}, not {message}");
        }
    }

    #[test]
    fn a_bomb_is_left_at_its_first_byte_too_many() {
        struct Counting<'a>(Slice<'a>, std::cell::Cell<usize>);
        impl ReadAt for Counting<'_> {
            fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
                self.1.set(self.1.get() + buffer.len());
                self.0.read_at(buffer, at)
            }
        }
        let bomb = File { size: 10, ..File::deflated("a", &vec![0; 64 << 20]) };
        let data = 0..bomb.compressed;
        assert!(bomb.data.len() > 2 * READ);
        let entry = open(&Zip::of([bomb.clone()]).bytes()).unwrap().find(b"a").unwrap();
        let source = Counting(Slice(&bomb.data, usize::MAX), std::cell::Cell::new(0));
        assert!(matches!(verify(&source, entry, data), Err(BadEntry::Long(10))));
        assert_eq!(source.1.get(), READ);
    }

    #[test]
    fn of_a_wrong_entry_all_comes_but_the_last_piece_and_no_end() {
        for make in [File::stored, File::deflated] {
            let file = File { crc: 1, ..make("a", &noise(2 * PIECE)) };
            let bytes = Zip::of([file]).bytes();
            let (source, directory) = (Slice(&bytes, usize::MAX), open(&bytes).unwrap());
            let entry = directory.find(b"a").unwrap();
            let mut member =
                Member::new(source, entry, entry.locate(&source, directory.begins_at()).unwrap());
            assert_eq!(member.next().unwrap().unwrap().len(), PIECE);
            assert!(matches!(member.next(), Err(BadEntry::Checksum { .. })));
            assert!(matches!(member.next(), Err(BadEntry::Failed)), "and it stays so");
        }
    }

    #[test]
    fn a_file_that_was_cut_under_us_is_an_error() {
        for file in [File::stored("a", &noise(100)), File::deflated("a", &noise(100))] {
            let entry = open(&Zip::of([file.clone()]).bytes()).unwrap().find(b"a").unwrap();
            let cut = Slice(&file.data[..50], usize::MAX);
            let verdict = verify(cut, entry, 0..file.compressed);
            assert!(matches!(verdict, Err(BadEntry::Read(_))), "{verdict:?}");
        }
    }

    #[test]
    fn a_stored_entry_is_as_long_as_its_data() {
        let file = File::stored("a", b"content");
        let entry = open(&Zip::of([file.clone()]).bytes()).unwrap().find(b"a").unwrap();
        let read = |data| verify(Slice(b"content", usize::MAX), entry, data);
        assert!(matches!(read(0..6), Err(BadEntry::Cut)));
        assert!(matches!(read(0..8), Err(BadEntry::Slack(1))));
        assert!(read(0..7).is_ok());
    }
}
