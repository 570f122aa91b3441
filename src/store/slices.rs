//! Bytes on their way out: of an archive that is whole, and of one that is still arriving.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::watch;

use super::archive::{Absent, Archive, Unsound};
use super::chunks::Chunks;
use super::data::{Data, Piece, SLICE, Way, read_cold};
use super::draft::{Draft, End, Progress, Rest};
use super::mapped::Mapped;
use crate::grant::facts::TAIL;
use crate::num::{to_u64, to_usize};

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// A range of a whole archive, slice by slice, each within one chunk. Slices are copies unless the kernel alone will read
/// them.
pub struct Slices {
    archive: Arc<Archive>,
    left: Range<u64>,
    way: Way,
    reading: Option<Reading>,
    comparing: Option<Comparing>,
    /// Of a sparse archive all is read: its end is kept back until it was found right.
    all: bool,
}

type Comparing = Pin<Box<dyn Future<Output = io::Result<Result<Bytes, Unsound>>> + Send>>;

impl fmt::Debug for Slices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slices").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Slices {
    pub(super) fn new(archive: Arc<Archive>, range: Range<u64>) -> Self {
        let all = archive.is_sparse() && range == (0..archive.record().length);
        Self { archive, left: range, way: Way::Copied, reading: None, comparing: None, all }
    }

    /// Allows slices of the mapping: they go to a plain socket and are read by nobody on their way.
    pub const fn allow_mapped(&mut self) {
        self.way = Way::Mapped;
    }

    /// The mapping that they lie in, if they do and the kernel had better send them from there: a single slice. Of a long
    /// archive a reader on this machine gets half as many bytes a second without the copy, which warms the processor's
    /// cache for it.
    pub fn mapped(&self) -> Option<Mapped> {
        let single = self.way == Way::Mapped && self.remaining() <= SLICE;
        if single { Mapped::of(self.archive.data()) } else { None }
    }

    /// Bytes still to come.
    pub const fn remaining(&self) -> u64 {
        self.left.end.saturating_sub(self.left.start)
    }

    /// Of which archive.
    pub const fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// The next slice; an error means that the file can't give what its record promised. One that holds an [`Unsound`]
    /// may be mended, and one that holds an [`Absent`] may come: then the same slice can be asked for again.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left.is_empty() && self.reading.is_none() {
            return Poll::Ready(None);
        }
        let chunk = Chunks::of(self.left.start);
        let to = self.left.end.min(self.archive.chunks().bytes(chunk).end);
        if let Some(absent) = self.absent(chunk, to) {
            return Poll::Ready(Some(Err(io::Error::other(absent))));
        }
        // A comparison that was begun is waited for even if its chunk was found sound meanwhile: what it brings is this
        // chunk's, and no later one's.
        let slice = if self.comparing.is_none() && self.archive.chunks().is_compared(chunk) {
            let range = self.left.start..self.way.end(self.left.start, to);
            let slice = ready!(poll_slice(self.archive.data(), &mut self.reading, range, self.way, cx));
            if slice.is_err() {
                // It was sound, and can't be read any more: it is compared again, and mended if need be.
                self.archive.chunks().doubt(chunk);
                return self.poll_next(cx);
            }
            slice
        } else {
            ready!(self.poll_compared(chunk, to, cx))
        };
        if let Ok(bytes) = &slice {
            self.left.start += to_u64(bytes.len());
        }
        Poll::Ready(Some(slice))
    }

    /// Why the next slice can't be had yet.
    fn absent(&self, chunk: u64, to: u64) -> Option<Absent> {
        if !self.archive.has(chunk) {
            return Some(Absent::Chunk(chunk));
        }
        let ends = self.all && to == self.left.end;
        (ends && self.archive.is_sparse()).then_some(Absent::Proof)
    }

    /// The bytes still to come.
    pub fn left(&self) -> Range<u64> {
        self.left.clone()
    }

    /// A slice of a chunk that is used for the first time since the archive was opened: read and compared off the
    /// runtime.
    fn poll_compared(&mut self, chunk: u64, to: u64, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let archive = Arc::clone(&self.archive);
        let comparing =
            self.comparing.get_or_insert_with(|| Box::pin(crate::rt::blocking(move || archive.sound(chunk))));
        let compared = ready!(comparing.as_mut().poll(cx));
        self.comparing = None;
        let start = self.archive.chunks().bytes(chunk).start;
        let (from, to) = (to_usize(self.left.start - start), to_usize(to - start));
        Poll::Ready(compared?.map(|bytes| bytes.slice(from..to)).map_err(io::Error::other))
    }
}

/// One slice, at once if its pages are there, else after reading it in off the runtime.
fn poll_slice(
    data: &Arc<Data>,
    reading: &mut Option<Reading>,
    Range { start, end }: Range<u64>,
    way: Way,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    if reading.is_none()
        && let Piece::Ready(bytes) = data.slice(start, end, way)
    {
        return Poll::Ready(Ok(bytes));
    }
    let pending = reading.get_or_insert_with(|| Box::pin(read_cold(Arc::clone(data), start, end, way)));
    let slice = ready!(pending.as_mut().poll(cx));
    *reading = None;
    Poll::Ready(slice)
}

type Waiting = Pin<Box<dyn Future<Output = watch::Receiver<Progress>> + Send>>;

