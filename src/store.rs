//! Archives on disk, and the ones that are open.
//!
//! Owns the cache directory: files are the truth, an index makes starts fast, archives used lately stay open. Knows
//! nothing of GitLab, connections or HTTP. Nothing that fails here is an answer to a client: the caller goes without.
//! No byte leaves without a [`Grant`](crate::gitlab::grant::Grant) that names the archive.

mod begin;
mod commit;
mod disk;
mod error;
mod index;
pub mod lru;
mod object;
mod opened;
mod partial;
pub mod record;
mod room;
pub mod scan;
pub(crate) mod scrub;
mod state;
mod totals;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub(crate) use disk::mapped::{Mapped, MappedPart};
pub(crate) use error::Error;
pub(crate) use lru::budget::Budget;
pub use object::{Archive, Reader, State};
pub(crate) use object::{Availability, ChunkClaim, ReadError, Remainder, Unsound};
pub use record::Record;
pub(crate) use scrub::Scrub;
pub use scrub::TimeShare;
pub(crate) use totals::Totals;

use crate::base::clock::Clock;
use crate::base::key::{ArchiveId, Key};
use crate::gitlab::grant::Facts;
use disk::files::{Files, Plain};
use disk::layout::Layout;
use disk::lock::Lock;
use disk::reach::Reach;
use disk::trial::Disk;
use lru::StoredMeta;
use room::{Limits, StoreInner};
use scan::pass::RecoveryPass;
use state::Look;

/// What the operator decides about the store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cache directory, owned by one process.
    pub dir: PathBuf,
    /// Budget for everything in it.
    pub max_size: Budget,
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
    pub scrub: TimeShare,
}

/// How bytes get from a file to a plain socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Slices of a shared mapping: no copy in user space.
    Mapped,
    /// `pread` into buffers: for file systems where a mapping is slow or can vanish (network mounts).
    Pread,
}

/// Archives that are out of sight and whose files are still there.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(crate) struct Detached {
    key: Key,
    slot: Option<StoredMeta>,
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
    inner: Arc<StoreInner>,
    max_age: u64,
    clock: Clock,
    lock: Mutex<Option<Lock>>,
    pass: Mutex<RecoveryPass>,
    seeking: Arc<Semaphore>,
}
impl Store {
    /// Opens the store of one GitLab instance: takes the directory and sweeps what was unfinished. What else lies there is
    /// found while it is in use, by [`Self::check_some`] and by whoever asks for it.
    pub fn open(settings: &Settings, instance: &str, clock: Clock) -> Result<Self, Error> {
        Self::open_by(|reach| Arc::new(Plain(reach)), settings, instance, clock)
    }

    fn open_by(
        files: impl FnOnce(Reach) -> Arc<dyn Files>,
        settings: &Settings,
        instance: &str,
        clock: Clock,
    ) -> Result<Self, Error> {
        let lock = disk::lock::own(&settings.dir)?;
        let fail = |reason| Error::Directory { path: settings.dir.clone(), reason };
        let layout = Layout::create(instance, files(lock.reach.clone())).map_err(fail)?;
        scan::pass::sweep_incoming(&layout).map_err(fail)?;
        let limits = Limits { max_object: settings.max_object, min_free: settings.min_free };
        let disk = Arc::new(Disk::new(clock.clone()));
        let budget = lru::budget::here(settings, &lock.reach).map_err(fail)?;
        let inner = Arc::new(StoreInner::new(layout, settings.read, limits, budget, disk));
        inner.adopt_partial().map_err(fail)?;
        Ok(Self {
            inner,
            max_age: settings.max_age.as_secs(),
            clock,
            lock: Mutex::new(Some(lock)),
            pass: Mutex::default(),
            seeking: Arc::new(Semaphore::new(SEEKING)),
        })
    }

    /// Goes a step through what the last larder left: first reads the index, then looks at the files. `false` when there
    /// is no more to do. Blocks: some milliseconds a step, but for the first, where a million rows take a second.
    pub fn check_some(&self) -> bool {
        self.pass.lock().step(&self.inner)
    }

