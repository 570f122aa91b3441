//! How far an archive has come: from its first byte, or its first part, to its place in the store, and out of it.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Archive;
use super::bitmap::ChunkBitmap;
use super::chunks::Availability;
use super::claim::ChunkClaim;
use super::error::ReadError;
use crate::store::disk::layout::Folder;
use crate::store::record::CHUNK;

/// How much of it there is, and whether that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Some of it is here.
    Arriving,
    /// All of it is here, and somebody finds out whether it is right.
    Proving,
    /// All of it is here and it is right; it is on its way to its place, or won't be stored.
    Complete,
    /// It is in the store.
    Whole,
    /// The disk took no more; one reader may go on with what is left at the source.
    Unstored,
    /// No more will come, though there should be more; or what came isn't right.
    Broken,
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Placement {
    /// Nobody can find it yet: its file, in this directory, goes with it.
    Nowhere(Folder),
    /// In the store.
    Found,
    /// It has left the store.
    Gone,
}

/// What is left of a fill that the disk didn't take: what was received and not written, then the source itself.
pub(crate) struct Remainder(Pin<Box<dyn Future<Output = ReadPiece> + Send>>);

/// One step through a [`Remainder`]: a piece and what follows it.
type ReadPiece = Option<(io::Result<Bytes>, Option<Remainder>)>;

impl Remainder {
    /// A remainder that is asked for piece by piece.
    pub(crate) fn new(next: impl Future<Output = ReadPiece> + Send + 'static) -> Self {
        Self(Box::pin(next))
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let (piece, then) = std::task::ready!(self.0.as_mut().poll(cx)).unzip();
        *self = then.flatten().unwrap_or_else(|| Self::new(std::future::ready(None)));
        Poll::Ready(piece)
    }
}

/// An archive's state and place, and what else changes while it lives.
pub(in crate::store) struct Life(Mutex<Progress>);

struct Progress {
    state: State,
    place: Placement,
    /// Its end is kept back until all of it was found right.
    guarded: bool,
    /// A record stands beside its file in `partial/`.
    noted: bool,
    /// Bytes of its record that are counted with its own.
    recorded: u64,
    /// Where transfers met since it was opened; `None`: anywhere.
    seams: Option<Vec<u64>>,
    /// What the disk didn't take: where in the archive that begins, and what it is.
    remainder: Option<(u64, Remainder)>,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let now = self.0.lock();
        f.debug_struct("Life").field("state", &now.state).field("place", &now.place).finish_non_exhaustive()
    }
}

impl Life {
    fn new(state: State, place: Placement, seams: Option<Vec<u64>>) -> Self {
        // What is found in parts is found by its record.
        let noted = (state, place) == (State::Arriving, Placement::Found);
        Self(Mutex::new(Progress {
            state,
            place,
            guarded: false,
            noted,
            recorded: 0,
            seams,
            remainder: None,
        }))
    }

    /// Of one that nobody can find yet.
    pub(in crate::store) fn begins(folder: Folder) -> Self {
        Self::new(State::Arriving, Placement::Nowhere(folder), Some(Vec::new()))
    }

    /// Of one that is found on the disk; some chunks are missing, or all are there and it wasn't found right yet.
    /// `recorded`: the length of its record.
    pub(in crate::store) fn of_partial(recorded: u64) -> Self {
        let life = Self::new(State::Arriving, Placement::Found, None);
        life.0.lock().recorded = recorded;
        life
    }

    /// Of one that is found on the disk, whole.
    pub(in crate::store) fn of_whole() -> Self {
        Self::new(State::Whole, Placement::Found, None)
    }
}

impl Archive {
    /// How far it has come.
    pub(crate) fn state(&self) -> State {
        self.life.0.lock().state
    }

    pub(in crate::store) fn place(&self) -> Placement {
        self.life.0.lock().place
    }

    /// Whether it is in the store, or was, with all of its bytes.
    pub(crate) fn is_whole(&self) -> bool {
        self.state() == State::Whole
    }

    /// Whether some of it is missing, or isn't known to be right yet.
    pub(crate) fn is_partial(&self) -> bool {
        !self.is_whole()
    }

    /// Whether it can be found in the store.
    pub(crate) fn is_found(&self) -> bool {
        self.place() == Placement::Found
    }

    /// Whether it has left the store.
    pub(crate) fn is_retired(&self) -> bool {
        self.place() == Placement::Gone
    }

