//! The command line: one file a subcommand.
//!
//! Owns: arguments, help, exit status (0 well, 1 failed, 2 wrong arguments or configuration) and what is printed for
//! people. May know: `config` and the composition root. Must not: decide anything about serving.

mod check;
mod options;
mod serve;
mod verify;

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Command;

use crate::app;
use crate::config::{self, Loaded, Problems, Sources};

/// The process ran into something.
const FAILED: u8 = 1;
/// The operator must change arguments or configuration.
const REFUSED: u8 = 2;

/// Runs the program.
pub fn run(
    arguments: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let environment = environment.collect();
    match matches.subcommand() {
        Some((serve::NAME, matches)) => serve::run(&options::sources(matches, environment)),
        Some((check::NAME, matches)) => {
            let wanted = check::CheckArgs::of(matches);
            check::run(&options::sources(matches, environment), &wanted)
        }
        Some((verify::NAME, matches)) => {
            let wanted = verify::VerifyArgs::of(matches);
            verify::run(&options::sources(matches, environment), wanted)
        }
        // clap lets no other name through.
        _ => ExitCode::from(REFUSED),
    }
}

fn command() -> Command {
    Command::new("larder")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A caching reverse proxy that makes GitLab CI job artifacts local")
        .after_help("`larder COMMAND -h` shows a command's flags, `larder --help` every key.")
        .after_long_help(options::keys_help())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([serve::command(), check::command(), verify::command()])
}

/// Help and version come this way too; they are no refusal.
fn refuse(error: &clap::Error) -> ExitCode {
    // Nobody is left to hear of a failure.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::from(REFUSED), ExitCode::from)
}

/// Says each problem on a line of its own.
fn refuse_configuration(problems: &Problems) -> ExitCode {
    say(format_args!("the configuration is wrong\n{problems}"));
    ExitCode::from(REFUSED)
}

/// Says an error and its causes in one line.
fn fail(error: &dyn Error) -> ExitCode {
    say(sentence(error));
    ExitCode::from(FAILED)
}

fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn say(text: impl Display) {
    // Nobody is left to hear of a failure.
    let _ = writeln!(io::stderr(), "larder: {text}");
}

/// What a command does with a configuration.
type CommandResult = Result<(), Box<dyn Error>>;

/// Loads the configuration and hands it on, or says why not.
fn with_configuration(sources: &Sources, run: impl FnOnce(Loaded) -> CommandResult) -> ExitCode {
    match config::load(sources) {
        Ok(loaded) => run(loaded).map_or_else(|error| fail(error.as_ref()), |()| ExitCode::SUCCESS),
        Err(problems) => refuse_configuration(&problems),
    }
}

/// The same for what is to be served by it: all that it names must be usable, and what turns out not to be all the same
/// is wrong with the configuration as well.
fn with_all_it_names(
    examined: Result<Loaded, Problems>,
    run: impl FnOnce(Loaded) -> CommandResult,
) -> ExitCode {
    let loaded = match examined {
        Ok(loaded) => loaded,
        Err(problems) => return refuse_configuration(&problems),
    };
    match run(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.downcast_ref().is_some_and(app::Error::is_configuration) => {
            say(sentence(error.as_ref()));
            ExitCode::from(REFUSED)
        }
        Err(error) => fail(error.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_help_fits_a_screen_and_the_long_one_has_all() {
        let mut command = command();
        let names: Vec<String> =
            command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let helps = |command: &mut Command| {
            [command.render_help().to_string(), command.render_long_help().to_string()]
        };
        let mut all = vec![helps(&mut command)];
        command.build();
        all.extend(names.iter().map(|name| helps(command.find_subcommand_mut(name).unwrap())));
        for [short, long] in all {
            assert!(short.lines().count() <= 24, "{short}");
            assert!(short.lines().all(|line| line.chars().count() <= 80), "{short}");
            for spec in crate::config::KEYS {
                assert!(long.contains(spec.path) && long.contains(spec.doc), "{}", spec.path);
            }
        }
    }

    #[test]
    fn the_commands_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn an_error_is_said_with_its_causes_in_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert_eq!(sentence(&Outer(io::Error::other("inner"))), "outer: inner");
    }
}
