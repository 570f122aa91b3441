//! The flags and the help, both out of the key table.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::config::{File, KEYS, Presence, Sources, Spec};

const CONFIG: &str = "config";

/// What the short help leaves to the long one.
const SHORT: &str = "`--help` says more, and lists every key of the configuration with its default.";

/// `command` with `--config` and a flag for each key that has one.
pub(super) fn with_settings(command: Command) -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The configuration file, TOML");
    command
        .arg(config)
        .args(KEYS.iter().filter_map(|spec| flag(spec)))
        .after_help(SHORT)
        .after_long_help(keys_help())
}

/// The layers that the arguments and the environment make.
pub(super) fn sources(matches: &ArgMatches, environment: Vec<(OsString, OsString)>) -> Sources {
    let given = |spec: &&'static Spec| {
        let flag = spec.flag?;
        matches.get_one::<OsString>(flag.long).map(|value| (*spec, value.clone()))
    };
    Sources {
        file: matches.get_one::<PathBuf>(CONFIG).map(|path: &PathBuf| File::open(Path::new(path))),
        environment,
        flags: KEYS.iter().filter_map(given).collect(),
    }
}

/// Every key in two lines: what it is called and what holds without it, what it means.
pub(super) fn keys_help() -> String {
    let mut help =
        "Configuration: defaults < file < environment LARDER__SECTION__KEY < flags. Keys:\n".to_owned();
    for spec in KEYS {
        // Writing to a String can't fail.
        let _ = writeln!(help, "  {} {}\n      {}", spec.path, presence(spec), spec.doc);
    }
    help
}

fn flag(spec: &'static Spec) -> Option<Arg> {
    let flag = spec.flag?;
    let arg = Arg::new(flag.long)
        .long(flag.long)
        .value_name(flag.value)
        // Checked with all the others, so that all problems are reported at once.
        .value_parser(value_parser!(OsString))
        .help(brief(spec.doc))
        .long_help(format!("{} {}", spec.doc, presence(spec)));
    Some(arg)
}

/// As much of what a key means as fits beside its flag on a line.
fn brief(doc: &str) -> String {
    let end = [". ", ": ", "; "].iter().filter_map(|end| doc.find(end)).min().unwrap_or(doc.len());
    doc.get(..end).unwrap_or(doc).trim_end_matches('.').to_owned()
}

fn presence(spec: &Spec) -> String {
    match spec.presence {
        Presence::Default("") => "[default: none]".to_owned(),
        Presence::Default(text) => format!("[default: {text}]"),
        Presence::Optional(_) => "[unset]".to_owned(),
        Presence::Required(_) => "[required]".to_owned(),
    }
}
