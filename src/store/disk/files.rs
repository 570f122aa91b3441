//! Every change of the cache directory.
//!
//! What the store does to its files it does here, and nowhere else: a test holds the tree to that. Reading needs none of
//! it, but the same [way](crate::store::disk::reach) there. So a simulation sees each change before it is made, can refuse it, and knows what was brought to the disk and what
//! a power cut may take back. sled's directory is sled's own affair.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::base::key::ArchiveId;
use crate::store::disk::reach::{Reach, changeable};

/// The way to the disk: the system's, unless one says otherwise. Everything here blocks.
pub(in crate::store) trait Files: Debug + Send + Sync {
    /// The way to the files.
    fn reach(&self) -> &Reach;

    /// A name that no archive has had.
    fn new_name(&self) -> io::Result<ArchiveId> {
        let mut name = [0; 8];
        SystemRandom::new().fill(&mut name).map_err(|_| io::Error::other("no random bytes"))?;
        Ok(ArchiveId::new(u64::from_ne_bytes(name)))
    }

    /// Makes a file that isn't there, for us alone.
    fn create_new(&self, path: &Path) -> io::Result<File> {
        let place = self.reach().to(path)?;
        changeable(place.open(OFlags::CREATE | OFlags::EXCL | OFlags::RDWR)?, path)
    }

    /// Makes a file in the place of the one that is there. That one isn't emptied: it may have another name.
    fn create(&self, path: &Path) -> io::Result<File> {
        match self.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.create_new(path),
        }
    }

    /// Opens a file whose bytes are to be changed.
    fn open(&self, path: &Path) -> io::Result<File> {
        changeable(self.reach().to(path)?.open(OFlags::RDWR)?, path)
    }

    /// Writes bytes, all of them unless there is an error.
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    /// Makes a file so long.
    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    /// Takes the blocks of a new file now: a disk that is full says so before the first byte. Where a file system can't,
    /// the file is made so long.
    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(length),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the blocks of some bytes back, which are zeros from then on. The file stays as long as it is.
    fn punch(&self, file: &File, hole: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(file, flags, hole.start, hole.end.saturating_sub(hole.start))?)
    }

    /// Brings a file's bytes and its length to the disk.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Gives a file another name, at once; one that had it is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.reach().to(from)?, self.reach().to(to)?);
        Ok(rustix::fs::renameat(from.dir(), from.name, to.dir(), to.name)?)
    }

    /// Takes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let place = self.reach().to(path)?;
        Ok(rustix::fs::unlinkat(place.dir(), place.name, AtFlags::empty())?)
    }

    /// Makes a directory for us alone, and those above it that are missing.
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        match self.reach().directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(drop),
        }
        if let Some(above) = path.parent().filter(|above| *above != self.reach().path()) {
            self.make_directory(above)?;
        }
        let place = self.reach().to(path)?;
        match rustix::fs::mkdirat(place.dir(), place.name, Mode::RWXU) {
            // In a volume that is a group's (`fsGroup`) it would pass the group on.
            Ok(()) => Ok(rustix::fs::fchmod(self.reach().directory(path)?, Mode::RWXU)?),
            Err(Errno::EXIST) => self.reach().directory(path).map(drop),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings a directory's names to the disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.reach().directory(path)?)?)
    }
}

/// The system's.
#[derive(Debug)]
pub(in crate::store) struct Plain(pub(in crate::store) Reach);

impl Files for Plain {
    fn reach(&self) -> &Reach {
        &self.0
    }
}
