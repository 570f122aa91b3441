//! Reading all archives again, slowly, while larder serves: damage is found before somebody waits for the bytes.
//!
//! Chunk by chunk each archive is read with `pread` (of a bad disk that is an error, where a mapping would be a signal) and
//! compared with its record. Between two reads it stands still for as long as its share of the disk's time demands. What was
//! not in memory before leaves it again; what was is left alone, and found sound in memory: the disk below it is read in a
//! later pass.
//!
//! Sparse archives are left out: each of their chunks is compared when it is first used, and they change as they are read.
//!
//! Nobody asks for what is found damaged, so there is nobody in whose name it could be fetched. The archive stays, and the
//! chunk counts as not compared: whoever reads it next compares it first, and mends it in his own name.

mod pages;
mod pass;
mod share;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use share::TimeShare;

use super::Store;
use super::record::BadRecord;
use super::scan::verify::{Damage, Paths, Subject};
use crate::base::key::{ArchiveId, Key};
use crate::base::num::to_u64;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Mend;
use pass::Pass;

/// How often it is asked whether the next pass is due: a look at the clock.
const IDLE: Duration = Duration::from_secs(1);

/// One going over all archives after the other.
#[derive(Debug)]
pub(crate) struct Scrub {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    share: TimeShare,
    pass: Pass,
    /// What is left of the present shard: some 4,000 archives where there are a million.
    queue: VecDeque<(Key, ArchiveId)>,
    current: Option<Current>,
    buffer: Vec<u8>,
}

/// The archive that is being read.
#[derive(Debug)]
struct Current {
    key: Key,
    id: ArchiveId,
    subject: Subject,
    next: usize,
    /// Whether damage was found in it: said once an archive.
    damaged: bool,
}

impl Scrub {
    /// Goes on where the last one on this store stopped. Blocks.
    pub(crate) fn new(store: Arc<Store>, metrics: Arc<Metrics>, share: TimeShare) -> Self {
        let now = store.clock.now().unix_seconds();
        let noted = store.inner.layout.reach().read(&store.inner.layout.scrub()).ok();
        let noted = noted.and_then(|bytes| String::from_utf8(bytes).ok());
        let pass = noted.and_then(|text| Pass::parse(&text)).unwrap_or_else(|| Pass::begun(now));
        Self { store, metrics, share, pass, queue: VecDeque::new(), current: None, buffer: Vec::new() }
    }

    /// Steps for as long as it is polled, at its share of the time. Ends at once if that is nothing, or with a panic.
    pub(crate) async fn run(self) {
        let (clock, share) = (self.store.clock.clone(), self.share);
        let mut scrub = self;
        while !share.is_none() {
            let begun = clock.now();
            let stepped = crate::base::rt::blocking(move || {
                let more = scrub.step();
                (scrub, more)
            });
            let more = match stepped.await {
                Ok((back, more)) => {
                    scrub = back;
                    more
                }
                Err(error) => {
                    tracing::error!(%error, "stored archives are no longer compared: this is a fault of larder's");
                    return;
                }
            };
            let pause = if more { share.pause(clock.now().since(begun)) } else { IDLE };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads one chunk, or looks for the next archive. Whether there is more to do before the next pass is due. Blocks.
    pub(crate) fn step(&mut self) -> bool {
        if let Some(current) = self.current.take() {
            self.current = self.compare(current);
            return true;
        }
        if let Some((key, id)) = self.queue.pop_front() {
            self.current = self.begin(key, id);
            return true;
        }
        let Some(shard) = self.pass.next(self.store.clock.now().unix_seconds()) else {
            return false;
        };
        let layout = &self.store.inner.layout;
        // A shard that isn't there has no archives yet.
        let listed = layout.list(&layout.shard_at(shard)).unwrap_or_default();
        self.queue = listed.into_keys().collect();
        // An empty shard costs as little to list again.
        if !self.queue.is_empty() || self.pass.is_over() {
            self.note();
        }
        true
    }

    /// Opens an archive that is due; one that was filled in this pass was compared while it was written.
    fn begin(&self, key: Key, id: ArchiveId) -> Option<Current> {
        let slot = self.store.inner.shelf.lock().shelf.get(key).filter(|slot| slot.id == id)?;
        if !self.pass.includes(slot.filled_at) {
            return None;
        }
        let layout = &self.store.inner.layout;
        match Subject::open(layout, &Paths::whole(layout, key, id)) {
            Ok(subject) => {
                pages::read_no_more_than_asked(subject.file());
                Some(Current { key, id, subject, next: 0, damaged: false })
            }
            Err(why) => {
                self.is_lost(key, id, &why);
                None
            }
        }
    }

    /// Compares a chunk; returns what is left to do of the archive. One that has left the store meanwhile is let go of.
    fn compare(&mut self, mut current: Current) -> Option<Current> {
        let Current { key, id, ref subject, next, .. } = current;
        if next >= subject.chunks() || !self.is_stored(key, id) {
            return None;
        }
        let range = subject.bytes(next);
        let cold = pages::cold(subject.file(), &range);
        let compared = subject.compare(next, &mut self.buffer);
        pages::forget(subject.file(), &cold);
        self.metrics.scrubbed(range.end - range.start);
        if let Err(why) = compared
            && self.is_stored(key, id)
        {
            self.is_damaged(&current, &why);
            current.damaged = true;
        }
        current.next += 1;
        Some(current)
    }

    fn is_stored(&self, key: Key, id: ArchiveId) -> bool {
        self.store.holds(key) == Some(id)
    }

    /// Whoever reads this chunk next has to compare it.
    fn is_damaged(&self, current: &Current, why: &Damage) {
        self.metrics.mend(Mend::Found);
        let open = self.store.inner.shelf.lock().open.get(current.id);
        if let Some(open) = open {
            open.chunks().doubt(to_u64(current.next));
        }
        if !current.damaged {
            let (key, archive) = (current.key, current.id);
            let mib = to_u64(current.next);
            tracing::error!(%key, %archive, mib, %why, "a stored archive is damaged: its next reader mends it");
        }
    }

    /// It can't be opened, as its next reader would find out too: it leaves the store. Not if it has left already, nor if
    /// its record is another version's.
    fn is_lost(&self, key: Key, id: ArchiveId, why: &Damage) {
        match why {
            Damage::Record(BadRecord::Version(_)) => return,
            Damage::Io(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%key, archive = %id, %why, "a stored archive can't be compared now");
                return;
            }
            _ => {}
        }
        let taken = self.store.inner.take_out(key, Some(id));
        if taken.is_some() {
            self.metrics.mend(Mend::Lost);
            tracing::error!(%key, archive = %id, %why, "a stored archive is damaged and is dropped");
        }
        self.store.inner.unlink(key, taken);
    }

    /// Notes how far it has come. Without that the next start begins the pass anew, which is no harm.
    fn note(&self) {
        let path = self.store.inner.layout.scrub();
        let unfinished = path.with_extension("new");
        let files = self.store.inner.files();
        let written = files.create(&unfinished);
        let written = written.and_then(|file| files.write_at(&file, self.pass.to_string().as_bytes(), 0));
        let _ = written.and_then(|()| files.rename(&unfinished, &path));
    }
}
