//! A look at every byte of a store that nobody uses.
//!
//! Every archive is compared with its record: both files are there, the record is whole, the length is right, and so is
//! the checksum of each chunk that the record says is here. Nothing is changed unless that is asked for, and then what is damaged is removed, as a start
//! would remove what it can't adopt: the next download fetches it anew.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::key::{ArchiveId, Key};
use crate::base::num::{to_u64, to_usize};
use crate::store::disk::files::Plain;
use crate::store::disk::layout::{Archives, Found, Layout, SHARDS};
use crate::store::disk::lock;
use crate::store::object::chunks::is_sound;
use crate::store::record::{BadRecord, CHUNK, Record};
use crate::store::{Error, Settings};

/// Why an archive isn't what it was.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// One of its two files is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The record can't be believed.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// It is another archive's record.
    #[error("the record beside it is another archive's")]
    Foreign,
    /// The file is shorter or longer than its record says.
    #[error("it has {found} bytes and should have {recorded}")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes by the record.
        recorded: u64,
    },
    /// A chunk has other bytes than it had.
    #[error("the checksum of the MiB at byte {0} is wrong")]
    Chunk(u64),
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
}

/// An archive that is damaged.
#[derive(Debug)]
pub struct Damaged {
    /// The archive's file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: Damage,
    /// Whether it was removed.
    pub removed: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Archives that are as they were, sparse ones among them.
    pub sound: u64,
    /// Archives whose record was written by another version of larder: left alone.
    pub unknown: u64,
    /// Bytes of archives that were read.
    pub bytes: u64,
    /// The others.
    pub damaged: Vec<Damaged>,
}

/// How far it has come.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Archives looked at.
    pub archives: u64,
    /// Of so many.
    pub of: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Looks at all archives of an instance in a directory that is there and that no larder uses. `repair`: damaged ones are removed. `each` is
/// told after every archive. Blocks.
pub fn verify(
    settings: &Settings,
    instance: &str,
    repair: bool,
    mut each: impl FnMut(Step),
) -> Result<Verified, Error> {
    let lock = lock::own_existing(&settings.dir)?;
    let fail = |reason| Error::Directory { path: settings.dir.clone(), reason };
    let layout = Layout::create(instance, Arc::new(Plain(lock.reach.clone()))).map_err(fail)?;
    let archives = list(&layout).map_err(fail)?;
    let of = to_u64(archives.len());
    let (mut verified, mut buffer) = (Verified::default(), Vec::new());
    for (archives, (paths, found)) in (1..).zip(archives) {
        match examine(&layout, &paths, found, &mut buffer) {
            Ok(compared) => {
                verified.sound += 1;
                verified.bytes = verified.bytes.saturating_add(compared);
            }
            Err(Damage::Record(BadRecord::Version(_))) => verified.unknown += 1,
            Err(why) => {
                let removed = repair && remove(&layout, &paths);
                verified.damaged.push(Damaged { path: paths.zip, why, removed });
            }
        }
        each(Step { archives, of, bytes: verified.bytes });
    }
    Ok(verified)
}

/// All archives, the sparse ones last. One file of a sparse archive without the other isn't damage: larder was ended between
/// the two, and its next start sweeps.
fn list(layout: &Layout) -> io::Result<Vec<(Paths, Found)>> {
    let mut whole = Archives::new();
    for shard in 0..SHARDS {
        whole.extend(layout.list(&layout.shard_at(shard))?);
    }
    let sparse = layout.list(&layout.partial())?.into_iter().filter(|(_, found)| found.both());
    let whole = whole.into_iter().map(|((key, id), found)| (Paths::whole(layout, key, id), found));
    Ok(whole.chain(sparse.map(|((key, id), found)| (Paths::sparse(layout, key, id), found))).collect())
}

/// Compares an archive with its record; returns how many bytes were.
fn examine(layout: &Layout, paths: &Paths, found: Found, buffer: &mut Vec<u8>) -> Result<u64, Damage> {
    match (found.zip, found.rec) {
        (true, true) => {}
        (true, false) => return Err(Damage::Missing("the record")),
        _ => return Err(Damage::Missing("the archive")),
    }
    let subject = Subject::open(layout, paths)?;
    let mut compared = 0;
    for chunk in (0..subject.chunks()).filter(|chunk| subject.has(*chunk)) {
        subject.compare(chunk, buffer)?;
        compared += to_u64(buffer.len());
    }
    Ok(compared)
}

/// An archive and where it lies.
#[derive(Debug)]
pub(in crate::store) struct Paths {
    key: Key,
    id: ArchiveId,
    zip: PathBuf,
    rec: PathBuf,
}

impl Paths {
    /// Of one that is whole.
    pub(in crate::store) fn whole(layout: &Layout, key: Key, id: ArchiveId) -> Self {
        Self { key, id, zip: layout.zip(key, id), rec: layout.rec(key, id) }
    }

    fn sparse(layout: &Layout, key: Key, id: ArchiveId) -> Self {
        Self { key, id, zip: layout.partial_zip(key, id), rec: layout.partial_rec(key, id) }
    }
}

/// An archive's files, open to be compared.
#[derive(Debug)]
pub(in crate::store) struct Subject {
    record: Record,
    file: File,
}

impl Subject {
    /// Opens an archive of the right length beside a record that is its own.
    pub(in crate::store) fn open(layout: &Layout, paths: &Paths) -> Result<Self, Damage> {
        let record = Record::decode(&layout.reach().read(&paths.rec)?)?;
        if record.key != paths.key || record.id != paths.id {
            return Err(Damage::Foreign);
        }
        let file = layout.reach().file(&paths.zip)?;
        let length = file.metadata()?.len();
        if length != record.length {
            return Err(Damage::Length { found: length, recorded: record.length });
        }
        Ok(Self { record, file })
    }

    /// How many chunks it has.
    pub(in crate::store) const fn chunks(&self) -> usize {
        self.record.chunks.len()
    }

    /// Whether a chunk is here, by the record.
    fn has(&self, chunk: usize) -> bool {
        self.record.present.as_ref().is_none_or(|present| present.has(to_u64(chunk)))
    }

    /// The bytes of a chunk.
    pub(in crate::store) fn bytes(&self, chunk: usize) -> Range<u64> {
        let start = to_u64(chunk).saturating_mul(CHUNK).min(self.record.length);
        start..start.saturating_add(CHUNK).min(self.record.length)
    }

    /// The archive's file.
    pub(in crate::store) const fn file(&self) -> &File {
        &self.file
    }

    /// Reads a chunk into `buffer` and compares it with its checksum.
    pub(in crate::store) fn compare(&self, chunk: usize, buffer: &mut Vec<u8>) -> Result<(), Damage> {
        let range = self.bytes(chunk);
        buffer.resize(to_usize(range.end - range.start), 0);
        self.file.read_exact_at(buffer, range.start)?;
        match self.record.chunks.get(chunk) {
            Some(checksum) if is_sound(buffer, *checksum) => Ok(()),
            _ => Err(Damage::Chunk(range.start)),
        }
    }
}

/// Removes an archive's files, record first: without one, an archive is none.
fn remove(layout: &Layout, paths: &Paths) -> bool {
    let gone = |path: &Path| match layout.files.remove(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    gone(&paths.rec) && gone(&paths.zip)
}
