//! What a look at the files has found, for one line each in the log however many there are.

use std::fmt::Display;
use std::path::Path;

/// How many there were, and the first of them.
#[derive(Debug, Default)]
struct Noted {
    count: u64,
    first: Option<(String, String)>,
}

impl Noted {
    fn add(&mut self, path: &Path, reason: &dyn Display) {
        self.count += 1;
        self.first.get_or_insert_with(|| (path.display().to_string(), reason.to_string()));
    }

    fn tell(&self, what: &'static str) {
        if let Some((first, reason)) = &self.first {
            tracing::warn!(count = self.count, first, reason, "{what}");
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(in crate::store) struct Tally {
    /// Archives that the index didn't know.
    pub(in crate::store) adopted: u64,
    /// Rows of the index whose files are gone.
    pub(in crate::store) forgotten: u64,
    /// Archives that were no whole ones, or not the newest of their key.
    pub(in crate::store) deleted: u64,
    damaged: Noted,
    others: Noted,
    unreadable: Noted,
}

impl Tally {
    /// A record can't be believed; its archive is deleted.
    pub(in crate::store) fn damaged(&mut self, path: &Path, reason: &dyn Display) {
        self.damaged.add(path, reason);
    }

    /// A record was written by another version.
    pub(in crate::store) fn left_alone(&mut self, path: &Path, reason: &dyn Display) {
        self.others.add(path, reason);
    }

    /// A file or a directory can't be read.
    pub(in crate::store) fn unreadable(&mut self, path: &Path, reason: &dyn Display) {
        self.unreadable.add(path, reason);
    }

    /// Says what was found, now that all files were looked at and there are so many archives.
    pub(in crate::store) fn tell(&self, archives: usize) {
        self.damaged.tell("records in the store were damaged: they are deleted with their archives");
        self.others.tell("archives in the store are of another version of larder: they are left alone");
        self.unreadable.tell("files in the store can't be read: they are left alone until the next start");
        let Self { adopted, forgotten, deleted, .. } = self;
        tracing::info!(archives, adopted, forgotten, deleted, "the store's files have been looked at");
    }
}
