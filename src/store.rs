//! Archives on disk, and the ones that are open.
//!
//! Owns the cache directory: files are the truth, an index makes starts fast, open archives are kept in moka. Knows
//! nothing of GitLab, connections or HTTP. Nothing that fails here is an answer to a client: the caller goes without.
//! No byte leaves without a [`Grant`](crate::grant::Grant) that names the archive.

mod also;
mod archive;
mod chunks;
mod claim;
mod data;
mod disk;
mod draft;
mod error;
mod files;
mod gaps;
mod index;
mod layout;
mod lock;
mod map;
mod mapped;
mod parts;
mod presence;
pub mod record;
mod recover;
mod reserve;
mod room;
pub mod scrub;
pub mod shelf;
mod shelved;
mod slices;
mod slots;
mod sparse;
mod tally;
mod unchecked;
pub mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use archive::{Absent, Archive, Unsound};
pub use claim::Claim;
pub use data::SLICE;
pub use draft::{Draft, End, Progress, Rest, Writer, Written};
pub use error::Error;
pub use gaps::Have;
pub use mapped::{Mapped, Part};
pub use presence::Presence;
pub use record::Record;
pub use scrub::{Scrub, Share};
pub use slices::{Growing, Slices};

use crate::clock::Clock;
use crate::grant::Facts;
use crate::key::{ArchiveId, Key};
use crate::num::to_u64;
use disk::Disk;
use files::{Files, Plain};
use layout::Layout;
use lock::Lock;
use recover::Pass;
use room::{Limits, Shared};
use shelf::Slot;
use shelved::Look;

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
    /// Share of the time in which archives are read again and compared.
    pub scrub: Share,
}

/// How bytes get from a file to a plain socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Slices of a shared mapping: no copy in user space.
    Mapped,
    /// `pread` into buffers: for file systems where a mapping is slow or can vanish (network mounts).
    Pread,
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
    /// Shards, of 256, whose files haven't been looked at since the start: what lies there may not be counted yet.
    pub unchecked: u16,
    /// Whether the disk took the last archive that was tried.
    pub writable: bool,
}

/// Archives that are out of sight and whose files are still there.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Taken {
    key: Key,
    slot: Option<Slot>,
    /// A key whose files haven't been looked at.
    unchecked: Option<Key>,
}

/// Look-ups that list a shard at once; the others wait. Each is some milliseconds of a processor.
const SEEKING: usize = 4;

/// Times that a look-up looks again, where what it found turned out to be gone.
const LOOKS: usize = 4;

/// The store.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    max_age: u64,
    clock: Clock,
    lock: Mutex<Option<Lock>>,
    pass: Mutex<Pass>,
    seeking: Semaphore,
}
impl Store {
    /// Opens the store of one GitLab instance: takes the directory and sweeps what was unfinished. What else lies there is
    /// found while it is in use, by [`Self::check_some`] and by whoever asks for it.
    pub fn open(settings: &Settings, instance: &str, clock: Clock) -> Result<Self, Error> {
        Self::open_by(Arc::new(Plain), settings, instance, clock)
    }

    fn open_by(
        files: Arc<dyn Files>,
        settings: &Settings,
        instance: &str,
        clock: Clock,
    ) -> Result<Self, Error> {
        let lock = lock::own(&settings.dir)?;
        let fail = |reason| Error::Directory { path: settings.dir.clone(), reason };
        let layout = Layout::create(&settings.dir, instance, files).map_err(fail)?;
        recover::sweep_incoming(&layout).map_err(fail)?;
        let limits = Limits { max_object: settings.max_object, min_free: settings.min_free };
        let disk = Arc::new(Disk::new(clock.clone()));
        let shared = Arc::new(Shared::new(layout, settings.read, limits, settings.max_size, disk));
        shared.adopt_partial().map_err(fail)?;
        Ok(Self {
            shared,
            max_age: settings.max_age.as_secs(),
            clock,
            lock: Mutex::new(Some(lock)),
            pass: Mutex::default(),
            seeking: Semaphore::new(SEEKING),
        })
    }

    /// Goes a step through what the last larder left: first reads the index, then looks at the files. `false` when there
    /// is no more to do. Blocks: some milliseconds a step, but for the first, where a million rows take a second.
    pub fn check_some(&self) -> bool {
        self.pass.lock().step(&self.shared)
    }

    /// [Checks](Self::check_some) all in the background. Ends when the store is closed or nobody refers to it any more.
    pub fn check_all(self: &Arc<Self>) {
        let store = Arc::downgrade(self);
        drop(crate::rt::spawn_blocking(move || {
            while store.upgrade().is_some_and(|store| store.check_some()) {
                // Whoever waits for a core to answer a client comes first.
                std::thread::yield_now();
            }
        }));
    }

    /// The archive under a key, opened if need be.
    pub async fn find(&self, key: Key) -> Option<Arc<Archive>> {
        let now = self.clock.now().unix_seconds();
        for _ in 0..LOOKS {
            let look = self.shared.shelf.lock().look(key, now);
            match look {
                Look::Absent => return None,
                Look::Unchecked if !self.seek(key).await => return None,
                Look::Unchecked => {}
                Look::Held(key, slot) if now.saturating_sub(slot.filled_at) >= self.max_age => {
                    Box::pin(self.remove(key, Some(slot.id))).await;
                    return None;
                }
                Look::Held(key, slot) => {
                    if let Some(archive) = self.open_up(key, slot).await {
                        return Some(archive);
                    }
                }
            }
        }
        None
    }

