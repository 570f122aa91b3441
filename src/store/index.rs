//! The index: what makes a start fast, and nothing else.
//!
//! Owns sled. A row says of a key which archive it has, how large it is and when it was used; each could be had from
//! the files again. So every failure here (locked, damaged, full, a panic in sled) costs a slower start at most: the
//! index is set aside and made anew. Nobody waits for it: a million rows take sled a second to read, so they are read
//! while larder serves; and they are written by one thread, from a bounded queue.

mod home;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::disk::layout::shard_of;
use super::disk::reach::Reach;
use super::lru::{Rows, StoredMeta};
use crate::base::key::{ArchiveId, Key};
use home::Home;

/// Rows waiting to be written; at one more, a row is dropped: the files will say it at the next start.
pub(super) const QUEUE: usize = 16_384;

/// Memory sled may use for pages. The index is read once, in order: reading a million rows takes as long with 4 MiB as
/// with 64, and leaves 60 MiB resident rather than 210.
const CACHE: u64 = 4 << 20;

/// Rows written at once, and flushed where more are waiting. What sled was told and hasn't flushed it keeps, with every
/// page as often as it changed: a million rows in batches of 1,000 took it 1.6 GiB, in flushed batches of 128 34 MiB and
/// less time.
const BATCH: usize = 128;

/// How often sled writes to disk what it was told.
const FLUSH: Duration = Duration::from_secs(1);

/// Times 10 ms that sled is given to let go of a database that was dropped.
const LETTING_GO: u32 = 200;

#[derive(Debug)]
enum Change {
    Put(Key, StoredMeta),
    Remove(Key),
}

/// The index, which may be told of changes before it is open.
#[derive(Debug)]
pub(super) struct Index {
    reach: Reach,
    path: PathBuf,
    changes: Mutex<Option<SyncSender<Change>>>,
    /// What was told, until there is someone to write it.
    told: Mutex<Option<Receiver<Change>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Index {
    /// The index in `path`, not open yet.
    pub(super) fn new(reach: Reach, path: PathBuf) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let (changes, told) = (Mutex::new(Some(sender)), Mutex::new(Some(receiver)));
        Self { reach, path, changes, told, writer: Mutex::new(None) }
    }

    /// Opens it and reads all rows, or some if `stop` is set meanwhile; from now on what it is told is written. A damaged
    /// one is set aside as `index.broken` and made anew; if that fails too, larder runs without one. Blocks.
    pub(super) fn load(&self, stop: &AtomicBool) -> Rows {
        let Some(told) = self.told.lock().take() else {
            return Rows::default();
        };
        let opened = self.attempt(stop).or_else(|reason| {
            tracing::warn!(reason, "the index can't be used: it is made anew from the archives");
            if let Err(error) = home::set_aside(&self.reach, &self.path, &self.path.with_extension("broken"))
            {
                tracing::warn!(%error, "the broken index can't be moved away");
            }
            self.attempt(stop)
        });
        match opened {
            Ok((home, db, rows)) => {
                let writer = thread::Builder::new().name("larder-index".to_owned());
                let writing = move || {
                    write(&db, &told);
                    drop(db);
                    drop(home);
                };
                *self.writer.lock() = writer.spawn(writing).ok();
                rows
            }
            Err(reason) => {
                tracing::warn!(reason, "no index: the next start reads every record");
                Rows::default()
            }
        }
    }

    fn attempt(&self, stop: &AtomicBool) -> Result<(Home, sled::Db, Rows), String> {
        let home = Home::open(&self.reach, &self.path).map_err(|error| error.to_string())?;
        let (db, rows) = attempt(&home.path(), stop)?;
        Ok((home, db, rows))
    }

    /// Notes where a key's archive stands now.
    pub(super) fn put(&self, key: Key, slot: StoredMeta) {
        self.send(Change::Put(key, slot));
    }

