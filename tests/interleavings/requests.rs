//! A request, step by step (`proxy/archive.rs`, `access.rs`).

use crate::gitlab::{About, Meaning, Words};
use crate::model::Larder;
use crate::rules::Rule;
use crate::state::{At, Flight, Outcome, Question, Remembered, Reply, Slot, Stage, State, Subject, Versions};

/// How often a request looks again before it is passed on, as in `proxy/archive.rs`.
const LOOKS: usize = 4;

impl Larder {
    pub(crate) fn request(&self, state: &mut State, slot: usize) {
        let caller = self.setting.callers[slot];
        let lately = if self.setting.remembers { state.seen.lately[caller] } else { Versions::default() };
        let ended = state.seen.ended;
        state.slots[slot] = Slot { ended, entitled: lately, ..Slot::at_rest(At::Looking) };
        state.left.requests -= 1;
        self.note(state);
        // Nothing of larder's comes between: to begin earlier is to be owed less.
        self.go(state, slot);
    }

    pub(crate) fn go(&self, state: &mut State, slot: usize) {
        match state.slots[slot].at {
            At::Looking => {
                let found = state.store.filter(|found| Some(*found) != state.slots[slot].known);
                state.slots[slot].at = found.map_or(At::Contending, At::Held);
            }
            At::Held(archive) => self.admit(state, slot, Subject::Stored(archive)),
            At::Contending => self.join_or_lead(state, slot),
            At::Following(flight) => self.follow(state, slot, flight),
            At::Waiting(_) => Self::again(state, slot),
            At::Asking(question) => self.conclude(state, slot, question),
            At::Comparing(subject, grant) => self.compare(state, slot, subject, grant),
            At::Gone => {
                self.invalidate(state);
                state.slots[slot] = Slot::at_rest(At::Done(Outcome::Refused));
            }
            At::Idle | At::Done(_) | At::Leading(_) => unreachable!("it has nothing to do"),
        }
    }

    /// Somebody's fill has had its first word.
    fn follow(&self, state: &mut State, slot: usize, flight: usize) {
        let come = state.flights[flight].stage;
        state.slots[slot].late = come != Stage::Growing;
        match come {
            Stage::Growing => self.admit(state, slot, Subject::Growing(flight)),
            Stage::Here if !self.keeps(Rule::WaitForFacts) => {
                self.admit(state, slot, Subject::Growing(flight));
            }
            Stage::Here => state.slots[slot].at = At::Waiting(flight),
            Stage::Whole | Stage::Placed | Stage::Overtaken => {
                self.admit(state, slot, Subject::Whole(flight));
            }
            Stage::Over => Self::again(state, slot),
            Stage::Ended => self.ask(state, slot, Subject::Nothing),
            Stage::Begun | Stage::Asked | Stage::Answered => unreachable!("it has no word yet"),
        }
    }

    /// Lets in by what is remembered, or asks.
    fn admit(&self, state: &mut State, slot: usize, subject: Subject) {
        let follows = matches!(subject, Subject::Growing(_));
        let unasked = follows && !self.keeps(Rule::FollowersAsk);
        let remembered = self.opens(state, self.setting.callers[slot], subject);
        match subject.flight() {
            Some(_) if unasked || remembered.is_some() => {
                let fits = remembered.is_none_or(|grant| grant.fits);
                let outcome = if follows { Outcome::Collapsed } else { Outcome::Remembered };
                self.let_in(state, slot, subject, fits, outcome);
            }
            _ => self.ask(state, slot, subject),
        }
    }

    /// A draft's reader is broken off where it ends otherwise than what GitLab showed him; the store's isn't.
    fn let_in(&self, state: &mut State, slot: usize, subject: Subject, fits: bool, outcome: Outcome) {
        let flight = subject.flight().expect("a grant names something");
        let (late, unchecked) = (state.slots[slot].late, state.flights[flight].stage == Stage::Here);
        state.flights[flight].late |= late && unchecked;
        if fits || matches!(subject, Subject::Stored(_)) {
            return self.serve(state, slot, flight, outcome);
        }
        // Until then the archive's length and date vouch for it.
        state.seen.wronged_late |= late;
        state.flights[flight].visitors[self.setting.callers[slot]] = true;
        state.slots[slot] = Slot::at_rest(At::Done(Outcome::Broken));
    }

    fn join_or_lead(&self, state: &mut State, slot: usize) {
        let known = state.slots[slot].known;
        if let Some(flight) = state.listed {
            state.slots[slot].at = At::Following(flight);
        } else if self.keeps(Rule::LookForLanded) && state.store.is_some_and(|landed| Some(landed) != known) {
            Self::again(state, slot);
        } else {
            let number = state.flights.len();
            state.flights.push(Flight::begun(slot));
            state.listed = Some(number);
            state.slots[slot].at = At::Leading(number);
        }
    }

