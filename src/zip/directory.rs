//! A zip's directory in memory, for looking names up.
//!
//! Owns which entry a name means: names are bytes, and of several entries with one name the first counts, as in
//! GitLab's `gitlab-zip-cat`. One vector of records of fixed length, sorted by name, and one buffer of names: no
//! allocation an entry, and a bound on both.

use rawzip::ZipFileHeaderRecord;
use rawzip::extra_fields::ExtraFieldId;

use super::{CENTRAL_HEADER, Entry, Located, NotWhole, ReadAt};
use crate::base::num::to_usize;

/// The entries of an archive by name.
#[derive(Debug)]
pub struct Directory {
    /// Sorted by name, each name once.
    records: Box<[NamedRecord]>,
    names: Box<[u8]>,
    begins_at: u64,
}

/// An entry and where its name stands.
#[derive(Clone, Copy, Debug)]
struct NamedRecord {
    entry: Entry,
    name_at: u32,
    name_length: u16,
}

impl Directory {
    /// The memory that a directory takes while it is read, but for its putting in order: not more than the end record lets
    /// expect. Refuses at once what would take more than `heaviest`. Blocks.
    pub(crate) fn weight_at_most(
        source: &impl ReadAt,
        length: u64,
        heaviest: usize,
    ) -> Result<usize, NotWhole> {
        let located = Located::find(source, length)?.found_by_go(source, length)?;
        let (most, bytes) = (to_usize(located.most()), to_usize(length.saturating_sub(located.begins_at())));
        let records = most.saturating_mul(size_of::<NamedRecord>());
        // Of the directory's bytes, names are what isn't records.
        let names = bytes.saturating_sub(most.saturating_mul(to_usize(CENTRAL_HEADER)));
        let weight = records.saturating_add(names);
        if records <= heaviest { Ok(weight.min(heaviest)) } else { Err(NotWhole::Heavy(heaviest)) }
    }

    /// Reads the directory of an archive of `length` bytes. Refuses what [`check`](super::check) refuses, and what would
    /// take more than `heaviest` bytes of memory, or half as much again for a moment. Blocks.
    pub fn read_within(source: &impl ReadAt, length: u64, heaviest: usize) -> Result<Self, NotWhole> {
        let located = Located::find(source, length)?.found_by_go(source, length)?;
        let begins_at = located.begins_at();
        let most = to_usize(located.most()).min(heaviest / size_of::<NamedRecord>());
        let mut growing = Growing { records: Vec::with_capacity(most), names: Vec::new(), heaviest };
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

    /// How much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        size_of_val(&*self.records).saturating_add(self.names.len())
    }

    /// Where the directory begins in the file: no entry's data reach further.
    pub fn begins_at(&self) -> u64 {
        self.begins_at
    }
}

impl NamedRecord {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        let from = to_usize(self.name_at.into());
        let end = from.saturating_add(self.name_length.into());
        names.get(from..end).unwrap_or_default()
    }
}

/// A directory that is being read.
struct Growing {
    records: Vec<NamedRecord>,
    names: Vec<u8>,
    heaviest: usize,
}

impl Growing {
    fn push(&mut self, record: &ZipFileHeaderRecord<'_>) -> Result<(), NotWhole> {
        if !is_complete(record) {
            return Err(NotWhole::Zip64);
        }
        let name = record.file_path().as_bytes();
        let heavy = NotWhole::Heavy(self.heaviest);
        let (Ok(name_at), Ok(name_length)) = (u32::try_from(self.names.len()), u16::try_from(name.len()))
        else {
            return Err(heavy);
        };
        self.names.extend_from_slice(name);
        self.records.push(NamedRecord { entry: Entry::new(record), name_at, name_length });
        let weight = size_of_val(self.records.as_slice()).saturating_add(self.names.len());
        if weight <= self.heaviest { Ok(()) } else { Err(heavy) }
    }

    fn sorted(mut self) -> (Box<[NamedRecord]>, Box<[u8]>) {
        let names = self.names.into_boxed_slice();
        // Stable: the first of several stays the first. Archives mostly come sorted, which a merge sort notices.
        self.records.sort_by(|a, b| a.name(&names).cmp(b.name(&names)));
        self.records.dedup_by(|later, first| later.name(&names) == first.name(&names));
        (self.records.into_boxed_slice(), names)
    }
}