    /// Notes that a key has no archive.
    pub(super) fn remove(&self, key: Key) {
        self.send(Change::Remove(key));
    }

    /// [`Self::put`] for one who has time, of an index that is loaded. Blocks while the queue is full.
    pub(super) fn put_surely(&self, key: Key, slot: StoredMeta) {
        self.send_surely(Change::Put(key, slot));
    }

    /// [`Self::remove`] for one who has time, of an index that is loaded. Blocks while the queue is full.
    pub(super) fn remove_surely(&self, key: Key) {
        self.send_surely(Change::Remove(key));
    }

    /// Writes what is queued and closes the index.
    pub(super) fn close(&self) {
        self.changes.lock().take();
        self.told.lock().take();
        if let Some(writer) = self.writer.lock().take() {
            // A panic of the writer's has nothing left to lose: the index is disposable.
            let _ = writer.join();
        }
    }

    fn send(&self, change: Change) {
        if let Some(changes) = &*self.changes.lock() {
            // Full or gone: the files know better anyway.
            let _ = changes.try_send(change);
        }
    }

    fn send_surely(&self, change: Change) {
        let changes = self.changes.lock().clone();
        if let Some(changes) = changes {
            // Gone: there is no index.
            let _ = changes.send(change);
        }
    }
}

/// Opens and reads in a thread of its own: sled panics on damage.
fn attempt(path: &Path, stop: &AtomicBool) -> Result<(sled::Db, Rows), String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("larder-index-open".to_owned());
        let opening = thread
            .spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(|| open_and_read(path, stop))))
            .map_err(|error| error.to_string())?;
        match opening.join() {
            Ok(Ok(result)) => result,
            _ => Err("sled panicked while it opened it".to_owned()),
        }
    })
}

fn open_and_read(path: &Path, stop: &AtomicBool) -> Result<(sled::Db, Rows), String> {
    let db = open_when_free(path).map_err(|error| error.to_string())?;
    let mut rows = Rows::default();
    // The first error ends it: sled's iterator doesn't get past a damaged page.
    for row in db.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let (key, value) = row.map_err(|error| error.to_string())?;
        let (key, slot) = parse(&key, &value).ok_or("it has a row of another form")?;
        rows.push(key, slot);
    }
    Ok((db, rows))
}

/// Opens the database. The directory is ours alone, so whoever holds its lock is a database of this very process that
/// has been dropped: sled's own threads let go of it a moment later.
fn open_when_free(path: &Path) -> Result<sled::Db, sled::Error> {
    let flush = u64::try_from(FLUSH.as_millis()).ok();
    let config = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(flush);
    for _ in 0..LETTING_GO {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
    config.open()
}

/// The writer: applies changes in batches until the queue is closed. One failure ends it, with a word.
fn write(db: &sled::Db, changes: &Receiver<Change>) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        while let Some((batch, is_full)) = next_batch(changes) {
            db.apply_batch(batch)?;
            if is_full {
                db.flush()?;
            }
        }
        db.flush().map(|_| ())
    }));
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::info!(%error, "the index is no longer written: the next start reads more records");
        }
        Err(_) => {
            tracing::info!(
                "the index is no longer written: sled panicked; the next start reads more records"
            );
        }
    }
}

/// The next changes, and whether there are as many as fit.
fn next_batch(changes: &Receiver<Change>) -> Option<(sled::Batch, bool)> {
    let mut batch = sled::Batch::default();
    add(&mut batch, &changes.recv().ok()?);
    for _ in 1..BATCH {
        match changes.try_recv() {
            Ok(change) => add(&mut batch, &change),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Some((batch, false)),
        }
    }
    Some((batch, true))
}

fn add(batch: &mut sled::Batch, change: &Change) {
    match change {
        Change::Put(key, slot) => batch.insert(row_key(*key), row(*slot).as_slice()),
        Change::Remove(key) => batch.remove(row_key(*key)),
    }
}

