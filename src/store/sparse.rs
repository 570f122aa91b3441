//! Archives of which only some chunks are here.
//!
//! They lie in `partial/`, each with a record that says which chunks it has. What a record promises is compared with its
//! checksum at first use, so neither needs to be brought to the disk before the archive is whole: after a power cut a
//! chunk that isn't what it was is fetched again. Everything here blocks.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::archive::Archive;
use super::chunks::Chunks;
use super::data::Data;
use super::draft::Draft;
use super::files::Files;
use super::layout;
use super::presence::Presence;
use super::record::{BadRecord, CHUNK, Record};
use super::room::Shared;
use super::shelf::Slot;
use crate::grant::Sha256;
use crate::key::{ArchiveId, Key};
use crate::num::{to_u64, to_usize};

fn io(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |reason| Error::io(doing, reason)
}

impl Shared {
    /// Makes an archive with a new name of which nothing is here yet, and which nobody can find yet.
    pub(super) fn sparse(self: &Arc<Self>, mut record: Record) -> Result<Arc<Archive>, Error> {
        self.limits.admit(record.length)?;
        let fail = io("begin");
        record.id = self.files().new_name().map_err(&fail)?;
        record.chunks = vec![0; super::record::chunks_of(record.length)];
        record.present = Some(Presence::none(record.length));
        let overhead = to_u64(record.encode()?.len());
        self.make_room(overhead)?;
        let made = self.make(&record).map_err(fail);
        let file = made.inspect_err(|error| {
            self.disk.failed(error);
            self.shelf.lock().shelf.release(overhead);
        })?;
        Ok(self.unplaced(record, file, overhead))
    }

    fn make(&self, record: &Record) -> io::Result<File> {
        let path = self.layout.partial_zip(record.key, record.id);
        let file = self.files().create_new(&path)?;
        self.files().set_length(&file, record.length).inspect_err(|_| {
            let _ = self.files().remove(&path);
        })?;
        Ok(file)
    }

    fn unplaced(self: &Arc<Self>, record: Record, file: File, bytes: u64) -> Arc<Archive> {
        let data = Arc::new(Data::new(file, Some(record.length), self.mode));
        let chunks = Chunks::new(record.length, record.chunks.clone(), false);
        let archive = Archive::new(record, bytes, data, chunks, Arc::default(), Arc::clone(self));
        archive.set_unplaced();
        Arc::new(archive)
    }

    pub(super) fn files(&self) -> &Arc<dyn Files> {
        &self.layout.files
    }

    /// Puts a sparse archive where it can be found. Returns the one that stood there.
    pub(super) fn place_sparse(&self, archive: &Arc<Archive>, now: u64) -> Option<Slot> {
        let (key, id) = (archive.key(), archive.id());
        let mut shelved = self.shelf.lock();
        let record = archive.record();
        let marks = record.facts.marks();
        let slot = Slot { id, bytes: archive.bytes(), filled_at: record.filled_at, used_at: now, marks };
        archive.set_placed();
        let replaced = shelved.shelf.place(key, slot);
        shelved.unchecked.handle(key);
        shelved.partial.insert(id);
        shelved.open.insert(id, Arc::downgrade(archive));
        let leaving = replaced.and_then(|slot| shelved.leave(slot));
        drop(shelved);
        drop(leaving);
        replaced
    }

    /// Makes `bytes` that are taken an archive's.
    pub(super) fn grow(&self, archive: &Archive, bytes: u64) {
        let mut shelved = self.shelf.lock();
        archive.add_bytes(bytes);
        shelved.shelf.grow(archive.key(), archive.id(), bytes);
    }

    /// Writes down which chunks an archive has that nobody can find yet.
    pub(super) fn note_unplaced(&self, archive: &Archive) -> Result<(), Error> {
        let _turn = self.noting.lock();
        self.write_partial(&archive.record_now(None), false)
    }

    /// Writes down which chunks an archive has, unless it has left the store or become whole: then its record is gone, or
    /// isn't this one any more.
    pub(super) fn note(&self, archive: &Archive) -> Result<(), Error> {
        let _turn = self.noting.lock();
        if !archive.is_sparse() || archive.is_retired() {
            return Ok(());
        }
        self.write_partial(&archive.record_now(None), false)
    }

    /// The same of an archive that is arriving.
    pub(super) fn note_draft(&self, record: &Record) -> Result<(), Error> {
        let _turn = self.noting.lock();
        self.write_partial(record, false)
    }

