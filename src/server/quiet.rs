//! Connections on which nothing is being asked: when all are taken, the oldest of them makes room for whoever comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::conn_state::ConnState;

/// The connections that are open, in the order in which they came. Bounded by `server.max_connections`.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<OpenConns>);

#[derive(Debug, Default)]
struct OpenConns {
    /// How many there have been.
    number: u64,
    open: BTreeMap<u64, QuietConn>,
}

#[derive(Debug, Clone)]
struct QuietConn {
    state: Arc<ConnState>,
    leave: Arc<Notify>,
}

/// One of them, for as long as it may be told to leave.
#[derive(Debug)]
pub(super) struct Guest {
    quiet: Arc<Quiet>,
    number: u64,
    entry: QuietConn,
}

impl Quiet {
    /// A connection that is there from now on.
    pub(super) fn enter(self: &Arc<Self>, state: Arc<ConnState>) -> Guest {
        let entry = QuietConn { state, leave: Arc::default() };
        let mut open = self.0.lock();
        let number = open.number;
        open.number = number.wrapping_add(1);
        open.open.insert(number, entry.clone());
        Guest { quiet: Arc::clone(self), number, entry }
    }

    /// Tells one to leave, if there is one on which nothing is being asked: the oldest that has asked nothing yet, or
    /// else the oldest. Told twice, it leaves once.
    pub(super) fn make_room(&self) {
        let open = self.0.lock();
        let silent = open.open.values().find(|entry| entry.state.idle_since() == Some(0));
        if let Some(entry) = silent.or_else(|| open.open.values().find(|entry| entry.state.is_quiet())) {
            entry.leave.notify_one();
        }
    }
}

impl Guest {
    /// Ready once it is to leave.
    pub(super) async fn told(&self) {
        loop {
            self.entry.leave.notified().await;
            if self.entry.state.is_quiet() {
                return;
            }
            // It has been asked something meanwhile: another one's turn.
            self.quiet.make_room();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.quiet.0.lock().open.remove(&self.number);
    }
}
