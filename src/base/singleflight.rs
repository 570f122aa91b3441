//! One piece of work, however many wait for it.
//!
//! Owns who works on what, and who waits. Whoever comes first for a key leads, all others follow until the leader has a
//! word for them. A leader that goes without one, by a panic or because it was dropped, leaves nobody waiting. Knows nothing
//! of what is done.
//!
//! Where the leader is a task of its own ([`Singleflight::run`]) whoever waits may leave, the first one included: that ends
//! nothing for the others.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Work under way by key: as many entries as there are leaders. `N` is noted of a leader, for those who come after it to see
/// whether they want to follow.
pub(crate) struct Singleflight<K, V, N = ()> {
    leaders: Arc<Mutex<HashMap<K, Leading<V, N>>>>,
}

/// What is noted of a leader.
struct Leading<V, N> {
    note: N,
    word: watch::Receiver<Option<V>>,
}

impl<K, V, N> Default for Singleflight<K, V, N> {
    fn default() -> Self {
        Self { leaders: Arc::default() }
    }
}

impl<K, V, N> fmt::Debug for Singleflight<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Singleflight({} under way)", self.leaders.lock().len())
    }
}

impl<K: Clone + Eq + Hash, V, N> Singleflight<K, V, N> {
    /// Leads for a key, if nobody does or nobody whom the newcomer `follows`: then it takes the other's place, whose own
    /// followers stay with that one.
    pub(crate) fn lead_or_follow(
        &self,
        key: K,
        note: N,
        follows: impl FnOnce(&N) -> bool,
    ) -> Result<Lead<K, V, N>, Follow<V>> {
        let mut leaders = self.leaders.lock();
        if let Some(leading) = leaders.get(&key).filter(|leading| follows(&leading.note)) {
            return Err(Follow(leading.word.clone()));
        }
        let (tell, word) = watch::channel(None);
        leaders.insert(key.clone(), Leading { note, word });
        Ok(Lead { leaders: Arc::clone(&self.leaders), key, tell })
    }

    /// Follows whoever works on a key, or begins `work` in a task of its own. Returns whether it was begun.
    pub(crate) fn run<F>(
        &self,
        key: K,
        note: N,
        follows: impl FnOnce(&N) -> bool,
        work: impl FnOnce() -> F,
    ) -> (Follow<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
        K: Send + 'static,
        V: Send + Sync + 'static,
        N: Send + 'static,
    {
        match self.lead_or_follow(key, note, follows) {
            Err(follow) => (follow, false),
            Ok(lead) => {
                let (follow, work) = (Follow(lead.tell.subscribe()), work());
                crate::base::rt::spawn(async move { lead.finish(work.await) });
                (follow, true)
            }
        }
    }
}

/// The lead for a key, until this is dropped.
pub(crate) struct Lead<K: Eq + Hash, V, N> {
    leaders: Arc<Mutex<HashMap<K, Leading<V, N>>>>,
    key: K,
    tell: watch::Sender<Option<V>>,
}

impl<K: Eq + Hash, V, N> fmt::Debug for Lead<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").finish_non_exhaustive()
    }
}

impl<K: Eq + Hash, V, N> Lead<K, V, N> {
    /// Says what came of it. Off the list before: whoever has heard it and comes again doesn't hear it again.
    pub(crate) fn finish(self, value: V) {
        self.leave();
        self.tell.send_replace(Some(value));
    }

    fn leave(&self) {
        let mut leaders = self.leaders.lock();
        // Another may have taken its place.
        if leaders.get(&self.key).is_some_and(|leading| leading.word.same_channel(&self.tell.subscribe())) {
            leaders.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash, V, N> Drop for Lead<K, V, N> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One who waits for a leader's word.
#[derive(Debug)]
pub(crate) struct Follow<V>(watch::Receiver<Option<V>>);

impl<V: Clone> Follow<V> {
    /// What came of it; `None` if the leader went without a word.
    pub(crate) async fn word(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    type Flights = Singleflight<&'static str, u32>;

    fn is_empty<V, N>(flights: &Singleflight<&'static str, V, N>) -> bool {
        flights.leaders.lock().is_empty()
    }

    #[tokio::test]
    async fn work_is_done_once_however_many_wait_and_again_for_those_who_come_after_it() {
        let (flights, begun) = (Flights::default(), Arc::new(AtomicU32::new(0)));
        let (end, ended) = oneshot::channel::<()>();
        let count = Arc::clone(&begun);
        let (first, led) = flights.run(
            "a",
            (),
            |()| true,
            || async move {
                let _ = ended.await;
                count.fetch_add(1, Ordering::SeqCst)
            },
        );
        assert!(led);
        let others =
            [(); 3].map(|()| flights.run("a", (), |()| true, || async { unreachable!("it is under way") }));
        assert!(others.iter().all(|(_, led)| !led));
        let (other, led) = flights.run("b", (), |()| true, || async { 7 });
        assert!(led && other.word().await == Some(7), "of another key");
        end.send(()).unwrap();
        assert_eq!(first.word().await, Some(0));
        for (other, _) in others {
            assert_eq!(other.word().await, Some(0));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert!(is_empty(&flights));
        assert!(flights.run("a", (), |()| true, || async { 1 }).1);
    }

    #[tokio::test]
    async fn whoever_leaves_takes_nothing_along() {
        let flights = Flights::default();
        let (end, ended) = oneshot::channel::<()>();
        let (first, _) = flights.run(
            "a",
            (),
            |()| true,
            || async move {
                let _ = ended.await;
                1
            },
        );
        let (second, led) = flights.run("a", (), |()| true, || async { 2 });
        assert!(!led);
        drop(first);
        end.send(()).unwrap();
        assert_eq!(second.word().await, Some(1));
    }

    #[tokio::test]
    async fn a_leader_that_dies_leaves_nobody_waiting() {
        let flights = Flights::default();
        let (follow, _) = flights.run("a", (), |()| true, || async { panic!("on purpose") });
        assert_eq!(follow.word().await, None);
        assert!(is_empty(&flights));
    }

    #[tokio::test]
    async fn a_newcomer_may_take_the_place_of_one_it_would_not_follow() {
        let flights = Singleflight::<_, u32, u8>::default();
        let old = flights.lead_or_follow("a", 1, |_| true).unwrap();
        let follows_old = flights.lead_or_follow("a", 2, |note| *note == 1).unwrap_err();
        let new = flights.lead_or_follow("a", 2, |note| *note == 2).unwrap();
        let follows_new = flights.lead_or_follow("a", 2, |note| *note == 2).unwrap_err();
        old.finish(1);
        assert!(!is_empty(&flights), "the old one took nobody along");
        new.finish(2);
        assert_eq!((follows_old.word().await, follows_new.word().await), (Some(1), Some(2)));
        assert!(is_empty(&flights));
    }
}
