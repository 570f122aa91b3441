//! Work beside whoever asks for it.
//!
//! Owns how a task is started and how something that blocks is run; no other module starts either, but for the threads of
//! their own that the log and the index have. Knows nothing of what is run.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Runs `work` on a thread that may block; a panic in it is an error, not ours to fall over.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Runs `work` so when it is its turn, of as many as `turns` has. The turn is the work's own: whoever asked for it may leave
/// and ask again, and there is no more of it at once than there are turns.
pub(crate) async fn blocking_in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let turn = Arc::clone(turns).acquire_owned().await.map_err(io::Error::other)?;
    blocking(move || {
        let _turn = turn;
        work()
    })
    .await
}

/// Starts work that blocks for long (a fill's writer), to be awaited later.
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

/// Starts a task that outlives whoever starts it. It ends by itself, with the runtime at the latest.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

/// Starts a task from where there may be no runtime any more, such as a destructor; then it isn't started.
pub(crate) fn spawn_if_running(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;

    /// Work that says that it has begun, and ends when it is told to.
    fn work(begun: UnboundedSender<u32>, number: u32) -> (Sender<()>, impl FnOnce() + Send + 'static) {
        let (end, ended): (Sender<()>, Receiver<()>) = channel();
        let work = move || {
            begun.send(number).unwrap();
            let _ = ended.recv();
        };
        (end, work)
    }

    #[tokio::test]
    async fn a_turn_lasts_as_long_as_its_work_though_whoever_asked_has_left() {
        let turns = Arc::new(Semaphore::new(2));
        let (begins, mut begun) = unbounded_channel();
        let mut ends = Vec::new();
        for number in 0..2 {
            let (end, work) = work(begins.clone(), number);
            ends.push(end);
            let turns = Arc::clone(&turns);
            let asking = tokio::spawn(async move { blocking_in_turn(&turns, work).await });
            begun.recv().await.unwrap();
            asking.abort();
            assert!(asking.await.unwrap_err().is_cancelled());
        }
        assert_eq!(turns.available_permits(), 0);
        // Those who leave before their turn take nothing along.
        let (_end, left) = work(begins.clone(), 7);
        let waiting = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { blocking_in_turn(&turns, left).await }
        });
        tokio::task::yield_now().await;
        waiting.abort();
        let (end, next) = work(begins, 2);
        drop(end);
        let next = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { blocking_in_turn(&turns, next).await }
        });
        tokio::task::yield_now().await;
        assert!(begun.try_recv().is_err() && !next.is_finished());
        drop(ends.pop());
        next.await.unwrap().unwrap();
        assert_eq!(begun.recv().await, Some(2));
        drop(ends);
        let _all = turns.acquire_many(2).await.unwrap();
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_turn_back() {
        let turns = Arc::new(Semaphore::new(1));
        assert!(blocking_in_turn(&turns, || panic!("on purpose")).await.is_err());
        assert_eq!(turns.available_permits(), 1);
    }
}