/// Whether its lengths and its place are known. Where 32 bits hold the mark that the number stands in the Zip64 field and
/// there it isn't, `rawzip` leaves the mark and Go refuses the archive. The inflated length may be the mark itself where
/// there is no such field: Go takes that for a length.
pub(super) fn is_complete(record: &ZipFileHeaderRecord<'_>) -> bool {
    let mark = u64::from(u32::MAX);
    let others = [record.compressed_size_hint(), record.local_header_offset()];
    let others = others.into_iter().filter(|number| *number == mark).count();
    let marked = others + usize::from(record.uncompressed_size_hint() == mark);
    if marked == 0 {
        return true;
    }
    let mut fields = record.extra_fields().filter(|(id, _)| *id == ExtraFieldId::ZIP64);
    match fields.next() {
        None => others == 0,
        Some((_, field)) => {
            field.chunks_exact(8).filter(|number| *number == mark.to_le_bytes()).count() >= marked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::tests::writer::{File, Zip};
    use crate::zip::tests::{Slice, content, open};

    #[test]
    fn a_name_is_its_bytes() {
        let (long, longer) = (vec![b'n'; 65_535], vec![b'n'; 65_536]);
        let names: [&[u8]; 13] = [
            b"",
            b"a",
            b"a/",
            b"A",
            b"./a",
            b"/a",
            b"../a",
            b"a\\b",
            b"a\0b",
            "ä".as_bytes(),
            b"\xe4",
            b"\xff\xfe",
            &long,
        ];
        let bytes = Zip::of(names.iter().rev().map(|name| File::stored(name, b""))).bytes();
        let directory = open(&bytes).unwrap();
        assert_eq!(directory.entries().count(), 13);
        for (at, name) in names.iter().enumerate() {
            // The writer has put the last of them first.
            let before = names.iter().skip(at + 1).map(|name| 30 + name.len()).sum::<usize>();
            let data = directory
                .find(name)
                .unwrap()
                .locate(&Slice(&bytes, usize::MAX), directory.begins_at())
                .unwrap();
            assert_eq!(to_usize(data.start), before + 30 + name.len(), "{name:?}");
        }
        for absent in [b"b".as_slice(), b"a/b", b"//a", b"../../a", &longer, "a\u{308}".as_bytes()] {
            assert_eq!(directory.find(absent), None, "{absent:?}");
        }
    }

    #[test]
    fn of_several_entries_with_one_name_the_first_counts() {
        let names = ["b", "a", "b", "a", "c", "b"];
        let files = (0..).zip(names).map(|(at, name)| File::stored(name, &[at]));
        let bytes = Zip::of(files).bytes();
        assert_eq!(open(&bytes).unwrap().entries().count(), 3);
        for (name, first) in [(b"a", 1), (b"b", 0), (b"c", 4)] {
            assert_eq!(content(&bytes, name).unwrap(), [first]);
        }
    }

    #[test]
    fn an_archive_may_stand_behind_something_and_have_a_comment() {
        let zip = Zip::of([File::deflated("a", b"hello"), File::stored("b", b"world")]);
        let (stub, long) = (b"#!/bin/sh\n".to_vec(), vec![b'c'; 65_535]);
        let cases = [
            ("plain", zip.clone(), 0),
            ("stub, offsets from its end", Zip { prefix: stub.clone(), ..zip.clone() }, 10),
            (
                "stub, offsets from the beginning",
                Zip { prefix: stub.clone(), declared: true, ..zip.clone() },
                10,
            ),
            ("comment", Zip { comment: long.clone(), ..zip.clone() }, 0),
            ("both", Zip { prefix: stub.clone(), comment: long.clone(), ..zip.clone() }, 10),
            ("zip64", Zip { zip64: true, ..zip.clone() }, 0),
            ("all", Zip { prefix: stub, comment: long, zip64: true, declared: true, ..zip.clone() }, 10),
        ];
        let begins = open(&zip.bytes()).unwrap().begins_at();
        for (case, zip, before) in cases {
            let bytes = zip.bytes();
            assert_eq!(open(&bytes).unwrap().begins_at(), begins + before, "{case}");
            assert_eq!(content(&bytes, b"a").unwrap(), b"hello", "{case}");
            assert_eq!(content(&bytes, b"b").unwrap(), b"world", "{case}");
        }
        let empty = open(&Zip::default().bytes()).unwrap();
        assert_eq!((empty.entries().count(), empty.weight(), empty.find(b"")), (0, 0, None));
    }

    #[test]
    fn the_longest_record_is_read() {
        let name = vec![b'n'; 65_535];
        let file = File::stored(&name, b"x");
        let bytes = Zip::of([File { central: vec![0; 65_535], comment: vec![b'c'; 65_535], ..file }]).bytes();
        assert_eq!(content(&bytes, &name).unwrap(), b"x");
    }

    #[test]
    fn a_directory_that_lies_is_refused() {
        let file = File::stored("a", b"x");
        let zip = Zip::of([file.clone(), File::stored("b", b"y")]);
        let bad = |file: File| Zip::of([file]);
        let mark = u64::from(u32::MAX);
        let cases = [
            ("more entries", Zip { count: Some(3), ..zip.clone() }, "has 2 entries and should have 3"),
            ("fewer entries", Zip { count: Some(1), ..zip.clone() }, "has 2 entries and should have 1"),
            (
                "very many",
                Zip { count: Some(u64::MAX), zip64: true, ..zip },
                "should have 18446744073709551615",
            ),
            ("an entry in the directory", bad(File { at: Some(3), ..file.clone() }), "lies outside"),
            (
                "an entry nowhere",
                bad(File { at: Some(u64::MAX), zip64: true, ..file.clone() }),
                "lies outside",
            ),
            ("no zip64 field", bad(File { compressed: mark, ..file.clone() }), "lacks its zip64 field"),
            (
                "a short zip64 field",
                bad(File { size: mark, central: b"\x01\0\x04\0abcd".to_vec(), ..file.clone() }),
                "lacks its zip64 field",
            ),
        ];
        for (case, zip, message) in cases {
            let error = open(&zip.bytes()).expect_err(case).to_string();
            assert!(error.contains(message), "{case}: {error}");
        }
        // The length itself may be that number, where the Zip64 field says so.
        open(&bad(File { compressed: mark, zip64: true, ..file }).bytes()).unwrap();
    }

    #[test]
    fn a_directory_is_no_heavier_than_its_bound() {
        let zip = Zip::of((0..100).map(|at| File::stored(format!("{at:03}"), b"x"))).bytes();
        let weight = open(&zip).unwrap().weight();
        assert_eq!(weight, 100 * (size_of::<NamedRecord>() + 3));
        let read = |bound| {
            Directory::read_within(&Slice(&zip, usize::MAX), crate::base::num::to_u64(zip.len()), bound)
        };
        assert_eq!(read(weight).unwrap().entries().count(), 100);
        assert!(matches!(read(weight - 1), Err(NotWhole::Heavy(_))));
    }

    #[test]
    fn a_record_takes_48_bytes() {
        assert_eq!(size_of::<NamedRecord>(), 48);
    }
}
