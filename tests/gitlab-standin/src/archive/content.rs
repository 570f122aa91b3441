//! Where bytes come from when they are served, and where they go when they arrive.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use ring::digest::{Context, SHA256};

use super::hex;

/// The period of [`pattern`], prime so that an offset that is off by a power of two shows.
const PERIOD: u64 = 251;
/// One run of the pattern, long enough to serve from and a multiple of the period.
static PATTERN: LazyLock<Bytes> =
    LazyLock::new(|| (0..=250u8).cycle().take(251 * 1024).collect::<Vec<_>>().into());

/// The bytes of `GET /bytes/:n` from `offset` on: byte `i` is `i % 251`. At most 250 KiB are returned.
pub fn pattern(offset: u64, len: usize) -> Bytes {
    let start = usize::try_from(offset % PERIOD).unwrap_or_default();
    PATTERN.slice(start..PATTERN.len().min(start.saturating_add(len)))
}

/// Immutable bytes of a known length, readable anywhere.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file that has no name any more.
    File(Arc<File>, u64),
    /// So many bytes of [`pattern`].
    Pattern(u64),
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File(_, len) | Self::Pattern(len) => *len,
        }
    }

    /// Up to `max` bytes from `offset`. Files are read in place: the page cache has them, and a stand-in
    /// may hold a thread of the runtime for a moment.
    pub(crate) fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = max.min(left);
        match self {
            Self::Memory(bytes) => {
                let start = bytes.len() - left;
                Ok(bytes.slice(start..start + len))
            }
            Self::File(file, _) => {
                let mut buffer = BytesMut::zeroed(len);
                file.read_exact_at(&mut buffer, offset)?;
                Ok(buffer.freeze())
            }
            Self::Pattern(_) => Ok(pattern(offset, len)),
        }
    }
}

/// Collects written bytes in memory.
#[derive(Debug, Default)]
pub(crate) struct MemorySink(Vec<u8>);

impl MemorySink {
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

impl Write for MemorySink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects written bytes in an unlinked temporary file, hashing on the way.
pub(crate) struct FileSink {
    file: File,
    len: u64,
    digest: Context,
}

impl FileSink {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, len: 0, digest: Context::new(&SHA256) })
    }

    /// The content and its SHA-256.
    pub(crate) fn finish(self) -> (Content, String) {
        (Content::File(Arc::new(self.file), self.len), hex(self.digest.finish().as_ref()))
    }
}

impl Write for FileSink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write_all(data)?;
        self.digest.update(data);
        self.len += u64::try_from(data.len()).map_err(io::Error::other)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
