//! A simulation: random deeds, on a disk that refuses, breaks off, loses what wasn't synced and decays, against a model.
//!
//! Each run is drawn from a seed: a budget and some steps, each with a fault perhaps at one of its changes of the disk.
//! After each step the store must have what the model says, serve its very bytes or none, count what lies on the disk,
//! keep within its budget and leave nothing about; after a restart, a kill or a power cut nothing may be lost that was
//! committed. At last the disk is well again, and so must the store be.
//!
//! ```sh
//! LARDER_SIM_SEED=42 cargo test --lib simulation -- --nocapture    # one run again, step by step
//! LARDER_SIM_RUNS=100000 cargo test --lib simulation               # more runs than usual
//! ```
//!
//! A run that fails is cut to the fewest steps that still fail, and told with its seed. What isn't simulated: threads
//! that meet (`tests/interleavings` and the tests beside), sled's own writes (its directory is kept, lost, older or
//! garbage) and reads that fail.

mod compare;
mod dice;
mod disk;
mod model;
mod read;
mod restart;
mod shadow;
mod step;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use crate::store::record::CHUNK;
use dice::Dice;
use disk::Fault;
use step::{Deed, End, How, Run, Step};
use world::World;

/// Runs of a plain `cargo test`.
const RUNS: u64 = 2_000;

/// Runs spent on making one that fails shorter.
const CUTS: usize = 200;

/// Nothing, or what is wrong.
type Check<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
use ensure;

/// One run from its beginning to its end; the error has all steps.
async fn live(run: &Run) -> Check<Vec<String>> {
    let (mut world, mut dice) = (World::new(run), Dice::new(run.seed));
    let lived = live_in(&mut world, run, &mut dice).await;
    world.disk.stop();
    world.readers.clear();
    if let Some(store) = world.store.take() {
        store.close();
    }
    let changes = world.disk.changes().join(", ");
    let mut trace = std::mem::take(&mut world.trace);
    lived.map(|()| trace.clone()).map_err(|error| {
        trace.push(format!("  {changes}"));
        format!("{}\n{error}", trace.join("\n"))
    })
}

async fn live_in(world: &mut World, run: &Run, dice: &mut Dice) -> Check {
    world.begin_life(dice).await?;
    for step in &run.steps {
        world.trace.push(format!("job {}: {:?}, {:?}", step.job, step.deed, step.fault));
        world.step(*step).await?;
    }
    world.trace.push("the disk is well again".to_owned());
    world.disk.refuse(None);
    world.readers.clear();
    world.clock.advance(Duration::from_secs(10));
    ensure!(world.store().may_try(), "it isn't tried again");
    world.step(FILL).await?;
    ensure!(world.model.jobs[&FILL.job].sure.is_some(), "the store doesn't take an archive again");
    ensure!(world.store().totals().writable, "the disk is said to refuse");
    world.read_all(dice).await?;
    world.restart(How::PowerCut, None, dice).await?;
    world.read_all(dice).await
}

/// A run, whose panics are failures as well.
fn attempt(runtime: &tokio::runtime::Runtime, run: &Run) -> Check<Vec<String>> {
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(live(run)))).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(said.unwrap_or_else(|| "it panicked".to_owned()))
    })
}

/// The fewest steps found that still fail, and how.
fn shortest(runtime: &tokio::runtime::Runtime, mut run: Run, mut failure: String) -> (Run, String) {
    let (mut size, mut cuts) = (run.steps.len().div_ceil(2), 0);
    while size > 0 && cuts < CUTS {
        let mut at = 0;
        while at < run.steps.len() {
            let mut shorter = run.clone();
            shorter.steps.drain(at..(at + size).min(run.steps.len()));
            cuts += 1;
            match attempt(runtime, &shorter) {
                Err(again) => (run, failure) = (shorter, again),
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    (run, failure)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap()
}

/// Runs of consecutive seeds on all cores; the failures, shortest first.
fn simulate(runs: u64) -> Vec<(Run, String)> {
    let (next, failures) = (AtomicU64::new(0), parking_lot::Mutex::new(Vec::new()));
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(|| {
                let runtime = runtime();
                while failures.lock().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= runs {
                        break;
                    }
                    let run = Run::of(seed);
                    if let Err(failure) = attempt(&runtime, &run) {
                        let found = shortest(&runtime, run, failure);
                        failures.lock().push(found);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner();
    failures.sort_by_key(|(run, _)| run.steps.len());
    failures
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

const FILL: Step = Step {
    job: step::JOBS[0],
    deed: Deed::Fill { length: 1_000, told: true, end: End::Commit },
    fault: None,
    seed: 0,
};

#[test]
fn the_first_archive_of_a_directory_outlives_a_power_cut() {
    for seed in 0..10 {
        let run = Run { seed, budget: CHUNK, indexed: false, steps: vec![FILL] };
        attempt(&runtime(), &run).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// What chance seldom meets: every fault at every change that a deed makes.
#[test]
fn a_fault_at_any_change_of_a_deed_is_survived() {
    let runtime = runtime();
    let rest = Deed::Fill { length: CHUNK + 1_000, told: true, end: End::Rest };
    let begin = Deed::Begin { length: 3_000, overtaken: false };
    let befores = [None, Some(FILL.deed), Some(begin)];
    let faults =
        [Fault::Stop, Fault::Refuse(Errno::NOSPC), Fault::Refuse(Errno::IO), Fault::Refuse(Errno::ROFS)];
    for (before, deed) in befores.into_iter().flat_map(|before| {
        [FILL.deed, begin, rest, Deed::Finish { fetch: true }, Deed::Remove].map(|deed| (before, deed))
    }) {
        for (seed, (change, fault)) in
            (0..).zip((0..16).flat_map(|change| faults.map(|fault| (change, fault))))
        {
            // Those of a broken transfer are mostly writes, all alike.
            let change = if deed == rest && change > 2 { change + 33 } else { change };
            let last = Step { deed, fault: Some((change, fault)), seed, ..FILL };
            let steps = before.map(|deed| Step { deed, ..FILL }).into_iter().chain([last]).collect();
            let run = Run { seed, budget: 3 * CHUNK, indexed: false, steps };
            attempt(&runtime, &run).unwrap_or_else(|failure| panic!("{failure}"));
        }
    }
}

#[test]
fn simulation_of_bad_days() {
    if let Some(seed) = number("LARDER_SIM_SEED") {
        let run = Run::of(seed);
        match attempt(&runtime(), &run) {
            Ok(trace) => println!("{}", trace.join("\n")),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    let failures = simulate(number("LARDER_SIM_RUNS").unwrap_or(RUNS));
    if let Some((run, failure)) = failures.first() {
        panic!("LARDER_SIM_SEED={} fails, here with fewer steps:\n{failure}", run.seed);
    }
}
