//! What lies on the disk.

use larder::store::Record;
use larder::store::record::chunks_of;
use larder::zip::{self, Directory, Entry, Member, NotWhole, PIECE, ReadAt};

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
    let entries = |bytes: &[u8]| zip::check(&InMemory(bytes), u64::try_from(bytes.len()).unwrap()).ok();
    let Some(found) = entries(bytes) else { return false };
    // An entry takes 46 bytes of the directory and 30 before it.
    assert!(found <= u64::try_from(bytes.len()).unwrap() / 76, "{found} entries");
    assert_eq!(entries(&bytes[..bytes.len() - 1]), None, "cut");
    assert_eq!(entries(&[bytes, b"\0"].concat()), None, "followed by something");
    true
}

/// Most memory that a directory may take, in bytes.
const HEAVIEST: usize = 256 << 20;

/// The names of a directory, what they mean, and every entry to its end.
pub(crate) fn directory(bytes: &[u8]) -> bool {
    let (source, length) = (InMemory(bytes), u64::try_from(bytes.len()).unwrap());
    let checked = zip::check(&source, length);
    let whole = checked.is_ok();
    let directory = match Directory::read_within(&source, length, HEAVIEST) {
        Ok(directory) => directory,
        Err(error) => {
            // What has another fault as well is refused by both, by whichever is met first.
            let told = matches!(error, NotWhole::End | NotWhole::Count { .. });
            assert!(!whole || told || matches!(error, NotWhole::Zip64 | NotWhole::Heavy(_)), "{error}");
            return false;
        }
    };
    // A directory says what its entries are, wherever their bytes are; an archive that shares them isn't stored.
    assert!(matches!(checked, Ok(_) | Err(NotWhole::Overlap | NotWhole::Scattered(_))), "{checked:?}");
    assert!(
        directory.begins_at() <= length
            && directory.weight() <= 48 * directory.entries().count() + bytes.len()
    );
    assert!(directory.entries().is_sorted_by(|(a, _), (b, _)| a < b), "each name once");
    let mut read = 0;
    for (name, entry) in directory.entries() {
        assert_eq!(directory.find(name), Some(entry));
        read += usize::from(is_read(&source, entry, &directory));
    }
    read > 0
}

fn is_read(source: &InMemory<'_>, entry: Entry, directory: &Directory) -> bool {
    let Ok(data) = entry.locate(source, directory.begins_at()) else { return false };
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
