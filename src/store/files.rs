//! Every change of the cache directory.
//!
//! What the store does to its files it does here, and nowhere else: a test holds the tree to that. Reading needs none of
//! it. So a simulation sees each change before it is made, can refuse it, and knows what was brought to the disk and what
//! a power cut may take back. sled's directory is sled's own affair.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::key::ArchiveId;

/// The way to the disk: the system's, unless one says otherwise. Everything here blocks.
pub(super) trait Files: Debug + Send + Sync {
    /// A name that no archive has had.
    fn new_name(&self) -> io::Result<ArchiveId> {
        let mut name = [0; 8];
        SystemRandom::new().fill(&mut name).map_err(|_| io::Error::other("no random bytes"))?;
        Ok(ArchiveId::new(u64::from_ne_bytes(name)))
    }

    /// Makes a file that isn't there.
    fn create_new(&self, path: &Path) -> io::Result<File> {
        File::options().create_new(true).read(true).write(true).open(path)
    }

    /// Makes a file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<File> {
        File::create(path)
    }

    /// Opens a file whose bytes are to be changed.
    fn open(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).open(path)
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
        fs::rename(from, to)
    }

    /// Takes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Makes a directory for us alone, and those above it that are missing.
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Brings a directory's names to the disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// The system's.
#[derive(Debug)]
pub(super) struct Plain;

impl Files for Plain {}
