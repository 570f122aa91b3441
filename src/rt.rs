//! Work off the runtime.
//!
//! Owns the one way to run something that blocks, and the one way to start a task. Knows nothing of what is run.

use std::future::Future;
use std::io;

use tokio::task::JoinHandle;

/// Runs `work` on a thread that may block; a panic in it is an error, not ours to fall over.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Starts work that blocks for long (a fill's writer), to be awaited later.
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

/// Starts a task that outlives whoever starts it. It ends by itself, with the runtime at the latest.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

/// Starts a task from where there may be no runtime any more, such as a destructor; then it isn't started.
pub fn spawn_if_running(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}