    /// Reads the epoch and sends a question, or shares one that the same caller has on its way.
    fn ask(&self, state: &mut State, slot: usize, subject: Subject) {
        let version = |flight: usize| state.flights[flight].version.unwrap();
        let about = match subject {
            Subject::Nothing => About::Nothing,
            Subject::Stored(flight) | Subject::Whole(flight) => About::Known(version(flight)),
            Subject::Growing(flight) => About::Growing(version(flight)),
        };
        let (epoch, asked) = (self.epoch(state), state.time);
        let own = Question { ticket: slot, subject, about, sent: about, epoch, asked, answer: Reply::None };
        let other = 1 - slot;
        let shared = match state.slots[other].at {
            At::Asking(running) if self.setting.remembers => Some(running),
            _ => None,
        };
        let shared = shared.filter(|running| {
            self.setting.callers[0] == self.setting.callers[1]
                && running.subject.flight() == subject.flight()
                && !matches!(running.answer, Reply::Arrived(_))
                && (running.asked == state.time || !self.keeps(Rule::ShareWithinTtl))
                && self.judgement.are_alike(running.sent, about)
        });
        state.slots[slot].at =
            At::Asking(shared.map_or(own, |running| Question { subject, about, ..running }));
    }

    /// GitLab looks at the caller's right and at what there is.
    pub(crate) fn answer(&self, state: &mut State, ticket: usize) {
        let caller = self.setting.callers[ticket];
        let now = state.archive.filter(|_| state.rights[caller]);
        if let Some(version) = now {
            state.seen.told[caller].add(version);
        }
        for slot in &mut state.slots {
            if let At::Asking(question) = &mut slot.at
                && question.ticket == ticket
                && question.answer == Reply::None
            {
                question.answer = Reply::Made(now);
            }
        }
    }

    fn conclude(&self, state: &mut State, slot: usize, question: Question) {
        let (Reply::Made(now) | Reply::Arrived(now)) = question.answer else { unreachable!("answered") };
        Self::arrive(state, question.ticket, now);
        let caller = self.setting.callers[slot];
        let subject = question.subject;
        match (self.judgement.meaning(question.sent, question.about, now), subject) {
            (Meaning::Refused, _) => {
                state.grants[caller] = None;
                let visited = subject.flight().is_some_and(|flight| state.flights[flight].visitors[caller]);
                state.slots[slot] =
                    Slot::at_rest(if visited { At::Gone } else { At::Done(Outcome::Refused) });
            }
            (_, Subject::Nothing) => Self::again(state, slot),
            (
                meaning @ (Meaning::Yes | Meaning::YesSoFar),
                Subject::Stored(archive) | Subject::Whole(archive) | Subject::Growing(archive),
            ) => {
                let early = self.keeps(Rule::EpochBeforeQuestion);
                let epoch = if early { question.epoch } else { self.epoch(state) };
                let grant =
                    Remembered { archive, epoch, asked: question.asked, fits: meaning == Meaning::Yes };
                self.remember(state, caller, grant);
                state.slots[slot].at = At::Comparing(subject, grant);
            }
            (Meaning::Different | Meaning::Unproven, Subject::Stored(archive)) => {
                state.grants[caller] = None;
                state.slots[slot].known = Some(archive);
                Self::again(state, slot);
            }
            (Meaning::Unproven, Subject::Whole(flight) | Subject::Growing(flight)) => {
                state.grants[caller] = None;
                state.slots[slot].at = At::Waiting(flight);
            }
            (Meaning::Different, Subject::Whole(_) | Subject::Growing(_)) | (Meaning::NotOurs, _) => {
                state.grants[caller] = None;
                state.slots[slot] = Slot::at_rest(At::Done(Outcome::Passed));
            }
        }
    }

    /// An answer is here: all who share it have it, nobody else may share it any more.
    fn arrive(state: &mut State, ticket: usize, now: Option<usize>) {
        for slot in &mut state.slots {
            if let At::Asking(question) = &mut slot.at
                && question.ticket == ticket
                && question.answer == Reply::Made(now)
            {
                question.answer = Reply::Arrived(now);
            }
        }
    }

    fn compare(&self, state: &mut State, slot: usize, subject: Subject, grant: Remembered) {
        if self.keeps(Rule::CompareEpoch) && self.epoch(state) != grant.epoch {
            return Self::again(state, slot);
        }
        let follows = matches!(subject, Subject::Growing(_));
        let outcome = if follows { Outcome::Collapsed } else { Outcome::Hit };
        self.let_in(state, slot, subject, grant.fits, outcome);
    }

    pub(crate) fn remember(&self, state: &mut State, caller: usize, grant: Remembered) {
        if self.setting.remembers || !self.keeps(Rule::ZeroTtlAsks) {
            state.grants[caller] = Some(grant);
        }
    }

    fn again(state: &mut State, slot: usize) {
        let request = &mut state.slots[slot];
        request.looks += 1;
        request.at = At::Looking;
        if request.looks == LOOKS {
            *request = Slot::at_rest(At::Done(Outcome::Passed));
        }
    }

    pub(crate) fn serve(&self, state: &mut State, slot: usize, flight: usize, outcome: Outcome) {
        let caller = self.setting.callers[slot];
        let version = state.flights[flight].version.unwrap();
        state.flights[flight].visitors[caller] = true;
        // Whoever may have the one may have its twin: nothing tells them apart.
        let (told, request) = (state.seen.told[caller], &state.slots[slot]);
        let among = |set: Versions| {
            if self.setting.words == Words::Twins { !set.is_empty() } else { set.has(version) }
        };
        state.seen.wrong.ended |= request.ended.has(version);
        state.seen.wrong.unentitled |= !among(request.entitled);
        state.seen.wrong.untold |= !among(told);
        state.slots[slot] = Slot::at_rest(At::Done(outcome));
    }
}
