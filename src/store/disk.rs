//! The cache directory: where its files lie, and the only ways to them.
//!
//! Owns names, paths, the lock, descriptors and mappings, and whether the disk takes archives at present. Knows nothing of
//! what is stored, of budgets or of order. Everything here blocks, but for what asks the kernel for pages that are there.

pub(super) mod data;
pub(super) mod files;
pub(super) mod full;
pub(super) mod layout;
pub(super) mod lock;
mod map;
pub(super) mod mapped;
pub(super) mod reach;
mod spell;
pub(super) mod trial;
