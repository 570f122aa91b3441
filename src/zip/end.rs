//! Where Go's `archive/zip` finds an archive's directory, and whether that is where it is.
//!
//! GitLab takes single files out of archives with Go's reader (`readDirectoryEnd` in `archive/zip/reader.go`), which
//! believes the numbers of the end record where others look for the directory themselves. What Go can't read, or would
//! read elsewhere, is left to it. Where Go forgives and other readers differ (a directory longer than it should be),
//! it is left to it as well: GitLab's own answer is always right.

use std::io;

use super::{CENTRAL_HEADER, ReadAt, read_exact};
use crate::base::num::{to_u64, to_usize};

/// How far back Go looks for the end record: first so many bytes, then so many.
const WINDOWS: [u64; 2] = [1024, 65 * 1024];

/// Lengths of the end record without its comment (APPNOTE 4.3.16), of the Zip64 locator (4.3.15) and of the Zip64 end record
/// (4.3.14).
const END: usize = 22;
const LOCATOR: u64 = 20;
const WIDE: usize = 56;

/// Where a directory is, by the end record and as Go reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Where it begins in the file.
    pub(super) directory: u64,
    /// How many entries it should have.
    pub(super) records: u64,
    /// Whether that is all of the number: else the lowest 16 bits of it.
    pub(super) wide: bool,
}

/// What an end record says.
struct EndRecord {
    records: u64,
    size: u64,
    offset: u64,
}

impl End {
    /// Reads the end record of an archive of `length` bytes. `None`: Go finds no directory by it, or one with something
    /// between itself and its end. Blocks.
    pub(super) fn read(source: &impl ReadAt, length: u64) -> io::Result<Option<Self>> {
        let Some((at, record)) = find(source, length)? else {
            return Ok(None);
        };
        let mut told = EndRecord {
            records: number(&record, 10, 2),
            size: number(&record, 12, 4),
            offset: number(&record, 16, 4),
        };
        // Go's marks are these; the second is one of 16 bits by mistake.
        let marked = told.records == 0xffff || told.size == 0xffff || told.offset == 0xffff_ffff;
        let located = locate_wide(source, at)?;
        let mut end = at;
        if let Some(place) = located.filter(|_| marked) {
            let Some(wide) = read_wide(source, length, place)? else {
                return Ok(None);
            };
            (told, end) = (wide, place);
        }
        let stops = located.unwrap_or(at);
        let directory = Self::directory(source, length, end, &told)?;
        let directory = directory.filter(|from| from.checked_add(told.size) == Some(stops));
        Ok(directory.map(|directory| Self { directory, records: told.records, wide: located.is_some() }))
    }

    /// Where the directory before `end` begins. Something may stand before the archive, from whose end places are counted
    /// then; unless the directory is where it should be from the beginning.
    fn directory(source: &impl ReadAt, length: u64, end: u64, told: &EndRecord) -> io::Result<Option<u64>> {
        let Some(before) = end.checked_sub(told.size) else {
            return Ok(None);
        };
        Ok(match before.checked_sub(told.offset) {
            // Go would look for every file before its place.
            None => None,
            Some(0) => Some(before),
            Some(_) if is_header(source, length, told.offset)? => Some(told.offset),
            Some(_) => Some(before),
        })
    }
}

/// The place of the last end record and its bytes, if its comment ends within the file.
fn find(source: &impl ReadAt, length: u64) -> io::Result<Option<(u64, [u8; END])>> {
    for window in WINDOWS {
        let from = length.saturating_sub(window);
        let mut bytes = vec![0; to_usize(length.saturating_sub(from))];
        read_exact(source, &mut bytes, from)?;
        let last = bytes.windows(END).rposition(|record| record.starts_with(b"PK\x05\x06"));
        if let Some(at) = last
            && let Some(record) = bytes.get(at..).and_then(<[u8]>::first_chunk)
        {
            let end = to_u64(at.saturating_add(END)).saturating_add(number(record, 20, 2));
            return Ok((end <= to_u64(bytes.len())).then(|| (from.saturating_add(to_u64(at)), *record)));
        }
        if from == 0 {
            break;
        }
    }
    Ok(None)
}

/// Where the Zip64 end record is, if a locator stands before the end record.
fn locate_wide(source: &impl ReadAt, end: u64) -> io::Result<Option<u64>> {
    let Some(at) = end.checked_sub(LOCATOR) else {
        return Ok(None);
    };
    let mut locator = [0; 20];
    read_exact(source, &mut locator, at)?;
    let is_one =
        locator.starts_with(b"PK\x06\x07") && number(&locator, 4, 4) == 0 && number(&locator, 16, 4) == 1;
    Ok(is_one.then(|| number(&locator, 8, 8)))
}

fn read_wide(source: &impl ReadAt, length: u64, at: u64) -> io::Result<Option<EndRecord>> {
    if at.checked_add(to_u64(WIDE)).is_none_or(|end| end > length) {
        return Ok(None);
    }
    let mut record = [0; WIDE];
    read_exact(source, &mut record, at)?;
    let told = EndRecord {
        records: number(&record, 32, 8),
        size: number(&record, 40, 8),
        offset: number(&record, 48, 8),
    };
    Ok(record.starts_with(b"PK\x06\x06").then_some(told))
}

/// Whether a record of a directory begins there and ends within the file.
fn is_header(source: &impl ReadAt, length: u64, at: u64) -> io::Result<bool> {
    if at.checked_add(CENTRAL_HEADER).is_none_or(|end| end > length) {
        return Ok(false);
    }
    let mut header = [0; 46];
    read_exact(source, &mut header, at)?;
    let more = [28, 30, 32].into_iter().map(|field| number(&header, field, 2)).sum::<u64>();
    Ok(header.starts_with(b"PK\x01\x02") && at.saturating_add(CENTRAL_HEADER).saturating_add(more) <= length)
}

