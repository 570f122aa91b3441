//! What is explored, and by which rules.

use crate::gitlab::Words;
use crate::state::{Left, Write};

/// A rule of larder's that can be left out, to see that something goes wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A fill commits only under the epoch it began in.
    CommitUnderEpoch,
    /// A fill reads the epoch before it asks, not when the answer is there.
    FillReadsEpochFirst,
    /// A grant that arrives is compared with the present epoch.
    CompareEpoch,
    /// A remembered grant opens in its own epoch only.
    GrantsEndWithEpoch,
    /// A question's epoch is read before it is sent.
    EpochBeforeQuestion,
    /// A delete takes the fill off the list.
    TakeOffList,
    /// A delete takes the archive out of the store.
    TakeOut,
    /// Whoever finds no fill looks again whether one has just landed.
    LookForLanded,
    /// Followers ask for themselves.
    FollowersAsk,
    /// With a ttl of zero every request asks.
    ZeroTtlAsks,
    /// A running question is shared within ttl only.
    ShareWithinTtl,
    /// Who can't be told what arrives waits until that is settled, not until all bytes are there.
    WaitForSettled,
    /// Who comes between the last byte and the check waits for it: what is there may be no archive, and its end isn't
    /// known.
    WaitForFacts,
    /// A remembered grant opens nothing that ends otherwise than what GitLab showed.
    EndsAgree,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) words: Words,
    /// Whether grants are remembered.
    pub(crate) remembers: bool,
    /// Who sends the requests of each slot.
    pub(crate) callers: [usize; 2],
    pub(crate) writes: &'static [Write],
    pub(crate) left: Left,
    /// Whether somebody else's fill is under way when it begins.
    pub(crate) growing: bool,
    pub(crate) without: Option<Rule>,
}
