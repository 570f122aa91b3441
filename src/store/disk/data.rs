//! The bytes of one file, and how they get out.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use crate::base::num::{to_u64, to_usize};
use crate::store::ReadMode;
use crate::store::disk::map::Map;

/// Bytes handed out at a time: large enough that a slice costs one system call among many, small enough that a
/// connection can be checked, and given up, in between.
pub(crate) const SLICE: u64 = 1 << 20;

/// The same where they are copied into memory of ours: as much as a thousand slow readers may hold of it at once.
const COPIED: u64 = 64 << 10;

/// The same for one of many streams of a connection: a frame of HTTP/2.
const LITTLE: u64 = 16 << 10;

/// How bytes of a file are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum ReadPath {
    /// As slices of the mapping, if there is one: for the kernel alone, which turns a page that can't be had into an error.
    Mapped,
    /// As copies, for code of ours: it would be ended by such a page.
    Copied,
    /// The same, shorter ones: for one of many streams of a connection.
    Little,
}

impl ReadPath {
    /// Where a slice from `from` ends that may go no further than `to`.
    pub(in crate::store) fn end(self, from: u64, to: u64) -> u64 {
        match self {
            Self::Mapped => to,
            Self::Copied => to.min(from.saturating_add(COPIED)),
            Self::Little => to.min(from.saturating_add(LITTLE)),
        }
    }
}

/// An open file whose first bytes may be served.
#[derive(Debug)]
pub(in crate::store) struct FileData {
    file: File,
    map: Option<Map>,
    /// Looks for the pages of a file of one slice that may be spared, since the last one found them.
    spared: AtomicU32,
}

/// How many times pages that were found are taken to be there still. A look costs as much as a twentieth of a hit of
/// 64 KiB; pages that were served a moment ago are the last to leave memory.
const SPARED: u32 = 16;

/// A slice, or the promise of one that takes a disk.
pub(in crate::store) enum FileSlice {
    /// At hand.
    Ready(Bytes),
    /// To be read with [`FileData::read`], off the runtime.
    Cold,
}

impl FileData {
    /// Wraps a file. `length` is what the file has or will have; without it, or where mapping fails, bytes are read.
    pub(in crate::store) fn new(file: File, length: Option<u64>, mode: ReadMode) -> Self {
        let mappable = length.filter(|length| *length > 0 && mode == ReadMode::Mapped);
        let map = mappable.and_then(|length| Map::new(&file, to_usize(length)).ok());
        Self { file, map, spared: AtomicU32::new(0) }
    }

    pub(in crate::store) const fn file(&self) -> &File {
        &self.file
    }

    pub(in crate::store) const fn is_mapped(&self) -> bool {
        self.map.is_some()
    }

    /// Where in the file these very bytes of its mapping are.
    pub(in crate::store) fn place(&self, bytes: &[u8]) -> Option<u64> {
        self.map.as_ref()?.place(bytes).map(to_u64)
    }

    /// A slice if it can be had without waiting for the disk.
    pub(in crate::store) fn slice(&self, from: u64, to: u64, way: ReadPath) -> FileSlice {
        match (&self.map, way) {
            (Some(map), ReadPath::Mapped) if self.is_at_hand(map, from, to) => {
                FileSlice::Ready(map.slice(to_usize(from), to_usize(to)))
            }
            (Some(_), ReadPath::Copied | ReadPath::Little) => {
                self.copy(from, to).map_or(FileSlice::Cold, FileSlice::Ready)
            }
            _ => FileSlice::Cold,
        }
    }

    /// A copy of a slice whose pages are all in memory. Where a mapping isn't wanted by the operator the file system may
    /// have no way to say so: those files are read off the runtime.
    fn copy(&self, from: u64, to: u64) -> Option<Bytes> {
        let mut buffer = vec![0; to_usize(to - from)];
        let mut into = [io::IoSliceMut::new(&mut buffer)];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        let read = rustix::io::preadv2(self.file.as_fd(), &mut into, from, flags).ok()?;
        (read == buffer.len()).then(|| Bytes::from(buffer))
    }

    /// The same slice, after waiting for the disk. Blocks.
    pub(in crate::store) fn read(&self, from: u64, to: u64, way: ReadPath) -> io::Result<Bytes> {
        if let (Some(map), ReadPath::Mapped) = (&self.map, way) {
            map.make_resident(to_usize(from), to_usize(to - from))?;
            // Behind the end of a file that somebody cut, its last page reads as zeros.
            if self.file.metadata()?.len() < to {
                return Err(cut());
            }
            return Ok(map.slice(to_usize(from), to_usize(to)));
        }
        let mut buffer = Vec::with_capacity(to_usize(to - from));
        let mut at = from;
        while at < to {
            let read = rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut buffer), at)?;
            if read == 0 {
                return Err(cut());
            }
            at += to_u64(read);
        }
        buffer.truncate(to_usize(to - from));
        Ok(Bytes::from(buffer))
    }

    /// Reads into a buffer, never through the mapping: for what our own code looks at. Blocks.
    pub(in crate::store) fn read_into(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    /// The same, as much as is there in one go.
    pub(in crate::store) fn read_some(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    fn is_at_hand(&self, map: &Map, from: u64, to: u64) -> bool {
        let one_slice = to_u64(map.len()) <= SLICE;
        let spare = |left: u32| left.checked_sub(1).filter(|_| one_slice);
        if self.spared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spare).is_ok() {
            return true;
        }
        let found = self.is_resident(from) && self.is_resident(to - 1);
        self.spared.store(if found { SPARED } else { 0 }, Ordering::Relaxed);
        found
    }

    /// Whether one byte can be read without waiting. Pages may leave again: this only makes waiting rare.
    fn is_resident(&self, at: u64) -> bool {
        let mut byte = [0_u8];
        let mut into = [io::IoSliceMut::new(&mut byte)];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        rustix::io::preadv2(self.file.as_fd(), &mut into, at, flags) == Ok(1)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive's file is shorter than its record says")
}

/// Reads a slice off the runtime.
pub(in crate::store) async fn read_cold(
    data: Arc<FileData>,
    from: u64,
    to: u64,
    way: ReadPath,
) -> io::Result<Bytes> {
    crate::base::rt::blocking(move || data.read(from, to, way)).await?
}