    /// Called by one at a time.
    fn write_partial(&self, record: &Record, sync: bool) -> Result<(), Error> {
        let path = self.layout.partial_rec(record.key, record.id);
        let aside = aside(&path);
        let encoded = record.encode()?;
        let write = || {
            let file = self.files().create(&aside)?;
            self.files().write_at(&file, &encoded, 0)?;
            if sync { self.files().sync(&file) } else { Ok(()) }
        };
        write().and_then(|()| self.files().rename(&aside, &path)).map_err(io("note"))
    }

    /// Makes a draft that won't be whole an archive of which only the beginning is here. What the disk set aside for the rest
    /// is given back; bytes that its readers have aren't touched.
    pub(super) fn rest(
        self: &Arc<Self>,
        draft: &Draft,
        record: Record,
        written: u64,
        now: u64,
    ) -> Result<Option<Slot>, Error> {
        let (key, id) = (record.key, record.id);
        self.note_draft(&record)?;
        draft.was_rested();
        let zip = self.layout.partial_zip(key, id);
        if draft.path() != zip {
            self.files().rename(draft.path(), &zip).map_err(io("keep"))?;
        }
        let kept = record.present.as_ref().map_or(0, Presence::count).saturating_mul(CHUNK);
        // Where a file system can't, the blocks stay taken until the archive goes.
        let _ = self.files().punch(draft.data().file(), written..record.length);
        let overhead = to_u64(record.encode()?.len());
        draft.reservation().lock().keep(kept.saturating_add(overhead));
        let chunks = Chunks::new(record.length, record.chunks.clone(), false);
        let (data, visitors) = (Arc::clone(draft.data()), Arc::clone(draft.visitors()));
        let archive =
            Archive::new(record, kept.saturating_add(overhead), data, chunks, visitors, Arc::clone(self));
        Ok(self.place_sparse(&Arc::new(archive), now))
    }

    /// Makes an archive of which all chunks are here a whole one, in its place among the others: the very commit of a
    /// fill. `None`: it has been taken out meanwhile.
    pub(super) fn promote(
        self: &Arc<Self>,
        sparse: &Arc<Archive>,
        sha256: Sha256,
        now: u64,
    ) -> Result<Option<Arc<Archive>>, Error> {
        let (key, id) = (sparse.key(), sparse.id());
        let record = Record { present: None, ..sparse.record_now(Some(sha256)) };
        let overhead = to_u64(record.encode()?.len());
        self.layout.make_shard(key).map_err(io("store"))?;
        self.files().sync(sparse.data().file()).map_err(io("sync"))?;
        // Nobody writes down how much of it is here from now on: its record says that it is whole.
        let turn = self.noting.lock();
        self.write_partial(&record, true)?;
        let bytes = record.length.saturating_add(overhead);
        let slot = Slot { id, bytes, filled_at: record.filled_at, used_at: now, marks: record.facts.marks() };
        let chunks = Chunks::new(record.length, record.chunks.clone(), true);
        let (data, visitors) = (Arc::clone(sparse.data()), sparse.visitors_shared());
        let whole = Arc::new(Archive::new(record, bytes, data, chunks, visitors, Arc::clone(self)));
        let mut shelved = self.shelf.lock();
        if shelved.shelf.find(key).is_none_or(|slot| slot.id != id) {
            return Ok(None);
        }
        // Two renames under the lock: whoever takes it out finds its files in one place or the other.
        let (from, to) = (self.layout.partial_zip(key, id), self.layout.zip(key, id));
        self.files().rename(&from, &to).map_err(io("store"))?;
        let renamed = self.files().rename(&self.layout.partial_rec(key, id), &self.layout.rec(key, id));
        renamed.inspect_err(|_| drop(self.files().rename(&to, &from))).map_err(io("store"))?;
        shelved.partial.remove(&id);
        let before = sparse.hand_over(&whole);
        shelved.shelf.take(bytes);
        shelved.shelf.release(before);
        shelved.shelf.place(key, slot);
        shelved.open.insert(id, Arc::downgrade(&whole));
        drop(shelved);
        drop(turn);
        self.layout.sync_shard(key).map_err(io("sync"))?;
        self.index.put(key, slot);
        self.hot.insert(key, Arc::clone(&whole));
        sparse.wake();
        Ok(Some(whole))
    }

