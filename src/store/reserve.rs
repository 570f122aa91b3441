//! Bytes of the budget, taken before anything is written.

use std::sync::Arc;

use super::Error;
use super::room::Shared;

/// How much is taken at a time where the length isn't known.
const STEP: u64 = 64 << 20;

/// Bytes taken; dropping gives back what didn't become an archive.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Reservation {
    /// Takes `length` bytes, or the first step of an unknown length.
    pub(super) fn take(shared: &Arc<Shared>, length: Option<u64>) -> Result<Self, Error> {
        let mut reservation = Self { shared: Arc::clone(shared), bytes: 0 };
        match length {
            Some(length) => reservation.cover(length)?,
            None => reservation.grow(STEP)?,
        }
        Ok(reservation)
    }

    /// Takes more until an archive of at least `end` bytes is covered. Blocks while victims are unlinked.
    pub(super) fn cover(&mut self, end: u64) -> Result<(), Error> {
        self.shared.limits.admit(end)?;
        self.grow(end)
    }

    fn grow(&mut self, end: u64) -> Result<(), Error> {
        if end > self.bytes {
            let more = if self.bytes == 0 { end } else { STEP.max(end - self.bytes) };
            self.shared.make_room(more)?;
            self.bytes += more;
        }
        Ok(())
    }

    /// Makes these bytes an archive's: exactly `bytes` stay taken.
    pub(super) fn keep(&mut self, bytes: u64) {
        let mut shelved = self.shared.shelf.lock();
        if let Some(extra) = self.bytes.checked_sub(bytes) {
            shelved.shelf.release(extra);
        } else {
            // The record's own length, which nobody reserved: a few bytes a chunk.
            shelved.shelf.take(bytes - self.bytes);
        }
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.shelf.lock().shelf.release(self.bytes);
        }
    }
}
