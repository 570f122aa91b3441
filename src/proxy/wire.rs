//! What an answer and its connection's stream tell each other.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::Mapped;

/// Shared by a connection's stream and the answers on it.
#[derive(Debug, Default)]
pub struct Wire {
    direct: AtomicBool,
    shared: AtomicBool,
    broken: AtomicBool,
    slow: AtomicBool,
    late: AtomicBool,
    gave_up: Notify,
    /// How many requests had begun when bytes came of which none is one yet, and one more; 0: there were none.
    heard: AtomicU64,
    /// How far the present answer is: one of the three below.
    answer: AtomicU8,
    /// Requests that have begun, and those that have ended.
    begun: AtomicU64,
    ended: AtomicU64,
    source: Mutex<Option<Mapped>>,
}

/// No answer is under way.
const NONE: u8 = 0;
/// Bytes of it are still to come.
const MIDWAY: u8 = 1;
/// All of it has been taken, and may not have been written yet.
const TAKEN: u8 = 2;

impl Wire {
    /// It turned out to be a plain socket with HTTP/1: what answers consist of is handed to the kernel as it is. Anything
    /// else, TLS and the frames of HTTP/2, is read by code of ours on its way.
    pub fn set_direct(&self) {
        self.direct.store(true, Ordering::SeqCst);
    }

    /// Whether the kernel alone reads what answers consist of.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.load(Ordering::SeqCst)
    }

    /// It turned out to carry several answers at once (HTTP/2): one that breaks off is said to be broken by itself.
    pub fn set_shared(&self) {
        self.shared.store(true, Ordering::SeqCst);
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// A request's answer has gone, or was given up.
    pub(super) fn end(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// How many requests have come so far, if none is being answered.
    pub fn idle_since(&self) -> Option<u64> {
        // In this order, a request that comes in between can only make it look busy.
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        (begun == ended).then_some(begun)
    }

    /// Bytes have come.
    pub fn hears(&self) {
        if let Some(begun) = self.idle_since() {
            self.heard.store(begun.saturating_add(1), Ordering::SeqCst);
        }
    }

    /// Whether a request's head has begun to come and isn't there yet.
    pub fn is_half_asked(&self) -> bool {
        self.idle_since().is_some_and(|begun| self.heard.load(Ordering::SeqCst) == begun.saturating_add(1))
    }

    /// It ends since a head didn't come in time.
    pub fn set_late(&self) {
        self.late.store(true, Ordering::SeqCst);
    }

    /// Whether it ends for that.
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::SeqCst)
    }

    /// An answer breaks off: the connection must be reset, since to an HTTP/1.0 client a close looks like the end.
    pub fn break_off(&self) {
        if !self.is_shared() {
            self.broken.store(true, Ordering::SeqCst);
        }
    }

    /// An answer begins whose body is still to come.
    pub(super) fn answers(&self) {
        if !self.is_shared() {
            self.answer.store(MIDWAY, Ordering::SeqCst);
        }
    }

    /// All of it has been handed on.
    pub(super) fn answered(&self) {
        // The common case of what is empty or refused writes nothing.
        if self.answer.load(Ordering::SeqCst) == MIDWAY {
            self.answer.store(TAKEN, Ordering::SeqCst);
        }
    }

    /// What was handed on has been written.
    pub fn flushed(&self) {
        if self.answer.load(Ordering::SeqCst) == TAKEN {
            self.answer.store(NONE, Ordering::SeqCst);
        }
    }

    /// Its client takes less than it must: the connection is reset, whatever it carries.
    pub fn give_up(&self) {
        self.slow.store(true, Ordering::SeqCst);
        self.broken.store(true, Ordering::SeqCst);
        self.gave_up.notify_one();
    }

    /// Ready once that is so.
    pub async fn is_given_up(&self) {
        self.gave_up.notified().await;
    }

    /// Whether its client took less than it must.
    pub fn was_slow(&self) -> bool {
        self.slow.load(Ordering::SeqCst)
    }

    /// Whether several answers share it.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::SeqCst)
    }

    /// Whether an answer has broken off, or would if the connection ended now.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst) || self.answer.load(Ordering::SeqCst) == MIDWAY
    }

    /// The same, also of an answer that has been taken but not been written.
    pub fn is_unfinished(&self) -> bool {
        self.is_broken() || self.answer.load(Ordering::SeqCst) == TAKEN
    }

    /// Where the bytes of the present answer lie, if in a mapping.
    pub(super) fn comes_from(&self, source: Option<Mapped>) {
        *self.source.lock() = source;
    }

    /// Where the bytes of the last answer that began lie. Those of one before may still be on their way: whether bytes
    /// lie there is told by their address.
    pub fn source(&self) -> Option<Mapped> {
        self.source.lock().clone()
    }
}
