//! The one place where a mapping is made.
#![expect(unsafe_code, reason = "mapping a file can't be expressed safely")]

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, Mmap};

/// A read-only, shared mapping of a file's first bytes.
#[derive(Debug, Clone)]
pub(in crate::store) struct Map {
    map: Arc<Mmap>,
    bytes: Bytes,
}

/// Keeps the mapping alive for as long as a slice of it is.
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Map {
    /// Maps the first `length` bytes of a file.
    pub(in crate::store) fn new(file: &File, length: usize) -> io::Result<Self> {
        let mut options = memmap2::MmapOptions::new();
        // SAFETY: the file lies in a directory that one larder process owns under a lock (mode 0700) and whose files
        // are never truncated or rewritten in place: they grow once, then are renamed and unlinked, and an unlinked
        // file keeps its pages while it is mapped. Bytes beyond the point that has been written are never sliced
        // (`Data::slice` is bounded by what was published). Slices go to the kernel's `writev` only, where a fault
        // by a disk error or by somebody's hand is an error code, not a signal; code of ours that reads bytes uses
        // `pread`. Nobody writes through this mapping or holds a reference that relies on bytes not changing.
        let map = Arc::new(unsafe { options.len(length).map(file)? });
        let bytes = Bytes::from_owner(Owner(Arc::clone(&map)));
        Ok(Self { map, bytes })
    }

    /// Bytes mapped.
    pub(in crate::store) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where in the file these very bytes are, by their address.
    pub(in crate::store) fn place(&self, bytes: &[u8]) -> Option<usize> {
        let at = bytes.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr())?;
        (at.checked_add(bytes.len())? <= self.len()).then_some(at)
    }

    /// A slice, without a copy.
    pub(in crate::store) fn slice(&self, from: usize, to: usize) -> Bytes {
        self.bytes.slice(from.min(self.bytes.len())..to.min(self.bytes.len()))
    }

    /// Reads a range in, so that writing it to a socket doesn't wait for the disk. Blocks.
    pub(in crate::store) fn make_resident(&self, from: usize, length: usize) -> io::Result<()> {
        self.map.advise_range(Advice::PopulateRead, from, length)
    }
}
