//! Whether the entries of an archive lie apart.
//!
//! Entries that share bytes make much work of a short archive: each of thousands can stand for the same gigabytes. No
//! program that writes zips makes them. Mostly the directory lists entries in the order of their places, and one walk
//! without memory tells. Where it doesn't, they are put in order, some at a time.

use std::collections::BinaryHeap;

use rawzip::ZipFileHeaderRecord;

use super::{LOCAL_HEADER, Located, NotWhole, ReadAt};
use crate::base::num::to_u64;

/// Entries that are put in order at a time: a MiB, as many fills as there are may do it at once.
const AT_A_TIME: usize = 64 << 10;

/// Walks over a directory whose entries are out of order: with 64 Ki entries at a time two million, far more than any
/// program writes out of order, in some seconds.
const WALKS: u64 = 32;

/// Checks that `length` bytes are one archive whose entries lie apart; returns how many there are. Blocks.
pub(super) fn check(source: &impl ReadAt, length: u64) -> Result<u64, NotWhole> {
    check_by(source, length, AT_A_TIME)
}

fn check_by(source: &impl ReadAt, length: u64, at_a_time: usize) -> Result<u64, NotWhole> {
    let (mut furthest, mut in_order) = (0, true);
    let entries = Located::find(source, length)?.walk(|record| {
        let Extent { from, end } = Extent::of(record);
        in_order &= from >= furthest;
        furthest = end;
        Ok(())
    })?;
    if in_order {
        return Ok(entries);
    }
    let most = to_u64(at_a_time).saturating_mul(WALKS);
    if entries > most {
        return Err(NotWhole::Scattered(most));
    }
    let (mut found, mut least, mut furthest) = (0, Some(0), 0);
    while let Some(from) = least {
        let next = lowest(source, length, from, at_a_time)?;
        found += to_u64(next.len());
        for Extent { from, end } in &next {
            if *from < furthest {
                return Err(NotWhole::Overlap);
            }
            furthest = *end;
        }
        least = next.last().and_then(|last| last.from.checked_add(1));
    }
    // Of several that begin at one place, a walk may have left some out.
    if found == entries { Ok(entries) } else { Err(NotWhole::Overlap) }
}

/// The entries that begin first, from `least` on, in order.
fn lowest(source: &impl ReadAt, length: u64, least: u64, at_a_time: usize) -> Result<Vec<Extent>, NotWhole> {
    let mut lowest = BinaryHeap::new();
    Located::find(source, length)?.walk(|record| {
        let place = Extent::of(record);
        if place.from >= least {
            if lowest.len() < at_a_time {
                lowest.push(place);
            } else if let Some(mut highest) = lowest.peek_mut().filter(|highest| place < **highest) {
                *highest = place;
            }
        }
        Ok(())
    })?;
    Ok(lowest.into_sorted_vec())
}

/// Where an entry lies at least, by the directory: how long its local header's name and extra field are stands in that
/// header alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Extent {
    from: u64,
    end: u64,
}

