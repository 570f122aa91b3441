//! An entry that is checked while it is read.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::Eyes;
use super::known::Known;
use crate::archive::{BadEntry, Member};
use crate::num::{to_u64, to_usize};
use crate::store::Archive;

type Step = (Member<Eyes>, Result<Option<Bytes>, BadEntry>);
type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
type Working = Pin<Box<dyn Future<Output = io::Result<Step>> + Send>>;

/// Bytes of a sparse archive, up to the end of an entry in it, that nobody fetches any more. Once its reader has had them
/// fetched, the entry goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a part of the entry couldn't be fetched")]
pub struct Lacking(pub Range<u64>);

/// A range of an entry, unpacked piece by piece off the runtime. The last piece goes out only when length and checksum
/// of the whole entry were found to be right, now or before; if they aren't, the range breaks off.
pub struct Checked {
    archive: Arc<Archive>,
    known: Arc<Known>,
    /// Of a sparse archive: the bytes that are unpacked next are on their way.
    waiting: Option<Waiting>,
    member: Option<Member<Eyes>>,
    working: Option<Working>,
    /// Bytes of the entry before the range that are still to come.
    skip: u64,
    /// Bytes of the range that weren't handed out yet.
    left: u64,
    /// The range's end, kept back while the rest of the entry is checked.
    last: Option<Bytes>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Checked {
    pub(super) fn new(archive: Arc<Archive>, known: Arc<Known>, range: Range<u64>) -> Self {
        let member = Some(Member::new(Eyes(Arc::clone(&archive)), known.entry, known.data.clone()));
        let left = range.end - range.start;
        Self { archive, known, waiting: None, member, working: None, skip: range.start, left, last: None }
    }

    /// Of which archive.
    pub const fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// Bytes still to come.
    pub const fn remaining(&self) -> u64 {
        self.left
    }

    /// The next piece; an error means that the rest will never come, and that the connection must not end cleanly.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        while self.left > 0 {
            let piece = match ready!(self.poll_piece(cx)) {
                Ok(piece) => piece,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            let handed = match piece {
                Some(piece) => self.within(&piece),
                None => self.end(),
            };
            if let Some(bytes) = handed {
                self.left -= to_u64(bytes.len()).min(self.left);
                return Poll::Ready(Some(Ok(bytes)));
            }
            if self.member.is_none() && self.working.is_none() {
                let error =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the entry is shorter than its range");
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(None)
    }

    /// The entry's next piece.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Err(error) = ready!(self.poll_arrived(cx)) {
            return Poll::Ready(Err(error));
        }
        if let Some(mut member) = self.member.take() {
            self.working = Some(Box::pin(crate::rt::blocking(move || {
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
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(member) = self.member.as_ref().filter(|_| self.archive.is_sparse()) else {
            return Poll::Ready(Ok(()));
        };
        let (archive, next) = (Arc::clone(&self.archive), member.next_reads());
        let from = next.start;
        let waiting =
            self.waiting.get_or_insert_with(|| Box::pin(async move { archive.arrived(&next).await }));
        let arrived = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        let lacking = from..self.known.data.end;
        Poll::Ready(arrived.map_err(|_| io::Error::other(Lacking(lacking))))
    }

    /// The part of a piece that lies within the range, unless it is to be kept back.
    fn within(&mut self, piece: &Bytes) -> Option<Bytes> {
        let skipped = self.skip.min(to_u64(piece.len()));
        self.skip -= skipped;
        let wanted = self.left.min(to_u64(piece.len()) - skipped);
        if wanted == 0 || self.last.is_some() {
            return None;
        }
        let from = to_usize(skipped);
        let bytes = piece.slice(from..from + to_usize(wanted));
        if wanted == self.left && !self.known.is_checked() {
            self.last = Some(bytes);
            return None;
        }
        Some(bytes)
    }

    /// The whole entry was read, and adds up.
    fn end(&mut self) -> Option<Bytes> {
        self.known.was_checked();
        self.last.take()
    }
}
