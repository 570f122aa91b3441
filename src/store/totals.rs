//! How much is stored.

/// Sizes for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Archives in the store.
    pub archives: usize,
    /// Bytes taken.
    pub bytes: u64,
    /// Archives evicted since the start.
    pub evicted: u64,
    /// Shards, of 256, whose files haven't been looked at since the start: what lies there may not be counted yet.
    pub unchecked: u16,
    /// Whether the disk took the last archive that was tried.
    pub writable: bool,
}
