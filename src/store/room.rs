//! The room itself: what is on the shelf, which of it is open, and the files behind both.
//!
//! Everything here blocks, for a lock or for the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::disk::files::Files;
use super::disk::layout::Layout;
use super::disk::trial::Disk;
use super::error::NoRoom;
use super::index::{Index, QUEUE};
use super::lru::account::Account;
use super::lru::{SizedLru, StoredMeta};
use super::object::{Archive, Life, ReadGate};
use super::record::Record;
use super::state::{Evicted, StoreState};
use super::{Error, ReadMode};
use crate::base::key::{ArchiveId, Key};
use crate::base::num::to_u64;

/// What the operator decides about single archives and the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_object: Option<u64>,
    pub(super) min_free: u64,
}

impl Limits {
    /// Whether an archive may be as long as this.
    pub(super) fn admit(&self, wanted: u64) -> Result<(), NoRoom> {
        match self.max_object {
            Some(longest) if wanted > longest => Err(NoRoom::Object { wanted, longest }),
            _ => Ok(()),
        }
    }
}

/// What the store and the archives that have left it share.
#[derive(Debug)]
pub(super) struct StoreInner {
    pub(super) layout: Layout,
    pub(super) mode: ReadMode,
    pub(super) limits: Limits,
    /// Bytes that the archives may take.
    pub(super) budget: u64,
    pub(super) index: Index,
    pub(super) shelf: Mutex<StoreState>,
    /// Whoever looks at the files is to stop.
    pub(super) closing: AtomicBool,
    pub(super) gate: Arc<ReadGate>,
    pub(super) account: Arc<Account>,
    /// Held while the record of a sparse archive is written or goes: one is written many times, by whoever has chunks. Taken
    /// before the shelf's lock.
    pub(super) noting: Mutex<()>,
    pub(super) disk: Arc<Disk>,
}

/// Uses noted at a time, the oldest first: the index takes no more without making someone wait.
const NOTED: usize = QUEUE / 2;

/// Bytes that a new name may take of the disk: a block of a directory, one of the file's own data.
pub(super) const NAME: u64 = 8 << 10;

impl StoreInner {
    /// An empty store, whatever its files hold.
    pub(super) fn new(layout: Layout, mode: ReadMode, limits: Limits, budget: u64, disk: Arc<Disk>) -> Self {
        let account = Arc::<Account>::default();
        let index = Index::new(layout.reach().clone(), layout.index());
        let shelf = Mutex::new(StoreState::new(budget, Arc::clone(&account)));
        Self {
            layout,
            mode,
            limits,
            budget,
            index,
            shelf,
            closing: AtomicBool::new(false),
            gate: Arc::default(),
            account,
            noting: Mutex::default(),
            disk,
        }
    }

    /// The name of the archive under a key.
    pub(super) fn holds(&self, key: Key) -> Option<ArchiveId> {
        let shelved = self.shelf.lock();
        let holder = shelved.shelf.holder(key)?;
        shelved.shelf.get(holder).map(|slot| slot.id)
    }

