//! Readers of one of several answers on a connection.
//!
//! Where answers share a connection (HTTP/2) the socket may be free while nobody takes one of them, whose bytes and
//! archive are held for it all the same. Nobody polls its body then, so a task of its own looks at the clock.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::conn_state::ConnState;
use crate::base::pace::{Least, Pace, TooSlow};

/// Watches one reader.
#[derive(Debug)]
pub(super) struct Stall {
    pace: Arc<Mutex<Pace>>,
    state: Arc<ConnState>,
    watch: Option<JoinHandle<()>>,
}

impl Stall {
    /// `None` where nobody is too slow.
    pub(super) fn new(state: &Arc<ConnState>, least: Least) -> Option<Self> {
        let pace = Arc::new(Mutex::new(Pace::new(least)?));
        Some(Self { pace, state: Arc::clone(state), watch: None })
    }

    /// The reader wants more: it is our turn.
    pub(super) fn wants(&self) {
        self.pace.lock().rests(Instant::now());
    }

    /// The reader has so much more to take.
    pub(super) fn has(&mut self, bytes: u64) {
        let now = Instant::now();
        let mut pace = self.pace.lock();
        pace.moved(bytes, now);
        pace.waits(now);
        drop(pace);
        if self.watch.is_none() {
            let (pace, state) = (Arc::downgrade(&self.pace), Arc::clone(&self.state));
            self.watch = Some(crate::base::rt::spawn(watch(pace, state)));
        }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

async fn watch(pace: Weak<Mutex<Pace>>, state: Arc<ConnState>) {
    while let Some(look) = pace.upgrade().map(|pace| pace.lock().look(Instant::now())) {
        match look {
            Ok(next) => tokio::time::sleep_until(next).await,
            Err(TooSlow) => return state.give_up(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::CutLabel;
    use std::time::Duration;

    const LEAST: Least = Least { rate: 1024, over: Duration::from_secs(60) };

    fn stall() -> (Stall, Arc<ConnState>) {
        let state = Arc::new(ConnState::default());
        state.multiplex();
        (Stall::new(&state, LEAST).unwrap(), state)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (mut stall, state) = stall();
        let begun = Instant::now();
        stall.has(1 << 20);
        state.is_given_up().await;
        // What it was handed bought one window.
        assert_eq!(begun.elapsed().as_secs(), 2 * LEAST.over.as_secs());
        assert!(state.cut() == Some(CutLabel::SlowReader) && state.is_broken());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_for_whom_there_is_nothing_is_not() {
        let (mut stall, state) = stall();
        for _ in 0..100 {
            stall.has(1024);
            tokio::time::sleep(Duration::from_secs(1)).await;
            stall.wants();
            tokio::time::sleep(10 * LEAST.over).await;
        }
        assert!(state.cut().is_none());
    }
}
