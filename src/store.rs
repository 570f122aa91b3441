//! Archives on disk, and the ones that are open.
//!
//! Owns the cache directory: files are the truth, an index makes starts fast, open archives are kept in moka. Knows
//! nothing of GitLab, connections or HTTP. Nothing that fails here is an answer to a client: the caller goes without.
//! No byte leaves without a [`Grant`](crate::grant::Grant) that names the archive.

mod archive;
mod data;
mod draft;
mod index;
mod layout;
mod map;
pub mod record;
mod recover;
mod reserve;
pub mod shelf;
mod slices;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};

pub use archive::Archive;
pub use data::SLICE;
pub use draft::{Draft, End, Progress, Rest, Writer, Written};
pub use record::Record;
pub use slices::{Growing, Slices};

use crate::clock::Clock;
use crate::key::{ArchiveId, Key};
use crate::num::to_u64;
use data::Data;
use index::Index;
use layout::Layout;
use reserve::Reservation;
use shelf::{NoRoom, Shelf, Slot};

/// What the operator decides about the store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cache directory, owned by one process.
    pub dir: PathBuf,
    /// Budget for everything in it, bytes.
    pub max_size: u64,
    /// Longest life of an archive since it was filled.
    pub max_age: Duration,
    /// Name of the GitLab instance in keys and paths; derived from the upstream URL if `None`.
    pub instance: Option<String>,
    /// How bytes get from a file to a plain socket.
    pub read: ReadMode,
}

/// How bytes get from a file to a plain socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Slices of a shared mapping: no copy in user space.
    Mapped,
    /// `pread` into buffers: for file systems where a mapping is slow or can vanish (network mounts).
    Pread,
}

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache directory can't be used.
    #[error("cache directory {path}: {source}; choose one that larder may write to (cache.dir)", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("cache directory {path} is in use by another larder; give each its own (cache.dir)", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The budget has no room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The disk refused.
    #[error("can't {doing} an archive: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// More bytes came than were declared.
    #[error("the archive is longer than declared")]
    TooLong,
    /// Fewer bytes came than were declared.
    #[error("the archive is shorter than declared")]
    TooShort,
    /// The record can't be written.
    #[error(transparent)]
    Record(#[from] record::BadRecord),
}

/// Archives kept open: a descriptor and a mapping each. The least recently used is closed first.
const OPEN: u64 = 1024;

/// Sizes for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Archives in the store.
    pub archives: usize,
    /// Bytes taken.
    pub bytes: u64,
    /// Archives evicted since the start.
    pub evicted: u64,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    max_age: u64,
    clock: Clock,
    lock: Mutex<Option<layout::Lock>>,
}

/// What the store and the archives that have left it share.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    mode: ReadMode,
    index: Index,
    shelf: Mutex<Shelved>,
    /// Keeps archives open. Never touched under the shelf's lock: what it lets go of takes that lock.
    hot: Cache<Key, Arc<Archive>>,
    random: SystemRandom,
}

/// The shelf, and which of its archives are open. One lock for both: whether an archive is in use decides whether it
/// may be evicted.
#[derive(Debug)]
struct Shelved {
    shelf: Shelf,
    open: HashMap<ArchiveId, Weak<Archive>>,
    evicted: u64,
}

