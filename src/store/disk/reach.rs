//! The way into the cache directory: name by name, and through no link.
//!
//! The directory may lie in somebody else's, or be his: then he can put a link, a pipe or a second name of a foreign file
//! in the place of any file, at any moment. So each path is walked from the directory itself, which is opened once and may
//! be reached however the operator likes; what is opened at its end is a plain file or a directory, or an error.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, StatVfs};
use rustix::io::Errno;

/// Bytes of the longest record: of an archive of 16 TiB, with a checksum of 16 bytes for each MiB. What is longer is read so
/// far, and then isn't whole.
const LONGEST: u64 = 256 << 20;

/// The cache directory, held open. A clone is the same.
#[derive(Clone)]
pub(in crate::store) struct Reach(Arc<Root>);

struct Root {
    path: PathBuf,
    fd: OwnedFd,
}

/// A name in a directory that was walked to.
pub(in crate::store) struct ReachedName<'a> {
    root: &'a Root,
    /// `None`: the root.
    above: Option<OwnedFd>,
    pub(in crate::store) name: &'a OsStr,
}

impl ReachedName<'_> {
    /// The directory that the name is in.
    pub(in crate::store) fn dir(&self) -> BorrowedFd<'_> {
        self.above.as_ref().map_or_else(|| self.root.fd.as_fd(), AsFd::as_fd)
    }

    /// Opens what is there. A link isn't followed, and a pipe isn't waited for.
    pub(in crate::store) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        open(self.dir(), self.name, flags)
    }
}

impl Reach {
    /// Into `path`, which is there, and may be a link itself: that is the operator's.
    pub(in crate::store) fn into(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self(Arc::new(Root { path: path.to_owned(), fd })))
    }

    /// The directory's own path.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The directory itself.
    pub(in crate::store) fn root(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// Walks to the directory that `path` is in.
    pub(in crate::store) fn to<'a>(&'a self, path: &'a Path) -> io::Result<ReachedName<'a>> {
        let root = &*self.0;
        let below = path.strip_prefix(&root.path).map_err(io::Error::other)?;
        let (mut above, mut name) = (None::<OwnedFd>, OsStr::from_bytes(b"."));
        for (at, component) in below.components().enumerate() {
            let Component::Normal(next) = component else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            if at > 0 {
                let dir = above.as_ref().map_or_else(|| root.fd.as_fd(), AsFd::as_fd);
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                above = Some(open(dir, name, flags)?);
            }
            name = next;
        }
        Ok(ReachedName { root, above, name })
    }

    /// Opens a directory.
    pub(in crate::store) fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.to(path)?.open(OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a file to be read.
    pub(in crate::store) fn file(&self, path: &Path) -> io::Result<File> {
        plain(self.to(path)?.open(OFlags::RDONLY)?, path)
    }

    /// All of a record's bytes, or of another small file's.
    pub(in crate::store) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path)?.take(LONGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A file's length; what isn't a plain file isn't there.
    pub(in crate::store) fn length(&self, path: &Path) -> io::Result<u64> {
        let place = self.to(path)?;
        let found = rustix::fs::statat(place.dir(), place.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::NotFound.into());
        }
        u64::try_from(found.st_size).map_err(io::Error::other)
    }

    /// Whether there is a plain file; an error is no answer.
    pub(in crate::store) fn is_file(&self, path: &Path) -> io::Result<bool> {
        match self.length(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names in a directory; none if there is no such directory.
    pub(in crate::store) fn names(
        &self,
        path: &Path,
    ) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        let names = match self.directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(names(opened?.as_fd())?),
        };
        Ok(names.into_iter().flatten())
    }

    /// What the file system that a directory is on has left.
    pub(in crate::store) fn free(&self, path: &Path) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(self.directory(path)?)?)
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reach").field(&self.0.path).finish()
    }
}

/// The names in an open directory.
pub(in crate::store) fn names(
    dir: BorrowedFd<'_>,
) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
    let named = |entry: rustix::io::Result<DirEntry>| {
        let entry = entry?;
        Ok(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
    };
    let is_name = |name: &io::Result<OsString>| !matches!(name, Ok(name) if name == "." || name == "..");
    Ok(Dir::read_from(dir)?.map(named).filter(is_name))
}

/// An open file, if it is a plain one: not a pipe, a device or a directory.
pub(in crate::store) fn plain(fd: OwnedFd, path: &Path) -> io::Result<File> {
    let file = File::from(fd);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other(format!("{} is no plain file", path.display())))
}

/// An open file whose bytes may be changed: a plain one that has no other name, by which it would be somebody else's too.
pub(in crate::store) fn changeable(fd: OwnedFd, path: &Path) -> io::Result<File> {
    let file = plain(fd, path)?;
    // One that was removed meanwhile has none.
    if file.metadata()?.nlink() <= 1 {
        return Ok(file);
    }
    Err(io::Error::other(format!("{} has another name elsewhere: it isn't changed", path.display())))
}

fn open(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let careful = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags | careful, Mode::RUSR | Mode::WUSR);
    opened.map_err(|error| match error {
        Errno::LOOP => linked(name),
        Errno::NOTDIR if is_link(dir, name) => linked(name),
        Errno::NOTDIR => io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is no directory", Path::new(name).display()),
        ),
        error => error.into(),
    })
}

fn is_link(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
}

fn linked(name: &OsStr) -> io::Error {
    io::Error::other(format!(
        "{} is a link, and nothing in the cache directory is reached through one: remove it",
        Path::new(name).display()
    ))
}
