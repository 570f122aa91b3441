//! Single files out of stored archives.
//!
//! Owns the directories of archives that are in use, what is known of their entries, and the small ones decoded. Knows
//! the store's open archives and the zip reader; knows nothing of GitLab or HTTP. What doesn't add up (checksums,
//! lengths, methods that GitLab can't read either) isn't served: GitLab's own answer is. No byte leaves without a
//! [`Grant`] that names the archive.

mod cached;
mod checked;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use cached::{CachedEntry, EntryWork};
pub(crate) use checked::{Checked, EntryError};

use crate::base::key::ArchiveId;
use crate::base::memory::{Lease, Memory};
use crate::base::num::{to_u64, to_usize};
use crate::gitlab::grant::Grant;
use crate::http::Etag;
use crate::store::{Archive, Reader};
use crate::telemetry::Metrics;
use crate::zip::{self, Directory, Method, NotWhole, ReadAt, gzip};

/// Memory for directories, where the budget is large: one of a million entries (72 MB), those of some 90 archives of 20,000,
/// or of thousands of common ones.
const DIRECTORIES: u64 = 128 << 20;

/// The part of the budget that directories may take, all together and one, and the part that unpacked entries may: the rest
/// is for what is on its way.
const ALL_DIRECTORIES: u64 = 4;
const ONE_DIRECTORY: u64 = 4;
const ALL_ENTRIES: u64 = 8;

/// Memory for decoded entries and for what is known of others, where the budget is large.
const ENTRIES: u64 = 32 << 20;

/// Entries up to this length are kept decoded: reports and manifests, of which a pipeline's jobs all read the same.
const SMALL: u64 = 256 << 10;

/// Longest entry that is inflated once for its checksum before it goes out as gzip: a quarter of a second's work.
const CHECKED_FIRST: u64 = 64 << 20;

/// Directories that are read at once; the others wait, and take no thread that others read archives with.
const READING: usize = 8;

/// What an entry costs besides its decoded bytes: its record, name and place in the cache.
const OVERHEAD: usize = 512;

/// Entries of stored archives.
#[derive(Debug, Clone)]
pub(crate) struct Entries {
    metrics: Arc<Metrics>,
    memory: Arc<Memory>,
    directories: Cache<ArchiveId, Arc<Listing>>,
    known: Cache<(ArchiveId, String), Arc<CachedEntry>>,
    /// For reading directories.
    reading: Arc<Semaphore>,
}

impl Entries {
    /// None yet.
    pub(crate) fn new(metrics: Arc<Metrics>, memory: Arc<Memory>) -> Self {
        let kib = |bytes: usize| u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let directories = Cache::builder()
            .max_capacity(DIRECTORIES.min(memory.budget() / ALL_DIRECTORIES) / 1024)
            .weigher(move |_, listing: &Arc<Listing>| kib(listing.directory.weight()))
            .eviction_policy(EvictionPolicy::lru());
        let known = Cache::builder()
            .max_capacity(ENTRIES.min(memory.budget() / ALL_ENTRIES) / 1024)
            .weigher(move |(_, name): &(_, String), known: &Arc<CachedEntry>| {
                kib(name.len() + OVERHEAD + known.weight())
            })
            .eviction_policy(EvictionPolicy::lru());
        let reading = Arc::new(Semaphore::new(READING));
        Self { metrics, memory, directories: directories.build(), known: known.build(), reading }
    }
}

/// An archive's bytes for larder's own eyes.
#[derive(Debug, Clone)]
struct EntryBytes(Arc<Archive>, Arc<Metrics>);

impl ReadAt for EntryBytes {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buffer, at)
    }

    fn unpacked(&self, bytes: u64) {
        self.1.unpacked(bytes);
    }
}

/// What an archive's directory says of an entry, whose own bytes need not be here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Where it lies in the archive, its local header included.
    pub span: Range<u64>,
    /// Length, bytes, when it is unpacked.
    pub size: u64,
}

impl Entries {
    /// An entry of an archive; `None` if there is none of that name, or nothing that could be served.
    pub(crate) async fn find(&self, archive: &Arc<Archive>, name: &str) -> Option<OpenEntry> {
        let key = (archive.id(), name.to_owned());
        let known = match self.known.get(&key) {
            Some(known) => known,
            None => self.look_up(archive, key).await?,
        };
        (!known.is_bad()).then(|| OpenEntry {
            memory: Arc::clone(&self.memory),
            eyes: self.eyes(archive),
            known,
        })
    }

