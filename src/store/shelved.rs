//! The shelf with all that is decided under its lock.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::archive::Archive;
use super::shelf::{Shelf, Slot};
use super::unchecked::{Standing, Unchecked};
use crate::key::{ArchiveId, Key};

/// References to an open archive that aren't a reader's: moka's, for a moment two.
const HELD_BY_US: usize = 1;

/// The shelf, which of its archives are open, and what the files have yet to say. One lock for all: whether an archive is
/// in use decides whether it may be evicted, and whether it has come or gone decides whether its files are news.
#[derive(Debug)]
pub(super) struct Shelved {
    pub(super) shelf: Shelf,
    pub(super) open: HashMap<ArchiveId, Weak<Archive>>,
    pub(super) evicted: u64,
    pub(super) unchecked: Unchecked,
    /// Archives of which only some chunks are here: their files lie elsewhere, until those are gone.
    pub(super) partial: HashSet<ArchiveId>,
}

/// What is known of a key's archive.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    /// Under which key it is, and where.
    Held(Key, Slot),
    /// Nothing, and its files haven't been looked at.
    Unchecked,
    /// That there is none.
    Absent,
}

/// What was evicted.
#[derive(Debug)]
pub(super) struct Evicted {
    /// What is to be unlinked.
    pub(super) victims: Vec<(Key, Slot)>,
    /// What must be dropped after the lock.
    pub(super) leaving: Vec<Option<Arc<Archive>>>,
}

impl Shelved {
    /// An empty shelf, and nothing looked at.
    pub(super) fn new(budget: u64) -> Self {
        let (shelf, unchecked) = (Shelf::new(budget), Unchecked::default());
        Self { shelf, open: HashMap::new(), evicted: 0, unchecked, partial: HashSet::new() }
    }

    /// Where a key's archive is, used now.
    pub(super) fn look(&mut self, key: Key, now: u64) -> Look {
        let Self { shelf, unchecked, .. } = self;
        if let Some(slot) = shelf.touch(key, now) {
            return Look::Held(key, slot);
        }
        let elsewhere = shelf.holder(key).and_then(|holder| Some((holder, shelf.touch(holder, now)?)));
        match elsewhere {
            Some((holder, slot)) => Look::Held(holder, slot),
            None if unchecked.awaits(key) => Look::Unchecked,
            None => Look::Absent,
        }
    }

    /// What an archive's files are that were found.
    pub(super) fn standing(&self, key: Key, id: ArchiveId) -> Standing {
        self.unchecked.standing(key, id, self.shelf.find(key).map(|slot| slot.id))
    }

    /// Evicts: `choose` takes archives off the shelf, given which are in use.
    pub(super) fn evict<E>(
        &mut self,
        choose: impl FnOnce(&mut Shelf, &dyn Fn(ArchiveId) -> bool) -> Result<Vec<(Key, Slot)>, E>,
    ) -> Result<Evicted, E> {
        let Self { shelf, open, .. } = self;
        let in_use =
            |id| open.get(&id).is_some_and(|archive: &Weak<Archive>| archive.strong_count() > HELD_BY_US);
        let victims = choose(shelf, &in_use)?;
        let mut leaving = Vec::with_capacity(victims.len());
        for (key, slot) in &victims {
            self.unchecked.handle(*key);
            leaving.push(self.leave(*slot));
            self.evicted += 1;
        }
        Ok(Evicted { victims, leaving })
    }

    /// An archive has left the shelf: its bytes are free at once, or when its last reader leaves. Returns what must be
    /// dropped after the lock.
    pub(super) fn leave(&mut self, slot: Slot) -> Option<Arc<Archive>> {
        let open = self.open.remove(&slot.id).and_then(|archive| archive.upgrade());
        match &open {
            Some(archive) => archive.retire(),
            None => self.shelf.release(slot.bytes),
        }
        open
    }
}
