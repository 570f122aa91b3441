//! A zip writer that can lie: every number of a file or of the end record can be set to what it shouldn't be.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

const MARK: u32 = u32::MAX;

/// A file to be written, as its records will have it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: Vec<u8>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    /// The data in the archive.
    pub(crate) data: Vec<u8>,
    pub(crate) compressed: u64,
    pub(crate) size: u64,
    /// Whether the numbers stand in a Zip64 field.
    pub(crate) zip64: bool,
    /// Extra fields of the local header; the directory doesn't have them.
    pub(crate) local: Vec<u8>,
    /// Extra fields of the directory; the local header doesn't have them.
    pub(crate) central: Vec<u8>,
    pub(crate) comment: Vec<u8>,
    /// Where the local header should be, instead of where it is.
    pub(crate) at: Option<u64>,
    /// Whether a data descriptor follows.
    pub(crate) described: bool,
    /// How long the local header says that its extra fields are, instead of how long they are.
    pub(crate) claims: Option<usize>,
    /// Whether it is there, and not in the directory alone.
    pub(crate) written: bool,
}

impl File {
    pub(crate) fn stored(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        let size = length(content);
        Self {
            name: name.as_ref().to_vec(),
            flags: 0,
            method: 0,
            crc: crc32fast::hash(content),
            data: content.to_vec(),
            compressed: size,
            size,
            zip64: false,
            local: Vec::new(),
            central: Vec::new(),
            comment: Vec::new(),
            at: None,
            described: false,
            claims: None,
            written: true,
        }
    }

    pub(crate) fn deflated(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        let data = encoder.finish().unwrap();
        let compressed = length(&data);
        Self { method: 8, data, compressed, ..Self::stored(name, content) }
    }

    /// With CRC and lengths behind the data, zero in the local header (flag bit 3).
    pub(crate) fn described(self) -> Self {
        Self { described: true, flags: self.flags | 8, ..self }
    }

    fn local(&self) -> Vec<u8> {
        let told = if self.described { (0, 0, 0) } else { (self.crc, self.compressed, self.size) };
        let mut header = [b"PK\x03\x04\x14\0".as_slice(), &self.common(told)].concat();
        header.extend(short(self.claims.unwrap_or(self.local.len())));
        let mut all = [header.as_slice(), &self.name, &self.local, &self.data].concat();
        if self.described {
            all.extend([b"PK\x07\x08".as_slice(), &self.crc.to_le_bytes()].concat());
            all.extend([low(self.compressed), low(self.size)].concat());
        }
        all
    }

    fn central(&self, at: u64) -> Vec<u8> {
        let at = self.at.unwrap_or(at);
        let (numbers, place, zip64) = if self.zip64 {
            let field = [self.size, self.compressed, at].map(u64::to_le_bytes).concat();
            ((MARK.into(), MARK.into()), MARK.into(), [b"\x01\0\x18\0".as_slice(), &field].concat())
        } else {
            ((self.compressed, self.size), at, Vec::new())
        };
        let extra = [self.central.as_slice(), &zip64].concat();
        let mut header =
            [b"PK\x01\x02\x14\0\x14\0".as_slice(), &self.common((self.crc, numbers.0, numbers.1))].concat();
        header.extend([short(extra.len()), short(self.comment.len())].concat());
        header.extend([0; 8]);
        header.extend(low(place));
        [header.as_slice(), &self.name, &extra, &self.comment].concat()
    }

    /// From the flags to the name's length: alike in both headers.
    fn common(&self, (crc, compressed, size): (u32, u64, u64)) -> Vec<u8> {
        let mut bytes = [self.flags.to_le_bytes(), self.method.to_le_bytes(), [0; 2], [0; 2]].concat();
        bytes.extend([crc.to_le_bytes(), low(compressed), low(size)].concat());
        bytes.extend(short(self.name.len()));
        bytes
    }
}

/// An archive to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zip {
    pub(crate) files: Vec<File>,
    /// Bytes before the first file.
    pub(crate) prefix: Vec<u8>,
    /// Whether places are counted from the file's beginning; else from the end of the prefix, as where a stub was put
    /// before a finished archive.
    pub(crate) declared: bool,
    pub(crate) comment: Vec<u8>,
    /// Whether there is a Zip64 end record.
    pub(crate) zip64: bool,
    /// How many files there should be, instead of how many there are.
    pub(crate) count: Option<u64>,
    /// Whether the directory lists the last file first.
    pub(crate) reversed: bool,
}

impl Zip {
    pub(crate) fn of(files: impl IntoIterator<Item = File>) -> Self {
        Self { files: files.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let origin = if self.declared { 0 } else { length(&self.prefix) };
        let (mut all, mut records) = (self.prefix.clone(), Vec::new());
        for file in &self.files {
            records.push(file.central(length(&all) - origin));
            if file.written {
                all.extend(file.local());
            }
        }
        if self.reversed {
            records.reverse();
        }
        let central = records.concat();
        let (begins, size) = (length(&all) - origin, length(&central));
        all.extend(central);
        let count = self.count.unwrap_or(length(&self.files));
        let mut end = [count.to_le_bytes(), size.to_le_bytes(), begins.to_le_bytes()].to_vec();
        if self.zip64 {
            let at = length(&all) - origin;
            all.extend(
                [b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0".as_slice(), &end[0]].concat(),
            );
            all.extend(end.concat());
            all.extend([b"PK\x06\x07\0\0\0\0".as_slice(), &at.to_le_bytes(), &[1, 0, 0, 0]].concat());
            end.fill([0xff; 8]);
        }
        all.extend([b"PK\x05\x06\0\0\0\0".as_slice(), &end[0][..2], &end[0][..2]].concat());
        all.extend([&end[1][..4], &end[2][..4], &short(self.comment.len()), &self.comment].concat());
        all
    }
}

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap()
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_le_bytes()
}

/// The mark where 32 bits don't hold it.
fn low(number: u64) -> [u8; 4] {
    u32::try_from(number).unwrap_or(MARK).to_le_bytes()
}
