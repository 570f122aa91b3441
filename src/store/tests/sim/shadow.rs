//! What of a directory is on the disk for sure, and what a power cut may take back.
//!
//! The rules are POSIX's and no kinder: a file's bytes and length are sure after its `fsync`, a name after its
//! directory's. What isn't sure may have happened all the same, in part, and in another order: bytes come back torn, as
//! zeros or as garbage. Kept are what every journaling file system keeps: a rename happens or doesn't, and changes of one
//! name happen in their order. A file whose `fsync` failed is clean to the kernel: its bytes may never get there, whatever
//! a later one says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::dice::Dice;
use crate::base::num::{to_u64, to_usize};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(usize),
}

/// A change of names.
#[derive(Debug, Clone)]
enum Naming {
    Set(PathBuf, Entry),
    Move(PathBuf, PathBuf, Entry),
    Remove(PathBuf),
}

impl Naming {
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let (one, other) = match self {
            Self::Set(path, _) | Self::Remove(path) => (path, None),
            Self::Move(from, to, _) => (from, Some(to)),
        };
        std::iter::once(one).chain(other)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Self::Set(path, entry) => drop(names.insert(path.clone(), *entry)),
            Self::Move(from, to, entry) => {
                names.remove(from);
                names.insert(to.clone(), *entry);
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }
}

/// A change of a file's bytes.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    Write(u64, Vec<u8>),
    Length(u64),
    AtLeast(u64),
    Zero(Range<u64>),
}

impl Bytes {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let at = to_usize(*at);
                grow(content, at + bytes.len());
                content[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => {
                content.truncate(to_usize(*length));
                grow(content, to_usize(*length));
            }
            Self::AtLeast(length) => grow(content, to_usize(*length)),
            Self::Zero(range) => {
                let end = to_usize(range.end).min(content.len());
                content[to_usize(range.start).min(end)..end].fill(0);
            }
        }
    }

    /// As the disk has it that was stopped meanwhile.
    fn torn(&self, dice: &mut Dice) -> Self {
        let Self::Write(at, bytes) = self else {
            return self.clone();
        };
        let length = dice.index(bytes.len() + 1);
        match dice.below(3) {
            0 => Self::Write(*at, bytes[..length].to_vec()),
            1 => Self::Write(at + to_u64(length), bytes[length..].to_vec()),
            _ => Self::Write(*at, vec![dice.pick(&[0, 0xa5]); bytes.len()]),
        }
    }
}

/// Zeros up to this length, all at once: byte by byte takes an unoptimised build milliseconds.
fn grow(content: &mut Vec<u8>, length: usize) {
    content.extend_from_slice(&vec![0; length.saturating_sub(content.len())]);
}

#[derive(Debug, Default)]
struct Node {
    sure: Vec<u8>,
    /// What was done since, and whether an `fsync` that should have brought it there failed.
    unsure: Vec<(Bytes, bool)>,
}

impl Node {
    /// What may be found after a power cut.
    fn after_a_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.sure.clone();
        let way = dice.below(4);
        let whole = dice.index(self.unsure.len() + 1);
        for (at, (change, _)) in self.unsure.iter().enumerate() {
            let change = match way {
                // All of it, nothing of it.
                0 => change.clone(),
                1 => break,
                // The first changes, and some of the next.
                2 if at < whole => change.clone(),
                2 if at > whole => break,
                // Any.
                3 if dice.once_in(2) => continue,
                _ => change.torn(dice),
            };
            change.apply(&mut content);
        }
        content
    }
}

/// A directory, as a disk has it.
#[derive(Debug)]
pub(super) struct Shadow {
    root: PathBuf,
    nodes: Vec<Node>,
    by_inode: BTreeMap<u64, usize>,
    /// The names there are, those of them that are sure, and what lies between.
    names: BTreeMap<PathBuf, Entry>,
    sure: BTreeMap<PathBuf, Entry>,
    unsure: Vec<Naming>,
}

impl Shadow {
    pub(super) fn new(root: &Path) -> Self {
        let (nodes, unsure) = (Vec::new(), Vec::new());
        let (names, sure) = (BTreeMap::new(), BTreeMap::new());
        Self { root: root.to_owned(), nodes, by_inode: BTreeMap::new(), names, sure, unsure }
    }

    fn name(&mut self, change: Naming) {
        change.apply(&mut self.names);
        self.unsure.push(change);
    }

    pub(super) fn create(&mut self, path: &Path, inode: u64) {
        if let Some(Entry::File(node)) = self.names.get(path) {
            self.by_inode.insert(inode, *node);
            self.nodes[*node].unsure.push((Bytes::Length(0), false));
            return;
        }
        self.nodes.push(Node::default());
        let node = self.nodes.len() - 1;
        self.by_inode.insert(inode, node);
        self.name(Naming::Set(path.to_owned(), Entry::File(node)));
    }

