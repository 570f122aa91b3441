//! The labels of what is counted: each a closed list, so that no label comes from a request.

/// Which kind of request is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// An archive by the API.
    JobArchive,
    /// An archive by the runner's route.
    RunnerArchive,
    /// An archive by ref.
    RefArchive,
    /// An archive by the browser's route.
    WebArchive,
    /// One file of an archive, by job.
    JobEntry,
    /// One file by ref.
    RefEntry,
    /// One file by the browser's route.
    WebEntry,
    /// A change.
    Write,
    /// Everything else.
    Pass,
    /// What wasn't well formed.
    Malformed,
}

impl Route {
    pub(super) const ALL: [Self; 10] = [
        Self::JobArchive,
        Self::RunnerArchive,
        Self::RefArchive,
        Self::WebArchive,
        Self::JobEntry,
        Self::RefEntry,
        Self::WebEntry,
        Self::Write,
        Self::Pass,
        Self::Malformed,
    ];

    /// The route's name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobArchive => "job_archive",
            Self::RunnerArchive => "runner_archive",
            Self::RefArchive => "ref_archive",
            Self::WebArchive => "web_archive",
            Self::JobEntry => "job_entry",
            Self::RefEntry => "ref_entry",
            Self::WebEntry => "web_entry",
            Self::Write => "write",
            Self::Pass => "pass",
            Self::Malformed => "malformed",
        }
    }
}

/// Where served bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The store.
    Store,
    /// A fill that was still growing.
    Fill,
    /// GitLab, passed through.
    Upstream,
}

impl From {
    pub(super) const ALL: [Self; 3] = [Self::Store, Self::Fill, Self::Upstream];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Fill => "fill",
            Self::Upstream => "upstream",
        }
    }
}

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// In the store.
    Stored,
    /// Its end is in the store; the rest comes as it is wanted.
    Begun,
    /// GitLab refused the leader.
    Refused,
    /// What came isn't an archive.
    NotArchive,
    /// No room for it.
    NoRoom,
    /// It broke off.
    Broken,
    /// Its bytes weren't those whose digest GitLab gave.
    Damaged,
    /// Larger than what it would be fetched for: one entry of it.
    TooLarge,
    /// Another key's archive was proven to be the same.
    Joined,
    /// Something happened to the job meanwhile.
    Overtaken,
    /// The store failed.
    Unstored,
}

impl Fill {
    pub(super) const ALL: [Self; 11] = [
        Self::Stored,
        Self::Begun,
        Self::Refused,
        Self::NotArchive,
        Self::NoRoom,
        Self::Broken,
        Self::Damaged,
        Self::TooLarge,
        Self::Joined,
        Self::Overtaken,
        Self::Unstored,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Begun => "begun",
            Self::Refused => "refused",
            Self::NotArchive => "not_archive",
            Self::NoRoom => "no_room",
            Self::Broken => "broken",
            Self::Damaged => "damaged",
            Self::TooLarge => "too_large",
            Self::Joined => "joined",
            Self::Overtaken => "overtaken",
            Self::Unstored => "unstored",
        }
    }
}

/// What came of taking up a transfer that broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// It goes on.
    Resumed,
    /// GitLab has something else by now.
    Changed,
    /// The rest couldn't be had in time.
    GivenUp,
}

impl Resume {
    pub(super) const ALL: [Self; 3] = [Self::Resumed, Self::Changed, Self::GivenUp];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Changed => "changed",
            Self::GivenUp => "given_up",
        }
    }
}

/// Why an archive that was fetched, or might have been, isn't stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstored {
    /// It doesn't fit `cache.max_size` beside what is in use.
    Budget,
    /// It would leave less than `cache.min_free`.
    MinFree,
    /// It is longer than `cache.max_object`, or than a file may be.
    TooLong,
    /// The disk refused it, or had refused another one a moment ago.
    Disk,
}

impl Unstored {
    pub(super) const ALL: [Self; 4] = [Self::Budget, Self::MinFree, Self::TooLong, Self::Disk];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::MinFree => "min_free",
            Self::TooLong => "too_long",
            Self::Disk => "disk",
        }
    }
}

/// Why a connection of a client's was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its TLS handshake failed.
    Tls,
    /// Its TLS handshake took too long.
    TlsTimeout,
    /// A request's head came too slowly.
    SlowHead,
    /// Its address had as many as it may.
    AddressLimit,
    /// It took an answer too slowly.
    SlowReader,
    /// It sent a body too slowly.
    SlowBody,
}

impl Cut {
    pub(super) const ALL: [Self; 6] =
        [Self::Tls, Self::TlsTimeout, Self::SlowHead, Self::AddressLimit, Self::SlowReader, Self::SlowBody];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::TlsTimeout => "tls_timeout",
            Self::SlowHead => "slow_head",
            Self::AddressLimit => "address_limit",
            Self::SlowReader => "slow_reader",
            Self::SlowBody => "slow_body",
        }
    }
}

/// What came of a damaged chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// It was fetched again.
    Mended,
    /// It couldn't be had: its archive left the store.
    Lost,
    /// It was found while nobody read it: its next reader has it fetched again.
    Found,
}

impl Mend {
    pub(super) const ALL: [Self; 3] = [Self::Mended, Self::Lost, Self::Found];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Mended => "mended",
            Self::Lost => "lost",
            Self::Found => "found",
        }
    }
}

/// What came of a question about access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Yes, to what is held.
    Yes,
    /// Yes, to something else.
    Other,
    /// No.
    Refused,
    /// Not an answer to the question.
    NotOurs,
    /// GitLab couldn't be asked.
    Down,
}

impl Probe {
    pub(super) const ALL: [Self; 5] = [Self::Yes, Self::Other, Self::Refused, Self::NotOurs, Self::Down];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Other => "other",
            Self::Refused => "refused",
            Self::NotOurs => "not_ours",
            Self::Down => "down",
        }
    }
}

/// How access was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A remembered grant opened the archive.
    Remembered,
    /// GitLab was asked.
    Asked,
    /// GitLab was down and the last answer within `access.grace` had been a yes.
    Grace,
}

impl Grant {
    pub(super) const ALL: [Self; 3] = [Self::Remembered, Self::Asked, Self::Grace];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Remembered => "remembered",
            Self::Asked => "asked",
            Self::Grace => "grace",
        }
    }
}
