//! Zip archives: whether bytes are one, what is in it, and its entries' bytes.
//!
//! Owns the reading of zip directories and entries, hostile ones included. Pure: bytes come through [`ReadAt`]; knows
//! nothing of files, GitLab or caches. `rawzip` finds the end record and walks the directory, in constant memory; what
//! it leaves to its caller (the count, entries outside the archive, names, sizes that lie) is checked here. Entries are
//! found and read as Go's `archive/zip` does it, since that is what GitLab answers with (`cmd/gitlab-zip-cat`).

mod directory;
mod end;
mod entry;
pub mod gzip;
mod member;
mod places;
mod seams;

use std::io;

use rawzip::{MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ReaderAt, ZipArchive, ZipFileHeaderRecord, ZipLocator};

pub use directory::Directory;
use end::End;
pub(crate) use entry::BadEntry;
pub use entry::{Entry, Method};
pub use member::{Member, PIECE, verify};
pub(crate) use seams::{check_cost, check_entries, check_seams};

/// How far back from its end an archive's end record may begin: its 22 bytes and the longest comment
/// (APPNOTE 4.3.16); Go looks no further either.
const SEARCH: u64 = 22 + 65_535;

/// Length of a local file header without name and extra fields (APPNOTE 4.3.7).
const LOCAL_HEADER: u64 = 30;

/// Length of a directory's record without name, extra fields and comment (APPNOTE 4.3.12).
const CENTRAL_HEADER: u64 = 46;

/// Bytes that can be read anywhere.
pub trait ReadAt {
    /// Reads some bytes from `at`; zero at the end.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Is told how many bytes were unpacked from these, to count them.
    fn unpacked(&self, _bytes: u64) {}
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        (**self).read_at(buffer, at)
    }

    fn unpacked(&self, bytes: u64) {
        (**self).unpacked(bytes);
    }
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
    /// The end record says that the directory is somewhere else than it is, or Go doesn't find it by that record.
    #[error("the zip directory isn't where the end record says")]
    End,
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
    /// An entry's length or place is said to stand in a Zip64 field that doesn't hold it (APPNOTE 4.5.3).
    #[error("an entry of the zip directory lacks its zip64 field")]
    Zip64,
    /// Two entries share bytes.
    #[error("entries of the zip archive overlap")]
    Overlap,
    /// There are more entries out of order than are put in order to see whether they overlap.
    #[error("the zip archive has more than {0} entries, and not in the order of their places")]
    Scattered(u64),
    /// To find out whether transfers of it fit together would take more work than an archive of its length is worth.
    #[error("the entries to be checked would unpack to more than {0} bytes")]
    Costly(u64),
    /// An entry that lies where two transfers meet doesn't add up.
    #[error("the halves of the zip archive don't fit together: {0}")]
    Seam(BadEntry),
    /// The directory is larger than any that is kept in memory.
    #[error("the zip directory would take more than {0} bytes of memory")]
    Heavy(usize),
}

/// Whether a body begins as an archive: with an entry, or with the end record of an empty one.
pub(crate) fn begins_as_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// How many bytes [`begins_as_zip`] looks at.
pub(crate) const MAGIC: usize = 4;

/// Checks that `length` bytes are one archive, to the last byte, whose entries don't overlap, and returns how many there
/// are. Reads the directory only, mostly once. Blocks.
pub fn check(source: &impl ReadAt, length: u64) -> Result<u64, NotWhole> {
    places::check(source, length)
}

/// Where the directory of an archive of `length` bytes begins, by its end record alone. Blocks.
pub(crate) fn directory_begins_at(source: &impl ReadAt, length: u64) -> Result<u64, NotWhole> {
    Ok(Located::find(source, length)?.begins_at())
}

/// An archive whose end record has been found and read.
struct Located<'a, S> {
    archive: ZipArchive<Bounded<'a, S>>,
    /// What Go takes from its end record, where that was asked.
    told: Option<End>,
    /// Holds the longest record that there can be; what `rawzip` recommends doesn't.
    buffer: Vec<u8>,
}

impl<'a, S: ReadAt> Located<'a, S> {
    fn find(source: &'a S, length: u64) -> Result<Self, NotWhole> {
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let locator = ZipLocator::new().max_search_space(SEARCH);
        let reader = Bounded { source, length };
        let archive = locator.locate_in_reader(reader, &mut buffer, length).map_err(|(_, error)| error)?;
        match length.saturating_sub(archive.end_offset()) {
            0 => Ok(Self { archive, told: None, buffer }),
            trailing => Err(NotWhole::Trailing(trailing)),
        }
    }

    /// The same, if Go finds the directory where it was found.
    fn found_by_go(self, source: &S, length: u64) -> Result<Self, NotWhole> {
        match End::read(source, length).map_err(rawzip::Error::from)? {
            Some(end) if end.directory == self.begins_at() => Ok(Self { told: Some(end), ..self }),
            _ => Err(NotWhole::End),
        }
    }

    /// Where the directory begins, in an archive with something before it too.
    fn begins_at(&self) -> u64 {
        self.archive.directory_offset()
    }

    /// How many entries there are, by the end record and by what the directory's bytes can hold.
    fn most(&self) -> u64 {
        let bytes = self.archive.eocd_offset().saturating_sub(self.begins_at());
        self.archive.entries_hint().min(bytes / CENTRAL_HEADER)
    }

    /// Hands every record of the directory to `each` and returns their number, which is the promised one.
    fn walk(
        mut self,
        mut each: impl FnMut(&ZipFileHeaderRecord<'_>) -> Result<(), NotWhole>,
    ) -> Result<u64, NotWhole> {
        let directory = self.begins_at();
        let mut entries = self.archive.entries(&mut self.buffer);
        let mut found = 0;
        while let Some(record) = entries.next_entry()? {
            let end = record.local_header_offset().checked_add(LOCAL_HEADER);
            if end.is_none_or(|end| end > directory) {
                return Err(NotWhole::Outside);
            }
            each(&record)?;
            found += 1;
        }
        let (promised, all_of_it) = match &self.told {
            Some(End { records, wide, .. }) => (*records, *wide),
            None => (self.archive.entries_hint(), true),
        };
        // Not every writer knows Zip64: Go compares 16 bits.
        let is_promised = found == promised || (!all_of_it && found & 0xffff == promised);
        if is_promised { Ok(found) } else { Err(NotWhole::Count { found, promised }) }
    }
}

/// The archive's own bytes, and none behind them.
struct Bounded<'a, S> {
    source: &'a S,
    length: u64,
}

impl<S: ReadAt> ReaderAt for Bounded<'_, S> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let left = crate::base::num::to_usize(self.length.saturating_sub(at));
        let inside = left.min(buffer.len());
        self.source.read_at(buffer.get_mut(..inside).unwrap_or_default(), at)
    }
}

/// Fills a buffer with the bytes from `at`.
fn read_exact(source: &impl ReadAt, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match source.read_at(buffer, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buffer = buffer.get_mut(n..).unwrap_or_default();
                at = at.saturating_add(crate::base::num::to_u64(n));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
