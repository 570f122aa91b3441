//! Bytes of an archive on their way out: of one that is whole, and of one that is still arriving.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::watch;

use super::chunks::{ChunkStates, Readable};
use super::error::{ReadError, Unsound};
use super::{Archive, Remainder, State};
use crate::base::num::to_u64;
use crate::gitlab::grant::facts::TAIL;
use crate::store::disk::data::{FileSlice, ReadPath, SLICE, read_cold};
use crate::store::disk::mapped::Mapped;

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;
type Comparing = Pin<Box<dyn Future<Output = io::Result<Result<(), Unsound>>> + Send>>;
type SyncWait = Pin<Box<dyn Future<Output = watch::Receiver<u64>> + Send>>;

/// A range of an archive, slice by slice, each within one chunk. Slices are copies unless the kernel alone will read them.
/// It waits for its own bytes only.
pub struct Reader {
    archive: Arc<Archive>,
    at: u64,
    /// Where the range ends; `None`: where the archive does.
    end: Option<u64>,
    way: ReadPath,
    kind: ReadTerms,
    /// What is read off the runtime, and whether its chunk was being written.
    reading: Option<(Reading, bool)>,
    comparing: Option<Comparing>,
    changes: Option<watch::Receiver<u64>>,
    waiting: Option<SyncWait>,
    remainder: Option<Remainder>,
}

/// On which terms it reads.
enum ReadTerms {
    /// What is in the store. `all` of one that isn't whole: its end is kept back until it was found right.
    Stored { all: bool },
    /// What arrives: `tail` is what GitLab showed this reader of its end, before that could be compared.
    Following { tail: Option<Vec<u8>> },
}

/// What a look at the archive says.
enum NextRead {
    /// Bytes up to here, of a chunk that must have been compared unless it is being written.
    Slice {
        to: u64,
        written_now: bool,
    },
    Wait,
    Done,
    Inherit,
    Fail(ReadError),
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("at", &self.at).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Reader {
    fn new(archive: Arc<Archive>, at: u64, end: Option<u64>, kind: ReadTerms) -> Self {
        let end = end.or_else(|| archive.length());
        Self {
            archive,
            at,
            end,
            way: ReadPath::Copied,
            kind,
            reading: None,
            comparing: None,
            changes: None,
            waiting: None,
            remainder: None,
        }
    }

    pub(super) fn of_stored(archive: Arc<Archive>, range: Range<u64>) -> Self {
        let all = Some(range.end) == archive.length() && range.start == 0;
        Self::new(archive, range.start, Some(range.end), ReadTerms::Stored { all })
    }

    pub(super) fn following(archive: Arc<Archive>, at: u64, end: Option<u64>, tail: Option<Vec<u8>>) -> Self {
        Self::new(archive, at, end, ReadTerms::Following { tail })
    }

    /// Allows slices of the mapping: they go to a plain socket and are read by nobody on their way.
    pub(crate) const fn allow_mapped(&mut self) {
        self.way = ReadPath::Mapped;
    }

    /// Makes copied slices short: their connection holds one of each of its streams.
    pub(crate) const fn keep_little(&mut self) {
        self.way = ReadPath::Little;
    }

    /// Whether they can be slices of a mapping.
    pub(crate) fn is_mappable(&self) -> bool {
        self.archive.data().is_mapped()
    }

    /// The mapping that they lie in, if they do and the kernel had better send them from there: a single slice. Of a long
    /// archive a reader on this machine gets half as many bytes a second without the copy, which warms the processor's
    /// cache for it.
    pub(crate) fn mapped(&self) -> Option<Mapped> {
        let single = self.way == ReadPath::Mapped && self.remaining().is_some_and(|left| left <= SLICE);
        if single && self.archive.is_whole() { Mapped::of(self.archive.data()) } else { None }
    }

    /// Bytes still to come, if that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.at))
    }

    /// The bytes still to come, as far as that is known.
    pub(crate) fn left(&self) -> Range<u64> {
        self.at..self.end.unwrap_or(self.at)
    }

