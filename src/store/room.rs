//! The room itself: what is on the shelf, which of it is open, and the files behind both.
//!
//! Everything here blocks, for a lock or for the disk.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};

use super::archive::Archive;
use super::chunks::Chunks;
use super::data::Data;
use super::draft::Draft;
use super::index::Index;
use super::layout::Layout;
use super::record::Record;
use super::reserve::Reservation;
use super::shelf::{NoRoom, Shelf, Slot};
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
    pub(super) random: SystemRandom,
}

/// The shelf, and which of its archives are open. One lock for both: whether an archive is in use decides whether it
/// may be evicted.
#[derive(Debug)]
pub(super) struct Shelved {
    pub(super) shelf: Shelf,
    pub(super) open: HashMap<ArchiveId, Weak<Archive>>,
    pub(super) evicted: u64,
}
/// Archives kept open: a descriptor and a mapping each. The least recently used is closed first.
const OPEN: u64 = 1024;

impl Shared {
    /// What a start has found.
    pub(super) fn new(layout: Layout, mode: ReadMode, limits: Limits, index: Index, shelf: Shelf) -> Self {
        let shelf = Mutex::new(Shelved { shelf, open: HashMap::new(), evicted: 0 });
        let hot = Cache::builder().max_capacity(OPEN).eviction_policy(EvictionPolicy::lru()).build();
        Self { layout, mode, limits, index, shelf, hot, random: SystemRandom::new() }
    }

    /// Where a key's archive is, used now.
    pub(super) fn touch(&self, key: Key, now: u64) -> Option<(Key, Slot)> {
        let mut shelved = self.shelf.lock();
        let holder = shelved.shelf.holder(key)?;
        let slot = shelved.shelf.find(holder)?;
        shelved.shelf.touch(holder, now);
        Some((holder, slot))
    }

    /// Opens an archive, or finds it open. One that isn't what its record says is dropped.
    pub(super) fn open(self: &Arc<Self>, key: Key, slot: Slot) -> Option<Arc<Archive>> {
        let open = self.shelf.lock().open.get(&slot.id).and_then(Weak::upgrade);
        if let Some(open) = open {
            self.hot.insert(key, Arc::clone(&open));
            return Some(open);
        }
        match self.read(key, slot) {
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
            Err(error) => {
                tracing::warn!(%key, %error, "an archive in the store can't be used and is dropped");
                let removed = self.take_out(key, Some(slot.id));
                self.unlink(key, removed);
                None
            }
        }
    }

    fn read(self: &Arc<Self>, key: Key, slot: Slot) -> io::Result<Arc<Archive>> {
        let record = fs::read(self.layout.rec(key, slot.id))?;
        let record = Record::decode(&record).map_err(io::Error::other)?;
        let file = File::open(self.layout.zip(key, slot.id))?;
        let same = record.key == key && record.id == slot.id && file.metadata()?.len() == record.length;
        if !same {
            return Err(io::Error::other("the archive's file isn't what its record says"));
        }
        let data = Data::new(file, Some(record.length), self.mode);
        let (chunks, visitors) = (Chunks::new(record.length, false), Arc::default());
        Ok(Arc::new(Archive::new(record, slot.bytes, Arc::new(data), chunks, visitors, Arc::clone(self))))
    }

    pub(super) fn draft(self: &Arc<Self>, key: Key, length: Option<u64>) -> Result<Draft, Error> {
        let reservation = Reservation::take(self, length)?;
        let fail = |reason| Error::Io { doing: "begin", reason };
        let mut name = [0; 8];
        self.random.fill(&mut name).map_err(|_| fail(io::Error::other("no random bytes")))?;
        let id = ArchiveId::new(u64::from_ne_bytes(name));
        let path = self.layout.incoming_zip(key, id);
        let file = File::options().create_new(true).read(true).write(true).open(&path).map_err(fail)?;
        if let Some(length) = length {
            allocate(&file, length).map_err(|reason| {
                let _ = fs::remove_file(&path);
                fail(reason)
            })?;
        }
        let data = Data::new(file, length, self.mode);
        Ok(Draft::new(key, id, length, data, path, reservation))
    }

