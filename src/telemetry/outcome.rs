//! How a request ended, in the one vocabulary of log, metrics and `Cache-Status`.

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Served from the store.
    Hit,
    /// Served from the store, which fetched what it lacked.
    Partial,
    /// Fetched from GitLab and stored on the way.
    Stored,
    /// Served from a fetch that somebody else had begun.
    Collapsed,
    /// A HEAD for an archive that isn't held: described by GitLab's facts.
    Described,
    /// An entry of an archive that isn't held: GitLab's own answer.
    Missed,
    /// GitLab refused, or couldn't be asked.
    Refused,
    /// GitLab's own answer to an artifact route: not an archive, or not an answer to our question.
    NotArchive,
    /// An archive that the store has no room for, or that it couldn't take.
    NoRoom,
    /// GitLab has another archive than the one arriving, or changed its mind while it was asked.
    Changed,
    /// A request that changes something.
    Write,
    /// Not an artifact route.
    Pass,
    /// Refused by larder itself: the request wasn't well formed.
    Malformed,
}

impl Outcome {
    /// All outcomes.
    pub(crate) const ALL: [Self; 13] = [
        Self::Hit,
        Self::Partial,
        Self::Stored,
        Self::Collapsed,
        Self::Described,
        Self::Missed,
        Self::Refused,
        Self::NotArchive,
        Self::NoRoom,
        Self::Changed,
        Self::Write,
        Self::Pass,
        Self::Malformed,
    ];

    /// The outcome's name in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Partial => "partial",
            Self::Stored => "stored",
            Self::Collapsed => "collapsed",
            Self::Described => "described",
            Self::Missed => "missed",
            Self::Refused => "refused",
            Self::NotArchive => "not_archive",
            Self::NoRoom => "no_room",
            Self::Changed => "changed",
            Self::Write => "write",
            Self::Pass => "pass",
            Self::Malformed => "malformed",
        }
    }

    /// The value of `Cache-Status` (RFC 9211). A refusal's is one fixed value, whether the archive is held or not.
    pub(crate) const fn cache_status(self) -> &'static str {
        match self {
            Self::Hit => "larder; hit",
            Self::Partial => "larder; fwd=partial; stored",
            Self::Stored => "larder; fwd=miss; stored",
            Self::Collapsed => "larder; fwd=miss; collapsed",
            Self::Described | Self::Missed => "larder; fwd=miss",
            Self::Refused => "larder; fwd=bypass; detail=refused",
            Self::NotArchive => "larder; fwd=bypass; detail=not-archive",
            Self::NoRoom => "larder; fwd=bypass; detail=no-room",
            Self::Changed => "larder; fwd=bypass; detail=changed",
            Self::Write => "larder; fwd=method",
            Self::Pass | Self::Malformed => "larder; fwd=bypass; detail=pass",
        }
    }
}
