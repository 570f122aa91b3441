//! A zip's directory in memory, for looking names up.
//!
//! Owns which entry a name means: names are bytes, and of several entries with one name the first counts, as in
//! GitLab's `gitlab-zip-cat`. One vector of records of fixed length, sorted by name, and one buffer of names: no
//! allocation an entry, and a bound on both.

use rawzip::ZipFileHeaderRecord;
use rawzip::extra_fields::ExtraFieldId;

use super::{Entry, Located, NotWhole, ReadAt};
use crate::num::to_usize;

/// Most memory that a directory may take, in bytes: three million entries with names of some 40 bytes. GitLab takes
/// archives of at most 1 GiB unless told otherwise, and its own reader would need several times as much.
const HEAVIEST: usize = 256 << 20;

/// The entries of an archive by name.
#[derive(Debug)]
pub struct Directory {
    /// Sorted by name, each name once.
    records: Box<[Record]>,
    names: Box<[u8]>,
    begins_at: u64,
}

/// An entry and where its name stands.
#[derive(Clone, Copy, Debug)]
struct Record {
    entry: Entry,
    name_at: u32,
    name_length: u16,
}

impl Directory {
    /// Reads the directory of an archive of `length` bytes. Refuses what [`check`](super::check) refuses, and what
    /// would take more memory than is kept for one. Blocks.
    pub fn read(source: &impl ReadAt, length: u64) -> Result<Self, NotWhole> {
        let located = Located::find(source, length)?;
        let begins_at = located.begins_at();
        let most = to_usize(located.most()).min(HEAVIEST / size_of::<Record>());
        let mut growing = Growing { records: Vec::with_capacity(most), names: Vec::new() };
        located.walk(|record| growing.push(record))?;
        let (records, names) = growing.sorted();
        Ok(Self { records, names, begins_at })
    }

    /// The entry of that name, if there is one. Bytes are compared; nothing is normalised.
    pub fn find(&self, name: &[u8]) -> Option<Entry> {
        let at = self.records.binary_search_by(|record| record.name(&self.names).cmp(name)).ok()?;
        self.records.get(at).map(|record| record.entry)
    }

    /// The entries that can be found, with their names, in the order of the names' bytes.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], Entry)> {
        self.records.iter().map(|record| (record.name(&self.names), record.entry))
    }

    /// How many entries can be found; those behind another of the same name can't.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        size_of_val(&*self.records).saturating_add(self.names.len())
    }

    /// Where the directory begins in the file: no entry's data reach further.
    pub fn begins_at(&self) -> u64 {
        self.begins_at
    }
}

impl Record {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        let from = to_usize(self.name_at.into());
        let end = from.saturating_add(self.name_length.into());
        names.get(from..end).unwrap_or_default()
    }
}

/// A directory that is being read.
struct Growing {
    records: Vec<Record>,
    names: Vec<u8>,
}

impl Growing {
    fn push(&mut self, record: &ZipFileHeaderRecord<'_>) -> Result<(), NotWhole> {
        if !is_complete(record) {
            return Err(NotWhole::Zip64);
        }
        let name = record.file_path().as_bytes();
        let heavy = NotWhole::Heavy(HEAVIEST);
        let (Ok(name_at), Ok(name_length)) = (u32::try_from(self.names.len()), u16::try_from(name.len()))
        else {
            return Err(heavy);
        };
        self.names.extend_from_slice(name);
        self.records.push(Record { entry: Entry::new(record), name_at, name_length });
        let weight = size_of_val(self.records.as_slice()).saturating_add(self.names.len());
        if weight <= HEAVIEST { Ok(()) } else { Err(heavy) }
    }

    fn sorted(mut self) -> (Box<[Record]>, Box<[u8]>) {
        let names = self.names.into_boxed_slice();
        // Stable: the first of several stays the first. Archives mostly come sorted, which a merge sort notices.
        self.records.sort_by(|a, b| a.name(&names).cmp(b.name(&names)));
        self.records.dedup_by(|later, first| later.name(&names) == first.name(&names));
        (self.records.into_boxed_slice(), names)
    }
}

/// Whether its compressed length and its place are known. Where 32 bits hold the mark that the number stands in the
/// Zip64 field and there it isn't, `rawzip` leaves the mark and Go refuses the archive. The inflated length may be the
/// mark itself: Go takes that for a length.
fn is_complete(record: &ZipFileHeaderRecord<'_>) -> bool {
    let mark = u64::from(u32::MAX);
    if record.compressed_size_hint() != mark && record.local_header_offset() != mark {
        return true;
    }
    let mut fields = record.extra_fields().filter(|(id, _)| *id == ExtraFieldId::ZIP64);
    fields.any(|(_, field)| field.chunks_exact(8).any(|number| number == mark.to_le_bytes()))
}
