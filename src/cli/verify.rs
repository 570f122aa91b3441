//! `larder verify`: every byte of the store compared with its checksum, while no larder uses it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::options;
use crate::config::Sources;
use crate::store::scan::verify::{Step, Verified};

pub(super) const NAME: &str = "verify";

const REPAIR: &str = "repair";
const JSON: &str = "json";

/// How often the bar is drawn: as often as an eye follows.
const REDRAW: Duration = Duration::from_millis(100);

/// Cells of the bar.
const WIDTH: usize = 40;

/// What the arguments ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct VerifyArgs {
    repair: bool,
    json: bool,
}

impl VerifyArgs {
    pub(super) fn of(matches: &ArgMatches) -> Self {
        Self { repair: matches.get_flag(REPAIR), json: matches.get_flag(JSON) }
    }
}

/// Damage was found and is still there.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} archives are damaged; `larder verify --repair` removes them, and the next download fetches them anew"
)]
struct StillDamaged(usize);

pub(super) fn command() -> Command {
    let flag = |name, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    options::with_settings(
        Command::new(NAME)
            .about("Compare all archives with their checksums, while no larder runs")
            .arg(flag(REPAIR, "Remove what is damaged, else change nothing"))
            .arg(flag(JSON, "Print the result as one JSON object")),
    )
}

pub(super) fn run(sources: &Sources, wanted: VerifyArgs) -> ExitCode {
    super::with_configuration(sources, |loaded| {
        let mut bar = Bar::new();
        let verified = crate::app::verify(&loaded.config, wanted.repair, |step| bar.draw(step))?;
        bar.end();
        print(&verified, wanted.json)?;
        let left = verified.damaged.iter().filter(|damaged| !damaged.removed).count();
        if left == 0 { Ok(()) } else { Err(StillDamaged(left).into()) }
    })
}

fn print(verified: &Verified, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let damaged = verified.damaged.iter().map(|damaged| {
            let (path, why) = (damaged.path.display().to_string(), damaged.why.to_string());
            serde_json::json!({ "path": path, "why": why, "removed": damaged.removed })
        });
        let result = serde_json::json!({
            "sound": verified.sound,
            "unknown": verified.unknown,
            "bytes": verified.bytes,
            "damaged": damaged.collect::<Vec<_>>(),
        });
        return writeln!(out, "{result}");
    }
    for damaged in &verified.damaged {
        let done = if damaged.removed { "; removed" } else { "" };
        writeln!(out, "{}: {}{done}", damaged.path.display(), damaged.why)?;
    }
    let (sound, bytes, bad) = (verified.sound, verified.bytes, verified.damaged.len());
    write!(out, "{sound} archives of {bytes} bytes are sound, {bad} are damaged")?;
    match verified.unknown {
        0 => writeln!(out),
        unknown => writeln!(out, ", {unknown} were written by another version of larder"),
    }
}

/// A bar on a terminal; elsewhere nothing.
struct Bar {
    shown: bool,
    drawn: Option<Instant>,
}

impl Bar {
    fn new() -> Self {
        Self { shown: io::stderr().is_terminal(), drawn: None }
    }

    fn draw(&mut self, step: Step) {
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) || step.archives == step.of;
        if self.shown && due {
            self.drawn = Some(Instant::now());
            let of = step.of.max(1);
            let share = step.archives.saturating_mul(crate::base::num::to_u64(WIDTH)) / of;
            let (done, mib) = ("#".repeat(crate::base::num::to_usize(share)), step.bytes >> 20);
            let line = format!("\r[{done:WIDTH$}] {}/{} archives, {mib} MiB", step.archives, step.of);
            // Nobody is left to see it.
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    fn end(&self) {
        if self.shown && self.drawn.is_some() {
            let _ = io::stderr().write_all(b"\n");
        }
    }
}
