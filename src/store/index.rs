//! The index: what makes a start fast, and nothing else.
//!
//! Owns sled. A row says of a key which archive it has, how large it is and when it was used; each could be had from
//! the files again. So every failure here (locked, damaged, full, a panic in sled) costs a slower start at most: the
//! index is set aside and made anew. Nobody waits for it: rows are written by one thread, from a bounded queue.

use std::collections::HashMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::shelf::Slot;
use crate::key::{ArchiveId, Key};

/// Rows waiting to be written; at one more, a row is dropped: the files will say it at the next start.
const QUEUE: usize = 16_384;

/// Memory sled may use for pages. The index is read once, at the start, in order.
const CACHE: u64 = 16 << 20;

/// How often sled writes to disk what it was told.
const FLUSH: Duration = Duration::from_secs(1);

/// Times 10 ms that sled is given to let go of a database that was dropped.
const LETTING_GO: u32 = 200;

#[derive(Debug)]
enum Change {
    Put(Key, Slot),
    Remove(Key),
}

/// The index's writing end.
#[derive(Debug)]
pub(super) struct Index {
    changes: Mutex<Option<SyncSender<Change>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Rows found at the start.
pub(super) type Rows = HashMap<Key, Slot>;

impl Index {
    /// Opens the index in `path` and reads all rows. A damaged one is set aside as `index.broken` and made anew; if
    /// that fails too, larder runs without one.
    pub(super) fn open(path: &Path) -> (Self, Rows) {
        let opened = attempt(path).or_else(|reason| {
            tracing::warn!(reason, "the index can't be used: it is made anew from the archives");
            set_aside(path);
            attempt(path)
        });
        match opened {
            Ok((db, rows)) => (Self::start(db), rows),
            Err(reason) => {
                tracing::warn!(reason, "no index: the next start reads every record");
                (Self { changes: Mutex::new(None), writer: Mutex::new(None) }, Rows::new())
            }
        }
    }

    /// Notes where a key's archive stands now.
    pub(super) fn put(&self, key: Key, slot: Slot) {
        self.send(Change::Put(key, slot));
    }

    /// Notes that a key has no archive.
    pub(super) fn remove(&self, key: Key) {
        self.send(Change::Remove(key));
    }

    /// Writes what is queued and closes the index.
    pub(super) fn close(&self) {
        self.changes.lock().take();
        if let Some(writer) = self.writer.lock().take() {
            // A panic of the writer's has nothing left to lose: the index is disposable.
            let _ = writer.join();
        }
    }

    fn start(db: sled::Db) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let writer =
            thread::Builder::new().name("larder-index".to_owned()).spawn(move || write(&db, &receiver)).ok();
        Self { changes: Mutex::new(writer.is_some().then_some(sender)), writer: Mutex::new(writer) }
    }

    fn send(&self, change: Change) {
        if let Some(changes) = &*self.changes.lock() {
            // Full or gone: the files know better anyway.
            let _ = changes.try_send(change);
        }
    }
}

/// Opens and reads in a thread of its own: sled panics on damage.
fn attempt(path: &Path) -> Result<(sled::Db, Rows), String> {
    let path = path.to_owned();
    let thread = thread::Builder::new().name("larder-index-open".to_owned());
    let opening = thread
        .spawn(move || catch_unwind(AssertUnwindSafe(|| open_and_read(&path))))
        .map_err(|e| e.to_string())?;
    match opening.join() {
        Ok(Ok(result)) => result.map_err(|error| error.to_string()),
        _ => Err("sled panicked while it opened it".to_owned()),
    }
}

fn open_and_read(path: &Path) -> Result<(sled::Db, Rows), sled::Error> {
    let db = open_when_free(path)?;
    let mut rows = Rows::new();
    // The first error ends it: sled's iterator doesn't get past a damaged page.
    for row in db.iter() {
        let (key, value) = row?;
        if let Some((key, slot)) = parse(&key, &value) {
            rows.insert(key, slot);
        }
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

fn set_aside(path: &Path) {
    let aside = path.with_extension("broken");
    let moved = fs::remove_dir_all(&aside).or_else(missing_is_fine).and_then(|()| fs::rename(path, &aside));
    if let Err(error) = moved.or_else(missing_is_fine) {
        tracing::warn!(%error, "the broken index can't be moved away");
    }
}

fn missing_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The writer: applies changes in batches until the queue is closed. One failure ends it, with a word.
fn write(db: &sled::Db, changes: &Receiver<Change>) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        while let Some(batch) = next_batch(changes) {
            db.apply_batch(batch)?;
        }
        db.flush().map(|_| ())
    }));
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the index is no longer written: the next start reads more records");
        }
        Err(_) => {
            tracing::warn!(
                "the index is no longer written: sled panicked; the next start reads more records"
            );
        }
    }
}

fn next_batch(changes: &Receiver<Change>) -> Option<sled::Batch> {
    let mut batch = sled::Batch::default();
    let first = changes.recv().ok()?;
    add(&mut batch, &first);
    for _ in 0..1000 {
        match changes.recv_timeout(Duration::ZERO) {
            Ok(change) => add(&mut batch, &change),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(batch)
}

fn add(batch: &mut sled::Batch, change: &Change) {
    match change {
        Change::Put(key, slot) => batch.insert(key.to_bytes(), row(*slot).as_slice()),
        Change::Remove(key) => batch.remove(key.to_bytes()),
    }
}

/// A row: ID, bytes, filled, used, marks, each 8 bytes, big-endian.
fn row(slot: Slot) -> Vec<u8> {
    let [one, other] = slot.marks;
    let numbers = [slot.id.get(), slot.bytes, slot.filled_at, slot.used_at, one, other];
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn parse(key: &[u8], value: &[u8]) -> Option<(Key, Slot)> {
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    let mut numbers = value.chunks(8).map(number);
    let mut next = || numbers.next().flatten();
    let (id, bytes, filled_at, used_at) = (next()?, next()?, next()?, next()?);
    let (id, marks) = (ArchiveId::new(id), [next()?, next()?]);
    Some((Key::from_bytes(key)?, Slot { id, bytes, filled_at, used_at, marks }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{JobId, RefId};

    fn entry(n: u64) -> (Key, Slot) {
        let by_ref = Key::Ref(RefId::of([n.to_be_bytes().as_slice()]));
        let key = if n == 3 { by_ref } else { Key::Job(JobId::parse(&n.to_string()).unwrap()) };
        (key, Slot { id: ArchiveId::new(n), bytes: 10, filled_at: 1, used_at: 2, marks: [n, 0] })
    }

    #[test]
    fn rows_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let (index, rows) = Index::open(&path);
        assert!(rows.is_empty());
        for n in 1..=3 {
            let (key, slot) = entry(n);
            index.put(key, slot);
        }
        index.remove(entry(2).0);
        index.close();
        let (_, rows) = Index::open(&path);
        assert_eq!(rows, [entry(1), entry(3)].into_iter().collect());
    }

    #[test]
    fn garbage_is_set_aside_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        for garbage in ["conf", "db"] {
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(garbage), [0x5a_u8; 4096]).unwrap();
            let (index, rows) = Index::open(&path);
            assert!(rows.is_empty());
            let (key, slot) = entry(7);
            index.put(key, slot);
            index.close();
            let (index, rows) = Index::open(&path);
            assert_eq!(rows.len(), 1, "it works again after {garbage}");
            index.close();
            fs::remove_dir_all(&path).unwrap();
        }
    }
}
