//! Who owns the cache directory.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use super::Error;

/// Times 10 ms that whoever has the directory is given to let go of it: a larder that has just ended, or a program that it
/// was about to start and that holds its files until it runs.
const LETTING_GO: u32 = 50;

/// The cache directory, owned until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Makes the cache directory ours alone: mode 0700, and one process at a time.
pub(super) fn own(dir: &Path) -> Result<Lock, Error> {
    let fail = |reason| Error::Directory { path: dir.to_owned(), reason };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    let mode = fs::metadata(dir).map_err(fail)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(fail)?;
    }
    let file =
        File::options().create(true).truncate(false).write(true).open(dir.join("lock")).map_err(fail)?;
    for _ in 0..LETTING_GO {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(reason)) => return Err(fail(reason)),
        }
    }
    Err(Error::InUse { path: dir.to_owned() })
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