    async fn look_up(&self, archive: &Arc<Archive>, key: (ArchiveId, String)) -> Option<Arc<CachedEntry>> {
        let listing = self.listing(archive).await?;
        let (this, archive) = (self.clone(), Arc::clone(archive));
        let found = crate::base::rt::blocking(move || {
            let directory = &listing.directory;
            let entry = directory.find(key.1.as_bytes())?;
            let init = || match entry.locate(&this.eyes(&archive), directory.begins_at()) {
                Ok(data) => Some(Arc::new(CachedEntry::new(entry, data))),
                Err(reason) => {
                    tracing::debug!(archive = %key.0, %reason, "an entry is left to GitLab");
                    None
                }
            };
            let known = this.known.optionally_get_with(key.clone(), init);
            this.known.run_pending_tasks();
            known
        });
        found.await.ok()?
    }

    /// What the directory of an archive, if it is here, says of an entry; `None` if there is none of that name.
    pub(crate) async fn listed(&self, archive: &Arc<Archive>, name: &str) -> Option<Listed> {
        let (listing, name) = (self.listing(archive).await?, name.to_owned());
        let found = crate::base::rt::blocking(move || {
            let entry = listing.directory.find(name.as_bytes())?;
            Some(Listed { span: entry.span(name.len(), listing.directory.begins_at()), size: entry.size })
        });
        found.await.ok()?
    }

    /// Where an archive's directory begins; `None` if it can't be read.
    pub(crate) async fn directory_begins_at(&self, archive: &Arc<Archive>) -> Option<u64> {
        let (eyes, length) = (self.eyes(archive), archive.stored_length());
        let found = crate::base::rt::blocking(move || zip::directory_begins_at(&eyes, length).ok());
        found.await.ok()?
    }

    fn eyes(&self, archive: &Arc<Archive>) -> EntryBytes {
        EntryBytes(Arc::clone(archive), Arc::clone(&self.metrics))
    }

    /// An archive's directory, read once however many ask, and whether they stay or leave.
    async fn listing(&self, archive: &Arc<Archive>) -> Option<Arc<Listing>> {
        if let Some(listing) = self.directories.get(&archive.id()) {
            return Some(listing);
        }
        let (this, archive) = (self.clone(), Arc::clone(archive));
        let read = move || {
            let read = || this.read_listing(&archive).map(Arc::new);
            let listing = this.directories.try_get_with(archive.id(), read);
            // Left to itself, the cache lets go of what is too much only some time later, and 64 more may come until then.
            this.directories.run_pending_tasks();
            listing.inspect_err(
                |reason| tracing::warn!(archive = %archive.id(), %reason, "a directory can't be read"),
            )
        };
        crate::base::rt::blocking_in_turn(&self.reading, read).await.ok()?.ok()
    }
}

/// A directory, which counts as long as anybody looks into it.
#[derive(Debug)]
struct Listing {
    directory: Directory,
    _lease: Lease,
}

/// Why a directory can't be looked into.
#[derive(Debug, thiserror::Error)]
enum Unlisted {
    #[error(transparent)]
    NotWhole(#[from] NotWhole),
    #[error("there is no memory for its directory of some {0} bytes now")]
    Crowded(usize),
}

impl Entries {
    /// Reads a directory if there is memory for it, at the cost of the others. What there isn't is left to GitLab.
    fn read_listing(&self, archive: &Arc<Archive>) -> Result<Listing, Unlisted> {
        let (eyes, length) = (self.eyes(archive), archive.stored_length());
        let heaviest = to_usize(self.memory.budget() / ONE_DIRECTORY);
        let weight = Directory::weight_at_most(&eyes, length, heaviest)?;
        // Putting it in order takes half as much again.
        let most = weight.saturating_add(weight / 2);
        let lease = self.memory.try_take(most).or_else(|| {
            self.directories.invalidate_all();
            self.directories.run_pending_tasks();
            self.memory.try_take(most)
        });
        let mut lease = lease.ok_or(Unlisted::Crowded(most))?;
        let directory = Directory::read_within(&eyes, length, heaviest)?;
        lease.shrink(directory.weight());
        Ok(Listing { directory, _lease: lease })
    }
}

/// An entry of an archive that is open.
#[derive(Debug, Clone)]
pub(crate) struct OpenEntry {
    memory: Arc<Memory>,
    eyes: EntryBytes,
    known: Arc<CachedEntry>,
}

/// What is read of an entry.
#[derive(Debug)]
pub(crate) enum Content {
    /// All that was asked for.
    Whole(Bytes),
    /// Slices of the archive: stored, and checked before.
    Slices(Reader),
    /// Checked on its way.
    Checked(Box<Checked>),
}

/// An entry's own deflate stream within a gzip member (RFC 1952), in order.
#[derive(Debug)]
pub(crate) struct Gzip {
    /// Before the stream.
    pub header: Bytes,
    /// The stream.
    pub stream: Reader,
    /// After it.
    pub trailer: Bytes,
}

impl Gzip {
    /// Bytes in all.
    pub(crate) fn length(&self) -> u64 {
        to_u64(self.header.len() + self.trailer.len()) + self.stream.remaining().unwrap_or_default()
    }
}

impl OpenEntry {
    const fn archive(&self) -> &Arc<Archive> {
        &self.eyes.0
    }

