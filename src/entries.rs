//! Single files out of stored archives.
//!
//! Owns the directories of archives that are in use, what is known of their entries, and the small ones decoded. Knows
//! the store's open archives and the zip reader; knows nothing of GitLab or HTTP. What doesn't add up (checksums,
//! lengths, methods that GitLab can't read either) isn't served: GitLab's own answer is. No byte leaves without a
//! [`Grant`] that names the archive.

mod checked;
mod known;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

pub use checked::{Checked, Lacking};
use known::Known;

use crate::archive::{Directory, Method, NotWhole, ReadAt, gzip};
use crate::grant::{Etag, Grant};
use crate::key::ArchiveId;
use crate::num::{to_u64, to_usize};
use crate::store::{Archive, Slices};

/// Memory for directories: one of a million entries (72 MB), those of some 90 archives of 20,000, or of thousands of
/// common ones.
const DIRECTORIES_KIB: u64 = 128 << 10;

/// Memory for decoded entries and for what is known of others.
const ENTRIES_KIB: u64 = 32 << 10;

/// Entries up to this length are kept decoded: reports and manifests, of which a pipeline's jobs all read the same.
const SMALL: u64 = 256 << 10;

/// Longest entry that is inflated once for its checksum before it goes out as gzip: a quarter of a second's work.
const CHECKED_FIRST: u64 = 64 << 20;

/// What an entry costs besides its decoded bytes: its record, name and place in the cache.
const OVERHEAD: usize = 512;

/// Entries of stored archives.
#[derive(Debug)]
pub struct Entries {
    directories: Cache<ArchiveId, Arc<Directory>>,
    known: Cache<(ArchiveId, String), Arc<Known>>,
}

impl Default for Entries {
    fn default() -> Self {
        let kib = |bytes: usize| u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let directories = Cache::builder()
            .max_capacity(DIRECTORIES_KIB)
            .weigher(move |_, directory: &Arc<Directory>| kib(directory.weight()))
            .eviction_policy(EvictionPolicy::lru());
        let known = Cache::builder()
            .max_capacity(ENTRIES_KIB)
            .weigher(move |(_, name): &(_, String), known: &Arc<Known>| {
                kib(name.len() + OVERHEAD + known.weight())
            })
            .eviction_policy(EvictionPolicy::lru());
        Self { directories: directories.build(), known: known.build() }
    }
}

/// An archive's bytes for larder's own eyes.
#[derive(Debug, Clone)]
struct Eyes(Arc<Archive>);

impl ReadAt for Eyes {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buffer, at)
    }
}

/// What an archive's directory says of an entry, whose own bytes need not be here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it lies in the archive, its local header included.
    pub span: Range<u64>,
    /// Length, bytes, when it is unpacked.
    pub size: u64,
}

impl Entries {
    /// An entry of an archive; `None` if there is none of that name, or nothing that could be served.
    pub async fn find(&self, archive: &Arc<Archive>, name: &str) -> Option<Entry> {
        let key = (archive.id(), name.to_owned());
        let known = match self.known.get(&key) {
            Some(known) => known,
            None => self.look_up(archive, key).await?,
        };
        (!known.is_bad()).then(|| Entry { archive: Arc::clone(archive), known })
    }

    async fn look_up(&self, archive: &Arc<Archive>, key: (ArchiveId, String)) -> Option<Arc<Known>> {
        let (this, archive) = (self.clone_caches(), Arc::clone(archive));
        let found = crate::rt::blocking(move || {
            let directory = this.listing(&archive)?;
            let entry = directory.find(key.1.as_bytes())?;
            let init = || match entry.locate(&Eyes(archive), &directory) {
                Ok(data) => Some(Arc::new(Known::new(entry, data))),
                Err(reason) => {
                    tracing::debug!(archive = %key.0, %reason, "an entry is left to GitLab");
                    None
                }
            };
            this.known.optionally_get_with(key.clone(), init)
        });
        found.await.ok()?
    }

    /// What the directory of an archive, if it is here, says of an entry; `None` if there is none of that name.
    pub async fn listed(&self, archive: &Arc<Archive>, name: &str) -> Option<Listed> {
        let (this, archive, name) = (self.clone_caches(), Arc::clone(archive), name.to_owned());
        let found = crate::rt::blocking(move || {
            let directory = this.listing(&archive)?;
            let entry = directory.find(name.as_bytes())?;
            Some(Listed { span: entry.span(name.len(), &directory), size: entry.size })
        });
        found.await.ok()?
    }

    /// Where an archive's directory begins; `None` if it can't be read.
    pub async fn directory_begins_at(&self, archive: &Arc<Archive>) -> Option<u64> {
        let (this, archive) = (self.clone_caches(), Arc::clone(archive));
        let found =
            crate::rt::blocking(move || this.listing(&archive).map(|directory| directory.begins_at()));
        found.await.ok()?
    }

    /// The caches are handles.
    fn clone_caches(&self) -> Self {
        Self { directories: self.directories.clone(), known: self.known.clone() }
    }

