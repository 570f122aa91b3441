//! The room itself: what is on the shelf, which of it is open, and the files behind both.
//!
//! Everything here blocks, for a lock or for the disk.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::archive::Archive;
use super::chunks::Chunks;
use super::data::Data;
use super::disk::Disk;
use super::draft::Draft;
use super::index::{Index, QUEUE};
use super::layout::Layout;
use super::record::Record;
use super::reserve::Reservation;
use super::shelf::{NoRoom, Shelf, Slot};
use super::shelved::{Evicted, Shelved};
use super::{Error, ReadMode};
use crate::key::{ArchiveId, Key};

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
pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) mode: ReadMode,
    pub(super) limits: Limits,
    pub(super) index: Index,
    pub(super) shelf: Mutex<Shelved>,
    /// Keeps archives open. Never touched under the shelf's lock: what it lets go of takes that lock.
    pub(super) hot: Cache<Key, Arc<Archive>>,
    /// Whoever looks at the files is to stop.
    pub(super) closing: AtomicBool,
    /// Held while the record of a sparse archive is written or goes: one is written many times, by whoever has chunks. Taken
    /// before the shelf's lock.
    pub(super) noting: Mutex<()>,
    pub(super) disk: Arc<Disk>,
}

/// Uses noted at a time, the oldest first: the index takes no more without making someone wait.
const NOTED: usize = QUEUE / 2;

/// Archives from this length on are written down while they arrive, so that a larder that is killed goes on where it was:
/// some seconds of a slow line.
const NOTED_FROM: u64 = 16 << 20;

/// Archives kept open: a descriptor and a mapping each. The least recently used is closed first.
const OPEN: u64 = 1024;

impl Shared {
    /// An empty store, whatever its files hold.
    pub(super) fn new(layout: Layout, mode: ReadMode, limits: Limits, budget: u64, disk: Arc<Disk>) -> Self {
        let (index, shelf) = (Index::new(layout.index()), Mutex::new(Shelved::new(budget)));
        let hot = Cache::builder().max_capacity(OPEN).eviction_policy(EvictionPolicy::lru()).build();
        let closing = AtomicBool::new(false);
        Self { layout, mode, limits, index, shelf, hot, closing, noting: Mutex::default(), disk }
    }

