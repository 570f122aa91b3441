//! The archives that are open.
//!
//! A plain structure under the shelf's lock: whether an archive is read decides whether it may be evicted, so that must be
//! known at any moment, and not when a cache comes round to letting go.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use hashlink::LruCache;

use super::object::Archive;
use crate::base::key::ArchiveId;

/// Archives that stay open though nobody reads them: a descriptor and a mapping each. The least recently used is closed
/// first.
const KEPT: usize = 1024;

/// What must be dropped after the lock: an archive that has left takes it.
pub(super) type Leaving = Option<Arc<Archive>>;

/// The archives that are open, because somebody reads them or because they were used lately.
#[derive(Debug)]
pub(super) struct OpenArchives {
    kept: LruCache<ArchiveId, Arc<Archive>>,
    all: HashMap<ArchiveId, Weak<Archive>>,
}

impl OpenArchives {
    /// None.
    pub(super) fn new() -> Self {
        Self { kept: LruCache::new(KEPT), all: HashMap::new() }
    }

    /// An archive, if it is open, and it is used now.
    pub(super) fn get(&mut self, id: ArchiveId) -> Option<Arc<Archive>> {
        self.kept.get(&id).map(Arc::clone).or_else(|| self.all.get(&id)?.upgrade())
    }

    /// Keeps an archive open, in place of what was open under its name.
    pub(super) fn keep(&mut self, archive: &Arc<Archive>) -> Leaving {
        self.all.insert(archive.id(), Arc::downgrade(archive));
        let full = self.kept.len() >= KEPT && !self.kept.contains_key(&archive.id());
        let oldest = if full { self.kept.remove_lru().map(|(_, oldest)| oldest) } else { None };
        let before = self.kept.insert(archive.id(), Arc::clone(archive));
        before.or(oldest)
    }

    /// Closes an archive as soon as nobody reads it.
    pub(super) fn remove(&mut self, id: ArchiveId) -> Leaving {
        let (kept, open) = (self.kept.remove(&id), self.all.remove(&id));
        kept.or_else(|| open?.upgrade())
    }

    /// Whether somebody reads an archive.
    pub(super) fn is_read(&self, id: ArchiveId) -> bool {
        let ours = usize::from(self.kept.contains_key(&id));
        self.all.get(&id).is_some_and(|open| open.strong_count() > ours)
    }

    /// Forgets what is closed by now.
    pub(super) fn sweep(&mut self) {
        self.all.retain(|_, open| open.strong_count() > 0);
    }

    /// Lets go of all that nobody reads.
    #[cfg(test)]
    pub(super) fn close(&mut self) -> Vec<Arc<Archive>> {
        self.kept.drain().map(|(_, archive)| archive).collect()
    }
}