impl Extent {
    fn of(record: &ZipFileHeaderRecord<'_>) -> Self {
        let from = record.local_header_offset();
        let end = from.saturating_add(LOCAL_HEADER).saturating_add(record.compressed_size_hint());
        Self { from, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::tests::Slice;
    use crate::zip::tests::writer::{File, Zip};

    fn check(zip: &Zip, at_a_time: usize) -> Result<u64, NotWhole> {
        let bytes = zip.bytes();
        check_by(&Slice(&bytes, usize::MAX), to_u64(bytes.len()), at_a_time)
    }

    fn files(count: usize) -> Vec<File> {
        (0..count).map(|at| File::deflated(format!("{at:04}"), &vec![7; at])).collect()
    }

    #[test]
    fn what_programs_write_lies_apart() {
        let plain = Zip::of(files(20));
        let described = Zip::of(files(20).into_iter().map(File::described));
        let twice = Zip::of(files(5).into_iter().chain(files(5)));
        let directories =
            Zip::of([File::stored("a/", b""), File::deflated("a/b/", b""), File::stored("a/c", b"")]);
        let extra = vec![0; 60_000];
        let long = Zip::of([
            File { local: extra.clone(), ..File::stored("a", b"x") },
            File { central: extra, ..File::stored("b", b"y") },
        ]);
        let stub = b"#!/bin/sh\n".to_vec();
        let cases = [
            ("empty", Zip::default()),
            (
                "zip64",
                Zip { zip64: true, ..Zip::of(files(9).into_iter().map(|file| File { zip64: true, ..file })) },
            ),
            ("stub", Zip { prefix: stub.clone(), ..plain.clone() }),
            ("declared stub", Zip { prefix: stub, declared: true, ..plain.clone() }),
            ("plain", plain),
            ("with descriptors", described),
            ("names twice", twice),
            ("directories", directories),
            ("long extra fields", long),
        ];
        for (case, zip) in cases {
            let found = check(&zip, AT_A_TIME).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(found, to_u64(zip.files.len()), "{case}");
        }
    }

    #[test]
    fn a_directory_in_any_order_is_one() {
        let reversed = Zip { reversed: true, ..Zip::of(files(200)) };
        for at_a_time in [7, 8, 100, 200, 201, AT_A_TIME] {
            assert_eq!(check(&reversed, at_a_time).unwrap(), 200, "{at_a_time}");
        }
        assert!(matches!(check(&reversed, 6), Err(NotWhole::Scattered(192))));
        assert_eq!(
            check(&Zip::of(files(200)), 6).unwrap(),
            200,
            "what is in order needs no putting in order"
        );
    }

    /// Each way in which entries can share bytes.
    fn overlapping() -> Vec<(&'static str, Zip)> {
        let (bomb, small) = (File::deflated("a", &vec![0; 100_000]), File::stored("b", b"content"));
        let described = bomb.clone().described();
        let at = |file: &File, at| File { name: b"c".to_vec(), at: Some(at), written: false, ..file.clone() };
        let longer = |file: &File, by| File { compressed: file.compressed + by, ..file.clone() };
        vec![
            ("one place for all", Zip::of([bomb.clone(), at(&bomb, 0), at(&bomb, 0)])),
            ("one place, with a descriptor", Zip::of([described.clone(), at(&described, 0)])),
            ("a header in another's data", Zip::of([bomb.clone(), at(&small, 40), small.clone()])),
            ("data that reach over the next header", Zip::of([longer(&bomb, 2), small.clone()])),
            ("data that reach into the next data", Zip::of([longer(&bomb, 60), small.clone()])),
            ("stored data that do", Zip::of([File { size: 20, ..longer(&small, 13) }, bomb.clone()])),
            ("zip64", Zip::of([File { zip64: true, ..longer(&bomb, 2) }, small.clone()])),
            (
                "a length that isn't there",
                Zip::of([File { compressed: u64::MAX, zip64: true, ..bomb }, small]),
            ),
        ]
    }

    #[test]
    fn entries_that_share_bytes_are_no_archive_in_whatever_order_they_are_listed() {
        for (case, zip) in overlapping() {
            for reversed in [false, true] {
                for at_a_time in [1, 2, AT_A_TIME] {
                    let verdict = check(&Zip { reversed, ..zip.clone() }, at_a_time);
                    assert!(matches!(verdict, Err(NotWhole::Overlap)), "{case}, {at_a_time}: {verdict:?}");
                }
            }
        }
    }

    #[test]
    fn thirty_thousand_entries_of_one_stream_are_seen_in_the_directory_alone() {
        let bomb = File::deflated("a", &vec![0; 1 << 20]);
        let shared = (1..30_000).map(|n: u32| File {
            name: n.to_be_bytes().to_vec(),
            at: Some(0),
            written: false,
            ..bomb.clone()
        });
        let verdict = check(&Zip::of([bomb.clone()].into_iter().chain(shared)), AT_A_TIME);
        assert!(matches!(verdict, Err(NotWhole::Overlap)), "{verdict:?}");
    }
}
