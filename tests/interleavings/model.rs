//! What can happen next, in steps that nothing can come between: those of `proxy/archive.rs`, `access.rs`, `fill.rs`,
//! `fill/pump.rs` and `proxy/pass.rs`, in their order.

use std::time::Duration;

use larder::access::Epochs;
use larder::base::clock::{Clock, Moment};
use larder::base::key::{ArchiveId, JobId, Key};
use larder::gitlab::grant::{Epoch, Grant};
use stateright::Model;

use crate::gitlab::{Judgement, VERSIONS};
use crate::rules::{Rule, Setting};
use crate::state::{
    At, Flight, Left, Remembered, Reply, Seen, Slot, Stage, State, Subject, Versions, Write, Wrong,
};

/// How long grants are remembered where they are; the model's clock moves by as much.
const TTL: Duration = Duration::from_secs(30);

/// More invalidations than happen.
const EPOCHS: usize = 8;

/// One larder before one GitLab, with one job.
#[derive(Debug)]
pub(crate) struct Larder {
    pub(crate) setting: Setting,
    pub(crate) judgement: Judgement,
    epochs: Vec<Vec<Epochs>>,
    moments: Vec<Moment>,
    job: Key,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A client sends a request.
    Request(usize),
    /// A request goes on.
    Go(usize),
    /// GitLab answers a question.
    Answer(usize),
    /// A fill goes on.
    Fill(usize),
    /// A fill breaks off, or what it brought is no archive.
    Fail(usize),
    /// Something changes at GitLab.
    Write(Write),
    /// Larder hears of it and tells the client.
    Confirm(usize),
    /// The store needs the room.
    Evict,
    /// A caller loses his right.
    Revoke(usize),
    /// A ttl passes.
    Tick,
}

/// How an archive ends, and how another of the same length and date does.
const OURS: &[u8] = b"ours";
const ANOTHERS: &[u8] = b"another's";

impl Larder {
    pub(crate) fn new(setting: Setting) -> Self {
        let job = Key::Job(JobId::parse("42").unwrap());
        let after = |(jobs, globals): (usize, usize)| {
            let epochs = Epochs::default();
            (0..jobs).for_each(|_| epochs.invalidate(job, || ()));
            (0..globals).for_each(|_| epochs.invalidate_all());
            epochs
        };
        let epochs = (0..EPOCHS).map(|jobs| (0..EPOCHS).map(|globals| after((jobs, globals))).collect());
        let clock = Clock::manual(1_800_000_000);
        let moments = (0..=setting.left.ticks).map(|_| {
            let now = clock.now();
            clock.advance(TTL);
            now
        });
        let moments = moments.collect();
        Self { judgement: Judgement::of(setting.words), epochs: epochs.collect(), moments, job, setting }
    }

    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.setting.without != Some(rule)
    }

    /// Larder's epochs after this state's invalidations.
    fn epochs(&self, state: &State) -> &Epochs {
        &self.epochs[state.epoch.0][state.epoch.1]
    }

    pub(crate) fn epoch(&self, state: &State) -> Epoch {
        self.epochs(state).now(self.job)
    }

    /// Whether larder commits what began in `epoch`.
    pub(crate) fn is_still(&self, state: &State, epoch: Epoch) -> bool {
        self.epochs(state).hold(self.job, epoch).is_some()
    }

    /// What is remembered for a caller, if it opens this archive.
    pub(crate) fn opens(&self, state: &State, caller: usize, subject: Subject) -> Option<Remembered> {
        let (remembered, archive) = (state.grants[caller]?, subject.flight()?);
        let shown = if remembered.fits { OURS } else { ANOTHERS };
        let end = (!matches!(subject, Subject::Growing(_)) && self.keeps(Rule::EndsAgree)).then_some(OURS);
        let name = |archive| ArchiveId::new(u64::try_from(archive).unwrap());
        let (asked, epoch) = (self.moments[remembered.asked], remembered.epoch);
        let grant = Grant::new(
            self.judgement.yes(),
            name(remembered.archive),
            asked,
            epoch,
            Some(shown.to_vec().into()),
        );
        let limit =
            if self.setting.remembers || !self.keeps(Rule::ZeroTtlAsks) { TTL } else { Duration::ZERO };
        let now = if self.keeps(Rule::GrantsEndWithEpoch) { self.epoch(state) } else { epoch };
        grant.opens(name(archive), end, now, self.moments[state.time], limit).then_some(remembered)
    }

    fn can_go(&self, state: &State, slot: &Slot) -> bool {
        let stage_of = |flight: usize| state.flights[flight].stage;
        match slot.at {
            At::Idle | At::Done(_) | At::Leading(_) => false,
            At::Following(flight) => stage_of(flight).is_answered(),
            At::Waiting(flight) if self.keeps(Rule::WaitForSettled) => stage_of(flight).is_settled(),
            At::Waiting(flight) => stage_of(flight) != Stage::Growing,
            At::Asking(question) => question.answer != Reply::None,
            At::Looking | At::Held(_) | At::Contending | At::Comparing(..) | At::Gone => true,
        }
    }

    /// Whether nothing has happened but requests.
    pub(crate) fn is_calm(&self, state: &State) -> bool {
        Left { requests: 0, ..state.left } == Left { requests: 0, ..self.setting.left }
    }

    /// Forgets what can't matter any more, so that states which differ in nothing else are one.
    fn forget(&self, state: &mut State) {
        if !self.is_calm(state) {
            state.seen.transfers = [0; VERSIONS];
        }
        let archives = |slot: &Slot| match slot.at {
            At::Held(n) | At::Leading(n) | At::Following(n) | At::Waiting(n) => Some(n),
            At::Asking(question) => question.subject.flight(),
            At::Comparing(subject, _) => subject.flight(),
            _ => None,
        };
        let used: Vec<usize> = state.slots.iter().filter_map(archives).chain(state.store).collect();
        for (number, flight) in state.flights.iter_mut().enumerate() {
            if matches!(flight.stage, Stage::Over | Stage::Ended) {
                (flight.leader, flight.epoch, flight.asked) = (0, None, 0);
                if !used.contains(&number) {
                    (flight.version, flight.visitors, flight.late) = (None, [false; 2], false);
                }
            }
        }
    }

    /// Whether somebody waits and nothing will ever happen.
    pub(crate) fn is_stuck(&self, state: &State) -> bool {
        let waits = state.slots.iter().any(|slot| !matches!(slot.at, At::Idle | At::Done(_)));
        let mut steps = Vec::new();
        if waits && state.flights.iter().all(|flight| matches!(flight.stage, Stage::Over | Stage::Ended)) {
            self.actions(state, &mut steps);
            return !steps.iter().any(|step| matches!(step, Step::Go(_) | Step::Answer(_)));
        }
        false
    }
}

