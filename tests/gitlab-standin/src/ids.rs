//! Database ids, one type for each table.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

id!(
    /// A user.
    UserId
);
id!(
    /// A project.
    ProjectId
);
id!(
    /// A pipeline.
    PipelineId
);
id!(
    /// A job.
    JobId
);
