//! An archive that is arriving.
//!
//! One writer appends; any number of readers follow. Nothing here is in the store yet: a draft that is dropped leaves
//! no trace but what its readers still hold.

use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use ring::digest::{self, SHA256};
use tokio::sync::watch;
use twox_hash::xxhash3_128;

use super::Error;
use super::data::Data;
use super::disk::Trial;
use super::files::Files;
use super::record::CHUNK;
use super::reserve::Reservation;
use super::slices::Growing;
use crate::grant::facts::TAIL;
use crate::grant::{Grant, Sha256, Visitors};
use crate::key::{ArchiveId, Key};
use crate::num::{to_u64, to_usize};

/// How far a draft has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that may be read.
    pub written: u64,
    /// Whether more will come.
    pub end: End,
}

/// Whether more will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More is expected.
    Growing,
    /// These are all bytes.
    Whole,
    /// The disk took no more; one reader may go on with what is left at the source.
    Unstored,
    /// No more will come, though there should be more.
    Broken,
}

/// What is left of a fill that the disk didn't take: what was received and not written, then the source itself.
pub struct Rest(Pin<Box<dyn Future<Output = Step> + Send>>);

/// One step through a [`Rest`]: a piece and what follows it.
type Step = Option<(io::Result<Bytes>, Option<Rest>)>;

impl Rest {
    /// A rest that is asked for piece by piece.
    pub fn new(next: impl Future<Output = Step> + Send + 'static) -> Self {
        Self(Box::pin(next))
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let (piece, then) = std::task::ready!(self.0.as_mut().poll(cx)).unzip();
        *self = then.flatten().unwrap_or_else(|| Self::new(std::future::ready(None)));
        Poll::Ready(piece)
    }
}

/// An archive that is arriving, shared by its writer and its readers.
pub struct Draft {
    key: Key,
    id: ArchiveId,
    length: Option<u64>,
    data: Arc<Data>,
    path: PathBuf,
    files: Arc<dyn Files>,
    progress: watch::Sender<Progress>,
    reservation: Mutex<Reservation>,
    trial: Trial,
    rest: Mutex<Option<Rest>>,
    visitors: Arc<Visitors>,
    /// Whether its end is kept back until all of it was found right.
    guarded: AtomicBool,
    /// Whether a record stands beside it, and whether it has become an archive of which only the beginning is here.
    noted: AtomicBool,
    rested: AtomicBool,
}

impl Draft {
    pub(super) fn new(
        key: Key,
        id: ArchiveId,
        length: Option<u64>,
        data: Data,
        (path, files): (PathBuf, Arc<dyn Files>),
        reservation: Reservation,
        trial: Trial,
    ) -> Self {
        let (progress, _) = watch::channel(Progress { written: 0, end: End::Growing });
        let (data, reservation) = (Arc::new(data), Mutex::new(reservation));
        Self {
            key,
            id,
            length,
            data,
            path,
            files,
            progress,
            reservation,
            trial,
            rest: Mutex::new(None),
            visitors: Arc::default(),
            guarded: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            rested: AtomicBool::new(false),
        }
    }

    /// What it will be stored under.
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Its name.
    pub const fn id(&self) -> ArchiveId {
        self.id
    }

    /// Where its bytes are, as long as it isn't in the store.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The length that was declared.
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Follows it from `from` to `end` (its own end if `None`); nothing without a grant that names it.
    pub fn follow(self: &Arc<Self>, grant: &Grant, from: u64, end: Option<u64>) -> Option<Growing> {
        let tail = grant.tail().map(<[u8]>::to_vec);
        grant.names(self.id).then(|| Growing::new(Arc::clone(self), from, end.or(self.length), tail))
    }

    /// Its writer. There is one.
    pub fn writer(self: &Arc<Self>) -> Writer {
        Writer {
            draft: Arc::clone(self),
            at: 0,
            next: 0,
            seams: Vec::new(),
            hasher: xxhash3_128::Hasher::new(),
            chunks: Vec::new(),
            digest: digest::Context::new(&SHA256),
        }
    }

    /// Who was let in to it; the archive that it becomes remembers them.
    pub const fn visitors(&self) -> &Arc<Visitors> {
        &self.visitors
    }

    /// Keeps its last bytes, [`TAIL`] of them, back until its writer has found all of it right: nobody gets to the end of
    /// what isn't.
    pub fn guard(&self) {
        self.guarded.store(true, Ordering::Release);
    }

    pub(super) fn was_noted(&self) {
        self.noted.store(true, Ordering::Release);
    }

    pub(super) fn was_rested(&self) {
        self.rested.store(true, Ordering::Release);
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.guarded.load(Ordering::Acquire)
    }

    /// Says that no more will come.
    pub fn break_off(&self) {
        self.progress.send_modify(|progress| progress.end = End::Broken);
    }

    /// Says that no more will come, if nothing else was said: whoever filled it is gone.
    pub fn break_off_if_growing(&self) {
        self.progress.send_if_modified(|progress| {
            let growing = progress.end == End::Growing;
            if growing {
                progress.end = End::Broken;
            }
            growing
        });
    }

    /// Says that the disk took no more, and leaves what remains to the reader who gets there first.
    pub fn leave(&self, rest: Rest) {
        *self.rest.lock() = Some(rest);
        self.progress.send_modify(|progress| progress.end = End::Unstored);
    }

    pub(super) fn inherit(&self) -> Option<Rest> {
        self.rest.lock().take()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) const fn data(&self) -> &Arc<Data> {
        &self.data
    }

