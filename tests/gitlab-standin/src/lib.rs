//! A stand-in for GitLab, in-process and as a program: the artifact API's routes, credentials, storage modes and
//! faults, as GitLab's sources have them. It serves tests, benchmarks and demonstrations of a caching proxy.
//!
//! ```text
//! gitlab          the handle: start, fill, break, look
//! server          one request: log, faults, answer, response        answer   GitLab's replies, pure
//! net             doors, connections, byte streams                  store    the object store's replies, pure
//! answer/web      the same for browsers: sessions, pages            answer/tree, zip_entry   inside archives
//! payload, gate   bodies on their way out                           auth, policy   who asks, who may what
//! fault           which request is hit by what                      world    the database
//! archive         zips as GitLab Runner writes them                 route, ask, reply   the words in between
//! ```
//!
//! Time, dates and tokens are the same in every run; ports are free ones; nothing waits for a timer.

mod answer;
mod archive;
mod ask;
mod auth;
mod certificate;
mod counters;
mod fault;
mod fixture;
mod gate;
mod gitlab;
mod ids;
mod net;
mod payload;
mod percent;
mod policy;
mod reply;
mod route;
mod seen;
mod serve;
mod server;
mod settings;
mod store;
mod world;

pub use archive::{Archive, Member, pattern};
pub use certificate::Certificate;
pub use counters::Counters;
pub use fault::{Effect, Ending, Fault, FaultHandle};
pub use fixture::Fixture;
pub use gate::Gate;
pub use gitlab::GitLab;
pub use ids::{JobId, PipelineId, ProjectId, UserId};
pub use net::Listening;
pub use route::Class;
pub use seen::Seen;
pub use server::Server;
pub use settings::{Attachments, Etag, RunnerAuth, Setup, Storage};
pub use world::{ArtifactsAccess, JobStatus, Level, PipelineStatus, Scope, Visibility};
