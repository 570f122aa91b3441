//! One entry of a zip: what the directory says of it, and where its data lie.
//!
//! Owns the reading of local headers (APPNOTE 4.3.7) and why an entry isn't read. Sizes and CRC are the directory's,
//! the place of the data is the local header's, data descriptors aren't looked at: as in Go's `archive/zip`.

use std::io;
use std::ops::Range;

use rawzip::{CompressionMethod, ZipFileHeaderRecord};

use super::{LOCAL_HEADER, ReadAt, read_exact};
use crate::base::num::to_u64;

/// Bytes of a local header's extra field that are reckoned with: times, owners and Zip64 sizes take a hundred.
const EXTRA: u64 = 1024;

/// What the directory says of one entry. None of it has been checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How the data are compressed.
    pub method: Method,
    /// The CRC-32 of the inflated bytes. `None` is unknown: a zero, unless a data descriptor is announced or there are
    /// no bytes; Go checks such an entry by its size alone.
    pub crc32: Option<u32>,
    /// How many bytes it takes in the archive.
    pub compressed: u64,
    /// How many bytes come out of it.
    pub size: u64,
    /// Where its local header begins in the file.
    header: u64,
    encrypted: bool,
}

/// How an entry is compressed (APPNOTE 4.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Stored,
    /// Raw deflate (RFC 1951).
    Deflated,
    /// In a way that isn't read here, and neither by GitLab.
    Other(u16),
}

