//! The program's arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use gitlab_standin::{Etag, Storage};

/// What the program was asked to do.
pub(crate) struct Arguments {
    pub(crate) listen: SocketAddr,
    pub(crate) storage: Storage,
    pub(crate) root: String,
    pub(crate) archive_size: u64,
    pub(crate) jobs: u32,
    pub(crate) fixture: bool,
    pub(crate) archives: Vec<PathBuf>,
    pub(crate) secure: Option<PathBuf>,
}

impl Arguments {
    /// The arguments of this process. Ends it, with usage, where they make no sense.
    pub(crate) fn parse() -> Self {
        Self::of(&command().get_matches())
    }

    fn of(matches: &ArgMatches) -> Self {
        Self {
            listen: matches
                .get_one("listen")
                .copied()
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            storage: matches.get_one("storage").copied().unwrap_or(Storage::Local { etag: Etag::Weak }),
            root: matches.get_one("relative-root").cloned().unwrap_or_default(),
            archive_size: matches.get_one("archive-size").copied().unwrap_or(1 << 20),
            jobs: matches.get_one("jobs").copied().unwrap_or(3),
            fixture: matches.get_flag("fixture"),
            archives: matches.get_many("archive").into_iter().flatten().cloned().collect(),
            secure: matches.get_one("secure").cloned(),
        }
    }
}

fn command() -> Command {
    Command::new("gitlab-standin")
        .about("A stand-in for GitLab: the artifact API's routes, credentials and storage modes")
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("ADDRESS")
                .help("Where GitLab listens [default: 127.0.0.1:0, a free port]")
                .value_parser(value_parser!(SocketAddr)),
        )
        .arg(
            Arg::new("storage")
                .long("storage")
                .value_name("MODE")
                .help("local, local-sha256, redirect, redirect-job-id or proxied [default: local]")
                .value_parser(storage),
        )
        .arg(Arg::new("relative-root").long("relative-root").value_name("PATH").help("Such as /gitlab"))
        .arg(
            Arg::new("archive-size")
                .long("archive-size")
                .value_name("SIZE")
                .help("Of each archive in the fixture, exactly, such as 64KiB [default: 1MiB]")
                .value_parser(size),
        )
        .arg(
            Arg::new("jobs")
                .long("jobs")
                .value_name("COUNT")
                .help("Jobs with an archive in the fixture [default: 3]")
                .value_parser(value_parser!(u32)),
        )
        .arg(
            Arg::new("fixture")
                .long("fixture")
                .help("Start with a project, jobs and credentials, printed in the first line")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("secure")
                .long("secure")
                .value_name("FILE")
                .help("Listen by TLS as well, with a certificate that is written there (DER), and be known by that URL alone")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("archive")
                .long("archive")
                .value_name("FILE")
                .help("Adds a job of the ref `files` to the fixture, named as the file is, with its bytes as archive")
                .value_parser(value_parser!(PathBuf))
                .requires("fixture")
                .action(ArgAction::Append),
        )
}

fn storage(text: &str) -> Result<Storage, String> {
    match text {
        "local" => Ok(Storage::Local { etag: Etag::Weak }),
        "local-sha256" => Ok(Storage::Local { etag: Etag::Sha256 }),
        "redirect" => Ok(Storage::Redirect { job_id_in_path: false }),
        "redirect-job-id" => Ok(Storage::Redirect { job_id_in_path: true }),
        "proxied" => Ok(Storage::Proxied { etag: Etag::Weak }),
        _ => Err("expected local, local-sha256, redirect, redirect-job-id or proxied".to_owned()),
    }
}

/// Bytes, with an optional unit of powers of two.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let shift = match text.get(digits.len()..).unwrap_or_default().trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err("expected a number with B, KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number of bytes".to_owned())?;
    number.checked_shl(shift).filter(|size| size >> shift == number).ok_or_else(|| "too big".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [("17", 17), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("4GiB", 1 << 32)] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "MiB", "1MB", "-1", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }
}
