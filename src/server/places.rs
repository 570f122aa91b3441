//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::household::Household;
use crate::telemetry::Metrics;

/// How often somebody is asked again to make room: nobody says so when a request has ended.
const LOOK: Duration = Duration::from_secs(1);

/// Connections that are there. The limits are told with each question, as they may change.
#[derive(Debug, Default)]
pub(super) struct ConnPlaces {
    taken: Mutex<TakenPlaces>,
    freed: Notify,
}

/// No more entries than connections.
#[derive(Debug, Default)]
struct TakenPlaces {
    all: usize,
    by_address: HashMap<Household, usize>,
}

/// One of them; it is given back when dropped.
#[derive(Debug)]
pub(super) struct AddressPermit {
    places: Arc<ConnPlaces>,
    address: Option<Household>,
}

/// One connection of those that may be open, counted for as long as it is, in whatever protocol.
#[derive(Debug)]
pub(crate) struct ConnPermit {
    _place: AddressPermit,
    metrics: Arc<Metrics>,
}

impl ConnPermit {
    pub(super) fn new(place: AddressPermit, metrics: Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self { _place: place, metrics }
    }
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl ConnPlaces {
    /// Waits until fewer than `most()` are taken, and asks for room until then; one task alone waits.
    pub(super) async fn some(&self, most: impl Fn() -> usize, make_room: impl Fn()) {
        while self.taken() >= most() {
            make_room();
            // Whoever was busy then may be quiet soon.
            let _ = tokio::time::timeout(LOOK, self.freed.notified()).await;
        }
    }

    /// Takes one for a connection from `address`, of which there may be `most` (0: any number); `None` if there are. One
    /// without an address counts for none.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>, most: usize) -> Option<AddressPermit> {
        let address = address.map(Household::of);
        let mut taken = self.taken.lock();
        if let Some(address) = address {
            let count = taken.by_address.entry(address).or_default();
            if most > 0 && *count >= most {
                return None;
            }
            *count += 1;
        }
        taken.all += 1;
        Some(AddressPermit { places: Arc::clone(self), address })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.lock().all
    }

    /// Has whoever waits look again: the limit has changed.
    pub(super) fn look(&self) {
        self.freed.notify_one();
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = taken.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
        drop(taken);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_so_many_and_gets_them_back() {
        let places = Arc::new(ConnPlaces::default());
        let take = |address: &str, most| places.take(Some(address.parse().unwrap()), most);
        let (first, second) = (take("192.0.2.1", 2), take("192.0.2.1", 2));
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1", 2).is_none());
        assert!(take("192.0.2.2", 2).is_some(), "another one");
        assert!(take("192.0.2.1", 0).is_some() && take("192.0.2.1", 3).is_some(), "no limit, another limit");
        assert!(places.take(None, 1).is_some());
        drop(first);
        assert!(take("192.0.2.1", 2).is_some());
        drop(second);
        assert_eq!(places.taken(), 0);
        assert!(places.taken.lock().by_address.is_empty());
    }

    #[test]
    fn ipv6_counts_by_its_first_half() {
        let places = Arc::new(ConnPlaces::default());
        let take = |address: &str| places.take(Some(address.parse().unwrap()), 1);
        let one = take("2001:db8::1");
        assert!(one.is_some() && take("2001:db8::2").is_none() && take("2001:db8:0:1::1").is_some());
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_when_one_is_free_or_the_limit_rises() {
        let places = Arc::new(ConnPlaces::default());
        let held = places.take(None, 0);
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.some(|| 1, || ()).await }
        });
        drop(held);
        waiting.await.unwrap();
        let held = places.take(None, 0);
        let most = Arc::new(Mutex::new(1));
        let waiting = tokio::spawn({
            let (places, most) = (Arc::clone(&places), Arc::clone(&most));
            async move { places.some(|| *most.lock(), || ()).await }
        });
        tokio::task::yield_now().await;
        *most.lock() = 2;
        places.look();
        waiting.await.unwrap();
        drop(held);
    }
}
