//! Archives on disk, and the ones that are open.
//!
//! Owns the cache directory: files are the truth, an index makes starts fast, open archives are kept in moka. Knows
//! nothing of GitLab, connections or HTTP. Nothing that fails here is an answer to a client: the caller goes without.
//! No byte leaves without a [`Grant`](crate::grant::Grant) that names the archive.

mod also;
mod archive;
mod chunks;
mod data;
mod draft;
mod index;
mod layout;
mod map;
mod mapped;
pub mod record;
mod recover;
mod reserve;
mod room;
pub mod shelf;
mod slices;
pub mod verify;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use archive::{Archive, Unsound};
pub use data::SLICE;
pub use draft::{Draft, End, Progress, Rest, Writer, Written};
pub use mapped::{Mapped, Part};
pub use record::Record;
pub use slices::{Growing, Slices};

use crate::clock::Clock;
use crate::grant::Facts;
use crate::key::{ArchiveId, Key};
use crate::num::to_u64;
use index::Index;
use layout::Layout;
use room::{Limits, Shared};
use shelf::{NoRoom, Slot};

/// What the operator decides about the store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cache directory, owned by one process.
    pub dir: PathBuf,
    /// Budget for everything in it, bytes.
    pub max_size: u64,
    /// Longest archive that is stored, bytes; `None`: any that fits the budget.
    pub max_object: Option<u64>,
    /// Bytes of the file system that stay free.
    pub min_free: u64,
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
    #[error("cache directory {path}: {reason}; choose one that larder may write to (cache.dir)", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: io::Error,
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
    #[error("can't {doing} an archive: {reason}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        reason: io::Error,
    },
    /// More bytes came than were declared.
    #[error("the archive is longer than declared")]
    TooLong,
    /// Fewer bytes came than were declared.
    #[error("the archive is shorter than declared")]
    TooShort,
    /// The bytes aren't those whose digest GitLab gave.
    #[error("the archive's SHA-256 isn't the one that GitLab gave")]
    OtherDigest,
    /// Bytes that came again aren't those that came before.
    #[error("the archive has changed while it came")]
    OtherBytes,
    /// The record can't be written.
    #[error(transparent)]
    Record(#[from] record::BadRecord),
}

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

/// An archive that is out of sight and whose files are still there.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Taken {
    key: Key,
    slot: Slot,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    max_age: u64,
    clock: Clock,
    lock: Mutex<Option<layout::Lock>>,
}
impl Store {
    /// Opens the store of one GitLab instance: takes the directory, sweeps what was unfinished, adopts what is whole.
    pub fn open(settings: &Settings, instance: &str, clock: Clock) -> Result<Self, Error> {
        let lock = layout::own(&settings.dir)?;
        let fail = |reason| Error::Directory { path: settings.dir.clone(), reason };
        let layout = Layout::create(&settings.dir, instance).map_err(fail)?;
        let (index, rows) = Index::open(&layout.index());
        let shelf = recover::recover(&layout, &index, &rows, settings.max_size).map_err(fail)?;
        let limits = Limits { max_object: settings.max_object, min_free: settings.min_free };
        let shared = Arc::new(Shared::new(layout, settings.read, limits, index, shelf));
        Ok(Self { shared, max_age: settings.max_age.as_secs(), clock, lock: Mutex::new(Some(lock)) })
    }

    /// The archive under a key, opened if need be.
    pub async fn find(&self, key: Key) -> Option<Arc<Archive>> {
        let now = self.clock.now().unix_seconds();
        let (key, slot) = self.shared.touch(key, now)?;
        if now.saturating_sub(slot.filled_at) >= self.max_age {
            Box::pin(self.remove(key, Some(slot.id))).await;
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
        let shelved = self.shared.shelf.lock();
        let holder = shelved.shelf.holder(key)?;
        shelved.shelf.find(holder).map(|slot| slot.id)
    }

    /// Whether another key's archive is proven to be the one GitLab speaks of; if so, it is found under `key` as well
    /// from now on. `known`: one that GitLab was just found not to have there.
    pub async fn join(&self, key: Key, seen: &Facts, known: Option<ArchiveId>) -> bool {
        let holder = self.shared.shelf.lock().shelf.marked(seen.sought());
        let Some(holder) = holder.filter(|holder| *holder != key) else {
            return false;
        };
        match self.find(holder).await {
            Some(archive) if archive.facts().proves(seen) && Some(archive.id()) != known => {
                self.shared.shelf.lock().shelf.join(key, archive.key(), archive.id());
                true
            }
            _ => false,
        }
    }

    /// Makes room for an archive that is about to arrive. Its name is new.
    pub async fn draft(&self, key: Key, length: Option<u64>) -> Result<Arc<Draft>, Error> {
        let shared = Arc::clone(&self.shared);
        let made = crate::rt::blocking(move || shared.draft(key, length)).await;
        made.map_err(|reason| Error::Io { doing: "begin", reason })?.map(Arc::new)
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
        let (archive, replaced) = published.map_err(|reason| Error::Io { doing: "store", reason })?;
        let directory = self.shared.layout.shard(draft.key());
        layout::sync_directory(&directory).map_err(|reason| Error::Io { doing: "sync", reason })?;
        self.shared.hot.insert(draft.key(), Arc::clone(&archive));
        self.shared.unlink(draft.key(), replaced);
        Ok(Some(archive))
    }

    /// Takes an archive out of the store: with `id`, only that very one. It is gone from disk when this returns;
    /// those who read it finish.
    pub async fn remove(&self, key: Key, id: Option<ArchiveId>) {
        if let Some(taken) = self.take_out(key, id) {
            self.unlink(taken).await;
        }
    }

    /// The part of [`Self::remove`] that nobody may come between: out of sight at once, the files still there. A job's
    /// archive goes under whichever key it is stored; a ref that no longer leads to an archive takes nobody else's
    /// along.
    pub fn take_out(&self, key: Key, id: Option<ArchiveId>) -> Option<Taken> {
        let holder = self.shared.shelf.lock().shelf.part(key);
        let own = holder.is_none_or(|holder| holder == key) || key.job().is_some();
        let key = holder.filter(|_| own).unwrap_or(key);
        self.shared.take_out(key, id).map(|slot| Taken { key, slot })
    }

    /// The rest of [`Self::remove`].
    pub async fn unlink(&self, taken: Taken) {
        let shared = Arc::clone(&self.shared);
        // A file that can't be unlinked is found, without its record or expired, at the next start.
        let _ = crate::rt::blocking(move || shared.unlink(taken.key, Some(taken.slot))).await;
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
#[cfg(test)]
mod tests;