    async fn open_up(&self, key: Key, slot: Slot) -> Option<Arc<Archive>> {
        let is_it = |archive: &Arc<Archive>| archive.id() == slot.id && !archive.is_retired();
        if let Some(archive) = self.shared.hot.get(&key).filter(is_it) {
            return Some(archive);
        }
        let shared = Arc::clone(&self.shared);
        crate::rt::blocking(move || shared.open(key, slot)).await.ok()?
    }

    /// Looks among the files that haven't been looked at; whether there is something now.
    async fn seek(&self, key: Key) -> bool {
        // The semaphore is never closed.
        let _turn = self.seeking.acquire().await;
        // Of those who ask for one archive at once, the first has found it for all.
        if self.holds(key).is_some() {
            return true;
        }
        let shared = Arc::clone(&self.shared);
        // One that dies has found nothing.
        let _ = crate::rt::blocking(move || shared.seek(key)).await;
        self.holds(key).is_some()
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

    /// Whether an archive that would have to be fetched may be brought to the disk now. While that refuses, one every
    /// few seconds may be: whoever gets a yes should go on to [`Self::draft`].
    pub fn may_try(&self) -> bool {
        self.shared.disk.may_try()
    }

    /// Makes room for an archive that is about to arrive. Its name is new.
    pub async fn draft(&self, key: Key, length: Option<u64>) -> Result<Arc<Draft>, Error> {
        let shared = Arc::clone(&self.shared);
        let made = crate::rt::blocking(move || shared.draft(key, length)).await;
        let made = made.map_err(|reason| Error::io("begin", reason)).flatten();
        made.map(Arc::new).inspect_err(|error| self.shared.disk.failed(error))
    }

    /// Puts a whole draft into the store if `still` says that nothing has overtaken it; `still` must call what it is
    /// given, once, or not at all. Returns the archive; `None` if it was overtaken. Blocks.
    pub fn commit(
        &self,
        draft: &Draft,
        record: &Record,
        still: impl FnOnce(&mut dyn FnMut()),
    ) -> Result<Option<Arc<Archive>>, Error> {
        self.bring(draft, record, still).map_err(|error| draft.trial().failed(error))
    }

    fn bring(
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
            let layout = &self.shared.layout;
            let _ = layout.files.remove(&layout.incoming_rec(draft.key(), draft.id()));
            return Ok(None);
        };
        let (archive, replaced) = published.map_err(|reason| Error::io("store", reason))?;
        self.shared.hot.insert(draft.key(), Arc::clone(&archive));
        self.shared.unlink(draft.key(), replaced);
        // It can be found already. Whether its names outlive a crash is the disk's affair: then a start doesn't find it.
        match self.shared.layout.sync_shard(draft.key()) {
            Ok(()) => draft.trial().succeeded(),
            Err(reason) => drop(draft.trial().failed(Error::io("sync", reason))),
        }
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
        let mut shelved = self.shared.shelf.lock();
        let holder = shelved.shelf.part(key);
        // What its files hold isn't known yet, and is void.
        let unchecked = (id.is_none() && shelved.unchecked.awaits(key)).then_some(key);
        if unchecked.is_some() {
            shelved.unchecked.handle(key);
        }
        drop(shelved);
        let own = holder.is_none_or(|holder| holder == key) || key.job().is_some();
        let key = holder.filter(|_| own).unwrap_or(key);
        let slot = self.shared.take_out(key, id);
        (slot.is_some() || unchecked.is_some()).then_some(Taken { key, slot, unchecked })
    }

    /// The rest of [`Self::remove`].
    pub async fn unlink(&self, taken: Taken) {
        let shared = Arc::clone(&self.shared);
        let remove = move || {
            shared.unlink(taken.key, taken.slot);
            taken.unchecked.into_iter().for_each(|key| shared.clear(key));
        };
        // A file that can't be unlinked is found, without its record or expired, at the next start.
        let _ = crate::rt::blocking(remove).await;
    }

    /// Sizes for the metrics.
    pub fn totals(&self) -> Totals {
        let shelved = self.shared.shelf.lock();
        Totals {
            archives: shelved.shelf.len(),
            bytes: shelved.shelf.taken(),
            evicted: shelved.evicted,
            unchecked: shelved.unchecked.shards(),
            writable: !self.shared.disk.is_refusing(),
        }
    }

    /// Closes what nobody uses and notes when archives were used last. To be called every minute or so.
    pub fn sweep(&self) {
        self.shared.hot.run_pending_tasks();
        self.shared.sweep();
    }

    /// Writes down what the next start would otherwise have to find out, and gives the directory back. Blocks.
    pub fn close(&self) {
        // Whatever looks at the files has ended before another larder may have the directory.
        self.shared.closing.store(true, Ordering::SeqCst);
        self.pass.lock().end();
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
