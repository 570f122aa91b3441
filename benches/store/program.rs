//! The program itself with a store: when it serves, when it has looked at all files, and the memory it takes.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::archives::INSTANCE;

/// How often an answer is asked for.
const POLL: Duration = Duration::from_millis(1);

/// Starts it without an index, then twice with the one it has made, and prints what is seen.
pub(crate) fn start(dir: &Path, archives: u64) {
    // There is none the first time.
    let _ = fs::remove_dir_all(dir.join(INSTANCE).join("index"));
    println!("{archives} archives, program: ready | resident | all looked at | resident, most | stopped");
    for index in ["no index", "index", "index"] {
        let mut program = Program::start(dir);
        let ready = program.wait("/readyz", "200 OK");
        let resident = program.memory("VmRSS");
        let done = program.wait("/metrics", "larder_store_shards_unchecked 0\n");
        let (after, most) = (program.memory("VmRSS"), program.memory("VmHWM"));
        let stopped = program.stop();
        println!("{index}: {ready:?} | {resident} MiB | {done:?} | {after}, {most} MiB | {stopped:?}");
    }
}

struct Program {
    child: Child,
    begun: Instant,
    admin: SocketAddr,
}

impl Program {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command.env_clear().env("LARDER__CACHE__INSTANCE", INSTANCE).env("LARDER__CACHE__MAX_SIZE", "100GiB");
        command.args(["serve", "--upstream", "http://127.0.0.1:9", "--log-format", "json", "--cache-dir"]);
        command.arg(dir).args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let admin = admin_address(&mut log);
        // A log that nobody reads would stop the process.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Self { child, begun, admin }
    }

    /// When an answer holds some text, since the start.
    fn wait(&self, path: &str, text: &str) -> Duration {
        while !get(self.admin, path).contains(text) {
            thread::sleep(POLL);
        }
        self.begun.elapsed()
    }

    /// MiB.
    fn memory(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        begun.elapsed()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn admin_address(log: &mut BufReader<ChildStderr>) -> SocketAddr {
    for line in log.lines() {
        let line = line.unwrap();
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields = if entry["fields"].is_object() { &entry["fields"] } else { &entry };
        if fields["message"] == "admin listening" {
            return fields["address"].as_str().unwrap().parse().unwrap();
        }
    }
    panic!("it ended before it listened");
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
