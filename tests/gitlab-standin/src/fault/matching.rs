//! The faults in force and how often each met a request.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Effect, Fault, Turns};
use crate::seen::Seen;

/// All faults in force.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Arc<Active>>>);

struct Active {
    fault: Fault,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    met: u64,
    hits: u64,
}

/// One fault in force. Dropping the handle leaves it in force.
pub struct FaultHandle {
    active: Arc<Active>,
    faults: Weak<Faults>,
}

impl FaultHandle {
    /// How many requests it has hit so far.
    pub fn hits(&self) -> u64 {
        self.active.tally.lock().hits
    }

    /// Ends it for requests to come.
    pub fn remove(self) {
        if let Some(faults) = self.faults.upgrade() {
            faults.0.lock().retain(|active| !Arc::ptr_eq(active, &self.active));
        }
    }
}

impl Faults {
    pub(crate) fn add(self: &Arc<Self>, fault: Fault) -> FaultHandle {
        let active = Arc::new(Active { fault, tally: Mutex::default() });
        self.0.lock().push(Arc::clone(&active));
        FaultHandle { active, faults: Arc::downgrade(self) }
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The effects on this request, oldest fault first.
    pub(crate) fn strike(&self, seen: &Seen) -> Vec<Effect> {
        // A predicate may call the stand-in: it runs without the lock.
        let active = self.0.lock().clone();
        active.iter().filter(|active| active.hit(seen)).map(|active| active.fault.effect.clone()).collect()
    }
}

impl Active {
    fn hit(&self, seen: &Seen) -> bool {
        if !self.fault.meets(seen) {
            return false;
        }
        let mut tally = self.tally.lock();
        tally.met += 1;
        let hit = match self.fault.turns {
            Turns::Always => true,
            Turns::First(count) => tally.met <= count,
            Turns::Nth(turn) => tally.met == turn,
        };
        tally.hits += u64::from(hit);
        hit
    }
}
