//! HTTP, as far as it isn't GitLab's own: pure functions and types from the RFCs.
//!
//! Knows nothing of GitLab, archives or connections.

pub mod conditional;
pub(crate) mod content;
mod etag;
pub mod fields;
pub mod hop;
pub mod range;
pub(crate) mod target;

pub use etag::{Etag, Sha256};