    /// An archive's directory, read once however many ask. Blocks.
    fn listing(&self, archive: &Arc<Archive>) -> Option<Arc<Directory>> {
        let read = || -> Result<Arc<Directory>, NotWhole> {
            Directory::read(&Eyes(Arc::clone(archive)), archive.record().length).map(Arc::new)
        };
        let listing = self.directories.try_get_with(archive.id(), read);
        listing
            .inspect_err(
                |reason| tracing::warn!(archive = %archive.id(), %reason, "a directory can't be read"),
            )
            .ok()
    }
}

/// An entry of an archive that is open.
#[derive(Debug, Clone)]
pub struct Entry {
    archive: Arc<Archive>,
    known: Arc<Known>,
}

/// What is read of an entry.
#[derive(Debug)]
pub enum Content {
    /// All that was asked for.
    Whole(Bytes),
    /// Slices of the archive: stored, and checked before.
    Slices(Slices),
    /// Checked on its way.
    Checked(Box<Checked>),
}

/// An entry's own deflate stream within a gzip member (RFC 1952), in order.
#[derive(Debug)]
pub struct Gzip {
    /// Before the stream.
    pub header: Bytes,
    /// The stream.
    pub stream: Slices,
    /// After it.
    pub trailer: Bytes,
}

impl Gzip {
    /// Bytes in all.
    pub fn length(&self) -> u64 {
        to_u64(self.header.len() + self.trailer.len()) + self.stream.remaining()
    }
}

impl Entry {
    /// Length, bytes, when it is unpacked.
    pub fn size(&self) -> u64 {
        self.known.entry.size
    }

    /// Where its data lies in the archive.
    pub fn data(&self) -> Range<u64> {
        self.known.data.clone()
    }

    /// The entity tag that GitLab gives to it, under this its name.
    pub fn etag(&self, name: &str) -> Option<&Etag> {
        if let Some(tag) = self.known.etag.get() {
            return Some(tag);
        }
        // Of an archive of which not all is here yet there is no digest.
        let tag = self.archive.facts().sha256?.entry_tag(name)?;
        Some(self.known.etag.get_or_init(|| tag))
    }

    /// Whether it could go out as gzip as it lies in the archive, and would be shorter.
    pub fn packs(&self) -> bool {
        let entry = &self.known.entry;
        let framed = entry.compressed.saturating_add(to_u64(gzip::HEADER.len() + gzip::TRAILER));
        entry.method == Method::Deflated && entry.crc32.is_some() && framed < entry.size
    }

    /// Its first bytes, `most` of them if there are as many.
    pub async fn head(&self, most: usize) -> io::Result<Bytes> {
        let (known, eyes) = (Arc::clone(&self.known), Eyes(Arc::clone(&self.archive)));
        let head = crate::rt::blocking(move || known.head(eyes, most)).await??;
        Ok(head)
    }

    /// Makes it ready to be read: a small one is unpacked, once however many ask.
    pub async fn prepare(&self) -> io::Result<()> {
        if self.size() <= SMALL && self.known.decoded().is_none() {
            let (known, eyes) = (Arc::clone(&self.known), Eyes(Arc::clone(&self.archive)));
            crate::rt::blocking(move || known.decode(eyes)).await??;
        }
        Ok(())
    }

    /// A range of it; `None` if the grant doesn't open the archive, or the range lies outside.
    pub fn content(&self, grant: &Grant, range: Range<u64>) -> Option<Content> {
        let inside = range.start <= range.end && range.end <= self.size();
        if !inside || !self.archive.is_opened_by(grant) {
            return None;
        }
        if let Some(whole) = self.known.decoded() {
            return Some(Content::Whole(whole.slice(to_usize(range.start)..to_usize(range.end))));
        }
        if self.known.entry.method == Method::Stored && self.known.is_checked() {
            let data = self.known.data.start;
            return self.archive.slices(grant, data + range.start..data + range.end).map(Content::Slices);
        }
        let checked = Checked::new(Arc::clone(&self.archive), Arc::clone(&self.known), range);
        Some(Content::Checked(Box::new(checked)))
    }

    /// All of it as gzip, without inflating it more than once in its life; `None` if that isn't possible, or the grant
    /// doesn't open the archive.
    pub async fn gzip(&self, grant: &Grant) -> io::Result<Option<Gzip>> {
        let Some(crc32) = self.known.entry.crc32.filter(|_| self.packs()) else {
            return Ok(None);
        };
        if !self.known.is_checked() && self.size() > CHECKED_FIRST {
            return Ok(None);
        }
        self.prepare().await?;
        if !self.known.is_checked() {
            let (known, eyes) = (Arc::clone(&self.known), Eyes(Arc::clone(&self.archive)));
            crate::rt::blocking(move || known.check(eyes)).await??;
        }
        let stream = self.archive.slices(grant, self.known.data.clone());
        Ok(stream.map(|stream| Gzip {
            header: Bytes::from_static(&gzip::HEADER),
            stream,
            trailer: Bytes::copy_from_slice(&gzip::trailer(crc32, self.size())),
        }))
    }
}
