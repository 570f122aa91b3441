//! An archive that is whole and open.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::data::Data;
use super::record::Record;
use super::room::Shared;
use super::slices::Slices;
use crate::fields::Kept;
use crate::grant::{Facts, Grant, Visitors};
use crate::key::{ArchiveId, Key};
use crate::route::Class;

/// An open archive. While anything refers to it, its bytes can be read, even after it has left the store.
#[derive(Debug)]
pub struct Archive {
    record: Record,
    bytes: u64,
    data: Arc<Data>,
    shared: Arc<Shared>,
    retired: AtomicBool,
    visitors: Arc<Visitors>,
    learned: Mutex<Learned>,
}

/// What GitLab said of it after it was filled.
#[derive(Debug)]
struct Learned {
    facts: Facts,
    /// By route; the ones it was filled with until GitLab gives others.
    kept: [Arc<Kept>; Class::ALL.len()],
}

impl Archive {
    pub(super) fn new(
        record: Record,
        bytes: u64,
        data: Arc<Data>,
        visitors: Arc<Visitors>,
        shared: Arc<Shared>,
    ) -> Self {
        let kept = Arc::new(record.kept.clone());
        let learned =
            Learned { facts: record.facts.clone(), kept: std::array::from_fn(|_| Arc::clone(&kept)) };
        let learned = Mutex::new(learned);
        Self { record, bytes, data, shared, retired: AtomicBool::new(false), visitors, learned }
    }

    /// What it is stored under.
    pub const fn key(&self) -> Key {
        self.record.key
    }

    /// Its name.
    pub const fn id(&self) -> ArchiveId {
        self.record.id
    }

    /// What stands beside it on disk.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Who was let in last.
    pub fn visitors(&self) -> &Visitors {
        &self.visitors
    }

    /// All facts known of it.
    pub fn facts(&self) -> Facts {
        self.learned.lock().facts.clone()
    }

    /// Remembers facts that GitLab added, and the fields it gives on this route.
    pub fn learn(&self, facts: Facts, class: Class, kept: Kept) {
        let mut learned = self.learned.lock();
        learned.facts = facts;
        if let (false, Some(slot)) = (kept.describes_nothing(), learned.kept.get_mut(class.index())) {
            *slot = Arc::new(kept);
        }
    }

    /// The fields GitLab gives on this route, or gave when the archive was filled.
    pub fn kept(&self, class: Class) -> Arc<Kept> {
        let [job, runner] = &self.learned.lock().kept;
        Arc::clone(match class {
            Class::Job => job,
            Class::Runner => runner,
        })
    }

    /// A range of its bytes; nothing without a grant that names it, and nothing beyond its end.
    pub fn slices(self: &Arc<Self>, grant: &Grant, range: Range<u64>) -> Option<Slices> {
        let inside = range.start <= range.end && range.end <= self.record.length;
        let fits = grant.fits(self.id(), self.record.facts.tail.as_deref());
        (fits && inside).then(|| Slices::new(Arc::clone(self), range))
    }

    /// Whether it has left the store.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Marks it as gone: its bytes stay taken until its last reader has left. Called under the shelf's lock.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    pub(super) const fn data(&self) -> &Arc<Data> {
        &self.data
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if self.is_retired() {
            self.shared.shelf.lock().shelf.release(self.bytes);
        }
    }
}
