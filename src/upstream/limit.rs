//! How many requests may be under way at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::error::{Error, FailureKind};
use super::turns::{Entered, Turns};
use crate::base::household::Household;

/// One lane to GitLab: so many requests at once, handed out in [turn](super::turns) between clients, and a line of those
/// that wait, none for longer than `patience`.
#[derive(Debug)]
pub(super) struct Lane {
    turns: Mutex<Turns<oneshot::Sender<Place>>>,
    patience: Duration,
}

impl Lane {
    /// `most` places; `line` may wait for one.
    pub(super) fn new(most: usize, line: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { turns: Mutex::new(Turns::new(most, line)), patience })
    }

    /// A place for a client's request. Whoever doesn't fit in the line hears so at once.
    pub(super) async fn enter(self: &Arc<Self>, who: Household) -> Result<Place, Error> {
        let full = || Error::from_kind(FailureKind::QueueTimeout);
        let (tell, told) = oneshot::channel();
        let entered = self.turns.lock().enter(who, || tell);
        let _waiting = match entered {
            Entered::Place => return Ok(self.place(who)),
            Entered::Full => return Err(full()),
            Entered::Waits(ticket) => QueueTicket { lane: self, who, ticket },
        };
        let place = tokio::time::timeout(self.patience, told).await;
        place.ok().and_then(Result::ok).ok_or_else(full)
    }

    /// A place if there is one for this client now.
    pub(super) fn enter_now(self: &Arc<Self>, who: Household) -> Option<Place> {
        let taken = self.turns.lock().take(who);
        taken.then(|| self.place(who))
    }

    fn place(self: &Arc<Self>, who: Household) -> Place {
        Place { lane: Arc::clone(self), who }
    }

    /// Changes something and hands on what is free then.
    fn settle(self: &Arc<Self>, change: impl FnOnce(&mut Turns<oneshot::Sender<Place>>)) {
        let given: Vec<_> = {
            let mut turns = self.turns.lock();
            change(&mut turns);
            std::iter::from_fn(|| turns.next()).collect()
        };
        for (who, tell) in given {
            // Whoever has left in this moment gives it back by not taking it.
            let _ = tell.send(self.place(who));
        }
    }
}

/// A place in a lane; it goes on to the next when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lane: Arc<Lane>,
    who: Household,
}

impl Place {
    /// Whose it is.
    pub(super) const fn who(&self) -> Household {
        self.who
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.settle(|turns| turns.give_back(self.who));
    }
}

/// A number in the line.
struct QueueTicket<'a> {
    lane: &'a Arc<Lane>,
    who: Household,
    ticket: u64,
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        self.lane.settle(|turns| turns.cancel(self.who, self.ticket));
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::net::Ipv4Addr;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn who(number: u8) -> Household {
        Household::of(Ipv4Addr::new(192, 0, 2, number).into())
    }

    #[tokio::test]
    async fn places_are_given_in_order_and_the_line_is_bounded() {
        let lane = Lane::new(1, 1, LONG);
        let first = lane.enter(who(1)).await.unwrap();
        let mut second = Box::pin(lane.enter(who(1)));
        assert!(once(&mut second).await.is_none(), "it waits");
        assert_eq!(lane.enter(who(2)).await.unwrap_err().kind(), FailureKind::QueueTimeout);
        drop(first);
        // The place is the waiting one's, whoever comes now.
        assert!(!matches!(once(&mut Box::pin(lane.enter(who(1)))).await, Some(Ok(_))));
        let second = second.await.unwrap();
        let mut third = Box::pin(lane.enter(who(1)));
        assert!(once(&mut third).await.is_none());
        drop(second);
        drop(third.await.unwrap());
    }

    #[tokio::test]
    async fn whoever_leaves_takes_no_place_along() {
        let lane = Lane::new(1, 4, LONG);
        let first = lane.enter(who(1)).await.unwrap();
        for _ in 0..20 {
            let mut gone = Box::pin(lane.enter(who(1)));
            assert!(once(&mut gone).await.is_none());
        }
        let (mut gone, mut next) = (Box::pin(lane.enter(who(2))), Box::pin(lane.enter(who(3))));
        assert!(once(&mut gone).await.is_none() && once(&mut next).await.is_none());
        // Its turn has come, and it doesn't look any more.
        drop(first);
        assert!(lane.enter_now(who(1)).is_none());
        drop(gone);
        drop(next.await.unwrap());
        assert!(lane.enter_now(who(1)).is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_longer_than_said() {
        let lane = Lane::new(1, 1, Duration::ZERO);
        let _first = lane.enter(who(1)).await.unwrap();
        assert_eq!(lane.enter(who(2)).await.unwrap_err().kind(), FailureKind::QueueTimeout);
    }

    /// What a future comes to if it is asked once.
    async fn once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}
