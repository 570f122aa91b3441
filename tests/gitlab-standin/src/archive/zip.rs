//! A zip writer that writes what GitLab Runner writes: Go's `archive/zip` under the Runner's own extra
//! fields (runner: `commands/helpers/archive/ziplegacy`, `archives/zip_extra.go`; PKWARE APPNOTE 6.3.10).

mod records;

use std::io;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::Sink;
use super::random::Filler;
use records::Record;

const STORE: u16 = 0;
const DEFLATE: u16 = 8;

/// One member of an archive to be written.
#[derive(Clone, Debug)]
pub struct Member {
    name: String,
    data: Bytes,
    method: u16,
    /// The Unix mode, file type included.
    mode: u32,
}

impl Member {
    /// A deflated regular file: what the Runner makes of every file.
    pub fn file(name: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { name: name.into(), data: data.into(), method: DEFLATE, mode: 0o100_644 }
    }

    /// A regular file kept uncompressed.
    pub fn stored(name: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { method: STORE, ..Self::file(name, data) }
    }

    /// A directory; the trailing slash is added.
    pub fn directory(name: impl Into<String>) -> Self {
        let name = format!("{}/", name.into().trim_end_matches('/'));
        Self { name, data: Bytes::new(), method: STORE, mode: 0o040_755 }
    }

    /// A symbolic link: its content is the target.
    pub fn symlink(name: impl Into<String>, target: impl Into<Bytes>) -> Self {
        Self { mode: 0o120_777, ..Self::stored(name, target) }
    }

    /// The same with other permission bits.
    #[must_use]
    pub fn mode(mut self, permissions: u32) -> Self {
        self.mode = (self.mode & 0o170_000) | (permissions & 0o7777);
        self
    }
}

/// Writes members one after the other; [`ZipWriter::finish`] adds the directory.
pub(crate) struct ZipWriter<W> {
    out: W,
    position: u64,
    records: Vec<Record>,
    deflater: Compress,
}

impl<W: Sink> ZipWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        let deflater = Compress::new(Compression::default(), false);
        Self { out, position: 0, records: Vec::new(), deflater }
    }

    /// Writes one member from memory.
    pub(crate) fn add(&mut self, member: &Member) -> io::Result<()> {
        let packed = if member.method == DEFLATE { self.pack(&member.data)? } else { member.data.to_vec() };
        self.add_packed(member, &packed)
    }

    /// The same of which the data are at hand as they will lie in the archive.
    pub(crate) fn add_packed(&mut self, member: &Member, packed: &[u8]) -> io::Result<()> {
        let mut record = Record::new(&member.name, member.method, member.mode, self.position);
        self.put(&record.local_header())?;
        record.crc = crc32fast::hash(&member.data);
        record.size = length(&member.data);
        record.packed = length(packed);
        self.put(packed)?;
        self.close(record)
    }

    /// Lists the last member once more, under another name, without writing it again.
    pub(crate) fn list_again(&mut self, name: &str) {
        let again = self.records.last().map(|last| last.named(name));
        self.records.extend(again);
    }

    /// Writes one stored member of `len` bytes made by `filler`, a block at a time.
    pub(crate) fn add_stream(&mut self, name: &str, len: u64, filler: &Filler) -> io::Result<()> {
        let mut record = Record::new(name, STORE, 0o100_644, self.position);
        self.put(&record.local_header())?;
        let mut crc = crc32fast::Hasher::new();
        let mut left = len;
        for index in 0.. {
            if left == 0 {
                break;
            }
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(Filler::block_size());
            let block = filler.block(index, want);
            crc.update(&block);
            self.put(&block)?;
            left -= length(&block);
        }
        (record.crc, record.size, record.packed) = (crc.finalize(), len, len);
        self.close(record)
    }

    /// Writes the directory and gives the output back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let start = self.position;
        for record in std::mem::take(&mut self.records) {
            self.put(&record.central_header())?;
            self.records.push(record);
        }
        let end = records::end_of_directory(length(&self.records), start, self.position - start);
        self.put(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn close(&mut self, record: Record) -> io::Result<()> {
        self.put(&record.data_descriptor())?;
        self.records.push(record);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += length(bytes);
        self.out.write_all(bytes)
    }

    /// Bytes as they lie deflated in an archive.
    pub(crate) fn pack(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        self.deflater.reset();
        let mut packed = Vec::with_capacity(data.len() / 2 + 64);
        loop {
            let taken = usize::try_from(self.deflater.total_in()).map_err(io::Error::other)?;
            let rest = data.get(taken..).unwrap_or_default();
            match self.deflater.compress_vec(rest, &mut packed, FlushCompress::Finish)? {
                Status::StreamEnd => return Ok(packed),
                Status::Ok | Status::BufError => packed.reserve(packed.capacity().max(1024)),
            }
        }
    }
}

/// How many bytes the one member `data.bin` must have for an archive of `total` bytes.
pub(crate) fn payload_for(total: u64) -> u64 {
    let payload = total.saturating_sub(overhead(0));
    if overhead(payload) == overhead(0) { payload } else { total.saturating_sub(overhead(payload)) }
}

fn overhead(payload: u64) -> u64 {
    let mut record = Record::new("data.bin", STORE, 0o100_644, 0);
    (record.size, record.packed) = (payload, payload);
    let header = length(&record.local_header()) + length(&record.data_descriptor());
    let central = length(&record.central_header());
    header + central + length(&records::end_of_directory(1, header + payload, central))
}

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}
