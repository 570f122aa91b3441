//! The program itself: killed, stopped, started twice, started too early, and under a load that must not fill memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bombs;
mod crowd;
mod damaged;
mod descriptors;
mod dice;
mod floods;
mod killed;
mod load;
mod memory;
mod moments;
mod moved;
mod pinned;
mod pool;
mod process;
mod refused;
mod reloaded;
mod stopped;
mod volumes;
