//! What is done to a store, drawn from a seed.

use rustix::io::Errno;

use super::dice::Dice;
use super::disk::Fault;
use crate::store::record::CHUNK;

/// Jobs that have archives; the first two lie in one shard.
pub(super) const JOBS: [u64; 4] = [1, 257, 2, 3];

/// Bytes that the store may take: of some archives, of a sparse one and little more, and of one whose length is unknown.
const BUDGETS: [u64; 4] = [60_000, 150_000, 3 * CHUNK, 80 * CHUNK];

/// How a fill ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    /// Something has happened to the job meanwhile.
    Overtaken,
    /// The transfer broke off, and what is there isn't kept.
    Broken,
    /// It broke off, and its beginning is kept.
    Rest,
}

/// How a store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Closed,
    /// What the kernel has stays.
    Killed,
    PowerCut,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Fill {
        length: u64,
        told: bool,
        end: End,
    },
    /// Begins a sparse archive.
    Begin {
        length: u64,
        overtaken: bool,
    },
    /// Claims some chunks, takes room for all at once or not, and puts so many in.
    Put {
        from: u64,
        to: u64,
        put: u64,
        reserve: bool,
    },
    Note,
    /// Makes a sparse archive whole, after putting in what is missing, or if nothing is.
    Finish {
        fetch: bool,
    },
    /// Reads a part, or all; what is damaged is mended.
    Read {
        part: bool,
        mapped: bool,
    },
    /// Begins to read all, and goes on later.
    Hold,
    Release,
    Remove,
    Wait(u64),
    SetClock(i64),
    /// From now on the disk refuses, or doesn't.
    Refuse(Option<Errno>),
    Sweep,
    /// Reads archives again, for so many steps.
    Scrub(u64),
    Restart(How),
}

/// A deed to a job's archive, what becomes of one of its changes of the disk, and what else has to be decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) job: u64,
    pub(super) deed: Deed,
    pub(super) fault: Option<(u64, Fault)>,
    pub(super) seed: u64,
}

/// A whole run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) budget: u64,
    pub(super) indexed: bool,
    pub(super) steps: Vec<Step>,
}

impl Run {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let budget = dice.pick(&BUDGETS);
        let indexed = dice.once_in(6);
        let count = 8 + dice.below(24);
        let steps = (0..count).map(|_| step(&mut dice)).collect();
        Self { seed, budget, indexed, steps }
    }
}

fn step(dice: &mut Dice) -> Step {
    let job = dice.pick(&[JOBS[0], JOBS[0], JOBS[1], JOBS[2], JOBS[3]]);
    let deed = deed(dice);
    // Of the changes that a commit makes, some twelve, or one of those that all deeds begin with.
    let most = dice.pick(&[4, 14]);
    let fault = dice.once_in(4).then(|| (dice.below(most), fault(dice)));
    Step { job, deed, fault, seed: dice.roll() }
}

fn fault(dice: &mut Dice) -> Fault {
    let errno = dice.pick(&[Errno::NOSPC, Errno::IO, Errno::ROFS]);
    dice.pick(&[Fault::Stop, Fault::Refuse(errno)])
}

fn deed(dice: &mut Dice) -> Deed {
    match dice.below(100) {
        0..28 => fill(dice),
        28..36 => Deed::Begin { length: sparse_length(dice), overtaken: dice.once_in(8) },
        36..50 => put(dice),
        50..56 => Deed::Note,
        56..62 => Deed::Finish { fetch: dice.once_in(2) },
        62..74 => Deed::Read { part: dice.once_in(2), mapped: dice.once_in(2) },
        74..77 => Deed::Hold,
        77..79 => Deed::Release,
        79..84 => Deed::Remove,
        84..87 => Deed::Wait(dice.pick(&[1, 1, 5, 600])),
        87..89 => Deed::SetClock(dice.pick(&[-5, -1000, 5])),
        89 => Deed::Refuse(Some(dice.pick(&[Errno::NOSPC, Errno::NOSPC, Errno::ROFS]))),
        90 => Deed::Refuse(None),
        91 => Deed::Sweep,
        92 if dice.once_in(4) => Deed::Scrub(dice.below(300)),
        _ => Deed::Restart(dice.pick(&[How::Closed, How::Killed, How::PowerCut])),
    }
}

fn fill(dice: &mut Dice) -> Deed {
    let small = [0, 1, 700, 4_000, 4_001, 20_000, 50_000];
    let length = if dice.once_in(24) { CHUNK + dice.pick(&[0, 5, 100_000]) } else { dice.pick(&small) };
    let end = match dice.below(24) {
        0 | 1 => End::Overtaken,
        2 => End::Broken,
        3 => return Deed::Fill { length: CHUNK + 1_000, told: true, end: End::Rest },
        _ => End::Commit,
    };
    Deed::Fill { length, told: !dice.once_in(4), end }
}

/// Mostly of two chunks, one of them short.
fn sparse_length(dice: &mut Dice) -> u64 {
    dice.pick(&[3_000, 3_000, 50_000, CHUNK + 10, CHUNK + 10_000, 2 * CHUNK + 300])
}

/// Mostly a short last chunk.
fn put(dice: &mut Dice) -> Deed {
    let (from, to) = dice.pick(&[(0, 1), (1, 2), (1, 2), (1, 2), (0, 3), (2, 3), (1, 3)]);
    Deed::Put { from, to, put: dice.below(4), reserve: dice.once_in(2) }
}
