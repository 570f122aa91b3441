//! How many requests may be under way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Error, Kind};

/// One lane to GitLab: so many requests at once, as many more waiting in the order in which they came, none for longer
/// than `patience`.
#[derive(Debug)]
pub(super) struct Limit {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    most: usize,
    patience: Duration,
}

impl Limit {
    pub(super) fn new(most: usize, patience: Duration) -> Self {
        Self { slots: Arc::new(Semaphore::new(most)), waiting: AtomicUsize::new(0), most, patience }
    }

    /// A place, held until the answer's body has ended.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        // What is free isn't promised to anybody: a place that is given back goes to the first who waits.
        if let Ok(place) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(place);
        }
        let full = || Error::from_kind(Kind::QueueTimeout);
        let _turn = Turn::take(&self.waiting, self.most).ok_or_else(full)?;
        let place = tokio::time::timeout(self.patience, Arc::clone(&self.slots).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or_else(full)
    }
}

/// A place in the queue.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let next = |now: usize| (now < most).then_some(now + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok().map(|_| Self(waiting))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn places_are_given_in_order_and_the_queue_is_bounded() {
        let limit = Limit::new(1, LONG);
        let first = limit.enter().await.unwrap();
        let mut second = Box::pin(limit.enter());
        assert!(once(&mut second).await.is_none(), "it waits");
        assert_eq!(
            limit.enter().await.unwrap_err().kind(),
            Kind::QueueTimeout,
            "the queue is as long as the lane"
        );
        drop(first);
        // The place is the waiting one's, whoever comes now.
        assert!(!matches!(once(&mut Box::pin(limit.enter())).await, Some(Ok(_))));
        let second = second.await.unwrap();
        let mut third = Box::pin(limit.enter());
        assert!(once(&mut third).await.is_none());
        drop(second);
        drop(third.await.unwrap());
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_the_queue() {
        let limit = Limit::new(1, LONG);
        let _first = limit.enter().await.unwrap();
        for _ in 0..3 {
            let mut gone = Box::pin(limit.enter());
            assert!(once(&mut gone).await.is_none());
        }
        assert_eq!(limit.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_longer_than_said() {
        let limit = Limit::new(1, Duration::ZERO);
        let _first = limit.enter().await.unwrap();
        assert_eq!(limit.enter().await.unwrap_err().kind(), Kind::QueueTimeout);
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