impl Model for Larder {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let slot = Slot::at_rest(At::Idle);
        let mut first = Versions::default();
        first.add(0);
        let seen = Seen {
            ended: Versions::default(),
            dropped: Versions::default(),
            lately: [if self.setting.remembers { first } else { Versions::default() }; 2],
            told: [Versions::default(); 2],
            transfers: [0; VERSIONS],
            wrong: Wrong::default(),
            wronged_late: false,
        };
        let mut state = State {
            archive: Some(0),
            uploaded: 1,
            rights: [true; 2],
            writes: Vec::new(),
            epoch: (0, 0),
            store: None,
            listed: None,
            grants: [None; 2],
            flights: Vec::<Flight>::new(),
            slots: [slot; 2],
            time: 0,
            left: self.setting.left,
            seen,
        };
        if self.setting.growing {
            let epoch = Some(self.epoch(&state));
            let begun = Flight::begun(0);
            state.flights.push(Flight { stage: Stage::Growing, epoch, version: Some(0), ..begun });
            state.listed = Some(0);
            state.seen.transfers[0] = 1;
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (index, slot) in state.slots.iter().enumerate() {
            if matches!(slot.at, At::Idle | At::Done(_)) && state.left.requests > 0 {
                steps.push(Step::Request(index));
            }
            if self.can_go(state, slot) {
                steps.push(Step::Go(index));
            }
            if matches!(slot.at, At::Asking(q) if q.ticket == index && q.answer == Reply::None) {
                steps.push(Step::Answer(index));
            }
        }
        let running = |flight: &Flight| !matches!(flight.stage, Stage::Over | Stage::Ended);
        steps.extend(
            (0..state.flights.len()).filter(|flight| running(&state.flights[*flight])).map(Step::Fill),
        );
        if state.left.failures > 0 {
            let unchecked =
                |flight: &usize| matches!(state.flights[*flight].stage, Stage::Growing | Stage::Here);
            steps.extend((0..state.flights.len()).filter(unchecked).map(Step::Fail));
        }
        if state.left.writes > 0 {
            let possible = |write: &&Write| match write {
                Write::Upload => state.uploaded < VERSIONS,
                Write::Delete | Write::Broad | Write::Expiry => state.archive.is_some(),
            };
            steps.extend(self.setting.writes.iter().filter(possible).copied().map(Step::Write));
        }
        steps.extend((0..state.writes.len()).map(Step::Confirm));
        if state.left.evictions > 0 && state.store.is_some() {
            steps.push(Step::Evict);
        }
        if state.left.revocations > 0 {
            steps.extend((0..2).filter(|caller| state.rights[*caller]).map(Step::Revoke));
        }
        if state.left.ticks > 0 {
            steps.push(Step::Tick);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        match step {
            Step::Request(slot) => self.request(&mut next, slot),
            Step::Go(slot) => self.go(&mut next, slot),
            Step::Answer(ticket) => self.answer(&mut next, ticket),
            Step::Fill(flight) => self.fill(&mut next, flight),
            Step::Fail(flight) => Self::fail(&mut next, flight),
            Step::Write(write) => self.write(&mut next, write),
            Step::Confirm(write) => self.confirm(&mut next, write),
            Step::Evict => Self::evict(&mut next),
            Step::Revoke(caller) => self.revoke(&mut next, caller),
            Step::Tick => self.tick(&mut next),
        }
        self.forget(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        crate::properties::all(self)
    }
}

/// The flight's number, if a subject has one.
impl Subject {
    pub(crate) fn flight(self) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Stored(flight) | Self::Whole(flight) | Self::Growing(flight) => Some(flight),
        }
    }
}
