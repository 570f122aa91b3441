//! The shelf with all that is decided under its lock.

use std::collections::HashSet;
use std::sync::Arc;

use super::lru::account::Account;
use super::lru::{SizedLru, StoredMeta};
use super::object::Archive;
use super::opened::{Leaving, OpenArchives};
use super::scan::findings::{FoundFiles, ScanState};
use crate::base::key::{ArchiveId, Key};

/// The shelf, which of its archives are open, and what the files have yet to say. One lock for all: whether an archive is
/// in use decides whether it may be evicted, and whether it has come or gone decides whether its files are news.
#[derive(Debug)]
pub(super) struct StoreState {
    pub(super) shelf: SizedLru,
    pub(super) open: OpenArchives,
    pub(super) evicted: u64,
    pub(super) unchecked: ScanState,
    /// Archives of which only some chunks are here: their files lie elsewhere, until those are gone.
    pub(super) partial: HashSet<ArchiveId>,
}

/// What is known of a key's archive.
#[derive(Debug)]
pub(super) enum Look {
    /// Under which key it is, where, and the archive itself if it is open.
    Held(Key, StoredMeta, Option<Arc<Archive>>),
    /// Nothing, and its files haven't been looked at.
    Unchecked,
    /// That there is none.
    Absent,
}

/// What was evicted.
#[derive(Debug)]
pub(super) struct Evicted {
    /// What is to be unlinked.
    pub(super) victims: Vec<(Key, StoredMeta)>,
    /// What must be dropped after the lock.
    pub(super) leaving: Vec<Leaving>,
}

impl StoreState {
    /// An empty shelf, and nothing looked at.
    pub(super) fn new(budget: u64, account: Arc<Account>) -> Self {
        let (shelf, unchecked) = (SizedLru::counting(budget, account), ScanState::default());
        Self { shelf, open: OpenArchives::new(), evicted: 0, unchecked, partial: HashSet::new() }
    }

    /// Where a key's archive is, used now.
    pub(super) fn look(&mut self, key: Key, now: u64) -> Look {
        let Self { shelf, open, unchecked, .. } = self;
        if let Some(slot) = shelf.touch(key, now) {
            return Look::Held(key, slot, open.get(slot.id));
        }
        let elsewhere = shelf.holder(key).and_then(|holder| Some((holder, shelf.touch(holder, now)?)));
        match elsewhere {
            Some((holder, slot)) => Look::Held(holder, slot, open.get(slot.id)),
            None if unchecked.awaits(key) => Look::Unchecked,
            None => Look::Absent,
        }
    }

    /// What an archive's files are that were found.
    pub(super) fn standing(&self, key: Key, id: ArchiveId) -> FoundFiles {
        self.unchecked.standing(key, id, self.shelf.get(key).map(|slot| slot.id))
    }

    /// Evicts: `choose` takes archives off the shelf, given which are in use.
    pub(super) fn evict<E>(
        &mut self,
        choose: impl FnOnce(&mut SizedLru, &dyn Fn(ArchiveId) -> bool) -> Result<Vec<(Key, StoredMeta)>, E>,
    ) -> Result<Evicted, E> {
        let Self { shelf, open, .. } = self;
        let victims = choose(shelf, &|id| open.is_read(id))?;
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
    pub(super) fn leave(&mut self, slot: StoredMeta) -> Leaving {
        let open = self.open.remove(slot.id);
        match &open {
            Some(archive) => archive.retire(slot.bytes),
            None => self.shelf.release(slot.bytes),
        }
        open
    }
}
