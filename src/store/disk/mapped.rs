//! Mapped bytes as parts of their file: the kernel sends them from there without copying them.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

use crate::store::disk::data::FileData;

/// The mapping that slices of an archive lie in. It keeps nothing open.
#[derive(Debug, Clone)]
pub(crate) struct Mapped(Weak<FileData>);

impl Mapped {
    pub(in crate::store) fn of(data: &Arc<FileData>) -> Option<Self> {
        data.is_mapped().then(|| Self(Arc::downgrade(data)))
    }

    /// The part of the file that these very bytes are, by their address; `None` if they lie elsewhere. While the mapping
    /// is there, nothing else can lie where it does.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<MappedPart> {
        let data = self.0.upgrade()?;
        let at = data.place(bytes)?;
        Some(MappedPart { data, at, length: bytes.len() })
    }
}

/// A part of an open file.
#[derive(Debug)]
pub(crate) struct MappedPart {
    data: Arc<FileData>,
    at: u64,
    length: usize,
}

impl MappedPart {
    /// Sends as much of it to a socket as that takes now; an end of the file before its own is an error.
    pub(crate) fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        let mut at = self.at;
        match rustix::fs::sendfile(socket, self.data.file(), Some(&mut at), self.length)? {
            0 if self.length > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ReadMode;
    use crate::store::disk::data::{FileSlice, ReadPath};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn data(content: &[u8], mode: ReadMode) -> Arc<FileData> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Arc::new(FileData::new(file, Some(content.len().try_into().unwrap()), mode))
    }

    fn slice(data: &FileData, from: u64, to: u64) -> bytes::Bytes {
        match data.slice(from, to, ReadPath::Mapped) {
            FileSlice::Ready(bytes) => bytes,
            FileSlice::Cold => data.read(from, to, ReadPath::Mapped).unwrap(),
        }
    }

    #[test]
    fn a_part_is_sent_as_the_file_has_it() {
        let content: Vec<u8> = (0..=u8::MAX).cycle().take(10_000).collect();
        let data = data(&content, ReadMode::Mapped);
        let mapped = Mapped::of(&data).unwrap();
        for (from, to) in [(0, 10_000), (0, 1), (4095, 4097), (9_999, 10_000)] {
            let bytes = slice(&data, from, to);
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            assert_eq!(mapped.find(&bytes).unwrap().send(&ours).unwrap(), bytes.len());
            drop(ours);
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{from}-{to}");
        }
    }

    #[test]
    fn bytes_that_lie_elsewhere_are_no_part() {
        let (one, other) = (data(&[1; 8192], ReadMode::Mapped), data(&[1; 8192], ReadMode::Mapped));
        let mapped = Mapped::of(&one).unwrap();
        assert!(mapped.find(&slice(&one, 0, 8192)).is_some());
        assert!(mapped.find(&slice(&other, 0, 8192)).is_none(), "equal, in another file");
        assert!(mapped.find(&[1; 8192]).is_none());
        assert!(Mapped::of(&data(&[1], ReadMode::Pread)).is_none());
        let bytes = slice(&one, 0, 1);
        drop(one);
        assert!(mapped.find(&bytes).is_none(), "it keeps no file open");
    }

    #[test]
    fn what_our_own_code_reads_is_a_copy_in_every_mode() {
        let content: Vec<u8> = (0..=u8::MAX).cycle().take(10_000).collect();
        for mode in [ReadMode::Mapped, ReadMode::Pread] {
            let data = data(&content, mode);
            for (from, to) in [(0, 10_000), (1, 2), (4095, 8193)] {
                let pieces = match data.slice(from, to, ReadPath::Copied) {
                    FileSlice::Ready(bytes) => vec![bytes],
                    FileSlice::Cold => vec![],
                };
                for bytes in pieces.into_iter().chain([data.read(from, to, ReadPath::Copied).unwrap()]) {
                    assert!(data.place(&bytes).is_none(), "{mode:?} {from}-{to}");
                    assert!(bytes == content[from.try_into().unwrap()..to.try_into().unwrap()]);
                }
            }
        }
    }

    #[test]
    fn a_copy_of_a_file_that_was_cut_is_an_error() {
        let data = data(&[1; 8192], ReadMode::Mapped);
        data.file().set_len(4096).unwrap();
        assert!(matches!(data.slice(0, 8192, ReadPath::Copied), FileSlice::Cold));
        let error = data.read(0, 8192, ReadPath::Copied).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_that_was_cut_is_an_error() {
        let data = data(&[1; 8192], ReadMode::Mapped);
        let bytes = slice(&data, 4096, 8192);
        data.file().set_len(4096).unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = Mapped::of(&data).unwrap().find(&bytes).unwrap().send(&ours).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