    /// Adopts what the last larder left in `partial/`: what has a record and its file; the rest is removed. Before anything
    /// else is known.
    pub(super) fn adopt_partial(&self) -> io::Result<()> {
        let archives = layout::list(&self.layout.partial())?;
        for ((key, id), found) in archives {
            // A record that wasn't written to its end.
            let _ = self.files().remove(&aside(&self.layout.partial_rec(key, id)));
            match self.read_partial(key, id).filter(|_| found.both()) {
                Some(Ok(slot)) => self.adopt_sparse(key, slot),
                Some(Err(reason @ BadRecord::Version(_))) => {
                    tracing::warn!(%key, %reason, "a sparse archive is left alone");
                }
                Some(Err(_)) | None => self.remove_partial(key, id),
            }
        }
        Ok(())
    }

    fn adopt_sparse(&self, key: Key, slot: Slot) {
        let mut shelved = self.shelf.lock();
        let other = shelved.shelf.find(key);
        let (newer, older) = match other {
            Some(other) if (other.filled_at, other.id) > (slot.filled_at, slot.id) => (other, Some(slot)),
            other => (slot, other),
        };
        if newer.id == slot.id {
            let replaced = shelved.shelf.adopt(key, slot);
            shelved.shelf.release(replaced.map_or(0, |slot| slot.bytes));
            shelved.partial.insert(slot.id);
        }
        drop(shelved);
        if let Some(older) = older {
            self.shelf.lock().partial.remove(&older.id);
            self.remove_partial(key, older.id);
        }
    }

    fn read_partial(&self, key: Key, id: ArchiveId) -> Option<Result<Slot, BadRecord>> {
        let length = fs::metadata(self.layout.partial_zip(key, id)).ok()?.len();
        let encoded = fs::read(self.layout.partial_rec(key, id)).ok()?;
        let record = match Record::decode(&encoded) {
            Ok(record) => record,
            Err(reason) => return Some(Err(reason)),
        };
        let count = record.present.as_ref().map_or(to_u64(record.chunks.len()), Presence::count);
        let same = record.key == key && record.id == id && record.length == length && count > 0;
        let bytes = count.saturating_mul(CHUNK).min(length).saturating_add(to_u64(encoded.len()));
        let (filled_at, marks) = (record.filled_at, record.facts.marks());
        same.then_some(Ok(Slot { id, bytes, filled_at, used_at: filled_at, marks }))
    }

    /// Opens a sparse archive. One whose chunks were all there when larder ended has yet to be found right.
    pub(super) fn read_sparse(self: &Arc<Self>, key: Key, slot: Slot) -> io::Result<Arc<Archive>> {
        let encoded = fs::read(self.layout.partial_rec(key, slot.id))?;
        let mut record = Record::decode(&encoded).map_err(io::Error::other)?;
        let path = self.layout.partial_zip(key, slot.id);
        let file = self.files().open(&path)?;
        if record.key != key || record.id != slot.id || file.metadata()?.len() != record.length {
            return Err(io::Error::other("the sparse archive's file isn't what its record says"));
        }
        let all = || {
            let mut all = Presence::none(record.length);
            for chunk in 0..all.chunks() {
                all.set(chunk, true);
            }
            all
        };
        record.present = record.present.clone().or_else(|| Some(all()));
        let data = Arc::new(Data::new(file, Some(record.length), self.mode));
        let chunks = Chunks::new(record.length, record.chunks.clone(), false);
        Ok(Arc::new(Archive::new(record, slot.bytes, data, chunks, Arc::default(), Arc::clone(self))))
    }

    /// Removes the files of a sparse archive. Not under the shelf's lock.
    pub(super) fn remove_partial(&self, key: Key, id: ArchiveId) {
        let _turn = self.noting.lock();
        for path in [self.layout.partial_rec(key, id), self.layout.partial_zip(key, id)] {
            // What can't be removed now is found again at the next start.
            let _ = self.files().remove(&path);
        }
    }
}

/// Where a record is written before it takes its place.
fn aside(record: &Path) -> PathBuf {
    record.with_extension("new")
}

/// The beginning of a draft as a record: its whole chunks.
pub(super) fn beginning(mut record: Record, mut sums: Vec<u128>) -> Record {
    let mut present = Presence::none(record.length);
    for chunk in 0..to_u64(sums.len()) {
        present.set(chunk, true);
    }
    sums.resize(to_usize(present.chunks()), 0);
    record.chunks = sums;
    record.present = Some(present);
    record
}
