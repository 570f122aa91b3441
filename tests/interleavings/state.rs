//! A moment in the life of one job's archive, at GitLab and in larder. Plain numbers, so that it can be told from others.

use larder::gitlab::grant::Epoch;

use crate::gitlab::{About, VERSIONS, Version};

/// A set of versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Versions([bool; VERSIONS]);

impl Versions {
    pub(crate) fn add(&mut self, version: Version) {
        self.0[version] = true;
    }

    pub(crate) fn has(self, version: Version) -> bool {
        self.0[version]
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    pub(crate) fn is_empty(self) -> bool {
        !self.0.contains(&true)
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// At GitLab: the archive, the versions uploaded so far, who has the right, the writes whose success is on its way.
    pub(crate) archive: Option<Version>,
    pub(crate) uploaded: usize,
    pub(crate) rights: [bool; 2],
    pub(crate) writes: Vec<(Write, Option<Version>)>,
    /// Larder's numbers of invalidations: of the job, of everything.
    pub(crate) epoch: (usize, usize),
    /// The store's archive and the flight on the list, both by the flight's number.
    pub(crate) store: Option<usize>,
    pub(crate) listed: Option<usize>,
    pub(crate) grants: [Option<Remembered>; 2],
    pub(crate) flights: Vec<Flight>,
    pub(crate) slots: [Slot; 2],
    /// Ttls that have passed.
    pub(crate) time: usize,
    pub(crate) left: Left,
    pub(crate) seen: Seen,
}

/// How much may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) requests: usize,
    pub(crate) writes: usize,
    pub(crate) evictions: usize,
    pub(crate) revocations: usize,
    pub(crate) ticks: usize,
    pub(crate) failures: usize,
}

/// What an observer of the whole has noted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// Versions whose end was confirmed to a client; those that larder had to drop for it.
    pub(crate) ended: Versions,
    pub(crate) dropped: Versions,
    /// What each caller could have had at GitLab within the last ttl, and what GitLab told him he may have.
    pub(crate) lately: [Versions; 2],
    pub(crate) told: [Versions; 2],
    /// How often each version crossed while nothing but requests happened.
    pub(crate) transfers: [u8; VERSIONS],
    pub(crate) wrong: Wrong,
    /// Somebody who came when all bytes were there was broken off, or given what is no archive.
    pub(crate) wronged_late: bool,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wrong {
    /// Somebody was served a version whose end had been confirmed before he asked.
    pub(crate) ended: bool,
    /// Somebody was served what he couldn't have had within ttl before he asked, nor since.
    pub(crate) unentitled: bool,
    /// Somebody was served what GitLab never told him he may have.
    pub(crate) untold: bool,
}

/// Changes of the job's archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    /// DELETE or erase of this job's artifacts.
    Delete,
    /// An upload.
    Upload,
    /// A delete that concerns the project: larder drops grants alone.
    Broad,
    /// It goes without larder's knowledge.
    Expiry,
}

/// A remembered grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Remembered {
    pub(crate) archive: usize,
    pub(crate) epoch: Epoch,
    pub(crate) asked: usize,
    /// Whether the archive ends as what GitLab showed.
    pub(crate) fits: bool,
}

/// A fill, and the archive that it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) leader: usize,
    pub(crate) stage: Stage,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) asked: usize,
    pub(crate) version: Option<Version>,
    pub(crate) visitors: [bool; 2],
    /// Whether somebody was let in who came after its last byte and before its check.
    pub(crate) late: bool,
}

impl Flight {
    /// On the list; its task hasn't run.
    pub(crate) fn begun(leader: usize) -> Self {
        Self {
            leader,
            stage: Stage::Begun,
            epoch: None,
            asked: 0,
            version: None,
            visitors: [false; 2],
            late: false,
        }
    }
}

/// How far a fill has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// On the list; its task hasn't run.
    Begun,
    /// The epoch is read, the question sent.
    Asked,
    /// GitLab has answered, the answer is on its way.
    Answered,
    /// The head has arrived; bytes do.
    Growing,
    /// All bytes are there; whether they are an archive isn't known, nor how it ends.
    Here,
    /// They are an archive, and all its facts are known; it is on its way to the store.
    Whole,
    /// The same, and it is in the store.
    Placed,
    /// The same, and it came too late for the store.
    Overtaken,
    /// Off the list, its task is over: `Landed` to those who wait.
    Over,
    /// Off the list without an archive.
    Ended,
}

impl Stage {
    /// Whether followers have something to ask about, or know that they never will.
    pub(crate) fn is_answered(self) -> bool {
        !matches!(self, Self::Begun | Self::Asked | Self::Answered)
    }

    /// Whether it is known what has arrived, as `Flight::settled` says.
    pub(crate) fn is_settled(self) -> bool {
        self.is_answered() && !matches!(self, Self::Growing | Self::Here)
    }
}

impl Slot {
    /// A client whose last request ended so: nothing else of it matters any more.
    pub(crate) fn at_rest(at: At) -> Self {
        let none = Versions::default();
        Self { at, looks: 0, known: None, late: false, ended: none, entitled: none }
    }
}

/// A client that sends one request after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) at: At,
    pub(crate) looks: usize,
    pub(crate) known: Option<usize>,
    /// Whether all bytes of what it follows were there when it came.
    pub(crate) late: bool,
    /// Versions whose end was confirmed when he asked; versions that he may be served.
    pub(crate) ended: Versions,
    pub(crate) entitled: Versions,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// Nothing was asked yet.
    Idle,
    /// It is over.
    Done(Outcome),
    /// About to look into the store.
    Looking,
    /// It holds a stored archive.
    Held(usize),
    /// Nothing was in the store: about to join or to lead.
    Contending,
    /// Its own fill is under way.
    Leading(usize),
    /// It waits for the first word of somebody's fill.
    Following(usize),
    /// Its question is on its way.
    Asking(Question),
    /// Its grant is remembered, the epoch to be compared.
    Comparing(Subject, Remembered),
    /// GitLab says 404 to one who was let in before.
    Gone,
    /// All bytes of a fill are there, or it can't be told what it is: it waits until that is settled.
    Waiting(usize),
}

/// What a request is about to be served from, by the flight's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Nothing,
    /// From the store.
    Stored(usize),
    /// From the draft, of which all is known.
    Whole(usize),
    /// From the draft, while it grows.
    Growing(usize),
}

/// A question on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// Whose question it was first; shared ones are answered together.
    pub(crate) ticket: usize,
    pub(crate) subject: Subject,
    /// What its answer is judged about, and what it was sent about.
    pub(crate) about: About,
    pub(crate) sent: About,
    pub(crate) epoch: Epoch,
    pub(crate) asked: usize,
    pub(crate) answer: Reply,
}

/// GitLab's answer on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    /// Not made yet.
    None,
    /// Made at GitLab's state of that moment.
    Made(Option<Version>),
    /// Here: nobody shares it any more.
    Arrived(Option<Version>),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// From the store or a whole draft, by a remembered grant.
    Remembered,
    /// From the store or a whole draft, by a question.
    Hit,
    /// From somebody else's fill.
    Collapsed,
    /// From somebody else's fill, up to an end that isn't the one GitLab showed him.
    Broken,
    /// From its own fill.
    Stored,
    /// GitLab refused.
    Refused,
    /// Passed through.
    Passed,
}
