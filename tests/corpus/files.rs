//! What lies on the disk.

use larder::archive::{self, Directory, Entry, Member, NotWhole, PIECE, ReadAt};
use larder::store::Record;
use larder::store::record::chunks_of;

struct InMemory<'a>(&'a [u8]);

impl ReadAt for InMemory<'_> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let inside = rest.len().min(buffer.len());
        buffer[..inside].copy_from_slice(&rest[..inside]);
        Ok(inside)
    }
}

pub(crate) fn zip(bytes: &[u8]) -> bool {
    let entries = |bytes: &[u8]| archive::check(&InMemory(bytes), u64::try_from(bytes.len()).unwrap()).ok();
    let Some(found) = entries(bytes) else { return false };
    // An entry takes 46 bytes of the directory and 30 before it.
    assert!(found <= u64::try_from(bytes.len()).unwrap() / 76, "{found} entries");
    assert_eq!(entries(&bytes[..bytes.len() - 1]), None, "cut");
    assert_eq!(entries(&[bytes, b"\0"].concat()), None, "followed by something");
    true
}

/// The names of a directory, what they mean, and every entry to its end.
pub(crate) fn directory(bytes: &[u8]) -> bool {
    let (source, length) = (InMemory(bytes), u64::try_from(bytes.len()).unwrap());
    let whole = archive::check(&source, length).is_ok();
    let directory = match Directory::read(&source, length) {
        Ok(directory) => directory,
        Err(error) => {
            // What has another fault as well is refused by both, by whichever is met first.
            assert!(!whole || matches!(error, NotWhole::Zip64 | NotWhole::Heavy(_)), "{error}");
            return false;
        }
    };
    assert!(whole);
    assert!(directory.begins_at() <= length && directory.weight() <= 48 * directory.len() + bytes.len());
    assert!(directory.entries().is_sorted_by(|(a, _), (b, _)| a < b), "each name once");
    let mut read = 0;
    for (name, entry) in directory.entries() {
        assert_eq!(directory.find(name), Some(entry));
        read += usize::from(is_read(&source, entry, &directory));
    }
    read > 0
}

fn is_read(source: &InMemory<'_>, entry: Entry, directory: &Directory) -> bool {
    let Ok(data) = entry.locate(source, directory) else { return false };
    assert!(data.start >= 30 && data.end <= directory.begins_at());
    assert_eq!(data.end - data.start, entry.compressed);
    let mut member = Member::new(source, entry, data);
    let (mut length, mut sum) = (0, crc32fast::Hasher::new());
    loop {
        match member.next() {
            Ok(Some(piece)) => {
                assert!((1..=PIECE).contains(&piece.len()));
                length += u64::try_from(piece.len()).unwrap();
                sum.update(&piece);
            }
            Ok(None) => break,
            Err(_) => {
                assert!(member.next().is_err(), "an error is the end");
                return false;
            }
        }
        assert!(length <= entry.size, "no more than declared");
    }
    assert_eq!(length, entry.size);
    assert!(entry.crc32.is_none_or(|crc32| crc32 == sum.finalize()));
    true
}

pub(crate) fn record(bytes: &[u8]) -> bool {
    let Ok(record) = Record::decode(bytes) else { return false };
    assert_eq!(record.chunks.len(), chunks_of(record.length));
    assert_eq!(Record::decode(&record.encode().unwrap()), Ok(record));
    for at in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 0x10;
        assert!(Record::decode(&flipped).is_err(), "flipped at {at}");
    }
    true
}
