//! What an answer and its connection's stream tell each other.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::store::Mapped;

/// Shared by a connection's stream and the answers on it.
#[derive(Debug, Default)]
pub struct Wire {
    broken: AtomicBool,
    source: Mutex<Option<Mapped>>,
}

impl Wire {
    /// An answer breaks off: the connection must be reset, since to an HTTP/1.0 client a close looks like the end.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// Whether an answer has broken off.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
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
