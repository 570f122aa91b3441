//! An entry that is checked while it is read.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::EntryBytes;
use super::cached::CachedEntry;
use crate::base::num::{to_u64, to_usize};
use crate::store::Archive;
use crate::zip::{BadEntry, Member};

type UnpackStep = (Member<EntryBytes>, Result<Option<Bytes>, BadEntry>);
type WaitFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
type Working = Pin<Box<dyn Future<Output = io::Result<UnpackStep>> + Send>>;

/// Bytes unpacked at a time: as much as a slow reader holds of it, and enough that going off the runtime costs little.
const PIECE: usize = 64 << 10;

/// The same for one of many streams of a connection: a frame of HTTP/2.
const LITTLE: usize = 16 << 10;

/// Why the next bytes of an entry can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// Of a partial archive nobody fetches these bytes, up to the end of the entry in it, any more. Once its reader has had
    /// them fetched, the entry goes on.
    #[error("a part of the entry couldn't be fetched")]
    Lacking(Range<u64>),
    /// The rest will never come.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Ranges of an entry in the order of its bytes, unpacked in one pass, piece by piece off the runtime. The last bytes go out
/// only when length and checksum of the whole entry were found to be right, now or before; if they aren't, they break off.
pub(crate) struct Checked {
    archive: Arc<Archive>,
    known: Arc<CachedEntry>,
    /// Of a sparse archive: the bytes that are unpacked next are on their way.
    waiting: Option<WaitFuture>,
    member: Option<Member<EntryBytes>>,
    working: Option<Working>,
    /// The present piece, and where in the entry it ends.
    piece: Bytes,
    at: u64,
    /// What wasn't taken from a piece yet: at most as many as ranges are read in one field.
    wanted: VecDeque<Range<u64>>,
    /// Bytes that weren't handed out yet.
    left: u64,
    /// The last ones, kept back while the rest of the entry is checked.
    last: Option<Bytes>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Checked {
    pub(super) fn new(eyes: EntryBytes, known: Arc<CachedEntry>, range: Range<u64>) -> Self {
        let archive = Arc::clone(&eyes.0);
        let mut member = Member::new(eyes, known.entry, known.data.clone());
        member.keep_to(PIECE);
        let left = range.end - range.start;
        Self {
            archive,
            known,
            waiting: None,
            member: Some(member),
            working: None,
            piece: Bytes::new(),
            at: 0,
            wanted: VecDeque::from([range]),
            left,
            last: None,
        }
    }

    /// Makes its pieces short: its connection holds one of each of its streams.
    pub(crate) fn keep_little(&mut self) {
        if let Some(member) = &mut self.member {
            member.keep_to(LITTLE);
        }
    }

    /// Of which archive.
    pub(crate) const fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// Bytes still to come.
    pub(crate) const fn remaining(&self) -> u64 {
        self.left
    }

    /// One more range, to be had in the same pass, before anything was read; `false` if it begins before the others end, or
    /// ends behind the entry.
    pub(crate) fn add(&mut self, range: Range<u64>) -> bool {
        let follows = self.wanted.back().is_some_and(|last| last.end <= range.start);
        let inside = range.start <= range.end && range.end <= self.known.entry.size;
        if follows && inside {
            self.left += range.end - range.start;
            self.wanted.push_back(range);
        }
        follows && inside
    }

    /// The next bytes, of one range; an error means that the rest will never come, and that the connection must not end
    /// cleanly.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, EntryError>>> {
        while self.left > 0 {
            if let Some(bytes) = self.take() {
                if self.wanted.is_empty() && !self.known.is_checked() {
                    self.last = Some(bytes);
                    continue;
                }
                return Poll::Ready(Some(Ok(self.hand_out(bytes))));
            }
            self.piece = Bytes::new();
            match ready!(self.poll_piece(cx)) {
                Ok(Some(piece)) => {
                    self.at = self.at.saturating_add(to_u64(piece.len()));
                    self.piece = piece;
                }
                Ok(None) => {
                    let last = self.end().ok_or_else(|| short().into());
                    return Poll::Ready(Some(last.map(|bytes| self.hand_out(bytes))));
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(None)
    }

    fn hand_out(&mut self, bytes: Bytes) -> Bytes {
        self.left -= to_u64(bytes.len()).min(self.left);
        bytes
    }

    /// What the present piece has of the first range.
    fn take(&mut self) -> Option<Bytes> {
        let range = self.wanted.front_mut()?;
        let begins = self.at - to_u64(self.piece.len());
        let (from, to) = (range.start.max(begins), range.end.min(self.at));
        if from >= to {
            return None;
        }
        range.start = to;
        if range.is_empty() {
            self.wanted.pop_front();
        }
        Some(self.piece.slice(to_usize(from - begins)..to_usize(to - begins)))
    }

    /// The entry's next piece.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, EntryError>> {
        if let Err(error) = ready!(self.poll_arrived(cx)) {
            return Poll::Ready(Err(error));
        }
        if let Some(mut member) = self.member.take() {
            self.working = Some(Box::pin(crate::base::rt::blocking(move || {
                let next = member.next();
                (member, next)
            })));
        }
        let Some(working) = &mut self.working else {
            return Poll::Ready(Ok(None));
        };
        let done = ready!(working.as_mut().poll(cx));
        self.working = None;
        let (member, next) = done?;
        let piece = next.map_err(|reason| self.known.was_bad(reason))?;
        if piece.is_some() {
            self.member = Some(member);
        }
        Poll::Ready(Ok(piece))
    }

    /// Waits until the bytes are here that the next piece is made of.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EntryError>> {
        let Some(member) = self.member.as_ref().filter(|_| self.archive.is_partial()) else {
            return Poll::Ready(Ok(()));
        };
        let (archive, next) = (Arc::clone(&self.archive), member.next_reads());
        let from = next.start;
        let waiting =
            self.waiting.get_or_insert_with(|| Box::pin(async move { Ok(archive.arrived(&next).await?) }));
        let arrived = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        let lacking = from..self.known.data.end;
        Poll::Ready(arrived.map_err(|_| EntryError::Lacking(lacking)))
    }

    /// The whole entry was read, and adds up.
    fn end(&mut self) -> Option<Bytes> {
        self.known.was_checked();
        self.last.take()
    }
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the entry is shorter than its range")
}
