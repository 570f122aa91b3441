//! In whose name a broken transfer may be resumed.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Requester;

/// Waiters that are remembered; more than are ever asked for.
const MOST: usize = 32;

/// Those who wait for an archive's bytes, and who began their transfer. Each was let in by GitLab, and is asked for anew
/// whenever it is his turn.
#[derive(Debug)]
pub(super) struct Waiters(Mutex<WaiterList>);

#[derive(Debug)]
struct WaiterList {
    waiting: Vec<(u64, Requester)>,
    next: u64,
    /// Who began it; he may have left.
    leader: Option<Requester>,
}

impl Waiters {
    pub(super) const fn led_by(leader: Requester) -> Self {
        Self(Mutex::new(WaiterList { waiting: Vec::new(), next: 0, leader: Some(leader) }))
    }

    /// In whose name to ask next: of whoever waits, those who came first; else of whoever began it.
    pub(super) fn turn(&self) -> Option<(Turn, Requester)> {
        let listed = self.0.lock();
        let waiting =
            listed.waiting.first().map(|(number, requester)| (Turn(Some(*number)), requester.clone()));
        waiting.or_else(|| listed.leader.clone().map(|leader| (Turn(None), leader)))
    }

    /// GitLab refused him: he isn't asked for again.
    pub(super) fn refused(&self, turn: &Turn) {
        let mut listed = self.0.lock();
        match turn.0 {
            Some(number) => listed.waiting.retain(|(other, _)| *other != number),
            None => listed.leader = None,
        }
    }
}

/// Whose turn it was.
#[derive(Debug)]
pub(super) struct Turn(Option<u64>);

/// One who waits, until this is dropped.
#[derive(Debug)]
pub(super) struct WaiterGuard {
    waiters: Arc<Waiters>,
    number: u64,
}

impl WaiterGuard {
    /// Adds a waiter; one too many waits without being asked for.
    pub(super) fn new(waiters: &Arc<Waiters>, requester: Requester) -> Self {
        let mut listed = waiters.0.lock();
        let number = listed.next;
        listed.next += 1;
        if listed.waiting.len() < MOST {
            listed.waiting.push((number, requester));
        }
        Self { waiters: Arc::clone(waiters), number }
    }
}

impl Drop for WaiterGuard {
    fn drop(&mut self) {
        self.waiters.refused(&Turn(Some(self.number)));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{HeaderMap, Method};

    use super::*;
    use crate::access::Caller;
    use crate::gitlab::route::{RequestLine, Route};
    use crate::http::hop::{Peer, Way};

    pub(in crate::fill) fn requester(last: u8) -> Requester {
        let target = "/api/v4/projects/1/jobs/2/artifacts".parse().unwrap();
        let line = RequestLine { method: &Method::GET, target: &target, has_body: false };
        let Route::Read(question) = Route::of("", line) else { panic!("a download") };
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let peer = Peer { address, trusted: false, secure: false };
        let way = Way::of(peer, address, &HeaderMap::new());
        Requester { caller: Caller::new(Arc::default(), way), question }
    }

    fn whose(waiters: &Waiters) -> Option<IpAddr> {
        waiters.turn().map(|(_, requester)| requester.caller.address())
    }

    #[test]
    fn it_is_the_turn_of_whoever_waits_longest_then_of_the_leader_then_of_nobody() {
        let waiters = Arc::new(Waiters::led_by(requester(0)));
        let address = |last| Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        assert_eq!(whose(&waiters), address(0));
        let first = WaiterGuard::new(&waiters, requester(1));
        let second = WaiterGuard::new(&waiters, requester(2));
        assert_eq!(whose(&waiters), address(1));
        drop(first);
        assert_eq!(whose(&waiters), address(2));
        waiters.refused(&waiters.turn().unwrap().0);
        assert_eq!(whose(&waiters), address(0));
        drop(second);
        waiters.refused(&waiters.turn().unwrap().0);
        assert_eq!(whose(&waiters), None);
    }

    #[test]
    fn a_crowd_is_not_remembered_whole() {
        let waiters = Arc::new(Waiters::led_by(requester(0)));
        let waiting: Vec<_> = (0..100).map(|_| WaiterGuard::new(&waiters, requester(1))).collect();
        assert_eq!(waiters.0.lock().waiting.len(), MOST);
        drop(waiting);
        assert_eq!(waiters.0.lock().waiting.len(), 0);
    }
}