/// A range of an archive that is still arriving. It waits for its own bytes only.
pub struct Growing {
    draft: Arc<Draft>,
    at: u64,
    /// Where the range ends; `None`: where the archive does.
    end: Option<u64>,
    /// What GitLab showed this reader of the archive's end, before that could be compared.
    expected_tail: Option<Vec<u8>>,
    way: Way,
    reading: Option<Reading>,
    progress: Option<watch::Receiver<Progress>>,
    waiting: Option<Waiting>,
    rest: Option<Rest>,
}

/// What a look at the progress says.
enum Next {
    Slice(u64),
    Wait,
    Done,
    Inherit,
    Broken(&'static str),
}

impl Growing {
    pub(super) fn new(draft: Arc<Draft>, at: u64, end: Option<u64>, expected_tail: Option<Vec<u8>>) -> Self {
        let progress = Some(draft.subscribe());
        let way = Way::Copied;
        Self { draft, at, end, expected_tail, way, reading: None, progress, waiting: None, rest: None }
    }

    /// Allows slices of the mapping; see [`Slices::allow_mapped`].
    pub const fn allow_mapped(&mut self) {
        self.way = Way::Mapped;
    }

    /// Bytes still to come, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.at))
    }

    /// The next slice; an error means that the rest will never come, and that the connection must not end cleanly.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(rest) = &mut self.rest {
                return rest.poll_next(cx);
            }
            let Some(progress) = ready!(self.poll_progress(cx)) else {
                return Poll::Ready(Some(Err(broken("the fill ended without a word"))));
            };
            match self.next(progress) {
                Next::Slice(to) => {
                    let (range, data) = (self.at..self.way.end(self.at, to), self.draft.data());
                    let slice = ready!(poll_slice(data, &mut self.reading, range, self.way, cx));
                    if let Ok(bytes) = &slice {
                        self.at += to_u64(bytes.len());
                    }
                    return Poll::Ready(Some(slice));
                }
                Next::Done => return Poll::Ready(None),
                Next::Broken(why) => return Poll::Ready(Some(Err(broken(why)))),
                Next::Inherit => match self.draft.inherit() {
                    Some(rest) => self.rest = Some(rest),
                    None => return Poll::Ready(Some(Err(broken("the fill could not be stored to its end")))),
                },
                Next::Wait => self.wait(),
            }
        }
    }

    /// The present progress, once a wait for the next one is over.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Option<Progress>> {
        if let Some(waiting) = &mut self.waiting {
            self.progress = Some(ready!(waiting.as_mut().poll(cx)));
            self.waiting = None;
        }
        Poll::Ready(self.progress.as_mut().map(|progress| *progress.borrow_and_update()))
    }

    fn wait(&mut self) {
        if let Some(mut progress) = self.progress.take() {
            self.waiting = Some(Box::pin(async move {
                // An error means that the draft is gone, which its last progress already says.
                let _ = progress.changed().await;
                progress
            }));
        }
    }

    fn next(&mut self, progress: Progress) -> Next {
        if self.reading.is_some() {
            // The slice that is being read was there when its reading began.
            return Next::Slice(self.at.saturating_add(SLICE).min(self.limit(progress)));
        }
        if self.end == Some(self.at) {
            return Next::Done;
        }
        let whole = progress.end == End::Whole;
        if whole && !self.tail_is_as_expected(progress.written) {
            return Next::Broken("the archive isn't the one that GitLab showed this caller");
        }
        let limit = self.limit(progress);
        match progress.end {
            _ if limit > self.at => Next::Slice(self.at.saturating_add(SLICE).min(limit)),
            End::Growing => Next::Wait,
            End::Whole if self.end.is_none_or(|end| end == progress.written) => Next::Done,
            End::Whole => Next::Broken("the archive is shorter than declared"),
            End::Unstored if self.takes_all(progress) => Next::Inherit,
            End::Unstored | End::Broken => Next::Broken("the fill broke off"),
        }
    }

    /// How far this reader may go now: not into an end that must be compared or found right first.
    fn limit(&self, progress: Progress) -> u64 {
        let there = self.end.map_or(progress.written, |end| end.min(progress.written));
        if progress.end == End::Whole {
            return there;
        }
        let end = self.draft.length().unwrap_or(progress.written);
        let shown = self.expected_tail.as_ref().filter(|_| self.draft.length().is_some());
        let compared = shown.map_or(end, |tail| end.saturating_sub(to_u64(tail.len())));
        // What the disk doesn't take can't be found right by us either: it is GitLab's word alone.
        let guarded = self.draft.is_guarded() && progress.end != End::Unstored;
        let sure = if guarded { end.saturating_sub(TAIL) } else { end };
        there.min(compared).min(sure)
    }

    fn takes_all(&self, progress: Progress) -> bool {
        self.at == progress.written && self.expected_tail.is_none() && self.end == self.draft.length()
    }

    fn tail_is_as_expected(&mut self, length: u64) -> bool {
        let Some(expected) = self.expected_tail.take() else {
            return true;
        };
        let Some(from) = length.checked_sub(to_u64(expected.len())) else {
            return false;
        };
        let mut found = vec![0; expected.len()];
        // One KiB that was written a moment ago.
        self.draft.data().read_into(&mut found, from).is_ok() && found == expected
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}
