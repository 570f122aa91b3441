//! What the files say, found out while larder serves.
//!
//! Files are the truth: a whole archive with its record is adopted, one without is deleted, and so is the older of two
//! under one key; a row of the index whose files are gone is forgotten. The index only spares reading the records it
//! agrees with. What was unfinished is swept before anything begins.
//!
//! The pass goes through the shards in steps. Until it has seen a key's shard, a look-up that misses the key looks there
//! itself. What comes and goes meanwhile is noted in [`ScanState`](crate::store::scan::findings::ScanState), so that no file is
//! judged by what a listing said before. Bytes of archives that aren't adopted yet aren't counted yet either: until the
//! pass is over the store may be larger than its budget, by as much as the files hold and the shelf doesn't.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::key::{ArchiveId, Key};
use crate::base::num::to_u64;
use crate::store::disk::layout::{self, Archives, Layout, SHARDS};
use crate::store::lru::{SizedLru, StoredMeta};
use crate::store::record::{BadRecord, Record};
use crate::store::room::StoreInner;
use crate::store::scan::findings::FoundFiles;
use crate::store::scan::tally::Tally;

/// Archives judged or evicted in a step: some milliseconds of reading records, so that closing waits no longer.
const STEP: usize = 64;

/// Places of the shelf looked at in a step, under its lock: some 20 us.
const PLACES: usize = 4096;