/// Why an entry can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BadEntry {
    /// The archive's bytes can't be read.
    #[error("the zip archive can't be read: {0}")]
    Read(#[from] io::Error),
    /// There is no local header where the directory says.
    #[error("no local header at byte {0} of the zip archive")]
    Header(u64),
    /// Its data would reach into the directory.
    #[error("the data of a zip entry reach into the directory")]
    Outside,
    /// It is encrypted.
    #[error("the zip entry is encrypted")]
    Encrypted,
    /// It is compressed in a way that isn't read here.
    #[error("the zip entry is compressed by method {0}, which isn't supported")]
    Method(u16),
    /// It is stored and should be of another length than its data.
    #[error("the zip entry is stored in {compressed} bytes and should have {size}")]
    Stored {
        /// Bytes in the archive.
        compressed: u64,
        /// Bytes by the directory.
        size: u64,
    },
    /// What should be deflate isn't.
    #[error("the zip entry can't be inflated: {0}")]
    Deflate(#[from] flate2::DecompressError),
    /// Its data end before the deflate stream does.
    #[error("the data of a zip entry end too early")]
    Cut,
    /// There is less in it than the directory says.
    #[error("the zip entry has {found} bytes and should have {size}")]
    Short {
        /// Bytes that came out.
        found: u64,
        /// Bytes by the directory.
        size: u64,
    },
    /// There is more in it than the directory says.
    #[error("the zip entry has more bytes than the {0} that it should have")]
    Long(u64),
    /// Something stands between its deflate stream and the end of its data.
    #[error("{0} bytes behind the zip entry's deflate stream")]
    Slack(u64),
    /// Its bytes have another CRC-32 than the directory says.
    #[error("the zip entry has the CRC-32 {found:08x} and should have {promised:08x}")]
    Checksum {
        /// That of the bytes.
        found: u32,
        /// That of the directory.
        promised: u32,
    },
    /// It has failed before and was asked to go on.
    #[error("the zip entry has failed before")]
    Failed,
}

impl Entry {
    /// Reads a record of the directory.
    pub(super) fn new(record: &ZipFileHeaderRecord<'_>) -> Self {
        let (header, size) = (record.local_header_offset(), record.uncompressed_size_hint());
        if record.is_dir() {
            // Go opens it without a look at its data, so that jar's directories, which deflate nothing, can be read.
            let (method, crc32) = (Method::Stored, Some(0));
            return Self { method, crc32, compressed: 0, size, header, encrypted: false };
        }
        let flags = record.flags();
        let known = record.crc32() != 0 || flags.has_data_descriptor() || size == 0;
        Self {
            method: Method::new(record.compression_method()),
            crc32: known.then_some(record.crc32()),
            compressed: record.compressed_size_hint(),
            size,
            header,
            encrypted: flags.is_encrypted(),
        }
    }

    /// Finds its data in an archive whose directory begins at byte `directory`, by its local header, and refuses an entry
    /// that can't be read whatever they hold. Blocks.
    pub fn locate(&self, source: &impl ReadAt, directory: u64) -> Result<Range<u64>, BadEntry> {
        self.is_readable()?;
        let mut header = [0; 30];
        read_exact(source, &mut header, self.header)?;
        let [b'P', b'K', 3, 4, .., n0, n1, x0, x1] = header else {
            return Err(BadEntry::Header(self.header));
        };
        let (name, extra) = (u16::from_le_bytes([n0, n1]), u16::from_le_bytes([x0, x1]));
        let between = LOCAL_HEADER + u64::from(name) + u64::from(extra);
        let from = self.header.checked_add(between).ok_or(BadEntry::Outside)?;
        let end = from.checked_add(self.compressed).ok_or(BadEntry::Outside)?;
        if end <= directory { Ok(from..end) } else { Err(BadEntry::Outside) }
    }

    /// Where its local header and its data lie before a directory that begins there, with room for an extra field that the directory doesn't speak of: mostly
    /// more than there is, seldom less.
    pub(crate) fn span(&self, name: usize, directory: u64) -> Range<u64> {
        let between = LOCAL_HEADER.saturating_add(to_u64(name)).saturating_add(EXTRA);
        let end = self.header.saturating_add(between).saturating_add(self.compressed);
        let end = end.min(directory);
        self.header.min(end)..end
    }

    /// Where its bytes may lie in an archive whose directory begins there, by what the directory says: the local header's
    /// name and extra field may be longer than that, up to 64 KiB each.
    pub(super) fn reach(&self, directory: u64) -> Range<u64> {
        let longest = LOCAL_HEADER + 2 * u64::from(u16::MAX);
        let end = self.header.saturating_add(longest).saturating_add(self.compressed);
        self.header..end.min(directory)
    }

    fn is_readable(&self) -> Result<(), BadEntry> {
        let Self { compressed, size, .. } = *self;
        match self.method {
            _ if self.encrypted => Err(BadEntry::Encrypted),
            Method::Other(method) => Err(BadEntry::Method(method)),
            Method::Stored if compressed != size => Err(BadEntry::Stored { compressed, size }),
            Method::Stored | Method::Deflated => Ok(()),
        }
    }
}

impl Method {
    fn new(method: CompressionMethod) -> Self {
        match method {
            CompressionMethod::STORE => Self::Stored,
            CompressionMethod::DEFLATE => Self::Deflated,
            other => Self::Other(other.as_u16()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::tests::writer::{File, Zip};
    use crate::zip::tests::{Slice, content, open};

    fn locate(bytes: &[u8]) -> Result<Range<u64>, BadEntry> {
        let directory = open(bytes).unwrap();
        let (_, entry) = directory.entries().next().unwrap();
        entry.locate(&Slice(bytes, usize::MAX), directory.begins_at())
    }

    fn of(file: File) -> Vec<u8> {
        Zip::of([file]).bytes()
    }

    #[test]
    fn data_stand_behind_what_the_local_header_has_not_the_directory() {
        let file = File::stored("name", b"content");
        assert_eq!(locate(&of(file.clone())).unwrap(), 34..41);
        assert_eq!(locate(&of(File { central: vec![0; 50], ..file.clone() })).unwrap(), 34..41);
        assert_eq!(locate(&of(File { local: vec![0; 50], ..file.clone() })).unwrap(), 84..91);
        assert_eq!(locate(&of(File { zip64: true, ..file })).unwrap(), 34..41);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let file = File::stored("a", b"content");
        let cases = [
            (File { flags: 1, ..file.clone() }, "the zip entry is encrypted"),
            (
                File { method: 93, ..file.clone() },
                "the zip entry is compressed by method 93, which isn't supported",
            ),
            (File { size: 8, ..file.clone() }, "the zip entry is stored in 7 bytes and should have 8"),
            (File { at: Some(1), ..file.clone() }, "no local header at byte 1 of the zip archive"),
            (
                File { compressed: 8, size: 8, ..file.clone() },
                "the data of a zip entry reach into the directory",
            ),
            (
                File { compressed: u64::MAX, size: u64::MAX, zip64: true, ..file.clone() },
                "the data of a zip entry reach into the directory",
            ),
            (File { name: b"a/".to_vec(), ..file }, "the zip entry is stored in 0 bytes and should have 7"),
        ];
        for (file, message) in cases {
            assert_eq!(locate(&of(file)).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_file_that_was_cut_under_us_is_an_error() {
        let bytes = of(File::stored("a", b"content"));
        let directory = open(&bytes).unwrap();
        let entry = directory.find(b"a").unwrap();
        let cut = entry.locate(&Slice(&bytes[..29], usize::MAX), directory.begins_at());
        assert!(matches!(cut, Err(BadEntry::Read(_))), "{cut:?}");
    }

    #[test]
    fn a_directory_is_empty_whatever_it_packs() {
        let nothing = File::deflated("d/", b"");
        for file in [
            File { flags: 1, ..nothing.clone() },
            File { crc: 7, ..nothing.clone() },
            File { method: 93, ..nothing.clone() },
            nothing,
        ] {
            assert_eq!(content(&of(file), b"d/").unwrap(), b"");
        }
    }

    #[test]
    fn a_sum_of_zero_is_unknown_where_nothing_says_that_it_is_meant() {
        let file = File { crc: 0, ..File::stored("a", b"content") };
        let sum = |file: File| open(&of(file)).unwrap().find(b"a").unwrap().crc32;
        assert_eq!(sum(file.clone()), None);
        assert_eq!(sum(file.clone().described()), Some(0));
        assert_eq!(sum(File { crc: 1, ..file.clone() }), Some(1));
        assert_eq!(sum(File::stored("a", b"")), Some(0));
        assert_eq!(content(&of(file.clone()), b"a").unwrap(), b"content");
        assert!(matches!(content(&of(file.described()), b"a"), Err(BadEntry::Checksum { promised: 0, .. })));
    }
}
