//! Archives as GitLab Runner uploads them, seeded and deterministic, and bytes that are no archive at all.

mod content;
mod random;
mod zip;

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{Context, SHA256};

pub(crate) use content::Content;
pub use content::pattern;
pub(crate) use content::{FileSink, MemorySink};
use random::Filler;
pub use zip::Member;
use zip::ZipWriter;

/// Archives above this size live in an unlinked file, so that a 4 GiB one costs disk and not memory.
pub(crate) const IN_MEMORY: u64 = 64 << 20;

/// The bytes of one artifact: an archive, or whatever else a test wants GitLab to hold. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Archive(Arc<Stored>);

#[derive(Debug)]
struct Stored {
    content: Content,
    sha256: String,
}

impl Archive {
    /// A zip of these members in this order, written the way GitLab Runner does
    /// (`commands/helpers/archive/ziplegacy`, Go's `archive/zip`).
    pub fn runner(members: impl IntoIterator<Item = Member>) -> Self {
        Self::in_memory(|zip| members.into_iter().try_for_each(|member| zip.add(&member)))
    }

    /// A zip of `count` small deflated files spread over directories, every one different.
    pub fn many(count: u32) -> Self {
        Self::in_memory(|zip| {
            (0..count).try_for_each(|index| {
                let name = format!("dir-{:03}/file-{index:06}.txt", index / 256);
                let text = format!("file {index}\n").repeat(1 + usize::from(index.to_le_bytes()[0] % 16));
                zip.add(&Member::file(name, text))
            })
        })
    }

    /// A zip of one member of `unpacked` zeros, and of `count` more that stand in its directory alone and are the same
    /// bytes: little to send, and much to unpack.
    pub fn sharing(count: u32, unpacked: usize) -> Self {
        Self::in_memory(|zip| {
            zip.add(&Member::file("zeros.bin", vec![0; unpacked]))?;
            (0..count).for_each(|index| zip.list_again(&format!("zeros-{index:06}.bin")));
            Ok(())
        })
    }

    /// A zip of `count` members with these bytes each, deflated once and written for each.
    pub fn alike(count: u32, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self::in_memory(|zip| {
            let packed = zip.pack(&data)?;
            (0..count).try_for_each(|index| {
                let member = Member::file(format!("alike-{index:06}.bin"), data.clone());
                zip.add_packed(&member, &packed)
            })
        })
    }

    /// A zip of exactly `total` bytes (or the smallest possible, some 250 bytes): one stored member
    /// `data.bin` of pseudo-random content. The same size gives the same bytes.
    pub fn sized(total: u64) -> io::Result<Self> {
        Self::seeded(total, 1)
    }

    /// Like [`Archive::sized`], with content that depends on `seed` as well.
    pub fn seeded(total: u64, seed: u64) -> io::Result<Self> {
        let payload = zip::payload_for(total);
        if total <= IN_MEMORY {
            return Ok(Self::in_memory(|zip| {
                zip.add_stream("data.bin", payload, &Filler::new(seed, payload))
            }));
        }
        let mut zip = ZipWriter::new(FileSink::new()?);
        zip.add_stream("data.bin", payload, &Filler::new(seed, payload))?;
        let (content, sha256) = zip.finish()?.finish();
        Ok(Self(Arc::new(Stored { content, sha256 })))
    }

    /// Two zips of equal length (at least `total` bytes) whose last KiB is the same and whose first member
    /// is not: what length, date and tail can't tell apart. Store both with one date through
    /// [`GitLab::put_archive_dated`](crate::GitLab::put_archive_dated).
    pub fn twins(total: u64) -> (Self, Self) {
        (Self::twin(total, 7), Self::twin(total, 8))
    }

    fn twin(total: u64, seed: u64) -> Self {
        Self::in_memory(|zip| {
            zip.add_stream("different.bin", total, &Filler::new(seed, total))?;
            // Each record of the directory takes more than 80 bytes: 16 of them cover the last KiB.
            (0..16).try_for_each(|index| {
                zip.add(&Member::stored(format!("equal/in-both-archives-{index:02}.txt"), "equal"))
            })
        })
    }

    /// These very bytes, whatever they are.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let mut digest = Context::new(&SHA256);
        digest.update(&bytes);
        Self(Arc::new(Stored { content: Content::Memory(bytes), sha256: hex(digest.finish().as_ref()) }))
    }

    #[expect(clippy::expect_used, reason = "a Vec takes every write")]
    fn in_memory(write: impl FnOnce(&mut ZipWriter<MemorySink>) -> io::Result<()>) -> Self {
        let mut zip = ZipWriter::new(MemorySink::default());
        write(&mut zip).expect("writing to memory");
        Self::from_bytes(zip.finish().expect("writing to memory").into_bytes())
    }

    pub(crate) fn received(content: Content, sha256: String) -> Self {
        Self(Arc::new(Stored { content, sha256 }))
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.0.content.len()
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The SHA-256 over all bytes, in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.0.sha256
    }

    /// Up to `len` bytes from `offset`; fewer at the end.
    pub fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.content.read(offset, len)
    }

    /// All bytes in memory. For a big archive use [`Archive::read_at`].
    pub fn bytes(&self) -> io::Result<Bytes> {
        self.read_at(0, usize::try_from(self.len()).map_err(io::Error::other)?)
    }

    pub(crate) fn content(&self) -> &Content {
        &self.0.content
    }
}

/// Lower-case hex of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

/// SHA-256 of `bytes` in lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}

/// What an archive is written into: memory or a file.
pub(crate) trait Sink: Write {}
impl Sink for MemorySink {}
impl Sink for FileSink {}
