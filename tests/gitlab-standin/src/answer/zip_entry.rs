//! Finding members of a zip as Go's `archive/zip` does, which `gitlab-zip-cat` is built on (PKWARE APPNOTE 6.3.10,
//! sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3). Names are compared byte for byte; the first match wins.

mod unpack;

use std::io::{self, Error, ErrorKind};

use bytes::Bytes;

use crate::archive::Content;
pub(super) use unpack::Unpacked;

/// A comment of the greatest length may follow the end record; Go looks back as far.
const TAIL: u64 = 22 + 65_535;
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

/// All members in the directory's order.
pub(super) fn list(content: &Content) -> io::Result<Vec<Entry>> {
    let (directory, count) = directory(content)?;
    let (mut entries, mut at) = (Vec::new(), 0);
    while number(&directory, at, 4).is_ok_and(|signature| signature == 0x0201_4b50) {
        let (entry, len) = entry(directory.get(at..).unwrap_or_default())?;
        entries.push(entry);
        at += len;
    }
    // Go compares 16 bits of the count, as not every writer knows Zip64.
    let found = u64::try_from(entries.len()).map_err(Error::other)?;
    if found & 0xffff == count & 0xffff { Ok(entries) } else { Err(no_zip()) }
}

/// The directory's bytes and how many members it has.
fn directory(content: &Content) -> io::Result<(Bytes, u64)> {
    let from = content.len().saturating_sub(TAIL);
    let tail = content.read(from, usize::try_from(TAIL).map_err(Error::other)?)?;
    let end = tail.windows(4).rposition(|four| four == [0x50, 0x4b, 5, 6]).ok_or_else(no_zip)?;
    let mut place = (number(&tail, end + 10, 2)?, number(&tail, end + 12, 4)?, number(&tail, end + 16, 4)?);
    if (place.0 == 0xffff || place.1 == MARK_32 || place.2 == MARK_32)
        && let Some(locator) = end.checked_sub(20)
        && number(&tail, locator, 4)? == 0x0706_4b50
    {
        let wide = content.read(number(&tail, locator + 8, 8)?, 56)?;
        place = (number(&wide, 32, 8)?, number(&wide, 40, 8)?, number(&wide, 48, 8)?);
    }
    let (count, len, offset) = place;
    Ok((content.read(offset, usize::try_from(len).map_err(Error::other)?)?, count))
}

/// One record of the directory and its length.
fn entry(record: &[u8]) -> io::Result<(Entry, usize)> {
    let (name, extra, comment) = (size(record, 28)?, size(record, 30)?, size(record, 32)?);
    let mut entry = Entry {
        name: record.get(46..46 + name).ok_or_else(no_zip)?.to_vec(),
        size: number(record, 24, 4)?,
        method: number(record, 10, 2)?,
        packed: number(record, 20, 4)?,
        offset: number(record, 42, 4)?,
    };
    widen(&mut entry, record.get(46 + name..46 + name + extra).ok_or_else(no_zip)?)?;
    Ok((entry, 46 + name + extra + comment))
}

/// Fills in, in this order, the numbers that the Zip64 field holds.
fn widen(entry: &mut Entry, mut extra: &[u8]) -> io::Result<()> {
    while extra.len() >= 4 {
        let (kind, len) = (number(extra, 0, 2)?, size(extra, 2)?);
        if kind == 1 {
            let marked = [&mut entry.size, &mut entry.packed, &mut entry.offset].into_iter();
            let marked = marked.filter(|number| **number == MARK_32);
            for (index, wide) in marked.enumerate() {
                *wide = number(extra, 4 + 8 * index, 8)?;
            }
            return Ok(());
        }
        extra = extra.get(4 + len..).unwrap_or_default();
    }
    Ok(())
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
