//! Fills (`fill.rs`, `fill/pump.rs`), writes (`proxy/pass.rs`), and what else happens.

use crate::model::Larder;
use crate::rules::Rule;
use crate::state::{At, Outcome, Remembered, Slot, Stage, State, Versions, Write};

impl Larder {
    pub(crate) fn fill(&self, state: &mut State, number: usize) {
        let (epoch, caller) = (self.epoch(state), self.setting.callers[state.flights[number].leader]);
        let time = state.time;
        let flight = &mut state.flights[number];
        match flight.stage {
            Stage::Begun => {
                (flight.epoch, flight.asked, flight.stage) = (Some(epoch), time, Stage::Asked);
            }
            Stage::Asked => {
                flight.version = state.archive.filter(|_| state.rights[caller]);
                flight.stage = Stage::Answered;
                if let Some(version) = flight.version {
                    state.seen.told[caller].add(version);
                    state.seen.transfers[version] += 1;
                }
            }
            Stage::Answered => self.head(state, number, caller),
            Stage::Growing => flight.stage = Stage::Here,
            Stage::Here => flight.stage = Stage::Whole,
            Stage::Whole => self.commit(state, number),
            Stage::Placed | Stage::Overtaken => {
                flight.stage = Stage::Over;
                Self::leave(state, number);
            }
            Stage::Over | Stage::Ended => unreachable!("it is over"),
        }
    }

    /// The head of the answer to the leader's question arrives.
    fn head(&self, state: &mut State, number: usize, caller: usize) {
        let epoch = self.epoch(state);
        let flight = &mut state.flights[number];
        let leader = flight.leader;
        if flight.version.is_none() {
            flight.stage = Stage::Ended;
            Self::leave(state, number);
            state.slots[leader] = Slot::at_rest(At::Done(Outcome::Refused));
            return;
        }
        flight.stage = Stage::Growing;
        if !self.keeps(Rule::FillReadsEpochFirst) {
            flight.epoch = Some(epoch);
        }
        let (epoch, asked) = (flight.epoch.unwrap(), flight.asked);
        let grant = Remembered { archive: number, epoch, asked, fits: true };
        self.remember(state, caller, grant);
        self.serve(state, leader, number, Outcome::Stored);
    }

    /// Checked and placed with nothing in between.
    fn commit(&self, state: &mut State, number: usize) {
        let epoch = state.flights[number].epoch.unwrap();
        if self.is_still(state, epoch) || !self.keeps(Rule::CommitUnderEpoch) {
            state.store = Some(number);
            state.flights[number].stage = Stage::Placed;
        } else {
            state.flights[number].stage = Stage::Overtaken;
        }
    }

    /// The source breaks off, or its bytes are no archive: it is off the list, and those who wait look again.
    pub(crate) fn fail(state: &mut State, number: usize) {
        state.left.failures -= 1;
        state.seen.wronged_late |= state.flights[number].late;
        state.flights[number].stage = Stage::Over;
        Self::leave(state, number);
    }

    fn leave(state: &mut State, number: usize) {
        state.listed = state.listed.filter(|listed| *listed != number);
    }

    /// Epoch, store and list, with nothing in between.
    pub(crate) fn invalidate(&self, state: &mut State) {
        state.epoch.0 += 1;
        if self.keeps(Rule::TakeOut) {
            state.store = None;
        }
        if self.keeps(Rule::TakeOffList) {
            state.listed = None;
        }
    }

    /// GitLab makes the change; larder hasn't seen its answer.
    pub(crate) fn write(&self, state: &mut State, write: Write) {
        state.left.writes -= 1;

        let gone = state.archive;
        state.archive = (write == Write::Upload).then_some(state.uploaded);
        if write == Write::Upload {
            state.uploaded += 1;
        }
        if write != Write::Expiry {
            state.writes.push((write, gone));
        }
        self.note(state);
    }

    /// Larder forgets, then the client has its success.
    pub(crate) fn confirm(&self, state: &mut State, index: usize) {
        let (write, gone) = state.writes.remove(index);
        let mut versions = Versions::default();
        if let Some(version) = gone {
            versions.add(version);
        }
        state.seen.ended.join(versions);
        if write == Write::Broad {
            state.epoch.1 += 1;
        } else {
            self.invalidate(state);
            state.seen.dropped.join(versions);
        }
    }

    pub(crate) fn evict(state: &mut State) {
        state.left.evictions -= 1;

        state.store = None;
    }

    pub(crate) fn revoke(&self, state: &mut State, caller: usize) {
        state.left.revocations -= 1;

        state.rights[caller] = false;
        self.note(state);
    }

    pub(crate) fn tick(&self, state: &mut State) {
        state.left.ticks -= 1;

        state.time += 1;
        state.seen.lately = [Versions::default(); 2];
        self.note(state);
    }

    /// Notes what each caller could have at GitLab now.
    pub(crate) fn note(&self, state: &mut State) {
        let Some(version) = state.archive else { return };
        for caller in (0..2).filter(|caller| state.rights[*caller] && self.setting.remembers) {
            state.seen.lately[caller].add(version);
        }
        for (slot, caller) in state.slots.iter_mut().zip(self.setting.callers) {
            if state.rights[caller] && !matches!(slot.at, At::Idle | At::Done(_)) {
                slot.entitled.add(version);
            }
        }
    }
}
