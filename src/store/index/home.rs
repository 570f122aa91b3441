//! Where sled has its files: a directory of larder's own, by a path that nobody can bend.
//!
//! sled opens, creates and renames by path, and follows links. So it gets the path of an open descriptor, which leads to
//! that directory whatever becomes of the names above it, and a directory only if it and all in it are larder's. In any
//! other there is no index, which costs a slower start.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::store::disk::reach::{Reach, names};

/// Times 10 ms that sled is given to let go of a database that was dropped.
const LETTING_GO: u32 = 50;

/// sled's directory of blobs.
const BLOBS: &str = "blobs";

/// The directory, for as long as sled may use it.
#[derive(Debug)]
pub(super) struct Home(Option<OwnedFd>);

impl Home {
    /// The directory at `path`, made if it is missing; an error if it, or something in it, isn't ours.
    pub(super) fn open(reach: &Reach, path: &Path) -> io::Result<Self> {
        let place = reach.to(path)?;
        match rustix::fs::mkdirat(place.dir(), place.name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let dir = reach.directory(path)?;
        let found = rustix::fs::fstat(&dir)?;
        if !is_ours(&found) {
            return Err(io::Error::other("it belongs to another user"));
        }
        // From now on nobody else puts anything in it.
        if found.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(&dir, Mode::RWXU)?;
        }
        check(dir.as_fd())?;
        Ok(Self(Some(dir)))
    }

    /// The path that sled gets. Not to be used once this is dropped.
    pub(super) fn path(&self) -> PathBuf {
        by_descriptor(self.0.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }
}

impl Drop for Home {
    /// sled's own threads use the path for a moment after the database was dropped. Whoever doesn't let go in time keeps
    /// the descriptor's number for good: another file behind it would be written to.
    fn drop(&mut self) {
        let Some(dir) = self.0.take() else { return };
        for _ in 0..LETTING_GO {
            if is_let_go(dir.as_fd()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = dir.into_raw_fd();
    }
}

/// Moves what is at `path` to `aside`, in place of what was moved there before. Neither is followed if it is a link.
pub(super) fn set_aside(reach: &Reach, path: &Path, aside: &Path) -> io::Result<()> {
    let (from, to) = (reach.to(path)?, reach.to(aside)?);
    let old = by_descriptor(to.dir().as_raw_fd()).join(to.name);
    fs::remove_dir_all(old).or_else(missing_is_fine)?;
    let moved = rustix::fs::renameat(from.dir(), from.name, to.dir(), to.name);
    moved.map_err(io::Error::from).or_else(missing_is_fine)
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn by_descriptor(number: i32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{number}"))
}

/// Looks at all that lies there: plain files with one name, and the directory of blobs with such.
fn check(dir: BorrowedFd<'_>) -> io::Result<()> {
    for name in names(dir)? {
        let name = name?;
        let found = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_fine = match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => found.st_nlink == 1,
            FileType::Directory if name == BLOBS => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                check(rustix::fs::openat(dir, &name, flags, Mode::empty())?.as_fd())?;
                true
            }
            FileType::Directory => true,
            _ => false,
        };
        if !is_fine || !is_ours(&found) {
            return Err(io::Error::other(format!("{} in it isn't larder's", Path::new(&name).display())));
        }
    }
    Ok(())
}

fn is_ours(found: &Stat) -> bool {
    found.st_uid == rustix::process::geteuid().as_raw()
}

/// Whether nobody in this process has the database open, by the lock that sled holds on it.
fn is_let_go(dir: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, "db", flags, Mode::empty()) {
        Ok(file) => rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(_) => true,
    }
}
