//! One member's content. `gitlab-zip-cat` prints the size that the directory declares, then what it reads: damage
//! shows only in the bytes. Go compares the CRC after the last of them (and takes 0 for unknown where no data
//! descriptor follows), so a wrong CRC alone changes nothing that a client sees.

use std::io::{self, Error, Read};

use flate2::read::DeflateDecoder;

use super::{Entry, no_zip, number};
use crate::archive::{Content, FileSink, IN_MEMORY};
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

/// What inflates before the damage, if there is any: what was read before an error is on the wire already. Big
/// members go to a file that has no name, as big archives do.
fn inflate(packed: Source, size: u64) -> io::Result<Source> {
    let mut inflated = DeflateDecoder::new(Reader(packed)).take(size);
    if size > IN_MEMORY {
        let mut sink = FileSink::new()?;
        // A full disk looks like damage to the client; nobody else is there to be told.
        let _ = io::copy(&mut inflated, &mut sink);
        return Ok(Source::whole(sink.finish().0));
    }
    let mut out = Vec::new();
    let _ = inflated.read_to_end(&mut out);
    Ok(Source::bytes(out))
}

/// A body as a reader.
struct Reader(Source);

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = u64::try_from(buffer.len()).map_err(Error::other)?;
        let bytes = self.0.read(max)?.unwrap_or_default();
        buffer.get_mut(..bytes.len()).ok_or_else(no_zip)?.copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}
