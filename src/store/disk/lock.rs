//! Who owns the cache directory.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::store::Error;
use crate::store::disk::reach::{Reach, changeable};

/// Times 10 ms that whoever has the directory is given to let go of it: a larder that has just ended, or a program that it
/// was about to start and that holds its files until it runs.
const LETTING_GO: u32 = 50;

/// The cache directory, owned until this is dropped.
#[derive(Debug)]
pub(in crate::store) struct Lock {
    _file: File,
    /// The way into it.
    pub(in crate::store) reach: Reach,
}

/// Makes the cache directory ours alone: mode 0700, if it belongs to us, and one process at a time.
pub(in crate::store) fn own(dir: &Path) -> Result<Lock, Error> {
    let fail = |reason| Error::Directory { path: dir.to_owned(), reason };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    own_existing(dir)
}

/// The same of a directory that must be there.
pub(in crate::store) fn own_existing(dir: &Path) -> Result<Lock, Error> {
    let fail = |reason| Error::Directory { path: dir.to_owned(), reason };
    let reach = Reach::into(dir).map_err(fail)?;
    close_to_others(&reach).map_err(fail)?;
    let file = lock_file(&reach).map_err(fail)?;
    for _ in 0..LETTING_GO {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file, reach }),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(reason)) => return Err(fail(reason)),
        }
    }
    Err(Error::InUse { path: dir.to_owned() })
}

fn close_to_others(reach: &Reach) -> io::Result<()> {
    let found = rustix::fs::fstat(reach.root())?;
    let us = rustix::process::geteuid().as_raw();
    if found.st_uid != us {
        tracing::warn!(
            dir = %reach.path().display(),
            owner = found.st_uid,
            mode = format_args!("{:o}", found.st_mode & 0o7777),
            "the cache directory belongs to another user and stays as it is: whoever it is open to can see the names in it, \
             and change what is served from it; what larder makes there is for itself alone"
        );
    } else if found.st_mode & 0o077 != 0 {
        rustix::fs::fchmod(reach.root(), Mode::RWXU)?;
    }
    Ok(())
}

/// Opens the lock, made if it is missing: a file of ours that has no other name.
fn lock_file(reach: &Reach) -> io::Result<File> {
    let path = reach.path().join("lock");
    changeable(reach.to(&path)?.open(OFlags::CREATE | OFlags::WRONLY)?, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let lock = own(dir.path()).unwrap();
        assert!(matches!(own(dir.path()), Err(Error::InUse { .. })));
        drop(lock);
        assert!(own(dir.path()).is_ok());
    }
}
