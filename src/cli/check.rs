//! `larder check`: what would be in effect, and which layer said so. Touches nothing but the configuration file.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Command;

use super::options;
use crate::config::Sources;

pub(super) const NAME: &str = "check";

pub(super) fn command() -> Command {
    options::with_settings(
        Command::new(NAME).about("Print the effective configuration, or all that is wrong with it"),
    )
}

pub(super) fn run(sources: &Sources) -> ExitCode {
    super::with_configuration(sources, |loaded| {
        let mut out = io::stdout().lock();
        out.write_all(loaded.to_toml().as_bytes())?;
        Ok(out.flush()?)
    })
}
