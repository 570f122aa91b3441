//! larder as a process, GitLab in this one, and a client of plain sockets.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use gitlab_standin::{
    Archive, GitLab, JobId, JobStatus, Level, Listening, ProjectId, Scope, Server, Setup, Storage, Visibility,
};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Held while a process begins: until then it shares this process's listening sockets, and their ports aren't free.
static BEGINNING: Mutex<()> = Mutex::new(());

/// Begins a process; it has only what it was given when this returns.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let _alone = BEGINNING.lock().unwrap();
    command.spawn().unwrap()
}

/// A running larder. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Mutex<Receiver<Value>>,
    /// What it said before it served.
    pub(crate) began: Vec<Value>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// The program with a cache directory and free ports, not yet started.
pub(crate) fn command(upstream: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.env_clear().args([
        "serve",
        "--upstream",
        upstream,
        "--log-format",
        "json",
        "--log-level",
        "info",
    ]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--cache-dir"]).arg(dir);
    command.env("LARDER__CACHE__INSTANCE", "test");
    command.stdin(Stdio::null());
    command
}

impl Process {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(upstream: &str, dir: &Path) -> Self {
        Self::run(&mut command(upstream, dir))
    }

    /// The same with other arguments.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut began = Vec::new();
        let address = listening(&mut log, "listening", &mut began);
        let admin = listening(&mut log, "admin listening", &mut began);
        // A log that nobody reads would stop the process.
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                // Few tests want to hear of it.
                let _ = serde_json::from_str(&line).map(|line| tell.send(line));
            }
        });
        Self { child, lines: Mutex::new(lines), began, address, admin }
    }

    /// Waits for a line of the log with this message.
    pub(crate) fn said(&self, message: &str) -> serde_json::Value {
        loop {
            let line = self
                .lines
                .lock()
                .unwrap()
                .recv()
                .unwrap_or_else(|_| panic!("it ended without a word of {message}"));
            if line["message"] == message {
                return line;
            }
        }
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> String {
        let mut page = Download::new(self.admin, "GET", "/metrics", &[]);
        assert_eq!(page.head(), 200);
        String::from_utf8(page.rest().unwrap()).unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(spawn(Command::new("/bin/sh").args(["-c", &kill])).wait().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Ends it in order; returns what it said, line by line.
    pub(crate) fn finish(mut self) -> Vec<Value> {
        self.terminate();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.lines.lock().unwrap().iter().collect()
    }

    /// Its process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of its metrics page, as it stands there.
    pub(crate) fn metric(&self, name: &str) -> Option<String> {
        let mut page = Download::new(self.admin, "GET", "/metrics", &[]);
        assert_eq!(page.head(), 200);
        let page = String::from_utf8(page.rest().unwrap()).unwrap();
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
    }

    /// The most memory it ever had, KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory it has now, KiB, without pages of files: its own program and mapped archives.
    pub(crate) fn own_memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many files and sockets it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening(log: &mut impl BufRead, message: &str, began: &mut Vec<Value>) -> SocketAddr {
    for line in log.lines() {
        let line = line.unwrap();
        let entry: Value = serde_json::from_str(&line).unwrap();
        let fields = if entry["fields"].is_object() { &entry["fields"] } else { &entry };
        if fields["message"] == message {
            return fields["address"].as_str().unwrap().parse().unwrap();
        }
        began.push(entry);
    }
    panic!("it ended without a word of {message}");
}

/// A GitLab with jobs whose archives alice may read and delete.
pub(crate) struct Town {
    pub(crate) runtime: Runtime,
    pub(crate) gitlab: GitLab,
    pub(crate) project: ProjectId,
    pub(crate) token: String,
    /// Whether archives come from an object store.
    pub(crate) redirects: bool,
    pub(crate) jobs: Vec<(JobId, Archive)>,
}

impl Town {
    /// So many jobs with archives of this size, each different.
    pub(crate) fn new(storage: Storage, jobs: u64, size: u64) -> Self {
        let sizes = std::iter::repeat_n(size, usize::try_from(jobs).unwrap());
        Self::of(storage, &sizes.collect::<Vec<_>>())
    }

    /// A job with an archive of each size, each different.
    pub(crate) fn of(storage: Storage, sizes: &[u64]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let gitlab = runtime.block_on(GitLab::start(Setup::default().storage(storage))).unwrap();
        let alice = gitlab.user("alice");
        let project = gitlab.project("group/project", Visibility::Private);
        gitlab.member(project, alice, Level::Maintainer);
        let token = gitlab.personal_token(alice, Scope::Api);
        let redirects = matches!(storage, Storage::Redirect { .. });
        let mut town = Self { runtime, gitlab, project, token, redirects, jobs: Vec::new() };
        let archives = (1..).zip(sizes).map(|(seed, size)| Archive::seeded(*size, seed).unwrap());
        town.jobs = archives.map(|archive| town.add(archive)).collect();
        town
    }

    /// Nobody listens at GitLab's port, or somebody does again.
    pub(crate) fn listen(&self, listening: Listening) {
        let _alone = BEGINNING.lock().unwrap();
        self.gitlab.set_listening(Server::Gitlab, listening).unwrap();
    }

    /// One more job with an archive.
    pub(crate) fn add(&self, archive: Archive) -> (JobId, Archive) {
        let job = self.gitlab.job(self.project, JobStatus::Success);
        self.gitlab.put_archive(job, archive.clone());
        (job, archive)
    }

    /// Begins alice's download of a job's archive.
    pub(crate) fn open(&self, larder: &Process, job: JobId) -> Download {
        let target = format!("/api/v4/projects/{}/jobs/{job}/artifacts", self.project);
        Download::new(larder.address, "GET", &target, &[("Private-Token", &self.token)])
    }

    /// Downloads and compares; returns `Cache-Status`.
    pub(crate) fn check(&self, larder: &Process, job: JobId, archive: &Archive) -> String {
        let mut download = self.open(larder, job);
        download.head();
        let cache = download.field("cache-status").expect("a cache status");
        assert!(download.rest().unwrap() == archive.bytes().unwrap(), "job {job}: {cache}");
        cache
    }
}

/// A request and what comes of it.
pub(crate) struct Download {
    reader: BufReader<TcpStream>,
    head: String,
}

impl Download {
    /// Sends a request without a body.
    pub(crate) fn new(address: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)]) -> Self {
        Self::on(TcpStream::connect(address).unwrap(), method, target, fields)
    }

    /// The same on a connection that is there.
    pub(crate) fn on(mut stream: TcpStream, method: &str, target: &str, fields: &[(&str, &str)]) -> Self {
        let address = stream.peer_addr().unwrap();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        Self { reader: BufReader::new(stream), head: String::new() }
    }

    /// Waits for the answer's head; returns its status.
    pub(crate) fn head(&mut self) -> u16 {
        while !self.head.ends_with("\r\n\r\n") {
            assert_ne!(self.reader.read_line(&mut self.head).unwrap(), 0, "no whole head: {}", self.head);
        }
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned())
    }

    /// The body, of the length that the head says, or in chunks; an error if it breaks off.
    pub(crate) fn rest(mut self) -> io::Result<Vec<u8>> {
        if self.field("transfer-encoding").is_some() {
            return self.chunks();
        }
        let length: usize = self.field("content-length").expect("a length").parse().unwrap();
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(body)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut size = String::new();
            self.reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim_end(), 16).map_err(io::Error::other)?;
            let begins = body.len();
            // With the line's end behind it.
            body.resize(begins + size + 2, 0);
            self.reader.read_exact(&mut body[begins..])?;
            body.truncate(begins + size);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// The stream, to send or read more.
    pub(crate) fn stream(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.reader
    }
}
