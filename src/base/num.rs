//! Conversions between lengths, without `as`.
//!
//! Owns the two directions between `usize` and `u64`; knows nothing else. Both saturate, so that a wrong value
//! is a bound that doesn't fit anything rather than a small number that does.

/// A length in memory as a length in a file.
pub(crate) fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// A length in a file as a length in memory.
pub(crate) fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