/// A row's key: the shard first, so that rows which are made anew shard by shard are written in order.
fn row_key(key: Key) -> Vec<u8> {
    let mut bytes = shard_of(key).to_be_bytes().to_vec();
    bytes.extend(key.to_bytes());
    bytes
}

/// A row: ID, bytes, filled, used, marks, each 8 bytes, big-endian.
fn row(slot: StoredMeta) -> Vec<u8> {
    let [one, other] = slot.marks;
    let numbers = [slot.id.get(), slot.bytes, slot.filled_at, slot.used_at, one, other];
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn parse(key: &[u8], value: &[u8]) -> Option<(Key, StoredMeta)> {
    let (shard, key) =
        key.split_first_chunk().and_then(|(shard, key)| Some((*shard, Key::from_bytes(key)?)))?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    let mut numbers = value.chunks(8).map(number);
    let mut next = || numbers.next().flatten();
    let (id, bytes, filled_at, used_at) = (next()?, next()?, next()?, next()?);
    let (id, marks) = (ArchiveId::new(id), [next()?, next()?]);
    let is_whole = u16::from_be_bytes(shard) == shard_of(key) && numbers.next().is_none();
    is_whole.then_some((key, StoredMeta { id, bytes, filled_at, used_at, marks }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::key::{JobId, RefId};
    use crate::store::lru::SizedLru;

    fn entry(n: u64) -> (Key, StoredMeta) {
        let by_ref = Key::Ref(RefId::of([n.to_be_bytes().as_slice()]));
        let key = if n == 3 { by_ref } else { Key::Job(JobId::parse(&n.to_string()).unwrap()) };
        (key, StoredMeta { id: ArchiveId::new(n), bytes: 10, filled_at: 1, used_at: n, marks: [n, 0] })
    }

    fn index(path: &Path) -> Index {
        Index::new(Reach::into(path.parent().unwrap()).unwrap(), path.to_owned())
    }

    fn open(path: &Path) -> (Index, Vec<(Key, StoredMeta)>) {
        let index = index(path);
        let rows = index.load(&AtomicBool::new(false));
        (index, SizedLru::listed(rows).iter().collect())
    }

    #[test]
    fn rows_survive_a_restart_and_so_do_those_told_before_it_was_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = index(&path);
        let (key, slot) = entry(1);
        index.put(key, slot);
        index.load(&AtomicBool::new(false));
        for n in 2..=3 {
            let (key, slot) = entry(n);
            index.put(key, slot);
        }
        index.remove_surely(entry(2).0);
        index.close();
        assert_eq!(open(&path).1, [entry(1), entry(3)]);
    }

    #[test]
    fn garbage_and_rows_of_another_form_are_set_aside_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        for garbage in ["conf", "db", "row"] {
            fs::create_dir_all(&path).unwrap();
            if garbage == "row" {
                let db = sled::open(&path).unwrap();
                db.insert(7_u64.to_be_bytes(), [0; 48].as_slice()).unwrap();
                db.flush().unwrap();
            } else {
                fs::write(path.join(garbage), [0x5a_u8; 4096]).unwrap();
            }
            let (index, rows) = open(&path);
            assert!(rows.is_empty());
            let (key, slot) = entry(7);
            index.put(key, slot);
            index.close();
            let (index, rows) = open(&path);
            assert_eq!(rows.len(), 1, "it works again after {garbage}");
            index.close();
            fs::remove_dir_all(&path).unwrap();
        }
    }

    #[test]
    fn whoever_stops_it_waits_for_no_more_rows_and_breaks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        for n in 1..=2 {
            let (index, _) = open(&path);
            let (key, slot) = entry(n);
            index.put(key, slot);
            index.close();
        }
        let index = index(&path);
        assert!(SizedLru::listed(index.load(&AtomicBool::new(true))).iter().next().is_none());
        index.close();
        assert_eq!(open(&path).1, [entry(1), entry(2)]);
    }
}
