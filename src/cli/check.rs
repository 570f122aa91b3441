//! `larder check`: what would be in effect, which layer said so, and whether it would work. Leaves everything as it is.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::options;
use crate::app;
use crate::config::{Problems, Sources};

pub(super) const NAME: &str = "check";

const CONNECT: &str = "connect";
const TOKEN: &str = "token-file";

/// What the arguments ask for.
#[derive(Debug)]
pub(super) struct CheckArgs {
    connect: bool,
    token: Option<PathBuf>,
}

impl CheckArgs {
    pub(super) fn of(matches: &ArgMatches) -> Self {
        Self { connect: matches.get_flag(CONNECT), token: matches.get_one::<PathBuf>(TOKEN).cloned() }
    }
}

pub(super) fn command() -> Command {
    options::with_settings(
        Command::new(NAME)
            .about("Print the effective configuration, or all that is wrong with it")
            .arg(
                Arg::new(CONNECT)
                    .long(CONNECT)
                    .action(ArgAction::SetTrue)
                    .help("Ask GitLab as well")
                    .long_help(
                        "Ask GitLab as well: its name, its certificate, where it redirects to, its version",
                    ),
            )
            .arg(
                Arg::new(TOKEN)
                    .long(TOKEN)
                    .value_name("FILE")
                    .requires(CONNECT)
                    .value_parser(value_parser!(PathBuf))
                    .help("A file with a token of GitLab's to ask with"),
            ),
    )
}

pub(super) fn run(sources: &Sources, wanted: &CheckArgs) -> ExitCode {
    let token = wanted.token.as_deref().map(app::token).transpose();
    let (examined, token) = match (app::examine(sources), token) {
        (Ok(loaded), Ok(token)) => (Ok(loaded), token),
        (Ok(_), Err(problem)) => (Err(Problems::from_iter([problem])), None),
        (Err(mut problems), token) => {
            problems.extend(token.err());
            (Err(problems), None)
        }
    };
    super::with_all_it_names(examined, |loaded| {
        let mut out = io::stdout().lock();
        out.write_all(loaded.to_toml().as_bytes())?;
        out.flush()?;
        if let Some(word) = app::beyond(loaded.config.store.max_size, &loaded.config.store.dir) {
            super::say(word);
        }
        if wanted.connect {
            // Comments, so that all that is printed is a configuration still.
            app::connect(&loaded.config, token, |found| drop(writeln!(out, "# {found}")))?;
        }
        Ok(out.flush()?)
    })
}