    /// Of which archive.
    pub(crate) const fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// The next slice; an error means that the rest can't be had, now or ever, and that the connection must not end cleanly
    /// unless its reason is dealt with: then the same slice can be asked for again.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        loop {
            if let Some(remainder) = &mut self.remainder {
                return remainder.poll_next(cx).map(|next| next.map(|piece| piece.map_err(ReadError::Io)));
            }
            if let Some(slice) = ready!(self.poll_reading(cx)) {
                return Poll::Ready(Some(slice));
            }
            ready!(self.poll_changed(cx));
            match self.look() {
                NextRead::Slice { to, written_now } => {
                    if let Some(slice) = ready!(self.poll_slice(to, written_now, cx)) {
                        return Poll::Ready(Some(slice));
                    }
                }
                NextRead::Wait => self.wait(),
                NextRead::Done => return Poll::Ready(None),
                NextRead::Fail(error) => return Poll::Ready(Some(Err(error))),
                NextRead::Inherit => {
                    self.remainder = self.archive.inherit(self.at);
                    if self.remainder.is_none() {
                        let error = ReadError::Broken("the fill could not be stored to its end");
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }

    /// Ends a wait, or goes on at once.
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.waiting {
            self.changes = Some(ready!(waiting.as_mut().poll(cx)));
            self.waiting = None;
        }
        if let Some(changes) = &mut self.changes {
            changes.mark_unchanged();
        }
        Poll::Ready(())
    }

    /// Waits for the next change. What has changed before the first wait is looked at once more.
    fn wait(&mut self) {
        match self.changes.take() {
            None => self.changes = Some(self.archive.chunks().subscribe()),
            Some(mut changes) => {
                self.waiting = Some(Box::pin(async move {
                    // The sender lives as long as the archive.
                    let _ = changes.changed().await;
                    changes
                }));
            }
        }
    }

    fn look(&mut self) -> NextRead {
        if self.end == Some(self.at) {
            return NextRead::Done;
        }
        let state = self.archive.state();
        if matches!(state, State::Complete | State::Whole) {
            return self.look_at_all();
        }
        // Where nobody had said how long it is, all that came is here, and may be all.
        let at_an_end = self.end.is_none() && self.archive.length().is_some_and(|length| self.at >= length);
        let limit = self.limit(state);
        if at_an_end || limit.is_some_and(|limit| self.at >= limit) {
            return self.at_the_guard(state);
        }
        let up_to = |to: u64| limit.map_or(to, |limit| to.min(limit)).min(self.end.unwrap_or(u64::MAX));
        match self.archive.chunks().readable(self.at) {
            Readable::Chunk(to) => NextRead::Slice { to: up_to(to), written_now: false },
            Readable::Watermark(to) => NextRead::Slice { to: up_to(to), written_now: true },
            Readable::Coming => NextRead::Wait,
            Readable::Missing => self.missing(),
        }
    }

    /// All of it is here, and it is right.
    fn look_at_all(&mut self) -> NextRead {
        let length = self.archive.stored_length();
        if !self.tail_is_as_expected(length) {
            return NextRead::Fail(ReadError::Broken(
                "the archive isn't the one that GitLab showed this caller",
            ));
        }
        let end = *self.end.get_or_insert(length);
        if end > length {
            return NextRead::Fail(ReadError::Broken("the archive is shorter than declared"));
        }
        if end == self.at {
            return NextRead::Done;
        }
        let chunk = ChunkStates::of(self.at);
        NextRead::Slice { to: end.min(self.archive.chunks().bytes(chunk).end), written_now: false }
    }

    /// How far this reader may go before all of it was found right: not into an end that must be compared first. `None`:
    /// any length.
    fn limit(&self, state: State) -> Option<u64> {
        let length = self.archive.length()?;
        let guarded = length.saturating_sub(TAIL);
        match &self.kind {
            ReadTerms::Stored { all } => all.then_some(guarded),
            ReadTerms::Following { tail } => {
                let compared = tail.as_ref().map(|tail| length.saturating_sub(to_u64(tail.len())));
                // What the disk doesn't take can't be found right by us either: it is GitLab's word alone.
                let sure = (self.archive.is_guarded() && state != State::Unstored).then_some(guarded);
                compared.into_iter().chain(sure).min()
            }
        }
    }

    /// It may go no further yet.
    fn at_the_guard(&self, state: State) -> NextRead {
        match (&self.kind, state) {
            (ReadTerms::Stored { .. }, _) => NextRead::Fail(ReadError::Unproven),
            (ReadTerms::Following { .. }, State::Broken | State::Unstored) => {
                NextRead::Fail(ReadError::Broken("the fill broke off"))
            }
            (ReadTerms::Following { .. }, _) => self.wait_if_it_comes(),
        }
    }

    /// It waits for the end of it all, as long as somebody brings that.
    fn wait_if_it_comes(&self) -> NextRead {
        let all_here = self.archive.length().is_some_and(|length| {
            self.archive.chunks().availability(&(self.at..length)) != super::Availability::Missing
        });
        if all_here { NextRead::Wait } else { NextRead::Fail(ReadError::Broken("the fill broke off")) }
    }

    fn missing(&self) -> NextRead {
        match &self.kind {
            ReadTerms::Stored { .. } => NextRead::Fail(ReadError::Absent(ChunkStates::of(self.at))),
            ReadTerms::Following { tail } => {
                let all = tail.is_none() && self.end == self.archive.length();
                // Asked now: it may have become so since it was looked at first.
                if self.archive.state() == State::Unstored && all {
                    NextRead::Inherit
                } else {
                    NextRead::Fail(ReadError::Broken("the fill broke off"))
                }
            }
        }
    }

    fn tail_is_as_expected(&mut self, length: u64) -> bool {
        let ReadTerms::Following { tail } = &mut self.kind else {
            return true;
        };
        let Some(expected) = tail.take() else {
            return true;
        };
        let Some(from) = length.checked_sub(to_u64(expected.len())) else {
            return false;
        };
        let mut found = vec![0; expected.len()];
        // One KiB that was written a moment ago.
        self.archive.data().read_into(&mut found, from).is_ok() && found == expected
    }

    /// One slice, at once if its pages are there; `None`: look again.
    fn poll_slice(
        &mut self,
        to: u64,
        written_now: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ReadError>>> {
        let chunk = ChunkStates::of(self.at);
        if !written_now
            && !self.archive.chunks().is_compared(chunk)
            && let Err(error) = ready!(self.poll_compared(chunk, cx))
        {
            return Poll::Ready(Some(Err(error)));
        }
        self.comparing = None;
        let (from, to) = (self.at, self.way.end(self.at, to));
        let data = self.archive.data();
        match data.slice(from, to, self.way) {
            FileSlice::Ready(bytes) => Poll::Ready(Some(Ok(self.hand_out(bytes)))),
            FileSlice::Cold => {
                let reading = Box::pin(read_cold(Arc::clone(data), from, to, self.way));
                self.reading = Some((reading, written_now));
                Poll::Ready(None)
            }
        }
    }

    /// The slice that is read in off the runtime: it was there when that began. `None`: look again.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        let Some((reading, written_now)) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let (slice, written_now) = (ready!(reading.as_mut().poll(cx)), *written_now);
        self.reading = None;
        match slice {
            Ok(bytes) => Poll::Ready(Some(Ok(self.hand_out(bytes)))),
            Err(error) if written_now => Poll::Ready(Some(Err(error.into()))),
            Err(_) => {
                // It was sound, and can't be read any more: it is compared again, and repaired if need be.
                self.archive.chunks().doubt(ChunkStates::of(self.at));
                Poll::Ready(None)
            }
        }
    }

    fn hand_out(&mut self, bytes: Bytes) -> Bytes {
        self.at += to_u64(bytes.len());
        bytes
    }

    /// Compares a chunk that is used for the first time since the archive was opened, off the runtime. What was read for
    /// that isn't kept: a slow reader would hold all of it.
    fn poll_compared(&mut self, chunk: u64, cx: &mut Context<'_>) -> Poll<Result<(), ReadError>> {
        let archive = Arc::clone(&self.archive);
        let comparing =
            self.comparing.get_or_insert_with(|| Box::pin(async move { archive.compare(chunk).await }));
        let compared = ready!(comparing.as_mut().poll(cx));
        self.comparing = None;
        Poll::Ready(compared.map_err(ReadError::Io).and_then(|compared| Ok(compared?)))
    }
}