/// Removes what was unfinished when the last larder ended, and nothing that isn't of its naming. Nothing may be arriving yet.
pub(in crate::store) fn sweep_incoming(layout: &Layout) -> io::Result<()> {
    let incoming = layout.incoming();
    for name in layout.reach().names(&incoming)? {
        let name = name?;
        if name.to_str().and_then(layout::parse).is_none() {
            continue;
        }
        match layout.files.remove(&incoming.join(name)) {
            // A directory is nobody's archive.
            Err(error) if !matches!(error.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::NotFound) => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

/// How far the pass has come, and what it has found.
#[derive(Debug, Default)]
pub(in crate::store) struct RecoveryPass {
    stage: RecoveryStage,
    tally: Tally,
}

#[derive(Debug, Default)]
enum RecoveryStage {
    /// The index is to be read.
    #[default]
    Rows,
    /// The archives of a shard are to be judged.
    Shard(u16, <Archives as IntoIterator>::IntoIter),
    /// Rows without files are to be forgotten, from this place of the shelf on.
    Missing(usize),
    /// What is beyond the budget is to be evicted: not before it is known what was used least recently of all.
    Trim,
    Over,
}

impl RecoveryPass {
    /// Goes one step: `false` after the last. Stops early where the store is closing. Blocks for the disk.
    pub(in crate::store) fn step(&mut self, inner: &Arc<StoreInner>) -> bool {
        if inner.is_closing() {
            self.stage = RecoveryStage::Over;
        }
        self.stage = match std::mem::replace(&mut self.stage, RecoveryStage::Over) {
            RecoveryStage::Over => return false,
            RecoveryStage::Rows => {
                load(inner);
                self.list(inner, 0)
            }
            RecoveryStage::Shard(number, archives) => self.judge(inner, number, archives),
            RecoveryStage::Missing(from) => self.forget_missing(inner, from),
            RecoveryStage::Trim if trim(inner) == STEP => RecoveryStage::Trim,
            RecoveryStage::Trim => RecoveryStage::Over,
        };
        if matches!(self.stage, RecoveryStage::Over) && !inner.is_closing() {
            let archives = inner.shelf.lock().shelf.len();
            self.tally.tell(archives);
        }
        true
    }

    /// Gives up: what is left to do the next start does.
    pub(in crate::store) fn end(&mut self) {
        self.stage = RecoveryStage::Over;
    }

    /// Lists a shard. One that can't be listed has nothing that is known of; what the index says of it may stay.
    fn list(&mut self, inner: &StoreInner, number: u16) -> RecoveryStage {
        if number == SHARDS {
            return RecoveryStage::Missing(0);
        }
        let path = inner.layout.shard_at(number);
        let archives = inner.layout.list(&path).unwrap_or_else(|error| {
            self.tally.unreadable(&path, &error);
            Archives::new()
        });
        RecoveryStage::Shard(number, archives.into_iter())
    }

    fn judge(
        &mut self,
        inner: &Arc<StoreInner>,
        number: u16,
        mut archives: <Archives as IntoIterator>::IntoIter,
    ) -> RecoveryStage {
        for ((key, id), found) in archives.by_ref().take(STEP) {
            if inner.is_closing() {
                return RecoveryStage::Over;
            }
            // A name in another shard than its key's is nobody's.
            if layout::shard_of(key) == number {
                self.examine(inner, key, id, found.both());
            }
        }
        if archives.len() > 0 {
            return RecoveryStage::Shard(number, archives);
        }
        inner.shelf.lock().unchecked.looked_at(number);
        self.list(inner, number + 1)
    }

    fn examine(&mut self, inner: &Arc<StoreInner>, key: Key, id: ArchiveId, both: bool) {
        let mut shelved = inner.shelf.lock();
        let standing = shelved.standing(key, id);
        if standing == FoundFiles::Shelved && both {
            shelved.shelf.check(key);
        }
        drop(shelved);
        match standing {
            // Where the listing has but half of it, it has perhaps just come; the end of the pass looks again.
            FoundFiles::Shelved | FoundFiles::Coming => {}
            FoundFiles::Void => self.delete(inner, key, id),
            FoundFiles::News => self.hear(inner, key, id),
        }
    }

    /// Adopts what is news, if it is good.
    fn hear(&mut self, inner: &Arc<StoreInner>, key: Key, id: ArchiveId) {
        let slot = match read(&inner.layout, key, id) {
            Ok(slot) => slot,
            Err(Unfit::Half) => return self.delete(inner, key, id),
            Err(Unfit::Record(reason @ BadRecord::Version(_))) => {
                return self.tally.left_alone(&inner.layout.rec(key, id), &reason);
            }
            Err(Unfit::Record(reason)) => {
                self.tally.damaged(&inner.layout.rec(key, id), &reason);
                return self.delete(inner, key, id);
            }
            // Too many open files, or a disk that may be well tomorrow.
            Err(Unfit::Io(error)) => return self.tally.unreadable(&inner.layout.rec(key, id), &error),
        };
        let shelved = inner.shelf.lock();
        // A sparse one's files lie elsewhere, and were looked at before anything else.
        let rival = shelved.shelf.get(key).filter(|rival| !shelved.partial.contains(&rival.id));
        drop(shelved);
        if let Some(rival) = rival
            && matches!(inner.layout.is_whole(key, rival.id), Ok(false))
        {
            // The index names another archive, whose files are gone: it didn't hear of this one any more.
            inner.forget(key, rival);
            self.tally.forgotten += 1;
        }
        match inner.adopt(key, slot) {
            Adoption::Adopted(replaced) => {
                self.tally.adopted += 1;
                self.tally.deleted += u64::from(replaced.is_some());
                inner.unlink(key, replaced);
                inner.index.put_surely(key, slot);
            }
            Adoption::Unwanted => self.delete(inner, key, id),
            Adoption::Known => {}
        }
    }

    fn delete(&mut self, inner: &StoreInner, key: Key, id: ArchiveId) {
        self.tally.deleted += 1;
        inner.discard(key, id);
    }

    fn forget_missing(&mut self, inner: &StoreInner, from: usize) -> RecoveryStage {
        let some = inner.shelf.lock().shelf.unchecked(from, PLACES);
        let Some(some) = some else {
            return RecoveryStage::Trim;
        };
        for (key, slot) in some {
            if inner.is_closing() {
                return RecoveryStage::Over;
            }
            if matches!(inner.layout.is_whole(key, slot.id), Ok(false)) {
                inner.forget(key, slot);
                self.tally.forgotten += 1;
            }
        }
        RecoveryStage::Missing(from + PLACES)
    }
}

/// Reads the index. What has come or gone meanwhile stays as it is.
fn load(inner: &StoreInner) {
    let rows = inner.index.load(&inner.closing);
    if inner.is_closing() {
        return;
    }
    let mut listed = SizedLru::listed(rows);
    let mut shelved = inner.shelf.lock();
    for key in shelved.unchecked.handled() {
        let bytes = listed.remove(key, None).map_or(0, |meta| meta.bytes);
        listed.release(bytes);
    }
    shelved.shelf.merge(listed);
}

/// Brings the shelf within its budget, some archives at a time; returns how many were evicted.
fn trim(inner: &StoreInner) -> usize {
    let Ok(evicted) = inner.evict(|shelf, in_use| Ok::<_, Infallible>(shelf.trim(STEP, in_use)));
    evicted
}

/// What became of an archive that was found.
#[derive(Debug)]
pub(in crate::store) enum Adoption {
    /// It is on the shelf, where there was this one before.
    Adopted(Option<StoredMeta>),
    /// There is a newer one, or it was taken out.
    Unwanted,
    /// It is there already, or its shard has been looked at: there is nothing to do.
    Known,
}

/// Why an archive that was found isn't adopted.
enum Unfit {
    /// One of its files, or both, are missing.
    Half,
    Record(BadRecord),
    Io(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Half } else { Self::Io(error) }
    }
}

fn read(layout: &Layout, key: Key, id: ArchiveId) -> Result<StoredMeta, Unfit> {
    let (zip, rec) = (layout.zip(key, id), layout.rec(key, id));
    // A link or a pipe in the place of a file is no file: half an archive.
    let length = layout.reach().length(&zip)?;
    layout.reach().length(&rec)?;
    let bytes = layout.reach().read(&rec)?;
    let record = Record::decode(&bytes).map_err(Unfit::Record)?;
    if record.key != key || record.id != id || record.length != length {
        return Err(Unfit::Record(BadRecord::Damaged("it is another archive's")));
    }
    let bytes = length.saturating_add(to_u64(bytes.len()));
    let (filled_at, marks) = (record.filled_at, record.facts.marks());
    Ok(StoredMeta { id, bytes, filled_at, used_at: filled_at, marks })
}

impl StoreInner {
    pub(in crate::store) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Looks for a key's archive among the files, where the pass hasn't been yet. Deletes nothing: that is the pass's.
    /// Blocks.
    pub(in crate::store) fn seek(self: &Arc<Self>, key: Key) {
        if let Some(slot) = self.newest(key)
            && let Adoption::Adopted(None) = self.adopt(key, slot)
        {
            self.index.put(key, slot);
        }
    }

    /// The newest archive that the files hold for a key and that is news. Blocks.
    pub(in crate::store) fn newest(&self, key: Key) -> Option<StoredMeta> {
        let found = self.layout.of_key(key).ok()?;
        let ids = found.into_iter().filter(|(_, found)| found.both()).map(|((_, id), _)| id);
        let news = ids.filter(|id| self.shelf.lock().standing(key, *id) == FoundFiles::News);
        news.filter_map(|id| read(&self.layout, key, id).ok()).max_by_key(age)
    }

    /// Puts an archive whose files were found on the shelf, if they are news still and it is the newest. Each look at what
    /// has happened meanwhile is under the one lock.
    pub(in crate::store) fn adopt(&self, key: Key, slot: StoredMeta) -> Adoption {
        let mut shelved = self.shelf.lock();
        match shelved.standing(key, slot.id) {
            FoundFiles::Void => return Adoption::Unwanted,
            FoundFiles::News if shelved.unchecked.awaits(key) => {}
            FoundFiles::News | FoundFiles::Shelved | FoundFiles::Coming => return Adoption::Known,
        }
        // Of a sparse one and a whole one of one second nobody knows which came later: the whole one is worth more.
        let is_newer = |other: StoredMeta| {
            let is_sparse = shelved.partial.contains(&other.id);
            if is_sparse { other.filled_at > slot.filled_at } else { age(&other) > age(&slot) }
        };
        if shelved.shelf.get(key).is_some_and(is_newer) {
            return Adoption::Unwanted;
        }
        let replaced = shelved.shelf.adopt(key, slot);
        let leaving = replaced.and_then(|slot| shelved.leave(slot));
        drop(shelved);
        drop(leaving);
        Adoption::Adopted(replaced)
    }

    /// Takes an archive off the shelf whose files aren't what was thought. Unlike one that is [taken
    /// out](Self::take_out) it leaves its key open for what else the files hold. Blocks.
    pub(in crate::store) fn forget(&self, key: Key, slot: StoredMeta) {
        let mut shelved = self.shelf.lock();
        let forgotten = shelved.shelf.remove(key, Some(slot.id));
        let leaving = forgotten.and_then(|slot| shelved.leave(slot));
        drop(shelved);
        drop(leaving);
        if forgotten.is_some() {
            self.index.remove_surely(key);
            self.unlink(key, forgotten);
        }
    }

    /// Removes what the files hold for a key that was taken out before they were looked at. Blocks.
    pub(in crate::store) fn clear(&self, key: Key) {
        let Ok(found) = self.layout.of_key(key) else {
            return;
        };
        for (_, id) in found.into_keys() {
            if self.shelf.lock().standing(key, id) == FoundFiles::Void {
                self.discard(key, id);
            }
        }
    }

    fn discard(&self, key: Key, id: ArchiveId) {
        for path in [self.layout.rec(key, id), self.layout.zip(key, id)] {
            // What can't be removed now is found again at the next start.
            let _ = self.layout.files.remove(&path);
        }
    }
}

/// What makes one of two archives of a key the newer.
fn age(slot: &StoredMeta) -> (u64, ArchiveId) {
    (slot.filled_at, slot.id)
}
