//! An archive takes its place in the store: with some of its chunks, to which more are added later, or whole. Everything here
//! blocks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::begin::io;
use super::disk::layout::Folder;
use super::lru::StoredMeta;
use super::object::{Archive, Placement, State};
use super::record::Record;
use super::room::{NAME, StoreInner};
use crate::base::num::to_u64;

/// Bytes of a record that most fit in: of an archive of 64 GiB.
const NOTE: u64 = 1 << 20;

impl StoreInner {
    /// Writes down which chunks of an archive are here, so that the next larder goes on from there. Not of one that has left
    /// the store or become whole: then its record is gone, or isn't this one any more; nor of one that nobody will look for.
    pub(super) fn note(&self, archive: &Archive) -> Result<(), Error> {
        let is_noted = || match archive.place() {
            Placement::Nowhere(folder) => folder == Folder::Partial,
            Placement::Found => archive.is_partial(),
            Placement::Gone => false,
        };
        self.fitting(NOTE, || {
            let _turn = self.noting.lock();
            if is_noted() {
                archive.was_noted();
                self.write_note(archive)
            } else {
                Ok(())
            }
        })
    }

    /// Called by one at a time.
    fn write_note(&self, archive: &Archive) -> Result<(), Error> {
        let path = self.layout.partial_rec(archive.key(), archive.id());
        let (aside, encoded) = (aside(&path), archive.record_now().encode()?);
        let write = || {
            let file = self.files().create(&aside)?;
            self.files().write_at(&file, &encoded, 0)
        };
        write().and_then(|()| self.files().rename(&aside, &path)).map_err(io("note"))?;
        if archive.is_found() {
            // It grows with each checksum that it gets.
            let more = archive.is_recorded(to_u64(encoded.len()));
            self.account.take(more);
            self.grow(archive, more);
        }
        Ok(())
    }

    /// Lets an archive be found of which some chunks are here, if `still` says that nothing has overtaken it and sees to it
    /// that nothing does for as long as what it returns is kept. What the disk set aside for the rest is given back. Returns
    /// whether.
    pub(super) fn place<G>(
        &self,
        archive: &Arc<Archive>,
        still: impl FnOnce() -> Option<G>,
        now: u64,
    ) -> Result<bool, Error> {
        let (key, id) = (archive.key(), archive.id());
        if archive.place() == Placement::Nowhere(Folder::Incoming) {
            let (from, to) =
                (self.layout.arriving_zip(Folder::Incoming, key, id), self.layout.partial_zip(key, id));
            self.files().rename(&from, &to).map_err(io("keep"))?;
            archive.set_place(Placement::Nowhere(Folder::Partial));
        }
        self.note(archive)?;
        self.punch(archive);
        let overhead = to_u64(archive.record_now().encode()?.len());
        let Some(_guard) = still() else {
            return Ok(false);
        };
        let replaced = self.shelve(archive, overhead, now, State::Arriving);
        self.unlink(key, replaced);
        Ok(true)
    }

    /// Gives back what the disk set aside behind all that anybody may have read. Where a file system can't, the blocks stay
    /// taken until the archive goes.
    fn punch(&self, archive: &Archive) {
        let from = archive.chunks().reach();
        if from < archive.stored_length() {
            let _ = self.files().punch(archive.data().file(), from..archive.stored_length());
        }
    }

    /// Puts an archive on the shelf, as it is now. Returns the one that stood there.
    fn shelve(&self, archive: &Arc<Archive>, overhead: u64, now: u64, state: State) -> Option<StoredMeta> {
        let (key, id) = (archive.key(), archive.id());
        let marks = archive.facts().marks();
        let mut shelved = self.shelf.lock();
        let before = shelved.shelf.get(key).filter(|slot| slot.id == id);
        let bytes = match before {
            None => {
                let bytes = archive.lease().bytes().saturating_add(overhead);
                archive.lease().hand_over(bytes);
                bytes
            }
            Some(before) => {
                let bytes = archive.stored_length().saturating_add(overhead);
                self.account.take(bytes.saturating_sub(before.bytes));
                self.account.release(before.bytes.saturating_sub(bytes));
                bytes
            }
        };
        let slot = StoredMeta { id, bytes, filled_at: archive.filled_at(), used_at: now, marks };
        let replaced = shelved.shelf.add(key, slot);
        shelved.unchecked.handle(key);
        shelved.unchecked.came(id);
        if state == State::Whole {
            shelved.partial.remove(&id);
            archive.set_whole();
        } else {
            shelved.partial.insert(id);
        }
        archive.set_place(Placement::Found);
        archive.is_recorded(overhead);
        let kept = shelved.open.keep(archive);
        let replaced = replaced.filter(|slot| slot.id != id);
        let leaving = replaced.and_then(|slot| shelved.leave(slot));
        drop(shelved);
        drop((kept, leaving));
        replaced
    }

