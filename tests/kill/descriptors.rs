//! The limit on open files and sockets.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::{command, spawn};

/// What larder says, until it listens, where these limits on open files are in force: the soft one and the hard one.
/// Also its soft limit then.
fn start(soft: u64, hard: u64) -> (Vec<Value>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let larder = command("http://127.0.0.1:9", dir.path());
    let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\"");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &limits, "sh"]).arg(larder.get_program()).args(larder.get_args());
    shell.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn(&mut shell);
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut said = Vec::new();
    for line in log.lines() {
        said.push(serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        if said.iter().any(|line| line["message"] == "admin listening") {
            break;
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    (said, line.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_and_a_word_is_said_if_that_is_too_low() {
    let (said, soft) = start(256, 4096);
    assert_eq!(soft, 4096);
    let warning = said.iter().find(|line| line["level"] == "WARN").expect("a warning");
    assert!(warning["message"].as_str().unwrap().contains("open descriptors is too low"), "{warning}");
    assert_eq!((&warning["has"], &warning["needs"]), (&4096.into(), &22_048.into()));
}
