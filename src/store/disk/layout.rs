//! Where things lie in the cache directory.
//!
//! ```text
//! <dir>/lock                                   held while a larder runs
//! <dir>/<instance>/archives/<shard>/<key>-<id>.zip      a key is a job ID, or `ref` and a hash
//! <dir>/<instance>/archives/<shard>/<key>-<id>.rec   its rename is the commit
//! <dir>/<instance>/incoming/<key>-<id>.zip     being filled; swept at start
//! <dir>/<instance>/partial/<key>-<id>.zip      some chunks of an archive, with a record that says which
//! <dir>/<instance>/index/                      sled; may be deleted at any time
//! <dir>/<instance>/scrub                       how far the archives have been compared; may be deleted at any time
//! ```
//!
//! An instance's directory is its own: nobody looks into another's.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::key::{ArchiveId, Key};
use crate::store::disk::files::Files;
use crate::store::disk::reach::Reach;

/// Shards: 256, so that a million archives are some 8,000 names a directory.
pub(in crate::store) const SHARDS: u16 = 256;

/// The shard that a key's archive belongs to.
pub(in crate::store) fn shard_of(key: Key) -> u16 {
    u16::try_from(key.spread() % u64::from(SHARDS)).unwrap_or_default()
}

/// Which directory an archive's file is in while nobody can find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Folder {
    /// Swept at each start.
    Incoming,
    /// Where one that is written down is found by the next start.
    Partial,
}

/// The paths of one instance, and the way to change what is there.
#[derive(Debug, Clone)]
pub(in crate::store) struct Layout {
    root: PathBuf,
    pub(in crate::store) files: Arc<dyn Files>,
    /// Shards whose names are on the disk, as far as this process has seen to it: at most all 256.
    shards: Arc<Mutex<HashSet<u16>>>,
}

impl Layout {
    /// The paths below `<dir>/<instance>`, made if they are missing; shards are made when they are needed.
    pub(in crate::store) fn create(instance: &str, files: Arc<dyn Files>) -> io::Result<Self> {
        let dir = files.reach().path().to_owned();
        let layout = Self { root: dir.join(instance), files, shards: Arc::default() };
        for folder in [layout.incoming(), layout.partial(), layout.archives()] {
            layout.files.make_directory(&folder)?;
        }
        // At each start, as the last one may have ended in between: without its directories an archive is lost as well.
        for folder in [&layout.root, &dir] {
            layout.files.sync_directory(folder)?;
        }
        Ok(layout)
    }

    /// The way to what is there.
    pub(in crate::store) fn reach(&self) -> &Reach {
        self.files.reach()
    }

    /// Makes the shard that a key's archive belongs to. That it is there says nothing: the last larder may have ended, or
    /// the disk refused, before its name was on the disk.
    pub(in crate::store) fn make_shard(&self, key: Key) -> io::Result<()> {
        let number = shard_of(key);
        let shard = self.shard_at(number);
        // Somebody may have taken it away.
        if self.shards.lock().contains(&number) && self.reach().directory(&shard).is_ok() {
            return Ok(());
        }
        self.files.make_directory(&shard)?;
        self.files.sync_directory(&self.archives())?;
        self.shards.lock().insert(number);
        Ok(())
    }

    /// Brings the names in a key's shard to the disk.
    pub(in crate::store) fn sync_shard(&self, key: Key) -> io::Result<()> {
        self.files.sync_directory(&self.shard(key))
    }

    pub(in crate::store) fn archives(&self) -> PathBuf {
        self.root.join("archives")
    }

    pub(in crate::store) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub(in crate::store) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(in crate::store) fn partial_zip(&self, key: Key, id: ArchiveId) -> PathBuf {
        self.partial().join(name(key, id, "zip"))
    }

    pub(in crate::store) fn partial_rec(&self, key: Key, id: ArchiveId) -> PathBuf {
        self.partial().join(name(key, id, "rec"))
    }

    pub(in crate::store) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub(in crate::store) fn shard(&self, key: Key) -> PathBuf {
        self.shard_at(shard_of(key))
    }

    pub(in crate::store) fn shard_at(&self, number: u16) -> PathBuf {
        self.archives().join(format!("{number:02x}"))
    }

