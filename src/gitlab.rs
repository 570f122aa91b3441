//! GitLab, as larder knows it: which requests are questions about artifacts, where it is, and what its answers mean.
//!
//! Pure: no connection, no clock of its own, nothing stored.

pub mod grant;
pub mod route;
pub(crate) mod urls;
