//! larder as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use gitlab_standin::GitLab;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The program, logging all it can as JSON.
pub(super) struct Program {
    child: Child,
    reading: Option<JoinHandle<String>>,
    address: SocketAddr,
    admin: SocketAddr,
    dir: Option<TempDir>,
}

impl Program {
    /// Starts it before `gitlab`, on free ports, and waits until it serves.
    pub(super) async fn start(gitlab: &GitLab) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_larder"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ttl", "1h"])
            .args(["--log-level", "trace", "--log-format", "json", "--upstream", &gitlab.url()])
            .arg("--cache-dir")
            .arg(dir.path())
            .env_clear()
            // What goes wrong with its store must not keep it from what comes after.
            .env("LARDER__UPSTREAM__RETRY_STORE", "0s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (tell, mut said) = mpsc::unbounded_channel();
        let reading = std::thread::spawn(move || {
            let mut all = String::new();
            for line in log.lines().map_while(Result::ok) {
                all.push_str(&line);
                all.push('\n');
                // Nobody listens once both addresses are known.
                let _ = tell.send(line);
            }
            all
        });
        let address = listening(&mut said, "listening").await;
        let admin = listening(&mut said, "admin listening").await;
        Self { child, reading: Some(reading), address, admin, dir: Some(dir) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its cache directory.
    pub(super) fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// Sends bytes and reads until it closes.
    pub(super) async fn send_raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good as an end.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    /// Ends it as a service manager does; gives all that it logged, and its directory.
    pub(super) async fn end(mut self) -> (String, TempDir) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let reading = self.reading.take().unwrap();
        let log = tokio::task::spawn_blocking(move || reading.join().unwrap()).await.unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "SIGTERM drains and exits 0");
        (log, self.dir.take().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Gone already, if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line that says so.
async fn listening(said: &mut mpsc::UnboundedReceiver<String>, message: &str) -> SocketAddr {
    while let Some(line) = said.recv().await {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["message"] == message {
            return line["address"].as_str().unwrap().parse().unwrap();
        }
    }
    panic!("it ended before it was {message}");
}
