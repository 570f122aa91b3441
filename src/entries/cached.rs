//! What is known of one entry.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use super::{EntryBytes, SMALL};
use crate::base::memory::Memory;
use crate::base::num::to_usize;
use crate::base::singleflight::Singleflight;
use crate::http::Etag;
use crate::zip::{BadEntry, Entry, Member};

/// An entry, where its bytes lie, and whether they were found to add up.
#[derive(Debug)]
pub(super) struct CachedEntry {
    pub(super) entry: Entry,
    /// Where its data lies in the archive.
    pub(super) data: Range<u64>,
    /// All of it, once it was read, if it is small.
    decoded: OnceLock<Bytes>,
    /// What is read of it now: whoever else wants that waits for it, and takes no thread.
    reading: Singleflight<EntryWork, Result<Bytes, Arc<io::Error>>>,
    /// Hashed once: the archive's own digest, which it is made of, never changes.
    pub(super) etag: OnceLock<Etag>,
    checked: AtomicBool,
    bad: AtomicBool,
}

impl CachedEntry {
    pub(super) fn new(entry: Entry, data: Range<u64>) -> Self {
        let (checked, bad) = (AtomicBool::new(false), AtomicBool::new(false));
        let (decoded, reading, etag) = (OnceLock::new(), Singleflight::default(), OnceLock::new());
        Self { entry, data, decoded, reading, etag, checked, bad }
    }

    /// Bytes of memory that it takes, its decoded ones included whether they are there yet or not.
    pub(super) fn weight(&self) -> usize {
        if self.entry.size <= SMALL { to_usize(self.entry.size) } else { 0 }
    }

    /// Whether its length and checksum were found to be right.
    pub(super) fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Acquire)
    }

    pub(super) fn was_checked(&self) {
        self.checked.store(true, Ordering::Release);
    }

    /// Whether something was found to be wrong with it: from then on it is left to GitLab.
    pub(super) fn is_bad(&self) -> bool {
        self.bad.load(Ordering::Acquire)
    }

    /// Notes what is wrong with it. A disk that couldn't be read says nothing of the entry.
    pub(super) fn was_bad(&self, reason: BadEntry) -> io::Error {
        match reason {
            BadEntry::Read(error) => error,
            reason => {
                tracing::warn!(%reason, "an entry doesn't add up and is left to GitLab");
                self.bad.store(true, Ordering::Release);
                io::Error::new(io::ErrorKind::InvalidData, reason)
            }
        }
    }

    /// All of it, if it is there.
    pub(super) fn decoded(&self) -> Option<Bytes> {
        self.decoded.get().cloned()
    }

    /// Reads what is wanted of it, once however many ask at a time, and whether they stay or leave.
    pub(super) async fn read(
        self: &Arc<Self>,
        wanted: EntryWork,
        eyes: EntryBytes,
        memory: &Arc<Memory>,
    ) -> io::Result<Bytes> {
        let (this, memory) = (Arc::clone(self), Arc::clone(memory));
        let read = || async move {
            let read = crate::base::rt::blocking(move || match wanted {
                EntryWork::Decode => this.decode(eyes, &memory),
                EntryWork::Check => this.check(eyes),
                EntryWork::Head(most) => this.head(eyes, most),
            });
            read.await.flatten().map_err(Arc::new)
        };
        let (reading, _) = self.reading.run(wanted, (), |()| true, read);
        let read = reading.word().await.ok_or(io::ErrorKind::BrokenPipe)?;
        read.map_err(|error| io::Error::new(error.kind(), error))
    }

    /// All of a small entry, if there is memory for it: it counts for as long as anybody reads it. Blocks.
    fn decode(&self, eyes: EntryBytes, memory: &Arc<Memory>) -> io::Result<Bytes> {
        if let Some(decoded) = self.decoded() {
            return Ok(decoded);
        }
        let Some(lease) = memory.try_take(self.weight()) else {
            return Ok(Bytes::new());
        };
        let mut bytes = BytesMut::with_capacity(self.weight());
        let mut member = Member::new(eyes, self.entry, self.data.clone());
        while let Some(piece) = member.next().map_err(|reason| self.was_bad(reason))? {
            bytes.extend_from_slice(&piece);
        }
        self.was_checked();
        Ok(self.decoded.get_or_init(|| lease.around(bytes.freeze())).clone())
    }

    /// Unpacks it to see whether it adds up. Blocks.
    fn check(&self, eyes: EntryBytes) -> io::Result<Bytes> {
        if !self.is_checked() {
            let mut member = Member::new(eyes, self.entry, self.data.clone());
            while member.next().map_err(|reason| self.was_bad(reason))?.is_some() {}
            self.was_checked();
        }
        Ok(Bytes::new())
    }

    /// Its first bytes. Blocks.
    fn head(&self, eyes: EntryBytes, most: usize) -> io::Result<Bytes> {
        let first = if let Some(decoded) = self.decoded() {
            decoded
        } else {
            let mut member = Member::new(eyes, self.entry, self.data.clone());
            member.keep_to(most);
            member.next().map_err(|reason| self.was_bad(reason))?.unwrap_or_default()
        };
        Ok(first.slice(..most.min(first.len())))
    }
}

/// What is read of an entry at once, for all who want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum EntryWork {
    /// All of a small one, to be kept.
    Decode,
    /// All, to see whether it adds up.
    Check,
    /// So many bytes at its beginning.
    Head(usize),
}
