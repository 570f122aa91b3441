//! Looking through the files: after a start, to find what the index doesn't know, and when the operator asks.
//!
//! Files are the truth. Owns what is made of those that don't add up; deletes nothing that larder didn't make.

pub(super) mod findings;
pub(super) mod pass;
mod tally;
pub mod verify;
