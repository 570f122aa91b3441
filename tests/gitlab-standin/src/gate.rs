//! A gate that a test holds in its hand: nothing passes until it says so, and no timer is involved.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Holds heads or bodies back until it is opened. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    arrival: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    allowance: u64,
    reached: u64,
    wakers: Vec<Waker>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `amount` more pass: bytes of a body behind [`Effect::Slow`](crate::Effect::Slow), heads behind
    /// [`Effect::Hold`](crate::Effect::Hold). What is not used stays for whoever comes next.
    pub fn release(&self, amount: u64) {
        self.change(|state| state.allowance = state.allowance.saturating_add(amount));
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// Holds everything again from now on.
    pub fn close(&self) {
        self.change(|state| (state.open, state.allowance) = (false, 0));
    }

    /// How many requests have come to the gate so far, whether they had to wait or not.
    pub fn arrivals(&self) -> u64 {
        self.0.state.lock().reached
    }

    /// Waits until `count` requests have come to the gate.
    pub async fn arrived(&self, count: u64) {
        loop {
            let notified = self.0.arrival.notified();
            if self.arrivals() >= count {
                return;
            }
            notified.await;
        }
    }

    pub(crate) fn reach(&self) {
        self.0.state.lock().reached += 1;
        self.0.arrival.notify_waiters();
    }

    /// Takes up to `want` from what may pass; pending while that is nothing.
    pub(crate) fn poll_take(&self, want: u64, context: &mut Context<'_>) -> Poll<u64> {
        let mut state = self.0.state.lock();
        if state.open {
            return Poll::Ready(want);
        }
        let taken = want.min(state.allowance);
        if taken > 0 || want == 0 {
            state.allowance -= taken;
            return Poll::Ready(taken);
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.0.state.lock();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}