    /// Brings a draft and its record to the disk, still out of sight.
    pub(super) fn seal(&self, draft: &Draft, encoded: &[u8]) -> Result<(), Error> {
        let io = |reason| Error::Io { doing: "sync", reason };
        self.layout.make_shard(draft.key()).map_err(io)?;
        draft.data().file().sync_all().map_err(io)?;
        let path = self.layout.incoming_rec(draft.key(), draft.id());
        let record = File::create_new(&path).map_err(io)?;
        io::Write::write_all(&mut &record, encoded).and_then(|()| record.sync_all()).map_err(|reason| {
            let _ = fs::remove_file(&path);
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
        fs::rename(self.layout.incoming_zip(key, id), self.layout.zip(key, id))?;
        fs::rename(self.layout.incoming_rec(key, id), self.layout.rec(key, id))?;
        let bytes = record.length.saturating_add(overhead);
        let (data, visitors) = (Arc::clone(draft.data()), Arc::clone(draft.visitors()));
        let chunks = Chunks::new(record.length, true);
        let archive = Arc::new(Archive::new(record.clone(), bytes, data, chunks, visitors, Arc::clone(self)));
        let slot = Slot { id, bytes, filled_at: record.filled_at, used_at: now, marks: record.facts.marks() };
        draft.reservation().lock().keep(bytes);
        let mut shelved = self.shelf.lock();
        let replaced = shelved.shelf.place(key, slot);
        shelved.open.insert(id, Arc::downgrade(&archive));
        let leaving = replaced.and_then(|slot| shelved.leave(slot));
        drop(shelved);
        drop(leaving);
        self.index.put(key, slot);
        Ok((archive, replaced))
    }

    /// Writes the right bytes over wrong ones in an archive's file, and sees to it that they stay. Blocks.
    pub(super) fn mend(&self, key: Key, id: ArchiveId, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = File::options().write(true).open(self.layout.zip(key, id))?;
        file.write_all_at(bytes, at)?;
        file.sync_data()
    }

    pub(super) fn take_out(&self, key: Key, id: Option<ArchiveId>) -> Option<Slot> {
        let mut shelved = self.shelf.lock();
        let slot = shelved.shelf.remove(key, id)?;
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
        let mut shelved = self.shelf.lock();
        let Shelved { shelf, open, .. } = &mut *shelved;
        let in_use =
            |id| open.get(&id).is_some_and(|archive: &Weak<Archive>| archive.strong_count() > HELD_BY_US);
        let victims = shelf.reserve(bytes, short, in_use)?;
        let mut leaving = Vec::with_capacity(victims.len());
        for (_, slot) in &victims {
            leaving.push(shelved.leave(*slot));
            shelved.evicted += 1;
        }
        drop(shelved);
        drop(leaving);
        for (key, slot) in victims {
            self.let_go(key);
            self.index.remove(key);
            self.unlink(key, Some(slot));
        }
        Ok(())
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
    fn let_go(&self, key: Key) {
        self.hot.invalidate(&key);
        self.hot.run_pending_tasks();
    }

    /// Unlinks an archive's files, record first: without one, an archive is none.
    pub(super) fn unlink(&self, key: Key, slot: Option<Slot>) {
        for path in
            slot.iter().flat_map(|slot| [self.layout.rec(key, slot.id), self.layout.zip(key, slot.id)])
        {
            if let Err(error) = fs::remove_file(&path)
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
        let slots: Vec<_> = self.shelf.lock().shelf.drain_touched();
        for (key, slot) in slots {
            self.index.put(key, slot);
        }
    }
}

/// References to an open archive that aren't a reader's: moka's, for a moment two.
const HELD_BY_US: usize = 1;

impl Shelved {
    /// An archive has left the shelf: its bytes are free at once, or when its last reader leaves. Returns what must be
    /// dropped after the lock.
    fn leave(&mut self, slot: Slot) -> Option<Arc<Archive>> {
        let open = self.open.remove(&slot.id).and_then(|archive| archive.upgrade());
        match &open {
            Some(archive) => archive.retire(),
            None => self.shelf.release(slot.bytes),
        }
        open
    }
}

/// Takes the blocks now: a disk that is full says so before the first byte.
fn allocate(file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(length),
        Err(error) => Err(error.into()),
    }
}