impl Store {
    /// Opens the store of one GitLab instance: takes the directory, sweeps what was unfinished, adopts what is whole.
    pub fn open(settings: &Settings, instance: &str, clock: Clock) -> Result<Self, Error> {
        let lock = layout::own(&settings.dir)?;
        let fail = |source| Error::Directory { path: settings.dir.clone(), source };
        let layout = Layout::create(&settings.dir, instance).map_err(fail)?;
        let (index, rows) = Index::open(&layout.index());
        let shelf = recover::recover(&layout, &index, &rows, settings.max_size).map_err(fail)?;
        let shelf = Mutex::new(Shelved { shelf, open: HashMap::new(), evicted: 0 });
        let hot = Cache::builder().max_capacity(OPEN).eviction_policy(EvictionPolicy::lru()).build();
        let shared = Shared { layout, mode: settings.read, index, shelf, hot, random: SystemRandom::new() };
        Ok(Self {
            shared: Arc::new(shared),
            max_age: settings.max_age.as_secs(),
            clock,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// The archive under a key, opened if need be.
    pub async fn find(&self, key: Key) -> Option<Arc<Archive>> {
        let now = self.clock.now().unix_seconds();
        let slot = self.shared.touch(key, now)?;
        if now.saturating_sub(slot.filled_at) >= self.max_age {
            self.remove(key, Some(slot.id)).await;
            return None;
        }
        if let Some(archive) =
            self.shared.hot.get(&key).filter(|archive| archive.id() == slot.id && !archive.is_retired())
        {
            return Some(archive);
        }
        let shared = Arc::clone(&self.shared);
        crate::rt::blocking(move || shared.open(key, slot)).await.ok()?
    }

    /// The name of the archive under a key, at a glance.
    pub fn holds(&self, key: Key) -> Option<ArchiveId> {
        self.shared.shelf.lock().shelf.find(key).map(|slot| slot.id)
    }

    /// Makes room for an archive that is about to arrive. Its name is new.
    pub async fn draft(&self, key: Key, length: Option<u64>) -> Result<Arc<Draft>, Error> {
        let shared = Arc::clone(&self.shared);
        let made = crate::rt::blocking(move || shared.draft(key, length)).await;
        made.map_err(|source| Error::Io { doing: "begin", source })?.map(Arc::new)
    }

    /// Puts a whole draft into the store if `still` says that nothing has overtaken it; `still` must call what it is
    /// given, once, or not at all. Returns the archive; `None` if it was overtaken. Blocks.
    pub fn commit(
        &self,
        draft: &Draft,
        record: &Record,
        still: impl FnOnce(&mut dyn FnMut()),
    ) -> Result<Option<Arc<Archive>>, Error> {
        let encoded = record.encode()?;
        self.shared.seal(draft, &encoded)?;
        let now = self.clock.now().unix_seconds();
        let mut placed = None;
        still(&mut || placed = Some(self.shared.publish(draft, record, to_u64(encoded.len()), now)));
        let Some(published) = placed else {
            let _ = fs::remove_file(self.shared.layout.incoming_rec(draft.key(), draft.id()));
            return Ok(None);
        };
        let (archive, replaced) = published.map_err(|source| Error::Io { doing: "store", source })?;
        let directory = self.shared.layout.shard(draft.key());
        sync_directory(&directory).map_err(|source| Error::Io { doing: "sync", source })?;
        self.shared.hot.insert(draft.key(), Arc::clone(&archive));
        self.shared.unlink(draft.key(), replaced);
        Ok(Some(archive))
    }

    /// Takes an archive out of the store: with `id`, only that very one. It is gone from disk when this returns;
    /// those who read it finish.
    pub async fn remove(&self, key: Key, id: Option<ArchiveId>) {
        if let Some(removed) = self.take_out(key, id) {
            self.unlink(key, removed).await;
        }
    }

    /// The part of [`Self::remove`] that nobody may come between: out of sight at once, the files still there.
    pub fn take_out(&self, key: Key, id: Option<ArchiveId>) -> Option<Slot> {
        self.shared.take_out(key, id)
    }

    /// The rest of [`Self::remove`].
    pub async fn unlink(&self, key: Key, slot: Slot) {
        let shared = Arc::clone(&self.shared);
        // A file that can't be unlinked is found, without its record or expired, at the next start.
        let _ = crate::rt::blocking(move || shared.unlink(key, Some(slot))).await;
    }

    /// Sizes for the metrics.
    pub fn totals(&self) -> Totals {
        let shelved = self.shared.shelf.lock();
        Totals { archives: shelved.shelf.len(), bytes: shelved.shelf.taken(), evicted: shelved.evicted }
    }

    /// Closes what nobody uses and notes when archives were used last. To be called every minute or so.
    pub fn sweep(&self) {
        self.shared.hot.run_pending_tasks();
        self.shared.sweep();
    }

    /// Writes down what the next start would otherwise have to find out, and gives the directory back. Blocks.
    pub fn close(&self) {
        self.shared.note_uses();
        self.shared.index.close();
        self.lock.lock().take();
    }
}

impl Drop for Store {
    /// Open archives refer to what they share, which refers to them.
    fn drop(&mut self) {
        self.shared.hot.invalidate_all();
        self.shared.hot.run_pending_tasks();
    }
}

impl Shared {
    fn touch(&self, key: Key, now: u64) -> Option<Slot> {
        let mut shelved = self.shelf.lock();
        let slot = shelved.shelf.find(key)?;
        shelved.shelf.touch(key, now);
        Some(slot)
    }

    /// Opens an archive, or finds it open. One that isn't what its record says is dropped.
    fn open(self: &Arc<Self>, key: Key, slot: Slot) -> Option<Arc<Archive>> {
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
                tracing::warn!(job = key.job().get(), %error, "an archive in the store can't be used and is dropped");
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
        let visitors = Arc::default();
        Ok(Arc::new(Archive::new(record, slot.bytes, Arc::new(data), visitors, Arc::clone(self))))
    }

    fn draft(self: &Arc<Self>, key: Key, length: Option<u64>) -> Result<Draft, Error> {
        let reservation = Reservation::take(self, length)?;
        let fail = |source| Error::Io { doing: "begin", source };
        let mut name = [0; 8];
        self.random.fill(&mut name).map_err(|_| fail(io::Error::other("no random bytes")))?;
        let id = ArchiveId::new(u64::from_ne_bytes(name));
        let path = self.layout.incoming_zip(key, id);
        let file = File::options().create_new(true).read(true).write(true).open(&path).map_err(fail)?;
        if let Some(length) = length {
            allocate(&file, length).map_err(|source| {
                let _ = fs::remove_file(&path);
                fail(source)
            })?;
        }
        let data = Data::new(file, length, self.mode);
        Ok(Draft::new(key, id, length, data, path, reservation))
    }

    /// Brings a draft and its record to the disk, still out of sight.
    fn seal(&self, draft: &Draft, encoded: &[u8]) -> Result<(), Error> {
        let io = |source| Error::Io { doing: "sync", source };
        draft.data().file().sync_all().map_err(io)?;
        let path = self.layout.incoming_rec(draft.key(), draft.id());
        let record = File::create_new(&path).map_err(io)?;
        io::Write::write_all(&mut &record, encoded).and_then(|()| record.sync_all()).map_err(|source| {
            let _ = fs::remove_file(&path);
            io(source)
        })
    }

    /// Renames the archive, then its record, which is the commit; then it can be found.
    fn publish(
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
        let archive = Arc::new(Archive::new(record.clone(), bytes, data, visitors, Arc::clone(self)));
        let slot = Slot { id, bytes, filled_at: record.filled_at, used_at: now };
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

    fn take_out(&self, key: Key, id: Option<ArchiveId>) -> Option<Slot> {
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
    fn make_room(&self, bytes: u64) -> Result<(), Error> {
        let mut shelved = self.shelf.lock();
        let Shelved { shelf, open, .. } = &mut *shelved;
        let in_use =
            |id| open.get(&id).is_some_and(|archive: &Weak<Archive>| archive.strong_count() > HELD_BY_US);
        let victims = shelf.reserve(bytes, in_use)?;
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

    /// Closes an archive that has left, at once: the cache by itself would wait for its next use.
    fn let_go(&self, key: Key) {
        self.hot.invalidate(&key);
        self.hot.run_pending_tasks();
    }

    /// Unlinks an archive's files, record first: without one, an archive is none.
    fn unlink(&self, key: Key, slot: Option<Slot>) {
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

    fn sweep(&self) {
        self.shelf.lock().open.retain(|_, archive| archive.strong_count() > 0);
        self.note_uses();
    }

    /// Notes when archives were used, for those whose place in the order may have changed.
    fn note_uses(&self) {
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

fn sync_directory(path: &std::path::Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
