//! Finding members of a zip as Go's `archive/zip` does, which `gitlab-zip-cat` is built on (PKWARE APPNOTE 6.3.10,
//! sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3). Names are compared byte for byte; the first match wins.

mod unpack;

use std::io::{self, Error, ErrorKind};

use bytes::Bytes;

use crate::archive::Content;
pub(super) use unpack::Unpacked;

/// How far back Go looks for the end record: first so many bytes, then so many.
const WINDOWS: [u64; 2] = [1024, 65 * 1024];
/// Markers of numbers that stand in the Zip64 field.
const MARK_32: u64 = 0xffff_ffff;

/// What the directory says of one member.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) size: u64,
    method: u64,
    packed: u64,
    offset: u64,
}

/// The member, if there is one of that name. An error: Go can't read the zip, or can't open this member.
pub(super) fn find(content: &Content, name: &str) -> io::Result<Option<Unpacked>> {
    let entry = list(content)?.into_iter().find(|entry| entry.name == name.as_bytes());
    entry.map(|entry| unpack::open(content, &entry)).transpose()
}

/// All members in the directory's order. Go reads records until there is no further one, wherever the directory should
/// end, and then compares 16 bits of their number, as not every writer knows Zip64.
pub(super) fn list(content: &Content) -> io::Result<Vec<Entry>> {
    let directory = directory(content)?;
    let (mut entries, mut at) = (Vec::new(), directory.from);
    while let Some((mut entry, len)) = record(content, at)? {
        let Some(offset) = i64::try_from(entry.offset).ok().and_then(|at| at.checked_add(directory.base))
        else {
            return Err(no_zip());
        };
        // A place before the file's beginning is one that can't be read, once the member is opened.
        entry.offset = u64::try_from(offset).unwrap_or(u64::MAX);
        entries.push(entry);
        at += len;
    }
    let found = u64::try_from(entries.len()).map_err(Error::other)?;
    if found & 0xffff == directory.count & 0xffff { Ok(entries) } else { Err(no_zip()) }
}

/// Where the directory is.
struct Directory {
    from: u64,
    /// What is added to every member's place.
    base: i64,
    count: u64,
}

/// `readDirectoryEnd` in `archive/zip/reader.go`.
fn directory(content: &Content) -> io::Result<Directory> {
    let (mut end, record) = end_record(content)?;
    let (mut count, mut len, mut offset) =
        (number(&record, 10, 2)?, number(&record, 12, 4)?, number(&record, 16, 4)?);
    // The second mark has 16 bits too few, in Go as here.
    if (count == 0xffff || len == 0xffff || offset == MARK_32)
        && let Some(place) = locator(content, end)?
    {
        let wide = content.read(place, 56)?;
        if number(&wide, 0, 4)? != 0x0606_4b50 {
            return Err(no_zip());
        }
        (count, len, offset) = (number(&wide, 32, 8)?, number(&wide, 40, 8)?, number(&wide, 48, 8)?);
        end = place;
    }
    let signed = |number: u64| i64::try_from(number).map_err(|_| no_zip());
    let (end, len, offset) = (signed(end)?, signed(len)?, signed(offset)?);
    let from = u64::try_from(end - len).map_err(|_| no_zip())?;
    let base = end - len - offset;
    let from_start = u64::try_from(offset).map_err(|_| no_zip())?;
    if base > 0 && record_at(content, from_start)?.is_some() {
        return Ok(Directory { from: from_start, base: 0, count });
    }
    if from < content.len() { Ok(Directory { from, base, count }) } else { Err(no_zip()) }
}

/// The last end record's place and bytes. Its comment must end within the file; what follows that doesn't matter.
fn end_record(content: &Content) -> io::Result<(u64, Bytes)> {
    for window in WINDOWS {
        let from = content.len().saturating_sub(window);
        let tail = content.read(from, usize::try_from(window).map_err(Error::other)?)?;
        let last = tail.windows(22).rposition(|record| record.starts_with(b"PK\x05\x06"));
        if let Some(at) = last {
            let record = tail.slice(at..);
            let whole = record.len() >= 22 + size(&record, 20)?;
            let place = from + u64::try_from(at).map_err(Error::other)?;
            return if whole { Ok((place, record)) } else { Err(no_zip()) };
        }
    }
    Err(no_zip())
}

