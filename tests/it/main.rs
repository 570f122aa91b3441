//! larder as a whole, in this process, before the stand-in for GitLab.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod archives;
mod credentials;
mod cuts;
mod damage;
mod differences;
mod door;
mod egress;
mod entries;
mod fills;
mod framing;
mod growing;
mod http2;
mod limits;
mod midway;
mod names;
mod outages;
mod own;
mod passing;
mod planting;
mod raw;
mod refs;
mod refusals;
mod reloads;
mod resume;
mod retries;
mod room;
mod scene;
mod script;
mod scrubs;
mod secrets;
mod smuggling;
mod sparse;
mod support;
mod table;
mod targets;
mod tls;
mod upgrades;
mod uploads;
mod web;
mod writes;