/// A little-endian number of so many bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let field = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
    field.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::NotWhole;
    use crate::zip::tests::writer::{File, Zip};
    use crate::zip::tests::{Slice, open};

    fn zip() -> Zip {
        Zip::of([File::stored("a", b"hello"), File::deflated("b", b"world")])
    }

    /// The place of the end record.
    fn end_of(bytes: &[u8]) -> usize {
        bytes.windows(4).rposition(|four| four == b"PK\x05\x06").unwrap()
    }

    /// With a number of the end record changed by so much.
    fn off(bytes: &[u8], field: usize, by: i64) -> Vec<u8> {
        let (mut bytes, at) = (bytes.to_vec(), end_of(bytes) + field);
        let old = i64::try_from(number(&bytes, at, 4)).unwrap();
        bytes[at..at + 4].copy_from_slice(&u32::try_from(old + by).unwrap().to_le_bytes());
        bytes
    }

    fn is_left_to_gitlab(bytes: &[u8]) -> bool {
        matches!(open(bytes), Err(NotWhole::End | NotWhole::Count { .. } | NotWhole::Directory(_)))
    }

    #[test]
    fn a_directory_is_where_the_end_record_says_or_is_left_to_gitlab() {
        const SIZE: usize = 12;
        const OFFSET: usize = 16;
        for whole in [zip().bytes(), Zip { comment: b"comment".to_vec(), ..zip() }.bytes()] {
            assert!(open(&whole).is_ok());
            for by in [-90, -46, -1, 1, 2, 46, 47, 60, 10_000] {
                assert!(is_left_to_gitlab(&off(&whole, SIZE, by)), "size {by}");
            }
            for by in [1, 2, 46, 60, 10_000] {
                assert!(is_left_to_gitlab(&off(&whole, OFFSET, by)), "offset {by}");
            }
            // Both: as if something of that length stood before it, or were missing.
            for by in [1, 46] {
                assert!(is_left_to_gitlab(&off(&off(&whole, SIZE, by), OFFSET, by)), "both {by}");
            }
        }
    }

    #[test]
    fn a_directory_before_its_place_is_looked_for_as_behind_a_stub() {
        // Go counts all places from there: no file is found, and none is served.
        let bytes = off(&zip().bytes(), 16, -1);
        let directory = open(&bytes).unwrap();
        let entry = directory.find(b"a").unwrap();
        assert!(entry.locate(&Slice(&bytes, usize::MAX), directory.begins_at()).is_err());
    }

    #[test]
    fn a_comment_or_a_record_beyond_the_end_is_left_to_gitlab() {
        let whole = zip().bytes();
        let mut comment = whole.clone();
        let at = end_of(&whole) + 20;
        comment[at] = 1;
        assert!(open(&comment).is_err());
        let last = whole.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        for field in [28, 30, 32] {
            for more in [1, 21, 22, 200] {
                let mut over = whole.clone();
                over[last + field] += more;
                assert!(open(&over).is_err(), "{field} {more}");
            }
        }
    }

    #[test]
    fn the_last_end_record_counts_and_what_looks_like_one_in_a_comment_too() {
        let inner = Zip::of([File::stored("c", b"other")]).bytes();
        let bytes = Zip { comment: inner, ..zip() }.bytes();
        // Go reads the inner one's numbers, and finds its directory behind a stub that isn't one.
        let names = |bytes: &[u8]| -> Vec<Vec<u8>> {
            open(bytes).map(|all| all.entries().map(|(name, _)| name.to_vec()).collect()).unwrap_or_default()
        };
        assert!(!names(&bytes).contains(&b"a".to_vec()));
        let cut = Zip { comment: b"PK\x05\x06 cut".to_vec(), ..zip() }.bytes();
        // Too short to be one: Go goes on looking.
        assert_eq!(End::read(&Slice(&cut, usize::MAX), to_u64(cut.len())).unwrap().unwrap().directory, {
            to_u64(cut.windows(4).position(|four| four == b"PK\x01\x02").unwrap())
        });
    }

    #[test]
    fn counts_of_16_bits_may_have_lost_their_upper_half_and_those_of_64_may_not() {
        let many = || Zip::of((0..65_538).map(|n| File::stored(format!("{n:05}"), b"")));
        let lost = Zip { count: Some(2), ..many() }.bytes();
        assert_eq!(open(&lost).unwrap().entries().count(), 65_538);
        for (count, zip64) in [(3, false), (2, true), (65_537, true)] {
            let lying = Zip { count: Some(count), zip64, ..many() }.bytes();
            assert!(matches!(open(&lying), Err(NotWhole::Count { .. })), "{count} {zip64}");
        }
        assert_eq!(open(&Zip { zip64: true, ..many() }.bytes()).unwrap().entries().count(), 65_538);
    }

    #[test]
    fn a_zip64_end_record_is_where_its_locator_says() {
        let whole = Zip { zip64: true, ..zip() }.bytes();
        assert!(open(&whole).is_ok());
        let locator = end_of(&whole) - 20;
        for (field, value) in [(8, 3_u8), (4, 1), (16, 2), (0, b'X')] {
            let mut lying = whole.clone();
            lying[locator + field] = value;
            assert!(open(&lying).is_err(), "{field}");
        }
        let wide = locator - 56;
        for (field, by) in [(40, 1), (48, 1), (32, 1), (0, 1)] {
            let mut lying = whole.clone();
            lying[wide + field] = lying[wide + field].wrapping_add(by);
            assert!(open(&lying).is_err(), "{field}");
        }
    }
}
