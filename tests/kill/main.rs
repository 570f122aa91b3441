//! The program itself: killed, stopped, started twice, started too early, and under a load that must not fill memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod damaged;
mod killed;
mod memory;
mod process;
mod refused;
mod reloaded;
mod stopped;
