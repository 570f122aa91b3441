//! What lies on the disk.

use larder::archive::{self, ReadAt};
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