    pub(super) const fn trial(&self) -> &Trial {
        &self.trial
    }

    pub(super) const fn reservation(&self) -> &Mutex<Reservation> {
        &self.reservation
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already if it was stored; if not, nobody can want it any more. One that was written down has a record.
        if self.rested.load(Ordering::Acquire) {
            return;
        }
        let _ = self.files.remove(&self.path);
        if self.noted.load(Ordering::Acquire) {
            let _ = self.files.remove(&self.path.with_extension("rec"));
        }
    }
}

/// All bytes of a draft are there; what its record needs to know of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Length, bytes.
    pub length: u64,
    /// XXH3-128 of each chunk.
    pub chunks: Vec<u128>,
    /// The last bytes.
    pub tail: Vec<u8>,
    /// SHA-256 of all.
    pub sha256: Sha256,
}

/// Appends to a draft. Its methods block.
pub struct Writer {
    draft: Arc<Draft>,
    at: u64,
    /// Where the next bytes belong: before `at` where some come again.
    next: u64,
    seams: Vec<u64>,
    hasher: xxhash3_128::Hasher,
    chunks: Vec<u128>,
    digest: digest::Context,
}

impl Writer {
    /// Appends and publishes. More than was declared is an error, and so is a full store or disk, or that bytes which come
    /// again are others than before.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.next.saturating_add(to_u64(bytes.len()));
        if self.draft.length.is_some_and(|length| end > length) {
            return Err(Error::TooLong);
        }
        let (again, new) = bytes.split_at(to_usize(self.at.saturating_sub(self.next)).min(bytes.len()));
        self.compare(again)?;
        if !new.is_empty() {
            self.append(new)?;
        }
        // Not before: of what couldn't be written it is known where it belongs.
        self.next = end;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.at.saturating_add(to_u64(bytes.len()));
        self.draft.reservation.lock().cover(end)?;
        self.draft
            .files
            .write_at(self.draft.data.file(), bytes, self.at)
            .map_err(|reason| self.draft.trial.failed(Error::io("write", reason)))?;
        self.hash(bytes);
        self.digest.update(bytes);
        self.at = end;
        self.draft.progress.send_modify(|progress| progress.written = end);
        Ok(())
    }

    /// Bytes that come again must be those that are there.
    fn compare(&self, again: &[u8]) -> Result<(), Error> {
        let mut there = vec![0; again.len()];
        let read = self.draft.data.read_into(&mut there, self.next);
        read.map_err(|reason| Error::Io { doing: "read back", reason })?;
        if there == again { Ok(()) } else { Err(Error::OtherBytes) }
    }

    /// The transfer was taken up again: the next bytes belong at `at`, where some may have been written before. From now on
    /// the end is kept back.
    pub fn go_on_at(&mut self, at: u64) {
        self.draft.guard();
        self.seams.push(self.at);
        self.next = at.min(self.at);
    }

    /// The checksums of the chunks that are here from the beginning on.
    pub fn sums(&self) -> &[u128] {
        &self.chunks
    }

    /// Where transfers meet.
    pub fn seams(&self) -> &[u64] {
        &self.seams
    }

    /// Whether it came in more than one transfer.
    pub fn is_seamed(&self) -> bool {
        !self.seams.is_empty()
    }

    /// What of the frame that was to be written last isn't.
    pub fn unwritten(&self, frame: &Bytes) -> Bytes {
        frame.slice(to_usize(self.at.saturating_sub(self.next)).min(frame.len())..)
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.at
    }

    /// Reads back what was written.
    pub fn read_back(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let inside = buffer.len().min(to_usize(self.at.saturating_sub(at)));
        self.draft.data.file().read_at(buffer.get_mut(..inside).unwrap_or_default(), at)
    }

    /// Ends the writing: the draft must have its declared length, and its SHA-256 if GitLab told that. Says so to the
    /// readers.
    pub fn finish(mut self, told: Option<Sha256>) -> Result<Written, Error> {
        if self.draft.length.is_some_and(|length| length != self.at) {
            return Err(Error::TooShort);
        }
        let digest = self.digest.clone().finish();
        let sha256 = Sha256::new(digest.as_ref().try_into().unwrap_or_default());
        if told.is_some_and(|told| told != sha256) {
            return Err(Error::OtherDigest);
        }
        if !self.at.is_multiple_of(CHUNK) {
            self.chunks.push(self.hasher.finish_128());
        }
        let mut tail = vec![0; to_usize(self.at.min(TAIL))];
        let from = self.at.saturating_sub(TAIL);
        self.draft
            .data
            .read_into(&mut tail, from)
            .map_err(|reason| Error::Io { doing: "read back", reason })?;
        self.draft.progress.send_modify(|progress| progress.end = End::Whole);
        Ok(Written { length: self.at, chunks: self.chunks, tail, sha256 })
    }

    /// Adds to the checksum of the present chunk, and begins the next where one ends.
    fn hash(&mut self, mut bytes: &[u8]) {
        let mut at = self.at;
        while !bytes.is_empty() {
            let room = to_usize(CHUNK - at % CHUNK);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.hasher.write(now);
            at += to_u64(now.len());
            if at.is_multiple_of(CHUNK) {
                let done = std::mem::replace(&mut self.hasher, xxhash3_128::Hasher::new());
                self.chunks.push(done.finish_128());
            }
            bytes = later;
        }
    }
}