/// Where the Zip64 end record is, if a locator stands before the end record.
fn locator(content: &Content, end: u64) -> io::Result<Option<u64>> {
    let Some(at) = end.checked_sub(20) else {
        return Ok(None);
    };
    let bytes = content.read(at, 20)?;
    let is_one =
        number(&bytes, 0, 4)? == 0x0706_4b50 && number(&bytes, 4, 4)? == 0 && number(&bytes, 16, 4)? == 1;
    let place = number(&bytes, 8, 8)?;
    Ok(Some(place).filter(|_| is_one).filter(|place| i64::try_from(*place).is_ok()))
}

/// The record at a place, if there is a whole one. Nothing at all there is an error: Go takes the file's end for one.
fn record(content: &Content, at: u64) -> io::Result<Option<(Entry, u64)>> {
    if at >= content.len() { Err(no_zip()) } else { record_at(content, at) }
}

fn record_at(content: &Content, at: u64) -> io::Result<Option<(Entry, u64)>> {
    let fixed = content.read(at, 46)?;
    if fixed.len() < 46 || number(&fixed, 0, 4)? != 0x0201_4b50 {
        return Ok(None);
    }
    let len = 46 + size(&fixed, 28)? + size(&fixed, 30)? + size(&fixed, 32)?;
    let bytes = content.read(at, len)?;
    // What Go calls a bad format ends the directory like a record that is none.
    let whole = Some(bytes).filter(|bytes| bytes.len() == len);
    let read = whole.and_then(|bytes| entry(&bytes).ok());
    let len = u64::try_from(len).map_err(Error::other)?;
    Ok(read.map(|entry| (entry, len)))
}

/// One record of the directory.
fn entry(record: &[u8]) -> io::Result<Entry> {
    let (name, extra) = (size(record, 28)?, size(record, 30)?);
    let mut entry = Entry {
        name: record.get(46..46 + name).ok_or_else(no_zip)?.to_vec(),
        size: number(record, 24, 4)?,
        method: number(record, 10, 2)?,
        packed: number(record, 20, 4)?,
        offset: number(record, 42, 4)?,
    };
    widen(&mut entry, record.get(46 + name..46 + name + extra).ok_or_else(no_zip)?)?;
    Ok(entry)
}

/// Fills in, in this order, the numbers that the Zip64 field holds. All that are marked must be there, but for the size
/// where there is no such field at all.
fn widen(entry: &mut Entry, mut extra: &[u8]) -> io::Result<()> {
    let mut seen = false;
    while extra.len() >= 4 {
        let (kind, len) = (number(extra, 0, 2)?, size(extra, 2)?);
        let Some(field) = extra.get(4..4 + len) else {
            break;
        };
        if kind == 1 && !seen {
            seen = true;
            let marked = [&mut entry.size, &mut entry.packed, &mut entry.offset].into_iter();
            let marked = marked.filter(|number| **number == MARK_32);
            for (index, wide) in marked.enumerate() {
                *wide = number(field, 8 * index, 8)?;
            }
        }
        extra = extra.get(4 + len..).unwrap_or_default();
    }
    let lacks = !seen && (entry.packed == MARK_32 || entry.offset == MARK_32);
    if lacks { Err(no_zip()) } else { Ok(()) }
}

/// A little-endian field of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> io::Result<u64> {
    let field = bytes.get(at..at + len).ok_or_else(no_zip)?;
    Ok(field.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// A length of 16 bits.
fn size(bytes: &[u8], at: usize) -> io::Result<usize> {
    usize::try_from(number(bytes, at, 2)?).map_err(Error::other)
}

fn no_zip() -> Error {
    Error::new(ErrorKind::InvalidData, "not a zip")
}
