//! Chunks that aren't here yet: who fetches them, and who waits for them.

use std::ops::Range;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::presence::Presence;

/// The gaps of a sparse archive. Each missing chunk is fetched by one at a time.
#[derive(Debug)]
pub(super) struct Gaps {
    state: Mutex<State>,
    /// Rises with every chunk that comes or is given up.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    present: Presence,
    /// Being fetched.
    claimed: Presence,
}

/// How much of some chunks is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Have {
    /// All.
    All,
    /// What isn't is on its way.
    Coming,
    /// Something that nobody fetches isn't.
    Missing,
}

impl Gaps {
    pub(super) fn new(present: Presence, length: u64) -> Self {
        let claimed = Presence::none(length);
        Self { state: Mutex::new(State { present, claimed }), changes: watch::Sender::new(0) }
    }

    pub(super) fn have(&self, chunks: Range<u64>) -> Have {
        let state = self.state.lock();
        let mut have = Have::All;
        for chunk in chunks {
            match (state.present.has(chunk), state.claimed.has(chunk)) {
                (true, _) => {}
                (false, true) => have = Have::Coming,
                (false, false) => return Have::Missing,
            }
        }
        have
    }

    /// Takes the first run of chunks within `wanted` that nobody has or fetches.
    pub(super) fn claim(&self, wanted: Range<u64>) -> Option<Range<u64>> {
        let mut state = self.state.lock();
        let run = state.present.first_gap(&state.claimed, wanted)?;
        for chunk in run.clone() {
            state.claimed.set(chunk, true);
        }
        Some(run)
    }

    /// A chunk that was claimed is here.
    pub(super) fn came(&self, chunk: u64) {
        let mut state = self.state.lock();
        state.claimed.set(chunk, false);
        state.present.set(chunk, true);
        drop(state);
        self.tell();
    }

    /// Chunks that were claimed won't come.
    pub(super) fn give_up(&self, chunks: Range<u64>) {
        if chunks.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for chunk in chunks {
            state.claimed.set(chunk, false);
        }
        drop(state);
        self.tell();
    }

    /// A chunk that was here turned out to be damaged.
    pub(super) fn lost(&self, chunk: u64) {
        self.state.lock().present.set(chunk, false);
        self.tell();
    }

    pub(super) fn present(&self) -> Presence {
        self.state.lock().present.clone()
    }

    /// Chunks that are here or on their way, and chunks in all.
    pub(super) fn wanted(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.present.count() + state.claimed.count(), state.present.chunks())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Something else has changed: those who wait look again.
    pub(super) fn wake(&self) {
        self.tell();
    }

    fn tell(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::CHUNK;

    proptest::proptest! {
        /// Whatever is wanted of whatever is here, exactly what is missing is claimed, each chunk once.
        #[test]
        fn any_ranges_on_any_presence_claim_exactly_what_is_missing(
            here in proptest::collection::vec(0_u64..100, 0..60),
            ranges in proptest::collection::vec((0_u64..100, 0_u64..100), 0..20),
        ) {
            let mut presence = Presence::none(100 * CHUNK);
            for chunk in &here {
                presence.set(*chunk, true);
            }
            let gaps = Gaps::new(presence.clone(), 100 * CHUNK);
            let mut claimed = Vec::new();
            for (from, to) in &ranges {
                while let Some(run) = gaps.claim(*from..*to) {
                    proptest::prop_assert_eq!(gaps.have(run.clone()), Have::Coming);
                    claimed.extend(run);
                }
            }
            claimed.sort_unstable();
            let wanted = |chunk: &u64| ranges.iter().any(|(from, to)| (*from..*to).contains(chunk));
            let missing: Vec<u64> = (0..100).filter(|chunk| wanted(chunk) && !presence.has(*chunk)).collect();
            proptest::prop_assert_eq!(&claimed, &missing);
            let (came, given_up) = claimed.split_at(claimed.len() / 2);
            for chunk in came {
                gaps.came(*chunk);
            }
            for chunk in given_up {
                gaps.give_up(*chunk..chunk + 1);
            }
            proptest::prop_assert!(came.iter().all(|chunk| gaps.have(*chunk..chunk + 1) == Have::All));
            proptest::prop_assert!(given_up.iter().all(|chunk| gaps.have(*chunk..chunk + 1) == Have::Missing));
        }
    }
}
