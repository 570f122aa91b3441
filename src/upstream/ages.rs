//! Connections that are kept for the next request have a longest life: an address that a name no longer leads to, or a
//! server that was taken out of its front's list, is let go of.

use std::collections::VecDeque;
use std::time::Duration;

use hyper_util::client::legacy::connect::CaptureConnection;
use parking_lot::Mutex;

use super::connect::StreamInfo;
use crate::base::clock::{Clock, Moment};

/// Connections that are remembered before those that are gone are looked for.
const LOOK_AT: usize = 256;

/// How long a connection takes further requests.
#[derive(Debug, Clone)]
pub(super) struct ReuseLimits {
    pub(super) clock: Clock,
    pub(super) longest: Duration,
}

impl ReuseLimits {
    /// Whether one that was made then has had it.
    pub(super) fn is_over(&self, made: Moment) -> bool {
        self.clock.now().since(made) >= self.longest
    }
}

#[derive(Debug)]
struct Made {
    at: Moment,
    connection: CaptureConnection,
    known: StreamInfo,
}

impl Made {
    /// No further request takes it; one that is under way goes on.
    fn retire(&self) {
        if let Some(connected) = &*self.connection.connection_metadata() {
            connected.poison();
        }
    }
}

/// The connections of one pool, in the order in which they were made: those that are open, and up to as many again.
#[derive(Debug)]
pub(super) struct Ages {
    life: ReuseLimits,
    state: Mutex<AgesState>,
}

#[derive(Debug)]
struct AgesState {
    made: VecDeque<Made>,
    look_at: usize,
}

impl Ages {
    pub(super) fn new(life: ReuseLimits) -> Self {
        Self { life, state: Mutex::new(AgesState { made: VecDeque::new(), look_at: LOOK_AT }) }
    }

    /// One was made just now.
    pub(super) fn note(&self, connection: CaptureConnection, known: StreamInfo) {
        let at = self.life.clock.now();
        let mut state = self.state.lock();
        if state.made.len() >= state.look_at {
            state.made.retain(|made| !made.known.has_gone());
            state.look_at = LOOK_AT.max(2 * state.made.len());
        }
        state.made.push_back(Made { at, connection, known });
    }

    /// Retires those that are too old.
    pub(super) fn retire_old(&self) {
        let mut state = self.state.lock();
        while let Some(made) = state.made.pop_front() {
            if !self.life.is_over(made.at) {
                state.made.push_front(made);
                return;
            }
            made.retire();
        }
    }

    /// Retires all.
    pub(super) fn retire_all(&self) {
        self.state.lock().made.drain(..).for_each(|made| made.retire());
    }
}
