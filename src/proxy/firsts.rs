//! Who is first to want a file of an archive that isn't held.
//!
//! The first one's answer comes from GitLab, and with it the archive is begun. Whoever wants a file of the same archive
//! meanwhile waits for that instead of having his own from GitLab too. He waits once: behind somebody whom GitLab refuses,
//! the others aren't held up one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::key::Key;

/// How long somebody waits for the one before him: a GitLab that takes longer to begin its answer is asked by everybody.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those who are first, each until the archive is begun or isn't going to be: at most one a request under way.
#[derive(Debug, Default)]
pub struct Firsts {
    under_way: Mutex<HashMap<Key, watch::Receiver<()>>>,
}

/// Whose turn it is, until this is dropped.
#[derive(Debug)]
pub(super) struct First {
    firsts: Arc<Firsts>,
    key: Key,
    /// Closes with this.
    _over: watch::Sender<()>,
}

impl Firsts {
    /// Is first for a key; or waits until somebody else no longer is, and then it is `None`.
    pub(super) async fn be(self: &Arc<Self>, key: Key) -> Option<First> {
        let mut other = match self.take(key) {
            Ok(first) => return Some(first),
            Err(other) => other,
        };
        // Nothing is ever sent.
        let _ = tokio::time::timeout(PATIENCE, other.changed()).await;
        None
    }

    /// Is first for a key, or learns who is.
    pub(super) fn take(self: &Arc<Self>, key: Key) -> Result<First, watch::Receiver<()>> {
        let mut under_way = self.under_way.lock();
        if let Some(other) = under_way.get(&key) {
            return Err(other.clone());
        }
        let (over, waiting) = watch::channel(());
        under_way.insert(key, waiting);
        Ok(First { firsts: Arc::clone(self), key, _over: over })
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.firsts.under_way.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::JobId;

    fn key(job: &str) -> Key {
        Key::Job(JobId::parse(job).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_first_and_the_others_wait_for_that_one_alone() {
        let firsts = Arc::new(Firsts::default());
        let first = firsts.be(key("1")).await.unwrap();
        assert!(firsts.be(key("2")).await.is_some(), "of another archive");
        let others = [(); 3].map(|()| {
            let firsts = Arc::clone(&firsts);
            tokio::spawn(async move { firsts.be(key("1")).await.is_some() })
        });
        tokio::task::yield_now().await;
        assert!(others.iter().all(|other| !other.is_finished()));
        drop(first);
        for other in others {
            assert!(!other.await.unwrap());
        }
        assert!(firsts.be(key("1")).await.is_some());
        assert!(firsts.under_way.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let firsts = Arc::new(Firsts::default());
        let _first = firsts.be(key("1")).await;
        assert!(firsts.be(key("1")).await.is_none());
    }
}
