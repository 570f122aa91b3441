//! Archives to be stored, each unlike all others.

use std::sync::LazyLock;

use bytes::Bytes;
use gitlab_standin::{Archive, Member};

use crate::dice::Dice;

const MIB: u64 = 1 << 20;

/// Files of a huge archive.
const FILES: usize = 64;

/// How an archive is stored while it arrives, and how many of the kind jobs have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In one piece.
    Short,
    /// The same, in more chunks.
    Middling,
    /// Written down while it arrives.
    Long,
    /// So long that parts of it are fetched alone.
    Huge,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Short, Self::Middling, Self::Long, Self::Huge];

    pub(crate) const fn jobs(self) -> usize {
        match self {
            Self::Short => 6,
            Self::Middling | Self::Long | Self::Huge => 1,
        }
    }

    /// Lengths of which there are archives.
    fn lengths(self) -> Vec<u64> {
        match self {
            Self::Short => (0..14).map(|n| (64 << 10) + n * 51_111).collect(),
            Self::Middling => (0..5).map(|n| 2 * MIB + n * 1_000_003).collect(),
            Self::Long => (0..4).map(|n| 17 * MIB + n * 2_400_007).collect(),
            Self::Huge => vec![80 * MIB, 80 * MIB + 77_777],
        }
    }
}

/// An archive, with its bytes in memory.
pub(crate) struct Made {
    pub(crate) kind: Kind,
    pub(crate) archive: Archive,
    pub(crate) bytes: Bytes,
    /// Files of it that are asked for alone: those of a huge one.
    pub(crate) files: Vec<(String, Bytes)>,
}

/// All there are.
pub(crate) static ALL: LazyLock<Vec<Made>> = LazyLock::new(|| {
    let lengths = Kind::ALL.into_iter().flat_map(|kind| kind.lengths().into_iter().map(move |at| (kind, at)));
    lengths.zip(1..).map(|((kind, length), seed)| make(kind, length, seed)).collect()
});

fn make(kind: Kind, length: u64, seed: u64) -> Made {
    let archive = Archive::seeded(length, seed).unwrap();
    let bytes = archive.bytes().unwrap();
    if kind != Kind::Huge {
        return Made { kind, archive, bytes, files: Vec::new() };
    }
    let files: Vec<_> = (0..FILES).map(|n| (format!("file-{n}"), file(&bytes, n))).collect();
    let members = files.iter().map(|(name, bytes)| Member::stored(name, bytes.clone()));
    let archive = Archive::runner(members);
    Made { kind, bytes: archive.bytes().unwrap(), archive, files }
}

fn file(bytes: &Bytes, n: usize) -> Bytes {
    let one = bytes.len() / FILES;
    bytes.slice(n * one..(n + 1) * one)
}

/// An archive of a kind that no job has, if there is one.
pub(crate) fn spare(kind: Kind, used: &[usize], dice: &mut Dice) -> Option<usize> {
    let is_spare = |at: &usize| ALL[*at].kind == kind && !used.contains(at);
    let spare: Vec<usize> = (0..ALL.len()).filter(is_spare).collect();
    (!spare.is_empty()).then(|| spare[dice.place(spare.len())])
}
