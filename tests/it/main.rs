//! larder as a whole, in this process, before the stand-in for GitLab.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod archives;
mod credentials;
mod cuts;
mod damage;
mod entries;
mod fills;
mod framing;
mod growing;
mod midway;
mod outages;
mod passing;
mod planting;
mod raw;
mod refs;
mod refusals;
mod resume;
mod room;
mod scene;
mod scrubs;
mod secrets;
mod sparse;
mod support;
mod table;
mod targets;
mod web;
mod writes;
