//! One member's content. `gitlab-zip-cat` prints the size that the directory declares, then what it reads: damage
//! shows only in the bytes. Go compares the CRC after the last of them (and takes 0 for unknown where no data
//! descriptor follows), so a wrong CRC alone changes nothing that a client sees.

use std::io::{self, Error, Read};

use flate2::read::DeflateDecoder;

use super::{Entry, no_zip, number};
use crate::archive::Content;
use crate::payload::Source;

const STORE: u64 = 0;
const DEFLATE: u64 = 8;

/// A member on its way out.
#[derive(Clone, Debug)]
pub(in crate::answer) struct Unpacked {
    /// The size in the directory: what `Content-Length` says.
    pub(in crate::answer) declared: u64,
    /// What can be read, never more than declared; less if the member is damaged.
    pub(in crate::answer) body: Source,
}

/// Opens a member. An error: a local header that is none, or a method that Go doesn't know.
pub(super) fn open(content: &Content, entry: &Entry) -> io::Result<Unpacked> {
    let local = content.read(entry.offset, 30)?;
    if number(&local, 0, 4)? != 0x0403_4b50 {
        return Err(no_zip());
    }
    let start = entry.offset + 30 + number(&local, 26, 2)? + number(&local, 28, 2)?;
    let end = start.saturating_add(entry.packed).min(content.len());
    let packed = |end: u64| Source::slice(content.clone(), start.min(end)..end);
    let body = match entry.method {
        STORE => packed(end.min(start.saturating_add(entry.size))),
        DEFLATE => inflate(packed(end), entry.size)?,
        _ => return Err(no_zip()),
    };
    Ok(Unpacked { declared: entry.size, body })
}

/// What inflates before the damage, if there is any.
fn inflate(mut packed: Source, size: u64) -> io::Result<Source> {
    let mut raw = Vec::with_capacity(usize::try_from(packed.len()).map_err(Error::other)?);
    while let Some(bytes) = packed.read(1 << 20)? {
        raw.extend_from_slice(&bytes);
    }
    let mut inflated = Vec::new();
    // What was read before an error is kept: it is on the wire already.
    let _ = DeflateDecoder::new(raw.as_slice()).take(size).read_to_end(&mut inflated);
    Ok(Source::bytes(inflated))
}
