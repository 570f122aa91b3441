//! `larder serve`: configuration -> telemetry -> the application.

use std::process::ExitCode;

use clap::Command;

use super::options;
use crate::config::Sources;
use crate::telemetry::log;

pub(super) const NAME: &str = "serve";

pub(super) fn command() -> Command {
    options::with_settings(Command::new(NAME).about("Serve until SIGTERM or SIGINT"))
}

pub(super) fn run(sources: &Sources) -> ExitCode {
    super::with_all_it_names(crate::app::examine(sources), |loaded| {
        let guard = log::init(loaded.config.log)?;
        Ok(crate::app::run(loaded, sources, &guard.dial())?)
    })
}
