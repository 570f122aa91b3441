//! The parts together: whole archives, cut ones, and any bytes.

pub(super) mod writer;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::*;
use crate::base::num::{to_u64, to_usize};
use writer::{File, Zip};

/// Bytes in memory, handed out so many at a time.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a>(pub(super) &'a [u8], pub(super) usize);

impl ReadAt for Slice<'_> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let rest = self.0.get(to_usize(at)..).unwrap_or_default();
        let n = rest.len().min(buffer.len()).min(self.1);
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

pub(super) fn open(bytes: &[u8]) -> Result<Directory, NotWhole> {
    Directory::read_within(&Slice(bytes, usize::MAX), to_u64(bytes.len()), 256 << 20)
}

/// An entry's bytes, from its name on.
pub(super) fn content(bytes: &[u8], name: &[u8]) -> Result<Vec<u8>, BadEntry> {
    let directory = open(bytes).unwrap();
    extract(Slice(bytes, usize::MAX), directory.find(name).expect("an entry"), &directory)
}

pub(super) fn extract(source: Slice<'_>, entry: Entry, directory: &Directory) -> Result<Vec<u8>, BadEntry> {
    let data = entry.locate(&source, directory.begins_at())?;
    let verdict = verify(source, entry, data.clone());
    let mut member = Member::new(source, entry, data);
    let mut content = Vec::new();
    while let Some(piece) = member.next().inspect_err(|_| assert!(verdict.is_err()))? {
        assert!((1..=PIECE).contains(&piece.len()), "{} bytes", piece.len());
        content.extend_from_slice(&piece);
    }
    verdict.map(|()| content)
}

/// An archive of one file.
fn zip(comment: &[u8]) -> Vec<u8> {
    Zip { comment: comment.to_vec(), ..Zip::of([File::stored("a", b"x")]) }.bytes()
}

fn check(bytes: &[u8]) -> Result<u64, NotWhole> {
    super::check(&Slice(bytes, usize::MAX), to_u64(bytes.len()))
}

#[test]
fn a_whole_archive_is_one() {
    assert_eq!(check(&zip(b"")).unwrap(), 1);
    assert_eq!(check(&zip(&vec![b'c'; 65_535])).unwrap(), 1, "the longest comment");
    let empty = [b"PK\x05\x06".as_slice(), &[0; 18]].concat();
    assert_eq!(check(&empty).unwrap(), 0);
    assert!(begins_as_zip(&empty) && begins_as_zip(&zip(b"")) && !begins_as_zip(b"<htm"));
}

#[test]
fn a_cut_archive_is_none_wherever_it_is_cut() {
    let whole = zip(b"comment");
    for length in 0..whole.len() {
        assert!(check(&whole[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn what_follows_the_end_and_what_lies_about_it_is_noticed() {
    assert!(matches!(check(&[zip(b"").as_slice(), b"more"].concat()), Err(NotWhole::Trailing(4))));
    let mut lies = zip(b"");
    let count = lies.len() - 12;
    lies[count] = 2;
    lies[count - 2] = 2;
    assert!(check(&lies).is_err());
}

/// Contents of few and of many bytes, some of which deflate well.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..PIECE + PIECE / 2).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn file() -> impl Strategy<Value = (File, Vec<u8>)> {
    let name = prop_oneof![Just(b"a".to_vec()), Just(b"b/c".to_vec()), vec(any::<u8>(), 0..9)];
    let name = name.prop_map(|mut name| {
        // A directory has no content.
        name.pop_if(|last| *last == b'/');
        name
    });
    let extra = prop_oneof![Just(Vec::new()), Just(b"UT\x05\0\x01abcd".to_vec())];
    (name, contents(), any::<[bool; 3]>(), extra.clone(), extra).prop_map(
        |(name, content, [deflated, zip64, described], local, central)| {
            let make = if deflated { File::deflated } else { File::stored };
            let file = File { zip64, local, central, ..make(name, &content) };
            (if described { file.described() } else { file }, content)
        },
    )
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, at in 0_usize..120, with: u8) {
        let _ = check(&bytes);
        let mut mutant = zip(&bytes[..bytes.len().min(100)]);
        let at = at % mutant.len();
        mutant[at] = with;
        let _ = check(&mutant);
    }

    #[test]
    fn every_name_gives_the_content_that_was_written_first(
        // One at least: without any, rawzip can't tell where one behind a stub would begin, and refuses it.
        files in vec(file(), 1..6),
        prefix in vec(any::<u8>(), 0..50),
        comment in vec(any::<u8>(), 0..50),
        zip64: bool,
        at_most in 1_usize..100_000,
    ) {
        // Whose Zip64 end record isn't where it says can't be read, and neither by Go.
        let declared = zip64;
        let files_only = files.iter().map(|(file, _)| file.clone()).collect();
        let bytes = Zip { files: files_only, prefix, declared, comment, zip64, ..Zip::default() }.bytes();
        let directory = open(&bytes).unwrap();
        let mut first = std::collections::BTreeMap::new();
        for (file, content) in &files {
            first.entry(file.name.as_slice()).or_insert(content);
        }
        let names: Vec<&[u8]> = directory.entries().map(|(name, _)| name).collect();
        assert_eq!(names, first.keys().copied().collect::<Vec<_>>());
        for (name, content) in first {
            let entry = directory.find(name).unwrap();
            assert!(extract(Slice(&bytes, at_most), entry, &directory).unwrap() == *content);
        }
    }

    #[test]
    fn a_mutant_gives_no_more_than_it_declares_and_no_content_with_a_wrong_sum(
        files in vec(file(), 1..4),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = Zip::of(files.into_iter().map(|(file, _)| file)).bytes();
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        let Ok(directory) = open(&bytes) else { return Ok(()) };
        for (name, entry) in directory.entries() {
            assert_eq!(directory.find(name), Some(entry));
            let Ok(content) = extract(Slice(&bytes, usize::MAX), entry, &directory) else { continue };
            assert_eq!(to_u64(content.len()), entry.size);
            assert!(entry.crc32.is_none_or(|crc| crc == crc32fast::hash(&content)));
        }
    }
}
