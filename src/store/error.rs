//! What can go wrong with the store.

use std::io;
use std::path::PathBuf;

use super::record;
use crate::telemetry::metrics::Unstored;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache directory can't be used.
    #[error("cache directory {path}: {reason}; choose one that larder may write to (cache.dir)", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Another process has it.
    #[error("cache directory {path} is in use by another larder; give each its own (cache.dir)", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The budget has no room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The disk refused.
    #[error("can't {doing} an archive: {reason}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        reason: io::Error,
    },
    /// More bytes came than were declared.
    #[error("the archive is longer than declared")]
    TooLong,
    /// Fewer bytes came than were declared.
    #[error("the archive is shorter than declared")]
    TooShort,
    /// The bytes aren't those whose digest GitLab gave.
    #[error("the archive's SHA-256 isn't the one that GitLab gave")]
    OtherDigest,
    /// Bytes that came again aren't those that came before.
    #[error("the archive has changed while it came")]
    OtherBytes,
    /// The record can't be written.
    #[error(transparent)]
    Record(#[from] record::BadRecord),
}

impl Error {
    /// The disk's refusal; a file that is too long for it is the archive's fault.
    pub(super) fn io(doing: &'static str, reason: io::Error) -> Self {
        if reason.kind() == io::ErrorKind::FileTooLarge {
            return Self::NoRoom(NoRoom::File);
        }
        Self::Io { doing, reason }
    }

    /// Why an archive isn't stored; `None` if the archive itself isn't what it should be.
    pub(crate) const fn unstored(&self) -> Option<Unstored> {
        match self {
            Self::NoRoom(NoRoom::Budget { .. }) => Some(Unstored::Budget),
            Self::NoRoom(NoRoom::Disk { .. }) => Some(Unstored::MinFree),
            Self::NoRoom(NoRoom::Object { .. } | NoRoom::File) => Some(Unstored::TooLong),
            Self::Io { .. } | Self::Directory { .. } | Self::InUse { .. } => Some(Unstored::Disk),
            Self::TooLong | Self::TooShort | Self::OtherDigest | Self::OtherBytes | Self::Record(_) => None,
        }
    }
}

/// There isn't room for this, whatever may be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// It doesn't fit the budget beside what can't be evicted.
    #[error("no room for {wanted} bytes in a store of {budget} (cache.max_size)")]
    Budget {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes the store may take.
        budget: u64,
    },
    /// The file system would have too little left.
    #[error(
        "{wanted} bytes more would leave the file system {short} bytes short of what must stay free (cache.min_free)"
    )]
    Disk {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that are missing.
        short: u64,
    },
    /// It is longer than any archive may be.
    #[error("an archive of {wanted} bytes is longer than {longest} (cache.max_object)")]
    Object {
        /// Its bytes, as far as they are known.
        wanted: u64,
        /// The longest that is stored.
        longest: u64,
    },
    /// It is longer than a file may be there.
    #[error("the archive is longer than a file may be in the cache directory")]
    File,
}