    /// What lies in a key's shard under its name. Costs one listing of the shard.
    pub(in crate::store) fn of_key(&self, key: Key) -> io::Result<Archives> {
        let begin = format!("{key}-");
        self.list_some(&self.shard(key), |name| name.starts_with(&begin))
    }

    /// The archives a directory's names speak of; none if there is no such directory. Names that aren't ours are left alone.
    pub(in crate::store) fn list(&self, folder: &Path) -> io::Result<Archives> {
        self.list_some(folder, |_| true)
    }

    fn list_some(&self, folder: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Archives> {
        let mut archives = Archives::new();
        for name in self.reach().names(folder)? {
            let name = name?;
            let Some((key, id, extension)) = name.to_str().filter(|name| wanted(name)).and_then(parse) else {
                continue;
            };
            let found = archives.entry((key, id)).or_default();
            match extension {
                Extension::Zip => found.zip = true,
                Extension::Rec => found.rec = true,
                Extension::New => {}
            }
        }
        Ok(archives)
    }

    /// Whether both of an archive's files are there; an error is no answer.
    pub(in crate::store) fn is_whole(&self, key: Key, id: ArchiveId) -> io::Result<bool> {
        Ok(self.reach().is_file(&self.rec(key, id))? && self.reach().is_file(&self.zip(key, id))?)
    }

    pub(in crate::store) fn scrub(&self) -> PathBuf {
        self.root.join("scrub")
    }

    pub(in crate::store) fn zip(&self, key: Key, id: ArchiveId) -> PathBuf {
        self.shard(key).join(name(key, id, "zip"))
    }

    pub(in crate::store) fn rec(&self, key: Key, id: ArchiveId) -> PathBuf {
        self.shard(key).join(name(key, id, "rec"))
    }

    /// Where an archive's file is while nobody can find it.
    pub(in crate::store) fn arriving_zip(&self, folder: Folder, key: Key, id: ArchiveId) -> PathBuf {
        match folder {
            Folder::Incoming => self.incoming().join(name(key, id, "zip")),
            Folder::Partial => self.partial_zip(key, id),
        }
    }

    pub(in crate::store) fn incoming_rec(&self, key: Key, id: ArchiveId) -> PathBuf {
        self.incoming().join(name(key, id, "rec"))
    }
}

fn name(key: Key, id: ArchiveId, extension: &str) -> String {
    format!("{key}-{id}.{extension}")
}

/// What a file of an archive's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Extension {
    Zip,
    Rec,
    /// A record that isn't written to its end.
    New,
}

/// What a file name says, if it is one of ours: key, ID and extension.
pub(in crate::store) fn parse(name: &str) -> Option<(Key, ArchiveId, Extension)> {
    let (stem, extension) = name.split_once('.')?;
    let (key, id) = stem.split_once('-')?;
    let extension = match extension {
        "zip" => Extension::Zip,
        "rec" => Extension::Rec,
        "new" => Extension::New,
        _ => return None,
    };
    Some((Key::parse(key)?, ArchiveId::parse(id)?, extension))
}

/// Which of an archive's two files were found.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::store) struct Found {
    pub(in crate::store) zip: bool,
    pub(in crate::store) rec: bool,
}

impl Found {
    /// Whether both were.
    pub(in crate::store) const fn both(self) -> bool {
        self.zip && self.rec
    }
}

/// The archives that names speak of.
pub(in crate::store) type Archives = BTreeMap<(Key, ArchiveId), Found>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{JobId, RefId};

    #[test]
    fn names_say_what_they_hold() {
        let (key, id) = (Key::Job(JobId::parse("42").unwrap()), ArchiveId::new(255));
        assert_eq!(name(key, id, "zip"), "42-00000000000000ff.zip");
        assert_eq!(parse("42-00000000000000ff.zip"), Some((key, id, Extension::Zip)));
        let by_ref = Key::Ref(RefId::of([b"main".as_slice()]));
        assert_eq!(parse(&name(by_ref, id, "rec")), Some((by_ref, id, Extension::Rec)));
        for bad in [
            "42.zip",
            "x-00000000000000ff.zip",
            "42-ff.zip",
            "042-00000000000000ff.rec",
            ".zip",
            "42-",
            "42-00000000000000ff.txt",
            "42-00000000000000ff.zip.bak",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