    /// Opens an archive, or finds it open. One that isn't what its record says is dropped; one that can't be read now, for
    /// want of descriptors for example, stays.
    pub(super) fn open(&self, key: Key, slot: StoredMeta) -> Option<Arc<Archive>> {
        let mut shelved = self.shelf.lock();
        let (open, is_sparse) = (shelved.open.get(slot.id), shelved.partial.contains(&slot.id));
        drop(shelved);
        if open.is_some() {
            return open;
        }
        let read = if is_sparse { self.read_partial(key, slot) } else { self.read(key, slot) };
        match read {
            Ok(archive) => {
                let mut shelved = self.shelf.lock();
                let placed = shelved.shelf.get(key).is_some_and(|now| now.id == slot.id);
                let other = shelved.open.get(slot.id);
                let leaving = if placed && other.is_none() { shelved.open.keep(&archive) } else { None };
                drop(shelved);
                drop(leaving);
                other.or_else(|| placed.then_some(archive))
            }
            Err(error) if error.raw_os_error().is_some() && error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%key, %error, "an archive in the store can't be used now");
                None
            }
            Err(error) => {
                tracing::warn!(%key, %error, "an archive in the store can't be used and is dropped");
                self.forget(key, slot);
                None
            }
        }
    }

    fn read(&self, key: Key, slot: StoredMeta) -> io::Result<Arc<Archive>> {
        let record = self.layout.reach().read(&self.layout.rec(key, slot.id))?;
        let record = Record::decode(&record).map_err(io::Error::other)?;
        let file = self.layout.reach().file(&self.layout.zip(key, slot.id))?;
        let same = record.key == key && record.id == slot.id && file.metadata()?.len() == record.length;
        if !same || record.present.is_some() {
            return Err(io::Error::other("the archive's file isn't what its record says"));
        }
        let length = Some(record.length);
        Ok(Arc::new(self.made(record, file, length, Life::of_whole())))
    }

    /// Puts a chunk that was fetched again in the place of one that was unsound, if it is the right one. Until it is
    /// there its bit isn't set, so that nobody is handed half of it. Blocks.
    pub(super) fn repair(&self, archive: &Archive, chunk: u64, bytes: &[u8]) -> io::Result<bool> {
        if !archive.is_chunk(chunk, bytes) {
            return Ok(false);
        }
        let (at, length) = (archive.chunks().bytes(chunk).start, to_u64(bytes.len()));
        if archive.is_whole() {
            // Its own descriptor can't write.
            let file = self.files().open(&self.layout.zip(archive.key(), archive.id()))?;
            self.fitting(length, || self.files().write_at(&file, bytes, at))?;
            self.files().sync(&file)?;
        } else {
            self.fitting(length, || self.files().write_at(archive.data().file(), bytes, at))?;
        }
        archive.sound(chunk).map(|_| true).map_err(io::Error::other)
    }

    /// The way to change what is on the disk.
    pub(super) fn files(&self) -> &Arc<dyn Files> {
        &self.layout.files
    }

    pub(super) fn take_out(&self, key: Key, id: Option<ArchiveId>) -> Option<StoredMeta> {
        let mut shelved = self.shelf.lock();
        let slot = shelved.shelf.remove(key, id)?;
        shelved.unchecked.handle(key);
        let leaving = shelved.leave(slot);
        drop(shelved);
        drop(leaving);
        self.index.remove(key);
        Some(slot)
    }

    /// Takes `bytes` of the budget, evicting what has to go. Blocks.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), Error> {
        let short = self.short_of(bytes);
        self.evict(|shelf, in_use| shelf.reserve(bytes, short, in_use))?;
        Ok(())
    }

    /// Evicts what `choose` takes off the shelf, given which archives are in use. Returns how many that were. Blocks.
    pub(super) fn evict<E>(
        &self,
        choose: impl FnOnce(&mut SizedLru, &dyn Fn(ArchiveId) -> bool) -> Result<Vec<(Key, StoredMeta)>, E>,
    ) -> Result<usize, E> {
        // The lock is let go of before what leaves is dropped.
        let Evicted { victims, leaving } = self.shelf.lock().evict(choose)?;
        drop(leaving);
        let evicted = victims.len();
        for (key, slot) in victims {
            self.index.remove(key);
            self.unlink(key, Some(slot));
        }
        Ok(evicted)
    }

    /// Bytes that must go before `bytes` more leave the file system what must stay free. One that doesn't say how much
    /// that is has enough: a full disk says so when it is written to.
    fn short_of(&self, bytes: u64) -> u64 {
        if self.limits.min_free == 0 {
            return 0;
        }
        let wanted = bytes.saturating_add(self.limits.min_free);
        self.disk_free().map_or(0, |free| wanted.saturating_sub(free))
    }

    /// Bytes that the file system has left for us.
    pub(super) fn disk_free(&self) -> io::Result<u64> {
        let disk = self.layout.reach().free(&self.layout.archives())?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Unlinks an archive's files, record first: without one, an archive is none.
    pub(super) fn unlink(&self, key: Key, slot: Option<StoredMeta>) {
        let is_sparse = slot.is_some_and(|slot| self.shelf.lock().partial.remove(&slot.id));
        if let Some(slot) = slot.filter(|_| is_sparse) {
            return self.remove_partial(key, slot.id);
        }
        if let Some(slot) = slot {
            self.remove_files(key, slot.id);
        }
    }

    pub(super) fn remove_files(&self, key: Key, id: ArchiveId) {
        for path in [self.layout.rec(key, id), self.layout.zip(key, id)] {
            if let Err(error) = self.files().remove(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "a file of the store can't be removed");
            }
        }
    }

    pub(super) fn sweep(&self) {
        self.shelf.lock().open.sweep();
        self.note_uses();
    }

    /// Notes when archives were used, for those whose place in the order may have changed.
    pub(super) fn note_uses(&self) {
        let mut shelved = self.shelf.lock();
        let mut slots = shelved.shelf.drain_touched(NOTED);
        // The index speaks of whole archives alone.
        slots.retain(|(_, slot)| !shelved.partial.contains(&slot.id));
        drop(shelved);
        for (key, slot) in slots {
            self.index.put(key, slot);
        }
    }
}
