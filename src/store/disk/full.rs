//! A disk that is full.
//!
//! What the file system lacks is freed from the store, least recently used first, before anything is given up: the disk
//! may hold more than archives, and the budget knows nothing of that.

use std::convert::Infallible;
use std::io;

use crate::store::Error;
use crate::store::room::StoreInner;

/// A refusal that may be for want of room.
pub(in crate::store) trait MayBeFull {
    /// Whether it is.
    fn is_full(&self) -> bool;
}

impl MayBeFull for io::Error {
    fn is_full(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl MayBeFull for Error {
    fn is_full(&self) -> bool {
        matches!(self, Self::Io { reason, .. } if reason.is_full())
    }
}

impl StoreInner {
    /// Does what needs `wanted` bytes of the disk; if that is full, frees some and does it again, until it fits or as many
    /// bytes were freed in vain. `act` leaves nothing behind when it fails. Under none of the store's locks. Blocks.
    pub(in crate::store) fn fitting<T, E: MayBeFull>(
        &self,
        wanted: u64,
        mut act: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut freed = 0_u64;
        loop {
            let error = match act() {
                Err(error) if error.is_full() => error,
                done => return done,
            };
            if !self.disk.may_evict() {
                return Err(error);
            }
            if freed > wanted {
                self.disk.evicted_in_vain();
                return Err(error);
            }
            match self.free_up(wanted, freed) {
                0 => return Err(error),
                more => freed = freed.saturating_add(more),
            }
        }
    }

    /// Evicts what the file system says that it lacks. One that is full all the same has a quota, or no names left: then
    /// some at first, twice as much each time. Returns how many bytes that were.
    fn free_up(&self, wanted: u64, freed: u64) -> u64 {
        let lacking = self.disk_free().map_or(0, |free| wanted.saturating_sub(free));
        let mut bytes = 0;
        let evicted = self.evict(|shelf, in_use| {
            let victims = match lacking {
                0 => shelf.evict(freed.max(wanted / 8), in_use),
                // Whatever goes for what won't fit even then would go in vain.
                _ if freed == 0 => shelf.evict_whole(lacking, in_use),
                _ => shelf.evict(lacking, in_use),
            };
            bytes = victims.iter().fold(0, |sum: u64, (_, slot)| sum.saturating_add(slot.bytes));
            Ok::<_, Infallible>(victims)
        });
        if let Ok(archives @ 1..) = evicted {
            tracing::debug!(archives, bytes, "the disk is full: some archives went for others");
        }
        bytes
    }
}
