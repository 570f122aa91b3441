//! Whether bytes are a zip archive.
//!
//! Owns the reading of zip directories, hostile ones included. Pure: bytes come through [`ReadAt`]; knows nothing of
//! files, GitLab or caches. `rawzip` finds the end record and walks the directory, in constant memory; what it leaves
//! to its caller (the count, entries outside the archive) is checked here.

use std::io;

use rawzip::{RECOMMENDED_BUFFER_SIZE, ReaderAt, ZipArchive, ZipLocator};

/// How far back from its end an archive's end record may begin: its 22 bytes and the longest comment
/// (APPNOTE 4.3.16); Go looks no further either.
const SEARCH: u64 = 22 + 65_535;

/// Length of a local file header without name and extra fields (APPNOTE 4.3.7).
const LOCAL_HEADER: u64 = 30;

/// Bytes that can be read anywhere.
pub trait ReadAt {
    /// Reads some bytes from `at`; zero at the end.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
}

/// Why bytes aren't a whole archive.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    /// The directory can't be read, or there is none.
    #[error("not a zip archive: {0}")]
    Directory(#[from] rawzip::Error),
    /// There is something behind the end record.
    #[error("{0} bytes behind the zip archive's end")]
    Trailing(u64),
    /// The end record promises another number of entries.
    #[error("the zip directory has {found} entries and should have {promised}")]
    Count {
        /// Entries in the directory.
        found: u64,
        /// Entries by the end record.
        promised: u64,
    },
    /// An entry begins where the archive has ended.
    #[error("an entry lies outside of the zip archive")]
    Outside,
}

/// Whether a body begins as an archive: with an entry, or with the end record of an empty one.
pub fn begins_as_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// How many bytes [`begins_as_zip`] looks at.
pub const MAGIC: usize = 4;

/// Checks that `length` bytes are one archive, to the last byte, and returns how many entries it has. Reads the
/// directory only. Blocks.
pub fn check(source: &impl ReadAt, length: u64) -> Result<u64, NotWhole> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let locator = ZipLocator::new().max_search_space(SEARCH);
    let reader = Bounded { source, length };
    let archive = locator.locate_in_reader(reader, &mut buffer, length).map_err(|(_, error)| error)?;
    if let Some(trailing) = length.checked_sub(archive.end_offset()).filter(|trailing| *trailing > 0) {
        return Err(NotWhole::Trailing(trailing));
    }
    let found = walk(&archive, &mut buffer)?;
    let promised = archive.entries_hint();
    if found == promised { Ok(found) } else { Err(NotWhole::Count { found, promised }) }
}

fn walk<R: ReaderAt>(archive: &ZipArchive<R>, buffer: &mut [u8]) -> Result<u64, NotWhole> {
    let directory = archive.directory_offset();
    let mut entries = archive.entries(buffer);
    let mut found = 0;
    while let Some(entry) = entries.next_entry()? {
        let end = entry.local_header_offset().checked_add(LOCAL_HEADER);
        if end.is_none_or(|end| end > directory) {
            return Err(NotWhole::Outside);
        }
        found += 1;
    }
    Ok(found)
}

/// The archive's own bytes, and none behind them.
struct Bounded<'a, S> {
    source: &'a S,
    length: u64,
}

impl<S: ReadAt> ReaderAt for Bounded<'_, S> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let left = crate::num::to_usize(self.length.saturating_sub(at));
        let inside = left.min(buffer.len());
        self.source.read_at(buffer.get_mut(..inside).unwrap_or_default(), at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::to_u64;

    /// A stored entry `a` holding `x`, its directory and the end record.
    pub(crate) fn zip(comment: &[u8]) -> Vec<u8> {
        let sizes = [0x83, 0x16, 0xdc, 0x8c, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
        let local = [b"PK\x03\x04\x0a\0\0\0\0\0\0\0\0\0".as_slice(), &sizes, b"ax"].concat();
        let central = [b"PK\x01\x02\x0a\0\x0a\0\0\0\0\0\0\0\0\0".as_slice(), &sizes, &[0; 14], b"a"].concat();
        let numbers = [u32::try_from(central.len()).unwrap(), u32::try_from(local.len()).unwrap()];
        let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let comment = [&u16::try_from(comment.len()).unwrap().to_le_bytes(), comment].concat();
        [local, central, b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec(), numbers, comment].concat()
    }

    fn check(bytes: &[u8]) -> Result<u64, NotWhole> {
        struct Slice<'a>(&'a [u8]);
        impl ReadAt for Slice<'_> {
            fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
                let rest = self.0.get(crate::num::to_usize(at)..).unwrap_or_default();
                let n = rest.len().min(buffer.len());
                buffer[..n].copy_from_slice(&rest[..n]);
                Ok(n)
            }
        }
        super::check(&Slice(bytes), to_u64(bytes.len()))
    }

    #[test]
    fn a_whole_archive_is_one() {
        assert_eq!(check(&zip(b"")).unwrap(), 1);
        assert_eq!(check(&zip(&vec![b'c'; 65_535])).unwrap(), 1, "the longest comment");
        let empty = [b"PK\x05\x06".as_slice(), &[0; 18]].concat();
        assert_eq!(check(&empty).unwrap(), 0);
        assert!(begins_as_zip(&empty) && begins_as_zip(&zip(b"")) && !begins_as_zip(b"<htm"));
    }

    #[test]
    fn a_cut_archive_is_none_wherever_it_is_cut() {
        let whole = zip(b"comment");
        for length in 0..whole.len() {
            assert!(check(&whole[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn what_follows_the_end_and_what_lies_about_it_is_noticed() {
        assert!(matches!(check(&[zip(b"").as_slice(), b"more"].concat()), Err(NotWhole::Trailing(4))));
        let mut lies = zip(b"");
        let count = lies.len() - 12;
        lies[count] = 2;
        lies[count - 2] = 2;
        assert!(check(&lies).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, at in 0_usize..120, with: u8) {
            let _ = check(&bytes);
            let mut mutant = zip(&bytes[..bytes.len().min(100)]);
            let at = at % mutant.len();
            mutant[at] = with;
            let _ = check(&mutant);
        }
    }
}
