//! All interleavings of requests, fills, deletes, uploads, evictions and revocations around one job's archive.
//!
//! The steps are larder's, in its order; what decides is larder's own code: `judge`, `Facts::relate`, `Grant::opens`,
//! `Epochs`. That the model would notice is shown by leaving out one rule at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod gitlab;
mod model;
mod properties;
mod requests;
mod rules;
mod state;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use gitlab::Words;
use model::Larder;
use properties::{ENDED, LATE, PASSED, REVIVED, TWICE, UNENTITLED, UNTOLD};
use rules::{Rule, Setting};
use state::{Left, Write};

const TWO: [usize; 2] = [0, 1];
const ONE: [usize; 2] = [0, 0];

const ALL: &[Write] = &[Write::Delete, Write::Upload, Write::Broad, Write::Expiry];
/// What larder hears of as a change of this very archive: nothing tells a twin that came otherwise.
const HEARD: &[Write] = &[Write::Delete, Write::Upload];

/// Every request asks GitLab.
const AUDITED: Setting = Setting {
    words: Words::Strong,
    remembers: false,
    callers: TWO,
    writes: ALL,
    left: left(2, 2, 0),
    growing: false,
    without: None,
};

/// A caller's requests share what GitLab said to him.
const SHARED: Setting = Setting {
    words: Words::Dated,
    remembers: true,
    callers: ONE,
    writes: ALL,
    left: Left { ticks: 1, ..left(3, 1, 0) },
    growing: false,
    without: None,
};

/// The same while time passes and rights end.
const AGEING: Setting = Setting { left: Left { revocations: 1, ticks: 2, ..left(3, 0, 0) }, ..SHARED };

/// Nothing but a delete and an upload tells one archive from the next.
const TWINS: Setting = Setting {
    words: Words::Twins,
    remembers: true,
    callers: TWO,
    writes: HEARD,
    left: left(2, 2, 1),
    growing: false,
    without: None,
};

/// What arrives can't be told from anything until it is there.
const UNSIZED: Setting = Setting {
    words: Words::Unsized,
    remembers: false,
    callers: TWO,
    writes: ALL,
    left: left(3, 0, 0),
    growing: false,
    without: None,
};

/// The same, its requests sharing questions about somebody else's fill.
const UNSIZED_SHARED: Setting =
    Setting { remembers: true, callers: ONE, growing: true, left: left(3, 0, 1), ..UNSIZED };

/// The end alone tells one archive from the next, and they come without larder's knowledge too.
const TAILS: Setting = Setting {
    words: Words::Tails,
    remembers: true,
    callers: TWO,
    writes: &[Write::Upload, Write::Expiry],
    left: left(2, 1, 0),
    growing: true,
    without: None,
};

/// Fills break off, or bring no archive.
const FAILING: Setting = Setting { left: Left { failures: 1, ..left(3, 0, 0) }, ..AUDITED };

const fn left(requests: usize, writes: usize, evictions: usize) -> Left {
    Left { requests, writes, evictions, revocations: 0, ticks: 0, failures: 0 }
}

/// Explores everything that can happen.
fn explore(name: &str, setting: Setting) {
    let begun = Instant::now();
    let checker = Larder::new(setting).checker().threads(2).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{name}: {states} states, up to {} steps, {:?}", checker.max_depth(), begun.elapsed());
    checker.assert_properties();
}

/// Explores until something is found to go wrong without `rule`.
fn miss(rule: Rule, property: &'static str, setting: Setting) {
    let begun = Instant::now();
    let setting = Setting { without: Some(rule), ..setting };
    let enough = HasDiscoveries::AnyOf([property].into());
    let checker = Larder::new(setting).checker().threads(2).finish_when(enough).spawn_bfs().join();
    let path = checker.discovery(property).map(stateright::Path::into_actions);
    println!("without {rule:?}: {path:?}, {} states, {:?}", checker.unique_state_count(), begun.elapsed());
    assert!(path.is_some(), "without {rule:?} nothing goes wrong: {property}");
}

#[test]
fn where_every_request_asks_nothing_goes_wrong() {
    explore("two writes", AUDITED);
    explore("three requests", Setting { writes: &[Write::Delete], left: left(3, 1, 0), ..AUDITED });
    explore("a right that ends", Setting { left: Left { revocations: 1, ..left(2, 1, 1) }, ..AUDITED });
}

#[test]
fn where_grants_are_remembered_and_questions_shared_nothing_goes_wrong() {
    explore("shared", Setting { left: left(3, 1, 0), ..SHARED });
    explore("shared, while time passes", Setting { left: Left { ticks: 1, ..left(2, 1, 0) }, ..SHARED });
    explore("ageing", AGEING);
}

#[test]
fn where_uploads_look_the_same_nothing_goes_wrong() {
    explore("twins, two writes", TWINS);
    explore("twins, three requests", Setting { left: left(3, 1, 0), ..TWINS });
}

#[test]
fn where_archives_say_nothing_of_themselves_nothing_goes_wrong() {
    explore("unsized", UNSIZED);
    explore("unsized, a write", Setting { left: left(2, 1, 1), ..UNSIZED });
    explore("unsized, shared", UNSIZED_SHARED);
}

#[test]
fn where_only_their_ends_differ_nothing_goes_wrong() {
    explore("tails", TAILS);
    explore("tails, every request asks", Setting { remembers: false, ..TAILS });
}

#[test]
fn where_fills_fail_nothing_goes_wrong() {
    explore("failing", FAILING);
    explore("failing, unsized", Setting { words: Words::Unsized, ..FAILING });
    explore("failing, remembered", Setting { remembers: true, ..FAILING });
}

#[test]
fn without_any_one_rule_something_goes_wrong() {
    for (rule, property, setting) in [
        (Rule::CommitUnderEpoch, REVIVED, AUDITED),
        (Rule::FillReadsEpochFirst, REVIVED, AUDITED),
        (Rule::TakeOut, REVIVED, AUDITED),
        (Rule::LookForLanded, TWICE, AUDITED),
        (Rule::FollowersAsk, UNTOLD, AUDITED),
        (Rule::ZeroTtlAsks, UNENTITLED, Setting { left: AGEING.left, ..AUDITED }),
        (Rule::CompareEpoch, ENDED, SHARED),
        (Rule::GrantsEndWithEpoch, ENDED, SHARED),
        (Rule::EpochBeforeQuestion, ENDED, SHARED),
        (Rule::ShareWithinTtl, UNENTITLED, AGEING),
        (Rule::TakeOffList, ENDED, TWINS),
        (Rule::WaitForSettled, PASSED, UNSIZED),
        (Rule::WaitForFacts, LATE, TAILS),
        (Rule::WaitForFacts, LATE, FAILING),
        (Rule::EndsAgree, UNTOLD, TAILS),
        (Rule::EndsAgree, LATE, TAILS),
    ] {
        miss(rule, property, setting);
    }
}