    /// One of an open file's names, for the trace.
    pub(super) fn name_of(&self, inode: u64) -> PathBuf {
        let node = Entry::File(self.by_inode[&inode]);
        let name = self.names.iter().find(|(_, entry)| **entry == node);
        name.map_or_else(|| "a file without a name".into(), |(name, _)| name.clone())
    }

    pub(super) fn change(&mut self, inode: u64, change: Bytes) {
        self.nodes[self.by_inode[&inode]].unsure.push((change, false));
    }

    pub(super) fn sync(&mut self, inode: u64) {
        let Node { sure, unsure } = &mut self.nodes[self.by_inode[&inode]];
        unsure.retain(|(change, failed)| {
            if !failed {
                change.apply(sure);
            }
            *failed
        });
    }

    pub(super) fn sync_failed(&mut self, inode: u64) {
        self.nodes[self.by_inode[&inode]].unsure.iter_mut().for_each(|(_, failed)| *failed = true);
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        let entry = self.names[from];
        self.name(Naming::Move(from.to_owned(), to.to_owned(), entry));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.name(Naming::Remove(path.to_owned()));
    }

    pub(super) fn make_directory(&mut self, path: &Path) {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|path| *path != self.root && !self.names.contains_key(*path))
            .collect();
        for path in missing.into_iter().rev() {
            self.name(Naming::Set(path.to_owned(), Entry::Folder));
        }
    }

    pub(super) fn sync_directory(&mut self, path: &Path) {
        let unsure = std::mem::take(&mut self.unsure);
        let (now, later) = split(unsure, |change| change.paths().any(|name| name.parent() == Some(path)));
        for change in now {
            change.apply(&mut self.sure);
        }
        self.unsure = later;
    }

    /// A file's bytes have changed on the disk itself. `false`: they aren't all there yet.
    pub(super) fn decay(&mut self, path: &Path, change: &Bytes) -> bool {
        match self.names.get(path) {
            Some(Entry::File(node)) if self.nodes[*node].unsure.is_empty() => {
                change.apply(&mut self.nodes[*node].sure);
                true
            }
            _ => false,
        }
    }

    /// The power fails: decides what is found afterwards, which is sure from then on, and writes it to the directory.
    pub(super) fn cut(&mut self, dice: &mut Dice) {
        let mut names = std::mem::take(&mut self.sure);
        let unsure = std::mem::take(&mut self.unsure);
        let (ordered, first, odds) = (dice.once_in(2), dice.index(unsure.len() + 1), 1 + dice.below(3));
        let happened = if ordered {
            unsure.into_iter().take(first).collect()
        } else {
            split(unsure, |_| dice.once_in(odds)).0
        };
        for change in happened {
            change.apply(&mut names);
        }
        let found = names.clone();
        names.retain(|path, _| {
            path.ancestors().skip(1).take_while(|up| *up != self.root).all(|up| found.contains_key(up))
        });
        let nodes = std::mem::take(&mut self.nodes);
        self.by_inode.clear();
        self.clear();
        for (path, entry) in &mut names {
            match entry {
                Entry::Folder => fs::create_dir_all(path).unwrap(),
                Entry::File(node) => {
                    let content = nodes[*node].after_a_cut(dice);
                    fs::write(path, &content).unwrap();
                    *node = self.adopt(path, content);
                }
            }
        }
        (self.names, self.sure) = (names.clone(), names);
    }

    fn adopt(&mut self, path: &Path, sure: Vec<u8>) -> usize {
        self.by_inode.insert(inode(&fs::metadata(path).unwrap()), self.nodes.len());
        self.nodes.push(Node { sure, unsure: Vec::new() });
        self.nodes.len() - 1
    }

    /// Removes all that has a name here or had one; sled's files are none of ours.
    fn clear(&self) {
        for instance in fs::read_dir(&self.root).unwrap().map(|entry| entry.unwrap().path()) {
            for ours in ["archives", "incoming", "partial"] {
                let _ = fs::remove_dir_all(instance.join(ours));
            }
            for ours in ["scrub", "scrub.new"] {
                let _ = fs::remove_file(instance.join(ours));
            }
        }
    }
}

/// By what an open file is known.
pub(super) fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// Splits changes into those that are wanted, with those before them that speak of the same names, and the others.
fn split(changes: Vec<Naming>, mut wanted: impl FnMut(&Naming) -> bool) -> (Vec<Naming>, Vec<Naming>) {
    let (mut names, mut taken) = (BTreeSet::<PathBuf>::new(), vec![false; changes.len()]);
    for (change, taken) in changes.iter().zip(&mut taken).rev() {
        if wanted(change) || change.paths().any(|name| names.contains(name)) {
            *taken = true;
            names.extend(change.paths().cloned());
        }
    }
    let mut taken = taken.into_iter();
    changes.into_iter().partition(|_| taken.next().unwrap())
}