    /// Length, bytes, when it is unpacked.
    pub(crate) fn size(&self) -> u64 {
        self.known.entry.size
    }

    /// Where its data lies in the archive.
    pub(crate) fn data(&self) -> Range<u64> {
        self.known.data.clone()
    }

    /// The entity tag that GitLab gives to it, under this its name.
    pub(crate) fn etag(&self, name: &str) -> Option<&Etag> {
        if let Some(tag) = self.known.etag.get() {
            return Some(tag);
        }
        // Of an archive of which not all is here yet there is no digest.
        let tag = self.archive().facts().sha256?.entry_tag(name)?;
        Some(self.known.etag.get_or_init(|| tag))
    }

    /// Whether it could go out as gzip as it lies in the archive, and would be shorter.
    pub(crate) fn packs(&self) -> bool {
        let entry = &self.known.entry;
        let framed = entry.compressed.saturating_add(to_u64(gzip::HEADER.len() + gzip::TRAILER));
        entry.method == Method::Deflated && entry.crc32.is_some() && framed < entry.size
    }

    /// Its first bytes, `most` of them if there are as many.
    pub(crate) async fn head(&self, most: usize) -> io::Result<Bytes> {
        self.prepare().await?;
        self.read(EntryWork::Head(most)).await
    }

    /// Makes it ready to be read: a small one is unpacked, once however many ask, if there is memory for it.
    pub(crate) async fn prepare(&self) -> io::Result<()> {
        if self.size() <= SMALL && self.known.decoded().is_none() {
            self.read(EntryWork::Decode).await?;
        }
        Ok(())
    }

    async fn read(&self, wanted: EntryWork) -> io::Result<Bytes> {
        self.known.read(wanted, self.eyes.clone(), &self.memory).await
    }

    /// Whether any part of it can be had without unpacking what lies before that.
    pub(crate) fn is_at_hand(&self) -> bool {
        let sound = self.known.entry.method == Method::Stored && self.known.is_checked();
        sound || self.known.decoded().is_some()
    }

    /// A range of it; `None` if the grant doesn't open the archive, or the range lies outside.
    pub(crate) fn content(&self, grant: &Grant, range: Range<u64>) -> Option<Content> {
        let inside = range.start <= range.end && range.end <= self.size();
        if !inside || !self.archive().is_opened_by(grant) {
            return None;
        }
        if let Some(whole) = self.known.decoded() {
            return Some(Content::Whole(whole.slice(to_usize(range.start)..to_usize(range.end))));
        }
        if self.known.entry.method == Method::Stored && self.known.is_checked() {
            let data = self.known.data.start;
            return self.archive().read(grant, data + range.start..data + range.end).map(Content::Slices);
        }
        let checked = Checked::new(self.eyes.clone(), Arc::clone(&self.known), range);
        Some(Content::Checked(Box::new(checked)))
    }

    /// All of it as gzip, without inflating it more than once in its life; `None` if that isn't possible, or the grant
    /// doesn't open the archive.
    pub(crate) async fn gzip(&self, grant: &Grant) -> io::Result<Option<Gzip>> {
        let Some(crc32) = self.known.entry.crc32.filter(|_| self.packs()) else {
            return Ok(None);
        };
        if !self.known.is_checked() && self.size() > CHECKED_FIRST {
            return Ok(None);
        }
        self.prepare().await?;
        if !self.known.is_checked() {
            self.read(EntryWork::Check).await?;
        }
        let stream = self.archive().read(grant, self.known.data.clone());
        Ok(stream.map(|stream| Gzip {
            header: Bytes::from_static(&gzip::HEADER),
            stream,
            trailer: Bytes::copy_from_slice(&gzip::trailer(crc32, self.size())),
        }))
    }
}
