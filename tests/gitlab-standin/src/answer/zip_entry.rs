//! Finding one member of a zip (PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16). Members are compared by
//! name, byte for byte; the first match wins. Archives beyond the 32-bit limits hold no members for this reader.

use std::io::{self, Error, ErrorKind, Read};

use bytes::Bytes;
use flate2::read::DeflateDecoder;

use crate::archive::Content;
use crate::payload::Source;

/// A comment of the greatest length may follow the end record; Go looks back as far.
const TAIL: u64 = 22 + 65_535;
const DEFLATE: u16 = 8;

/// The member's content, if there is such a member; an error if this is no zip.
pub(super) fn find(content: &Content, name: &str) -> io::Result<Option<Source>> {
    let directory = directory(content)?;
    let mut at = 0;
    while number(&directory, at, 4)? == 0x0201_4b50 {
        let (name_len, extra, comment) =
            (size(&directory, at + 28, 2)?, size(&directory, at + 30, 2)?, size(&directory, at + 32, 2)?);
        if directory.get(at + 46..at + 46 + name_len) == Some(name.as_bytes()) {
            return member(content, directory.get(at..).unwrap_or_default()).map(Some);
        }
        at += 46 + name_len + extra + comment;
        if at + 4 > directory.len() {
            break;
        }
    }
    Ok(None)
}

fn directory(content: &Content) -> io::Result<Bytes> {
    let from = content.len().saturating_sub(TAIL);
    let tail = content.read(from, usize::try_from(TAIL).map_err(Error::other)?)?;
    let end = tail.windows(4).rposition(|four| four == [0x50, 0x4b, 5, 6]).ok_or_else(no_zip)?;
    let (len, offset) = (size(&tail, end + 12, 4)?, number(&tail, end + 16, 4)?);
    content.read(offset, len)
}

fn member(content: &Content, record: &[u8]) -> io::Result<Source> {
    let method = u16::try_from(number(record, 10, 2)?).map_err(Error::other)?;
    let (packed, offset) = (number(record, 20, 4)?, number(record, 42, 4)?);
    let local = content.read(offset, 30)?;
    let start = offset + 30 + number(&local, 26, 2)? + number(&local, 28, 2)?;
    let packed = Source::slice(content.clone(), start..start + packed);
    if method != DEFLATE {
        return Ok(packed);
    }
    let mut inflated = Vec::new();
    let mut raw = Vec::new();
    let mut packed = packed;
    while let Some(bytes) = packed.read(1 << 20)? {
        raw.extend_from_slice(&bytes);
    }
    DeflateDecoder::new(raw.as_slice()).read_to_end(&mut inflated)?;
    Ok(Source::bytes(inflated))
}

/// A little-endian field of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> io::Result<u64> {
    let field = bytes.get(at..at + len).ok_or_else(no_zip)?;
    Ok(field.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

fn size(bytes: &[u8], at: usize, len: usize) -> io::Result<usize> {
    usize::try_from(number(bytes, at, len)?).map_err(Error::other)
}

fn no_zip() -> Error {
    Error::new(ErrorKind::InvalidData, "not a zip")
}
