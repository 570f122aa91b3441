//! What always holds, and what must be possible for that to mean anything.

use stateright::Property;

use crate::gitlab::Words;
use crate::model::Larder;
use crate::state::{At, Outcome, Stage, State};

pub(crate) const ENDED: &str = "nobody is served what was gone, confirmed, before he asked";
pub(crate) const UNENTITLED: &str =
    "nobody is served what he couldn't have had within ttl before he asked, or since";
pub(crate) const UNTOLD: &str = "nobody is served what GitLab never told him he may have";
pub(crate) const LATE: &str =
    "nobody who comes when all bytes are there is broken off, or given what is no archive";
pub(crate) const REVIVED: &str = "the store never holds what was deleted through larder";
pub(crate) const TWICE: &str = "while nothing but requests happens each version crosses once";
pub(crate) const PASSED: &str = "while nothing but requests happens nobody is passed through";
pub(crate) const STUCK: &str = "nobody waits for ever";

pub(crate) fn all(larder: &Larder) -> Vec<Property<Larder>> {
    let mut all = vec![
        Property::always(ENDED, |_, state: &State| !state.seen.wrong.ended),
        Property::always(UNENTITLED, |_, state: &State| !state.seen.wrong.unentitled),
        Property::always(UNTOLD, |_, state: &State| !state.seen.wrong.untold),
        Property::always(LATE, |_, state: &State| !state.seen.wronged_late),
        Property::always(REVIVED, |_, state: &State| !holds_deleted(state)),
        Property::always(TWICE, |_, state: &State| {
            state.seen.transfers.iter().all(|transfers| *transfers <= 1)
        }),
        Property::always(PASSED, |larder: &Larder, state: &State| {
            !larder.is_calm(state) || !has_ended(state, Outcome::Passed)
        }),
        Property::always(STUCK, |larder: &Larder, state: &State| !larder.is_stuck(state)),
        Property::sometimes("it is stored", |_, state: &State| has_ended(state, Outcome::Stored)),
        Property::sometimes("a hit by a question", |_, state: &State| has_ended(state, Outcome::Hit)),
        Property::sometimes("everything is at rest", |_, state: &State| is_at_rest(state)),
    ];
    if larder.setting.words == Words::Tails {
        all.push(Property::sometimes("somebody is broken off", |_, state: &State| {
            has_ended(state, Outcome::Broken)
        }));
    }
    if larder.setting.words != Words::Unsized {
        all.push(Property::sometimes("requests collapse", |_, state: &State| {
            has_ended(state, Outcome::Collapsed)
        }));
    }
    if larder.setting.remembers {
        all.push(Property::sometimes("a hit by a remembered grant", |_, state: &State| {
            has_ended(state, Outcome::Remembered)
        }));
    }
    if larder.setting.left.writes > 0 {
        all.push(Property::sometimes("a fill comes too late", |_, state: &State| {
            state.flights.iter().any(|flight| flight.stage == Stage::Overtaken)
        }));
        all.push(Property::sometimes("somebody is refused", |_, state: &State| {
            has_ended(state, Outcome::Refused)
        }));
    }
    all
}

fn has_ended(state: &State, outcome: Outcome) -> bool {
    state.slots.iter().any(|slot| slot.at == At::Done(outcome))
}

fn holds_deleted(state: &State) -> bool {
    let held = state.store.and_then(|flight| state.flights[flight].version);
    held.is_some_and(|version| state.seen.dropped.has(version))
}

fn is_at_rest(state: &State) -> bool {
    state.store.is_some()
        && state.writes.is_empty()
        && state.slots.iter().all(|slot| matches!(slot.at, At::Idle | At::Done(_)))
        && state.flights.iter().all(|flight| matches!(flight.stage, Stage::Over | Stage::Ended))
}
