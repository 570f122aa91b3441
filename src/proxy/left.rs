//! Changes that go on after their client has left.
//!
//! A client that takes its request back is no reason to break off a change that GitLab may have made: what it takes away
//! must be forgotten. But whoever asks and leaves, again and again, would have as many of them at GitLab as it likes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::base::household::Household;

/// How many changes of one client's may go on without it before another of its is begun. Those that are begun with their
/// clients there are as many as its requests may be, 100 on a connection of HTTP/2: from one connection there are never
/// more than 115 at GitLab.
const MOST: usize = 16;

/// How many go on, of whom. No more entries than of those.
#[derive(Debug)]
pub(crate) struct Left {
    clients: Mutex<HashMap<Household, watch::Sender<usize>>>,
    all: watch::Sender<usize>,
}

impl Default for Left {
    fn default() -> Self {
        Self { clients: Mutex::default(), all: watch::Sender::new(0) }
    }
}

impl Left {
    /// Waits until another change of this client's may be begun, no longer than `patience`; whether it may.
    pub(super) async fn may_begin(&self, who: Household, patience: Duration) -> bool {
        let left = self.clients.lock().get(&who).map(watch::Sender::subscribe);
        let Some(mut left) = left else { return true };
        // A sender that is gone says that there are none.
        tokio::time::timeout(patience, left.wait_for(|left| *left < MOST)).await.is_ok()
    }

    /// A change is begun: what its client holds, and what its task does.
    pub(super) fn begin(self: &Arc<Self>, who: Household) -> (Present, Task) {
        let slot = Slot::default();
        (Present { left: Arc::clone(self), who, slot: Arc::clone(&slot) }, Task(slot))
    }

    /// Ready once none goes on.
    pub(crate) async fn is_over(&self) {
        // The sender is here.
        let _ = self.all.subscribe().wait_for(|all| *all == 0).await;
    }
}

/// Where a client leaves word that it has gone, for as long as the task is there.
type Slot = Arc<Mutex<Option<Gone>>>;

/// What a client holds while it waits for the answer to its change.
#[derive(Debug)]
pub(super) struct Present {
    left: Arc<Left>,
    who: Household,
    slot: Slot,
}

impl Drop for Present {
    fn drop(&mut self) {
        // If the task has ended its word goes with the slot, at once.
        *self.slot.lock() = Some(Gone::new(Arc::clone(&self.left), self.who));
    }
}

/// What a change's task holds until it has ended.
#[derive(Debug)]
pub(super) struct Task(#[expect(dead_code, reason = "what lies in it is counted until it goes")] Slot);

/// One that goes on without its client.
#[derive(Debug)]
struct Gone {
    left: Arc<Left>,
    who: Household,
}

impl Gone {
    fn new(left: Arc<Left>, who: Household) -> Self {
        left.all.send_modify(|all| *all += 1);
        left.clients
            .lock()
            .entry(who)
            .or_insert_with(|| watch::Sender::new(0))
            .send_modify(|client| *client += 1);
        Self { left, who }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let mut clients = self.left.clients.lock();
        if let Some(client) = clients.get(&self.who) {
            client.send_modify(|client| *client -= 1);
            if *client.borrow() == 0 {
                clients.remove(&self.who);
            }
        }
        drop(clients);
        self.left.all.send_modify(|all| *all -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn who(number: u8) -> Household {
        Household::of(Ipv4Addr::new(192, 0, 2, number).into())
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_go_on_without_their_client_before_another_is_begun() {
        let (left, patience) = (Arc::new(Left::default()), Duration::from_secs(10));
        let mut tasks = Vec::new();
        for _ in 0..MOST {
            assert!(left.may_begin(who(1), patience).await);
            let (present, task) = left.begin(who(1));
            drop(present);
            tasks.push(task);
        }
        assert!(!left.may_begin(who(1), patience).await);
        assert!(left.may_begin(who(2), Duration::ZERO).await, "another client");
        let waits = tokio::spawn({
            let left = Arc::clone(&left);
            async move { left.may_begin(who(1), patience).await }
        });
        tokio::task::yield_now().await;
        tasks.pop();
        assert!(waits.await.unwrap());
        drop(tasks);
        left.is_over().await;
        assert!(left.clients.lock().is_empty());
    }

    #[tokio::test]
    async fn whoever_has_its_answer_leaves_nothing_behind() {
        let left = Arc::new(Left::default());
        for _ in 0..2 * MOST {
            let (present, task) = left.begin(who(1));
            drop(task);
            drop(present);
            left.is_over().await;
        }
        assert!(left.clients.lock().is_empty());
    }
}