    /// Opens an archive, or finds it open. One that isn't what its record says is dropped; one that can't be read now, for
    /// want of descriptors for example, stays.
    pub(super) fn open(self: &Arc<Self>, key: Key, slot: Slot) -> Option<Arc<Archive>> {
        let open = self.shelf.lock().open.get(&slot.id).and_then(Weak::upgrade);
        if let Some(open) = open {
            self.hot.insert(key, Arc::clone(&open));
            return Some(open);
        }
        let is_sparse = self.shelf.lock().partial.contains(&slot.id);
        let read = if is_sparse { self.read_sparse(key, slot) } else { self.read(key, slot) };
        match read {
            Ok(archive) => {
                let mut shelved = self.shelf.lock();
                let placed = shelved.shelf.find(key).is_some_and(|now| now.id == slot.id);
                let other = shelved.open.get(&slot.id).and_then(Weak::upgrade);
                if placed && other.is_none() {
                    shelved.open.insert(slot.id, Arc::downgrade(&archive));
                }
                drop(shelved);
                let open = other.or_else(|| placed.then_some(archive))?;
                self.hot.insert(key, Arc::clone(&open));
                Some(open)
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

    fn read(self: &Arc<Self>, key: Key, slot: Slot) -> io::Result<Arc<Archive>> {
        let record = fs::read(self.layout.rec(key, slot.id))?;
        let record = Record::decode(&record).map_err(io::Error::other)?;
        let file = File::open(self.layout.zip(key, slot.id))?;
        let same = record.key == key && record.id == slot.id && file.metadata()?.len() == record.length;
        if !same || record.present.is_some() {
            return Err(io::Error::other("the archive's file isn't what its record says"));
        }
        let data = Data::new(file, Some(record.length), self.mode);
        let chunks = Chunks::new(record.length, record.chunks.clone(), false);
        let visitors = Arc::default();
        Ok(Arc::new(Archive::new(record, slot.bytes, Arc::new(data), chunks, visitors, Arc::clone(self))))
    }

    pub(super) fn draft(self: &Arc<Self>, key: Key, length: Option<u64>) -> Result<Draft, Error> {
        let trial = self.disk.trial();
        let fail = |reason| Error::io("begin", reason);
        let id = self.files().new_name().map_err(fail)?;
        let path = match length {
            Some(length) if length >= NOTED_FROM => self.layout.partial_zip(key, id),
            _ => self.layout.incoming_zip(key, id),
        };
        // Before anything is evicted for it: on a disk that takes no file that would be in vain, and can't be undone.
        let file = self.files().create_new(&path).map_err(fail)?;
        let reserved = self.reserve(&file, length).inspect_err(|_| drop(self.files().remove(&path)))?;
        let data = Data::new(file, length, self.mode);
        Ok(Draft::new(key, id, length, data, (path, self.files().clone()), reserved, trial))
    }

    /// Room for a draft's bytes, in the budget and, if it is known how many they are, on the disk.
    fn reserve(self: &Arc<Self>, file: &File, length: Option<u64>) -> Result<Reservation, Error> {
        let reservation = Reservation::take(self, length)?;
        if let Some(length) = length {
            self.files().allocate(file, length).map_err(|reason| Error::io("begin", reason))?;
        }
        Ok(reservation)
    }

    /// Brings a draft and its record to the disk, still out of sight.
    pub(super) fn seal(&self, draft: &Draft, encoded: &[u8]) -> Result<(), Error> {
        let io = |reason| Error::io("sync", reason);
        self.layout.make_shard(draft.key()).map_err(io)?;
        self.files().sync(draft.data().file()).map_err(io)?;
        let path = self.layout.incoming_rec(draft.key(), draft.id());
        let record = self.files().create_new(&path).map_err(io)?;
        let written = self.files().write_at(&record, encoded, 0).and_then(|()| self.files().sync(&record));
        written.map_err(|reason| {
            let _ = self.files().remove(&path);
            io(reason)
        })
    }

    /// Renames the archive, then its record, which is the commit; then it can be found.
    pub(super) fn publish(
        self: &Arc<Self>,
        draft: &Draft,
        record: &Record,
        overhead: u64,
        now: u64,
    ) -> io::Result<(Arc<Archive>, Option<Slot>)> {
        let (key, id) = (draft.key(), draft.id());
        // Whoever looks at the files meanwhile may find half of it.
        self.shelf.lock().unchecked.comes(id);
        if let Err(error) = self.bring_in(draft.path(), key, id) {
            self.shelf.lock().unchecked.came(id);
            return Err(error);
        }
        let bytes = record.length.saturating_add(overhead);
        let (data, visitors) = (Arc::clone(draft.data()), Arc::clone(draft.visitors()));
        let chunks = Chunks::new(record.length, record.chunks.clone(), true);
        let archive = Arc::new(Archive::new(record.clone(), bytes, data, chunks, visitors, Arc::clone(self)));
        let slot = Slot { id, bytes, filled_at: record.filled_at, used_at: now, marks: record.facts.marks() };
        draft.reservation().lock().keep(bytes);
        let mut shelved = self.shelf.lock();
        let replaced = shelved.shelf.place(key, slot);
        shelved.unchecked.handle(key);
        shelved.unchecked.came(id);
        shelved.open.insert(id, Arc::downgrade(&archive));
        let leaving = replaced.and_then(|slot| shelved.leave(slot));
        drop(shelved);
        drop(leaving);
        self.index.put(key, slot);
        Ok((archive, replaced))
    }

    fn bring_in(&self, from: &Path, key: Key, id: ArchiveId) -> io::Result<()> {
        let zip = self.layout.zip(key, id);
        let rec = self.layout.incoming_rec(key, id);
        let files = self.files();
        let renamed = files.rename(from, &zip).and_then(|()| files.rename(&rec, &self.layout.rec(key, id)));
        renamed.inspect_err(|_| {
            // Without its record it is no archive, and nothing counts its bytes any more.
            for path in [&rec, &zip] {
                let _ = files.remove(path);
            }
        })
    }

    /// Writes the right bytes over wrong ones in an archive's file, and sees to it that they stay. Blocks.
    pub(super) fn mend(&self, key: Key, id: ArchiveId, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.files().open(&self.layout.zip(key, id))?;
        self.files().write_at(&file, bytes, at)?;
        self.files().sync(&file)
    }

    pub(super) fn take_out(&self, key: Key, id: Option<ArchiveId>) -> Option<Slot> {
        let mut shelved = self.shelf.lock();
        let slot = shelved.shelf.remove(key, id)?;
        shelved.unchecked.handle(key);
        let leaving = shelved.leave(slot);
        drop(shelved);
        drop(leaving);
        self.let_go(key);
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
        choose: impl FnOnce(&mut Shelf, &dyn Fn(ArchiveId) -> bool) -> Result<Vec<(Key, Slot)>, E>,
    ) -> Result<usize, E> {
        // The lock is let go of before what leaves is dropped.
        let Evicted { victims, leaving } = self.shelf.lock().evict(choose)?;
        drop(leaving);
        let evicted = victims.len();
        for (key, slot) in victims {
            self.let_go(key);
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
        let free = rustix::fs::statvfs(self.layout.archives())
            .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let wanted = bytes.saturating_add(self.limits.min_free);
        free.map_or(0, |free| wanted.saturating_sub(free))
    }

    /// Closes an archive that has left, at once: the cache by itself would wait for its next use.
    pub(super) fn let_go(&self, key: Key) {
        self.hot.invalidate(&key);
        self.hot.run_pending_tasks();
    }

    /// Unlinks an archive's files, record first: without one, an archive is none.
    pub(super) fn unlink(&self, key: Key, slot: Option<Slot>) {
        let is_sparse = slot.is_some_and(|slot| self.shelf.lock().partial.remove(&slot.id));
        if let Some(slot) = slot.filter(|_| is_sparse) {
            return self.remove_partial(key, slot.id);
        }
        for path in
            slot.iter().flat_map(|slot| [self.layout.rec(key, slot.id), self.layout.zip(key, slot.id)])
        {
            if let Err(error) = self.files().remove(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "a file of the store can't be removed");
            }
        }
    }

    pub(super) fn sweep(&self) {
        self.shelf.lock().open.retain(|_, archive| archive.strong_count() > 0);
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