    /// Changes what it is, and lets those know who wait.
    fn change<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        let changed = change(&mut self.life.0.lock());
        self.chunks.tell();
        changed
    }

    fn becomes(&self, state: State) {
        self.change(|now| now.state = state);
    }

    pub(super) fn set_complete(&self) {
        self.becomes(State::Complete);
    }

    /// All bytes of what isn't to be stored are here: its readers may have them.
    pub(crate) fn relay_whole(&self) {
        self.becomes(State::Complete);
    }

    pub(in crate::store) fn set_whole(&self) {
        self.becomes(State::Whole);
    }

    pub(in crate::store) fn set_place(&self, place: Placement) {
        self.change(|now| now.place = place);
    }

    /// It has left the store: its bytes stay taken until its last reader has left. Called under the store's lock.
    pub(in crate::store) fn retire(&self, bytes: u64) {
        self.lease.add(bytes);
        self.set_place(Placement::Gone);
    }

    /// No more will come. One that is in the store stays there, and others may go on with it.
    pub(crate) fn break_off(&self) {
        self.change(|now| {
            let is_over = matches!(now.state, State::Complete | State::Whole | State::Unstored);
            if !is_over && now.place != Placement::Found {
                now.state = State::Broken;
            }
        });
    }

    /// The disk took no more than what was written of a claim: what remains is for the reader who gets there first.
    pub(crate) fn leave(&self, claim: ChunkClaim, remainder: Remainder) {
        // First: a reader who finds that no more comes by the claim must find what does.
        let remainder = Some((claim.written(), remainder));
        self.change(|now| (now.state, now.remainder) = (State::Unstored, remainder));
        claim.end();
    }

    /// What remains, for a reader at the place where that begins.
    pub(super) fn inherit(&self, at: u64) -> Option<Remainder> {
        self.life.0.lock().remainder.take_if(|(from, _)| *from == at).map(|(_, remainder)| remainder)
    }

    /// Keeps its last bytes, [`TAIL`](crate::gitlab::grant::facts::TAIL) of them, back until it was found right: nobody gets to the
    /// end of what isn't.
    pub(crate) fn guard(&self) {
        self.life.0.lock().guarded = true;
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.life.0.lock().guarded
    }

    pub(in crate::store) fn was_noted(&self) {
        self.life.0.lock().noted = true;
    }

    /// Its record has this length now. Returns how many bytes more that is than were counted.
    pub(in crate::store) fn is_recorded(&self, length: u64) -> u64 {
        let mut now = self.life.0.lock();
        let more = length.saturating_sub(now.recorded);
        now.recorded += more;
        more
    }

    pub(in crate::store) fn is_noted(&self) -> bool {
        self.life.0.lock().noted
    }

    /// Two transfers meet at a place inside of it.
    pub(in crate::store) fn meet(&self, at: u64) {
        let inside = at > 0 && self.length().is_none_or(|length| at < length);
        if let Some(seams) = self.life.0.lock().seams.as_mut().filter(|_| inside) {
            seams.push(at);
        }
    }

    /// Whether it came in more than one transfer, as far as is known.
    pub(crate) fn is_seamed(&self) -> bool {
        self.life.0.lock().seams.as_ref().is_none_or(|seams| !seams.is_empty())
    }

    /// The places where it was joined from several transfers: all that are possible, where that isn't known.
    pub(crate) fn seams(&self) -> Vec<u64> {
        let known = self.life.0.lock().seams.clone();
        known.unwrap_or_else(|| {
            let chunks = self.stored_length().div_ceil(CHUNK);
            (1..chunks).map(|chunk| self.chunks.bytes(chunk).start).collect()
        })
    }

    /// How much of some bytes is here.
    pub(crate) fn have(&self, range: &Range<u64>) -> Availability {
        if self.is_whole() { Availability::All } else { self.chunks.availability(range) }
    }

    /// Bytes that are here or on their way, in MiB begun, and those in all.
    pub(crate) fn wanted(&self) -> (u64, u64) {
        self.chunks.wanted()
    }

    /// Which chunks are here.
    pub(crate) fn present(&self) -> ChunkBitmap {
        self.chunks.here()
    }

    /// Waits until bytes are here; an error if some are missing and nobody fetches them.
    pub(crate) async fn arrived(&self, range: &Range<u64>) -> Result<(), ReadError> {
        let mut changes = self.chunks.subscribe();
        loop {
            changes.mark_unchanged();
            match self.have(range) {
                Availability::All => return Ok(()),
                Availability::Missing => {
                    return Err(ReadError::Broken("a part of the archive couldn't be fetched"));
                }
                // The sender lives as long as the archive.
                Availability::Coming => drop(changes.changed().await),
            }
        }
    }

    /// Begins to find out whether it is right, once: `true` for whoever is to do it, when all of its chunks are here.
    pub(crate) fn begin_to_prove(&self) -> bool {
        let all =
            self.length().is_some_and(|length| self.chunks.availability(&(0..length)) == Availability::All);
        all && self.change(|now| {
            let begins = now.state == State::Arriving;
            if begins {
                now.state = State::Proving;
            }
            begins
        })
    }

    /// It couldn't be found out now.
    pub(crate) fn prove_later(&self) {
        self.change(|now| {
            if now.state != State::Whole {
                now.state = State::Arriving;
            }
        });
    }

    /// Waits until it was found right, or has left the store.
    pub(crate) async fn proven(&self) -> Result<(), ReadError> {
        let mut changes = self.chunks.subscribe();
        loop {
            changes.mark_unchanged();
            match (self.state(), self.place()) {
                (State::Complete | State::Whole, _) => return Ok(()),
                (State::Proving, Placement::Nowhere(_) | Placement::Found) => drop(changes.changed().await),
                _ => return Err(ReadError::Broken("the archive wasn't found right")),
            }
        }
    }

    /// What nobody could find, nobody can want any more once it is dropped.
    pub(super) fn clear_away(&self) {
        let Placement::Nowhere(folder) = self.place() else {
            return;
        };
        let (layout, key, id) = (&self.layout, self.key(), self.id());
        let _ = layout.files.remove(&layout.arriving_zip(folder, key, id));
        if self.is_noted() {
            let _ = layout.files.remove(&layout.partial_rec(key, id));
        }
    }
}
