//! What larder says about itself: log lines and metrics.
//!
//! Owns: formats and names of both. May know: nothing above it. Must not: see a credential; what is logged or counted
//! is chosen by the caller, field by field.

mod labels;
mod lines;
pub mod log;
pub mod metrics;
mod outcome;

pub use metrics::Metrics;
pub use outcome::Outcome;
