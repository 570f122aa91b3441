//! What one connection tells the service, and what the service may ask of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::capture::{Capture, RawHead};

/// One accepted connection, shared between its byte stream and the service on top of it.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// Whether TLS is spoken.
    pub(crate) secure: bool,
    capture: Mutex<Capture>,
    flushes: AtomicU64,
    on_flush: Mutex<Option<Waker>>,
    reset: AtomicBool,
    garbled: AtomicBool,
}

impl Conn {
    pub(crate) fn new(peer: SocketAddr, secure: bool) -> Self {
        Self {
            peer,
            secure,
            capture: Mutex::default(),
            flushes: AtomicU64::new(0),
            on_flush: Mutex::new(None),
            reset: AtomicBool::new(false),
            garbled: AtomicBool::new(false),
        }
    }

    pub(crate) fn read(&self, bytes: &[u8]) {
        self.capture.lock().feed(bytes);
    }

    pub(crate) fn take_head(&self, method: &str) -> Option<RawHead> {
        self.capture.lock().take(method)
    }

    /// The answer is through: the next bytes are a head.
    pub(crate) fn answered(&self) {
        self.capture.lock().arm();
    }

    /// Everything that was queued has been handed to the kernel.
    pub(crate) fn flushed(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        if let Some(waker) = self.on_flush.lock().take() {
            waker.wake();
        }
    }

    /// Waits for the next flush. hyper throws away what it has queued when a body fails, so a body that is
    /// cut after n bytes must let them go first.
    pub(crate) fn poll_flushed(&self, since: &mut Option<u64>, context: &mut Context<'_>) -> Poll<()> {
        *self.on_flush.lock() = Some(context.waker().clone());
        let now = self.flushes.load(Ordering::SeqCst);
        if *since.get_or_insert(now) == now { Poll::Pending } else { Poll::Ready(()) }
    }

    /// When it closes, it closes with a reset.
    pub(crate) fn reset_on_close(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }

    pub(crate) fn wants_reset(&self) -> bool {
        self.reset.load(Ordering::SeqCst)
    }

    /// After the next head only garbage follows.
    pub(crate) fn garble(&self) {
        self.garbled.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_garbled(&self) -> bool {
        self.garbled.load(Ordering::SeqCst)
    }
}
