//! The labels of what is counted: each a closed list, so that no label comes from a request.

/// Declares labels: of each its values, with their names in logs and metrics, and the list of them all.
macro_rules! labels {
    ($($(#[$doc:meta])* $vis:vis enum $label:ident { $($(#[$about:meta])* $value:ident = $name:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $label {
            $($(#[$about])* $value,)+
        }

        impl $label {
            pub(super) const ALL: [Self; [$($name),+].len()] = [$(Self::$value),+];

            /// Its name in logs and metrics.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }
        }
    )+};
}

labels! {
    /// Which kind of request is counted.
    pub enum RouteLabel {
        /// An archive by the API.
        JobArchive = "job_archive",
        /// An archive by the runner's route.
        RunnerArchive = "runner_archive",
        /// An archive by ref.
        RefArchive = "ref_archive",
        /// An archive by the browser's route.
        WebArchive = "web_archive",
        /// One file of an archive, by job.
        JobEntry = "job_entry",
        /// One file by ref.
        RefEntry = "ref_entry",
        /// One file by the browser's route.
        WebEntry = "web_entry",
        /// A change.
        Write = "write",
        /// Everything else.
        Pass = "pass",
        /// What wasn't well formed.
        Malformed = "malformed",
    }

    /// Where served bytes came from.
    pub enum BodySource {
        /// The store.
        Store = "store",
        /// A fill that was still growing.
        Fill = "fill",
        /// GitLab, passed through.
        Upstream = "upstream",
    }

    /// How a fill ended.
    pub enum FillLabel {
        /// In the store.
        Stored = "stored",
        /// Its end is in the store; the rest comes as it is wanted.
        Begun = "begun",
        /// GitLab refused the leader.
        Refused = "refused",
        /// What came isn't an archive.
        NotArchive = "not_archive",
        /// Its object store couldn't be asked, or refused.
        StoreDown = "store_down",
        /// No room for it.
        NoRoom = "no_room",
        /// It broke off.
        Broken = "broken",
        /// Its bytes weren't those whose digest GitLab gave.
        Damaged = "damaged",
        /// Larger than what it would be fetched for: one entry of it.
        TooLarge = "too_large",
        /// Another key's archive was proven to be the same.
        Joined = "joined",
        /// Something happened to the job meanwhile.
        Overtaken = "overtaken",
        /// The store failed.
        Unstored = "unstored",
    }

    /// What came of taking up a transfer that broke off.
    pub(crate) enum Resume {
        /// It goes on.
        Resumed = "resumed",
        /// GitLab has something else by now.
        Changed = "changed",
        /// The rest couldn't be had in time.
        GivenUp = "given_up",
    }

    /// Why an archive that was fetched, or might have been, isn't stored.
    pub(crate) enum Unstored {
        /// It doesn't fit `cache.max_size` beside what is in use.
        Budget = "budget",
        /// It would leave less than `cache.min_free`.
        MinFree = "min_free",
        /// It is longer than `cache.max_object`, or than a file may be.
        TooLong = "too_long",
        /// The disk refused it, or had refused another one a moment ago.
        Disk = "disk",
    }

    /// Why a connection of a client's was cut off.
    pub(crate) enum CutLabel {
        /// Its TLS handshake failed.
        Tls = "tls",
        /// Its TLS handshake took too long.
        TlsTimeout = "tls_timeout",
        /// A request's head came too slowly.
        SlowHead = "slow_head",
        /// Its address had as many as it may.
        AddressLimit = "address_limit",
        /// It took an answer too slowly.
        SlowReader = "slow_reader",
        /// It sent a body too slowly.
        SlowBody = "slow_body",
        /// Nothing was being asked on it when all were taken and another came.
        Quiet = "quiet",
    }

    /// What came of a damaged chunk.
    pub(crate) enum Mend {
        /// It was fetched again.
        Mended = "mended",
        /// It couldn't be had: its archive left the store.
        Lost = "lost",
        /// It was found while nobody read it: its next reader has it fetched again.
        Found = "found",
    }

    /// What came of a question about access.
    pub enum ProbeLabel {
        /// Yes, to what is held.
        Yes = "yes",
        /// Yes, to something else.
        Other = "other",
        /// No.
        Refused = "refused",
        /// Not an answer to the question.
        NotOurs = "not_ours",
        /// GitLab couldn't be asked.
        Down = "down",
    }

    /// How access was had.
    pub enum GrantLabel {
        /// A remembered grant opened the archive.
        Remembered = "remembered",
        /// GitLab was asked.
        Asked = "asked",
        /// GitLab was down and the last answer within `access.grace` had been a yes.
        Grace = "grace",
    }
}
