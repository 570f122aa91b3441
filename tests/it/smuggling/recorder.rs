//! A GitLab that reads as strictly as can be and notes what it is sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What larder says of itself and of its client; noted for no row.
const ADDED: [&str; 7] =
    ["host", "via", "x-real-ip", "x-request-id", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"];

/// Notes of requests that have arrived whole.
pub(crate) struct Recorder {
    address: SocketAddr,
    notes: Arc<Mutex<Vec<String>>>,
    open: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let open = watch::Sender::new(0);
        let (book, connections) = (Arc::clone(&notes), open.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let book = Arc::clone(&book);
                connections.send_modify(|open| *open += 1);
                let counted = Counted(connections.clone());
                tokio::spawn(async move {
                    let _counted = counted;
                    Reader { stream, read: Vec::new(), host: address.to_string() }.serve(&book).await;
                });
            }
        });
        Self { address, notes, open, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The notes since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }

    /// Ready once no connection is open.
    pub(crate) async fn settled(&self) {
        self.open.subscribe().wait_for(|open| *open == 0).await.unwrap();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A connection is over, however it ended.
struct Counted(watch::Sender<usize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// One connection.
struct Reader {
    stream: TcpStream,
    read: Vec<u8>,
    host: String,
}

impl Reader {
    /// Notes and answers requests until the end, be it in the middle of one.
    async fn serve(mut self, notes: &Mutex<Vec<String>>) {
        while let Some(note) = self.request().await {
            let target = note.split([' ', ';']).nth(1).unwrap_or_default().to_owned();
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", target.len());
            if !note.starts_with("HEAD ") {
                answer += &target;
            }
            notes.lock().unwrap().push(note);
            if self.stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// The note of a whole request: its line, the fields that aren't larder's, its body and trailers.
    async fn request(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await?;
        let mut lines = head.split("\r\n");
        let line = lines.next()?.strip_suffix(" HTTP/1.1").unwrap_or("BAD version");
        let mut note = vec![shown(line)];
        let (mut length, mut chunked, mut hosts) = (None, false, 0);
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap_or((line, "BAD field"));
            match &*name.to_ascii_lowercase() {
                "host" => {
                    hosts += 1;
                    assert_eq!(value, self.host, "{head}");
                }
                "content-length" => assert_eq!(length.replace(value.parse().unwrap()), None, "{head}"),
                "transfer-encoding" => {
                    assert!(value == "chunked" && !chunked, "{head}");
                    chunked = true;
                }
                _ => {}
            }
            let added = ADDED.contains(&&*name.to_ascii_lowercase())
                || name.eq_ignore_ascii_case("x-forwarded-proto");
            if !added {
                note.push(shown(line));
            }
        }
        assert!(hosts == 1 && !(chunked && length.is_some()), "{head}");
        assert!(head.bytes().all(|byte| !matches!(byte, 0 | 0x7f)), "{head:?}");
        assert!(head.split("\r\n").all(|line| !line.contains(['\r', '\n'])), "{head:?}");
        let (body, trailers) = match length {
            Some(length) => (self.exactly(length).await?, Vec::new()),
            None if chunked => self.chunks().await?,
            None => (String::new(), Vec::new()),
        };
        if length.is_some() || chunked {
            note.push(format!("\"{}\"", shown(&body)));
        }
        note.extend(trailers);
        Some(note.join("; "))
    }

    async fn chunks(&mut self) -> Option<(String, Vec<String>)> {
        let mut body = String::new();
        loop {
            let size = self.until(b"\r\n").await?;
            assert!(size.bytes().all(|byte| byte.is_ascii_hexdigit()), "{size}");
            let size = usize::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                break;
            }
            body += &self.exactly(size).await?;
            assert_eq!(self.exactly(2).await?, "\r\n");
        }
        let mut trailers = Vec::new();
        loop {
            match self.until(b"\r\n").await? {
                line if line.is_empty() => return Some((body, trailers)),
                line => trailers.push(shown(&line)),
            }
        }
    }

    async fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                let text = self.exactly(at).await;
                self.read.drain(..end.len());
                return text;
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<String> {
        while self.read.len() < length {
            self.more().await?;
        }
        Some(self.read.drain(..length).map(char::from).collect())
    }

    async fn more(&mut self) -> Option<()> {
        matches!(self.stream.read_buf(&mut self.read).await, Ok(1..)).then_some(())
    }
}

/// Short, for a table.
fn shown(text: &str) -> String {
    if text.len() <= 60 { text.to_owned() } else { format!("{} bytes", text.chars().count()) }
}
