//! Clients that ask until larder is killed: by the one who has seen enough.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::process::Process;

/// An answer counts as much as so many bytes.
pub(crate) const ANSWER: u64 = 64 << 10;

/// Longest that a client waits for a byte: far more than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kills a larder when its clients have seen so much of it.
pub(crate) struct Meter {
    left: AtomicI64,
    larder: Mutex<Option<Process>>,
    over: AtomicBool,
}

impl Meter {
    pub(crate) fn new(larder: Process, kill_after: u64) -> Self {
        let left = AtomicI64::new(i64::try_from(kill_after).unwrap());
        Self { left, larder: Mutex::new(Some(larder)), over: AtomicBool::new(false) }
    }

    /// So much was seen.
    fn seen(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap();
        if self.left.fetch_sub(bytes, Ordering::SeqCst) <= bytes {
            self.kill();
        }
    }

    pub(crate) fn kill(&self) {
        if let Some(larder) = self.larder.lock().unwrap().take() {
            // Said before: whatever breaks off from now on may.
            self.over.store(true, Ordering::SeqCst);
            larder.kill();
        }
    }

    /// Whether it is killed, or about to be.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// An answer, as far as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Cache-Status`.
    pub(crate) cache: String,
    pub(crate) body: Vec<u8>,
    /// Whether its body is as long as its head says.
    pub(crate) whole: bool,
}

/// What is asked.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) token: &'a str,
    /// `Range`.
    pub(crate) range: Option<String>,
}

impl Ask<'_> {
    /// Asks a larder that isn't killed.
    pub(crate) fn of(&self, larder: &Process) -> Answer {
        self.send(larder.address, |_| (), || false).unwrap().expect("a head")
    }

    /// Asks a larder that may be killed; nothing if it was before the answer began.
    pub(crate) fn under(&self, meter: &Meter, address: SocketAddr) -> Option<Answer> {
        let answer = self.send(address, |bytes| meter.seen(bytes), || meter.is_over());
        let is_none = !matches!(answer, Ok(Some(_)));
        assert!(!is_none || meter.is_over(), "no answer to {}: {:?}", self.target, answer.as_ref().err());
        answer.unwrap_or_default()
    }

    /// Nothing if it is `over` when somebody answers the connection: that may be another than larder.
    fn send(
        &self,
        address: SocketAddr,
        seen: impl Fn(u64),
        over: impl Fn() -> bool,
    ) -> io::Result<Option<Answer>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        if over() {
            return Ok(None);
        }
        let Self { method, target, token, range } = self;
        let range = range.as_ref().map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
        let fields = format!("Private-Token: {token}\r\n{range}Connection: close\r\n");
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n")?;
        let mut reader = BufReader::with_capacity(256 << 10, stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut answer =
            Answer { status: status(&head), cache: String::new(), body: Vec::new(), whole: false };
        answer.cache = field(&head, "cache-status").unwrap_or_default();
        // An answer that deletes has none.
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        answer.whole = receive(&mut reader, &mut answer.body, length, &seen);
        seen(ANSWER);
        Ok(Some(answer))
    }
}

/// Whether all came.
fn receive(reader: &mut impl Read, body: &mut Vec<u8>, length: usize, seen: impl Fn(u64)) -> bool {
    body.resize(length, 0);
    let mut at = 0;
    while at < length {
        let some = (length - at).min(256 << 10);
        match reader.read(&mut body[at..at + some]) {
            Ok(read) if read > 0 => {
                at += read;
                seen(u64::try_from(read).unwrap());
            }
            _ => break,
        }
    }
    body.truncate(at);
    at == length
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn field(head: &str, name: &str) -> Option<String> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}
