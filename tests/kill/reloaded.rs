//! Told to read its configuration again.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use gitlab_standin::{Effect, Etag, Fault, Gate, Storage};

use crate::process::{Download, Process, Town, command};

const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };
const READ: &str = "the configuration and the certificates were read again";
const KEPT: &str = "nothing was changed; what was in effect stays";

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

#[test]
fn at_sighup_it_takes_what_is_right_names_what_needs_a_restart_and_drops_nobody() {
    let (town, dir) = (Town::new(LOCAL, 1, 8 << 20), tempfile::tempdir().unwrap());
    let file = dir.path().join("larder.toml");
    write(&file, "[access]\nttl = \"1m\"\n");
    let (job, archive) = &town.jobs[0];
    let body = Gate::new();
    body.release(1 << 20);
    town.gitlab.fault(Fault::new(Effect::Slow(body.clone())).when(|seen| seen.header("range").is_none()));
    let cache = dir.path().join("cache");
    let mut command = command(&town.gitlab.url(), &cache);
    command.arg("--config").arg(&file).env("LARDER__LOG__LEVEL", "info");
    let larder = Process::run(&mut command);
    let mut running = town.open(&larder, *job);
    assert_eq!(running.head(), 200);
    // A connection that is kept alive goes on too.
    let mut kept = BufReader::new(TcpStream::connect(larder.address).unwrap());

    write(&file, "[access]\nttl = \"0s\"\n[cache]\nmax_age = \"1d\"\n");
    larder.hang_up();
    assert_eq!(larder.said(READ)["changed"], "access.ttl");
    assert_eq!(larder.said("these keys have changed and need a restart")["keys"], "cache.max_age");

    for wrong in
        ["[access]\nttl = 30\n", "[server.tls]\ncert = \"/nonexistent\"\nkey = \"/nonexistent\"\n", "["]
    {
        write(&file, wrong);
        larder.hang_up();
        let said = larder.said(KEPT);
        assert_eq!(said["level"], "ERROR", "{said}");
    }
    fs::remove_file(&file).unwrap();
    larder.hang_up();
    larder.said(KEPT);

    body.open();
    assert!(running.rest().unwrap() == archive.bytes().unwrap());
    kept.get_mut().write_all(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut line = String::new();
    kept.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    larder.terminate();
    assert_eq!(larder.wait().code(), Some(0));
}

#[test]
fn systemd_hears_of_it_and_of_the_end() {
    let (town, dir) = (Town::new(LOCAL, 1, 8 << 20), tempfile::tempdir().unwrap());
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let heard = || {
        let mut buffer = [0; 200];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut command = command(&town.gitlab.url(), &dir.path().join("cache"));
    command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    let larder = Process::run(&mut command);
    assert_eq!(heard(), "READY=1");
    larder.hang_up();
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(), "READY=1");
    larder.terminate();
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(larder.wait().code(), Some(0));
}

#[test]
fn while_it_drains_it_is_not_ready_and_lets_nobody_new_in() {
    let (town, dir) = (Town::new(LOCAL, 1, 8 << 20), tempfile::tempdir().unwrap());
    let body = Gate::new();
    body.release(1 << 20);
    town.gitlab.fault(Fault::new(Effect::Slow(body.clone())).when(|seen| seen.header("range").is_none()));
    let larder = Process::start(&town.gitlab.url(), dir.path());
    let (job, archive) = &town.jobs[0];
    let mut idle = TcpStream::connect(larder.address).unwrap();
    let mut running = town.open(&larder, *job);
    assert_eq!(running.head(), 200);
    larder.terminate();
    larder.said("draining");
    let mut ready = Download::new(larder.admin, "GET", "/readyz", &[]);
    assert_eq!(ready.head(), 503);
    // The idle one is closed, which is after the listener was.
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert!(TcpStream::connect(larder.address).is_err());
    body.open();
    assert!(running.rest().unwrap() == archive.bytes().unwrap());
    assert_eq!(larder.wait().code(), Some(0));
}