    /// [Checks](Self::check_some) all in the background. Ends when the store is closed or nobody refers to it any more.
    pub(crate) fn check_all(self: &Arc<Self>) {
        let store = Arc::downgrade(self);
        drop(crate::base::rt::spawn_blocking(move || {
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
            let look = self.inner.shelf.lock().look(key, now);
            match look {
                Look::Absent => return None,
                Look::Unchecked if !self.seek(key).await => return None,
                Look::Unchecked => {}
                Look::Held(key, slot, _) if now.saturating_sub(slot.filled_at) >= self.max_age => {
                    Box::pin(self.remove(key, Some(slot.id))).await;
                    return None;
                }
                Look::Held(.., Some(open)) => return Some(open),
                Look::Held(key, slot, None) => {
                    if let Some(archive) = self.open_up(key, slot).await {
                        return Some(archive);
                    }
                }
            }
        }
        None
    }

    async fn open_up(&self, key: Key, slot: StoredMeta) -> Option<Arc<Archive>> {
        let inner = Arc::clone(&self.inner);
        crate::base::rt::blocking(move || inner.open(key, slot)).await.ok()?
    }

    /// Looks among the files that haven't been looked at; whether there is something now.
    async fn seek(&self, key: Key) -> bool {
        let inner = Arc::clone(&self.inner);
        let seek = move || {
            // Of those who ask for one archive at once, the first has found it for all.
            if inner.holds(key).is_none() {
                inner.seek(key);
            }
        };
        // One that dies has found nothing.
        let _ = crate::base::rt::blocking_in_turn(&self.seeking, seek).await;
        self.holds(key).is_some()
    }

    /// The name of the archive under a key, at a glance.
    pub(crate) fn holds(&self, key: Key) -> Option<ArchiveId> {
        self.inner.holds(key)
    }

    /// Whether another key's archive is proven to be the one GitLab speaks of; if so, it is found under `key` as well
    /// from now on. `known`: one that GitLab was just found not to have there.
    pub(crate) async fn join(&self, key: Key, seen: &Facts, known: Option<ArchiveId>) -> bool {
        let holder = self.inner.shelf.lock().shelf.marked(seen.sought());
        let Some(holder) = holder.filter(|holder| *holder != key) else {
            return false;
        };
        match self.find(holder).await {
            Some(archive) if archive.facts().proves(seen) && Some(archive.id()) != known => {
                self.inner.shelf.lock().shelf.join(key, archive.key(), archive.id());
                true
            }
            _ => false,
        }
    }

    /// Whether an archive that would have to be fetched may be brought to the disk now. While that refuses, one every
    /// few seconds may be: whoever gets a yes should go on to [`Self::begin`].
    pub(crate) fn may_try(&self) -> bool {
        self.inner.disk.may_try()
    }

    /// Whether the disk refuses and it is time to try it again.
    pub(crate) fn is_to_be_tried(&self) -> bool {
        self.inner.disk.is_to_be_tried()
    }

    /// Makes an archive that is about to arrive, by what its record is to say, with room for all of it: it gets a new name,
    /// and nobody can find it yet. What it is claimed by is the one way to write it.
    pub async fn begin(
        &self,
        record: Record,
        length: Option<u64>,
    ) -> Result<(Arc<Archive>, ChunkClaim), Error> {
        let inner = Arc::clone(&self.inner);
        let begun = crate::base::rt::blocking(move || inner.begin(record, length)).await;
        let begun = begun.map_err(|reason| Error::io("begin", reason)).flatten();
        begun.inspect_err(|error| self.inner.disk.failed(error))
    }

    /// The same of an archive whose parts come as they are wanted: room is taken for those alone. Blocks.
    pub(crate) fn begin_in_parts(&self, record: Record) -> Result<Arc<Archive>, Error> {
        self.inner.begin_in_parts(record)
    }

    /// Takes on the first missing bytes of a range that nobody fetches.
    pub(crate) fn claim(&self, archive: &Arc<Archive>, range: &Range<u64>) -> Option<ChunkClaim> {
        self.inner.claim(archive, range)
    }

    /// Writes down which chunks of an archive are here, where that is of use to the next larder. Blocks.
    pub(crate) fn note(&self, archive: &Archive) -> Result<(), Error> {
        self.inner.note(archive)
    }

    /// Lets an archive be found of which some chunks are here, if `still` says that nothing has overtaken it; nothing may
    /// while what that returns is kept. Returns whether. Blocks.
    pub(crate) fn place<G>(
        &self,
        archive: &Arc<Archive>,
        still: impl FnOnce() -> Option<G>,
    ) -> Result<bool, Error> {
        self.inner.place(archive, still, self.clock.now().unix_seconds())
    }

    /// Puts an archive into the store whose bytes are all here, and right. One that can be found already must still be the
    /// one that is; of any other `still` says whether nothing has overtaken it, as in [`Self::place`]. Returns whether. Blocks.
    pub fn commit<G>(
        &self,
        archive: &Arc<Archive>,
        still: impl FnOnce() -> Option<G>,
    ) -> Result<bool, Error> {
        let now = self.clock.now().unix_seconds();
        self.inner.commit(archive, still, now).map_err(|error| archive.trial().failed(error))
    }

    /// Puts a chunk that was fetched again in the place of one that was unsound. Returns whether it is the right one. Blocks.
    pub(crate) fn repair(&self, archive: &Archive, chunk: u64, bytes: &[u8]) -> io::Result<bool> {
        self.inner.repair(archive, chunk, bytes)
    }

    /// Takes an archive out that can't be repaired, or isn't right. Blocks.
    pub(crate) fn give_up(&self, archive: &Archive) {
        let taken = self.inner.take_out(archive.key(), Some(archive.id()));
        self.inner.unlink(archive.key(), taken);
    }

    /// Takes an archive out of the store: with `id`, only that very one. It is gone from disk when this returns;
    /// those who read it finish.
    pub(crate) async fn remove(&self, key: Key, id: Option<ArchiveId>) {
        if let Some(taken) = self.take_out(key, id) {
            self.unlink(taken).await;
        }
    }

    /// The part of [`Self::remove`] that nobody may come between: out of sight at once, the files still there. A job's
    /// archive goes under whichever key it is stored; a ref that no longer leads to an archive takes nobody else's
    /// along.
    pub(crate) fn take_out(&self, key: Key, id: Option<ArchiveId>) -> Option<Detached> {
        let mut shelved = self.inner.shelf.lock();
        let holder = shelved.shelf.part(key);
        // What its files hold isn't known yet, and is void.
        let unchecked = (id.is_none() && shelved.unchecked.awaits(key)).then_some(key);
        if unchecked.is_some() {
            shelved.unchecked.handle(key);
        }
        drop(shelved);
        let own = holder.is_none_or(|holder| holder == key) || key.job().is_some();
        let key = holder.filter(|_| own).unwrap_or(key);
        let slot = self.inner.take_out(key, id);
        (slot.is_some() || unchecked.is_some()).then_some(Detached { key, slot, unchecked })
    }

    /// The rest of [`Self::remove`].
    pub(crate) async fn unlink(&self, taken: Detached) {
        let inner = Arc::clone(&self.inner);
        let remove = move || {
            inner.unlink(taken.key, taken.slot);
            taken.unchecked.into_iter().for_each(|key| inner.clear(key));
        };
        // A file that can't be unlinked is found, without its record or expired, at the next start.
        let _ = crate::base::rt::blocking(remove).await;
    }

    /// Bytes that it may take.
    pub(crate) fn budget(&self) -> u64 {
        self.inner.budget
    }

    /// Sizes for the metrics.
    pub fn totals(&self) -> Totals {
        let shelved = self.inner.shelf.lock();
        Totals {
            archives: shelved.shelf.len(),
            bytes: shelved.shelf.taken(),
            evicted: shelved.evicted,
            unchecked: shelved.unchecked.shards(),
            writable: !self.inner.disk.is_refusing(),
        }
    }

    /// Closes what nobody uses and notes when archives were used last. To be called every minute or so.
    pub(crate) fn sweep(&self) {
        self.inner.sweep();
    }

    /// Lets nothing begin another read of archives that blocks (comparing, unpacking, finding out whether one is right): the
    /// program ends now.
    pub(crate) fn stop(&self) {
        self.inner.gate.stop();
    }

    /// Whether it was told to.
    pub(crate) fn is_stopping(&self) -> bool {
        self.inner.gate.is_stopping()
    }

    /// Writes down what the next start would otherwise have to find out, and gives the directory back. Blocks.
    pub fn close(&self) {
        // Whatever looks at the files has ended before another larder may have the directory.
        self.inner.closing.store(true, Ordering::SeqCst);
        self.pass.lock().end();
        self.inner.note_uses();
        self.inner.index.close();
        self.lock.lock().take();
    }
}

#[cfg(test)]
mod tests;