    /// Makes an archive whose bytes are all here, and right, one of the store's: with its name on the disk when this returns.
    /// One that could be found already must still be the one that is; for another `still` says whether nothing has overtaken
    /// it, as in [`Self::place`]. Returns whether it is in the store now.
    pub(super) fn commit<G>(
        &self,
        archive: &Arc<Archive>,
        still: impl FnOnce() -> Option<G>,
        now: u64,
    ) -> Result<bool, Error> {
        let (key, id) = (archive.key(), archive.id());
        if archive.is_whole() {
            return Ok(self.holds_itself(archive));
        }
        let record = Record { present: None, ..archive.record_now() };
        let encoded = record.encode()?;
        let written = self.seal(archive, &encoded)?;
        // Nobody writes down how much of it is here from now on: its record says that it is whole.
        let turn = self.noting.lock();
        let is_found = archive.place() == Placement::Found;
        let guard = if is_found { None } else { still() };
        let may = if is_found { self.holds_itself(archive) } else { guard.is_some() };
        if !may {
            drop(turn);
            let _ = self.files().remove(&written);
            return Ok(false);
        }
        // Whoever looks at the files meanwhile may find half of it.
        self.shelf.lock().unchecked.comes(id);
        if let Err(reason) = self.bring_in(archive, &written) {
            self.shelf.lock().unchecked.came(id);
            return Err(Error::io("store", reason));
        }
        if is_found && !self.holds_itself(archive) {
            // It was taken out while its files moved: they are nobody's.
            self.shelf.lock().unchecked.came(id);
            self.remove_files(key, id);
            return Ok(false);
        }
        let replaced = self.shelve(archive, to_u64(encoded.len()), now, State::Whole);
        drop((guard, turn));
        self.is_in(archive, replaced);
        Ok(true)
    }

    fn holds_itself(&self, archive: &Archive) -> bool {
        self.shelf.lock().shelf.get(archive.key()).is_some_and(|slot| slot.id == archive.id())
    }

    /// Brings an archive and its record to the disk, that still out of sight. Returns where it is.
    fn seal(&self, archive: &Archive, encoded: &[u8]) -> Result<PathBuf, Error> {
        let key = archive.key();
        self.fitting(NAME, || self.layout.make_shard(key)).map_err(io("sync"))?;
        // Once only: what a second one says of bytes that the first couldn't bring there isn't to be believed.
        self.files().sync(archive.data().file()).map_err(io("sync"))?;
        let path = self.layout.incoming_rec(key, archive.id());
        let write = || {
            let record = self.files().create_new(&path)?;
            let written =
                self.files().write_at(&record, encoded, 0).and_then(|()| self.files().sync(&record));
            written.inspect_err(|_| drop(self.files().remove(&path)))
        };
        self.fitting(to_u64(encoded.len()).max(NAME), write).map_err(io("sync"))?;
        Ok(path)
    }

    /// Renames the archive, then its record, which is the commit.
    fn bring_in(&self, archive: &Archive, record: &Path) -> io::Result<()> {
        let (key, id, files) = (archive.key(), archive.id(), self.files());
        let (zip, rec) = (self.layout.zip(key, id), self.layout.rec(key, id));
        let from = match archive.place() {
            Placement::Nowhere(folder) => self.layout.arriving_zip(folder, key, id),
            Placement::Found | Placement::Gone => self.layout.partial_zip(key, id),
        };
        let renamed = files.rename(&from, &zip).inspect_err(|_| drop(files.remove(record)));
        renamed.and_then(|()| files.rename(record, &rec)).inspect_err(|_| {
            // Without its record it is no archive: it goes on as it was.
            let _ = files.remove(record);
            let _ = files.rename(&zip, &from);
        })
    }

    /// It can be found. Whether its names outlive a crash is the disk's affair: then a start doesn't find it.
    fn is_in(&self, archive: &Archive, replaced: Option<StoredMeta>) {
        let (key, id) = (archive.key(), archive.id());
        if archive.is_noted() {
            let _ = self.files().remove(&self.layout.partial_rec(key, id));
        }
        let slot = self.shelf.lock().shelf.get(key).filter(|slot| slot.id == id);
        if let Some(slot) = slot {
            self.index.put(key, slot);
        }
        self.unlink(key, replaced);
        match self.layout.sync_shard(key) {
            Ok(()) => archive.trial().succeeded(),
            Err(reason) => drop(archive.trial().failed(Error::io("sync", reason))),
        }
    }
}

/// Where a record is written before it takes its place.
pub(super) fn aside(record: &Path) -> PathBuf {
    record.with_extension("new")
}
