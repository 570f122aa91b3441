//! What is known of one entry.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::{Eyes, SMALL};
use crate::archive::{BadEntry, Entry, Member};
use crate::grant::Etag;
use crate::num::to_usize;

/// An entry, where its bytes lie, and whether they were found to add up.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) entry: Entry,
    /// Where its data lies in the archive.
    pub(super) data: Range<u64>,
    /// All of it, once it was read, if it is small.
    decoded: OnceLock<Bytes>,
    /// Held while it is read: whoever else wants it waits, off the runtime.
    decoding: Mutex<()>,
    /// Hashed once: the archive's own digest, which it is made of, never changes.
    pub(super) etag: OnceLock<Etag>,
    checked: AtomicBool,
    bad: AtomicBool,
}

impl Known {
    pub(super) const fn new(entry: Entry, data: Range<u64>) -> Self {
        let (checked, bad) = (AtomicBool::new(false), AtomicBool::new(false));
        let decoding = Mutex::new(());
        Self { entry, data, decoded: OnceLock::new(), decoding, etag: OnceLock::new(), checked, bad }
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

    /// All of a small entry, unpacked once. Blocks.
    pub(super) fn decode(&self, eyes: Eyes) -> io::Result<Bytes> {
        let _decoding = self.decoding.lock();
        if let Some(decoded) = self.decoded() {
            return Ok(decoded);
        }
        let mut bytes = BytesMut::with_capacity(self.weight());
        let mut member = Member::new(eyes, self.entry, self.data.clone());
        while let Some(piece) = member.next().map_err(|reason| self.was_bad(reason))? {
            bytes.extend_from_slice(&piece);
        }
        self.was_checked();
        Ok(self.decoded.get_or_init(|| bytes.freeze()).clone())
    }

    /// Unpacks it to see whether it adds up. Blocks.
    pub(super) fn check(&self, eyes: Eyes) -> io::Result<()> {
        let mut member = Member::new(eyes, self.entry, self.data.clone());
        while member.next().map_err(|reason| self.was_bad(reason))?.is_some() {}
        self.was_checked();
        Ok(())
    }

    /// Its first bytes. Blocks.
    pub(super) fn head(&self, eyes: Eyes, most: usize) -> io::Result<Bytes> {
        let first = if self.entry.size <= SMALL {
            self.decode(eyes)?
        } else {
            let mut member = Member::new(eyes, self.entry, self.data.clone());
            member.next().map_err(|reason| self.was_bad(reason))?.unwrap_or_default()
        };
        Ok(first.slice(..most.min(first.len())))
    }
}
