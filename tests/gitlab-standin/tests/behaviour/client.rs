//! The smallest client there is: it shows what was on the wire.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer as received until the server closed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The connection ended in an error.
    pub(crate) reset: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Content-Length says as many bytes as came.
    pub(crate) fn is_whole(&self) -> bool {
        self.header("content-length").is_some_and(|length| length == self.body.len().to_string())
    }
}

/// Sends one request with these extra lines and reads until the end. `url` is `http://address/target`.
pub(crate) async fn ask(method: &str, url: &str, lines: &[&str]) -> Answer {
    let (address, target) = split(url);
    send(address, &format!("{method} {target} HTTP/1.1\r\nHost: gitlab.test\r\n"), lines, b"").await
}

pub(crate) async fn get(url: &str, lines: &[&str]) -> Answer {
    ask("GET", url, lines).await
}

/// The same with a body.
pub(crate) async fn put(method: &str, url: &str, lines: &[&str], body: &[u8]) -> Answer {
    let (address, target) = split(url);
    let head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n", body.len());
    send(address, &head, lines, body).await
}

pub(crate) fn split(url: &str) -> (SocketAddr, &str) {
    let rest = url.strip_prefix("http://").unwrap();
    let at = rest.find('/').unwrap();
    (rest[..at].parse().unwrap(), &rest[at..])
}

async fn send(address: SocketAddr, head: &str, lines: &[&str], body: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    exchange(stream, head, lines, body).await
}

pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    head: &str,
    lines: &[&str],
    body: &[u8],
) -> Answer {
    let lines = lines.iter().flat_map(|line| [*line, "\r\n"]).collect::<String>();
    let head = format!("{head}{lines}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server may answer and close before it has read all.
    let _ = stream.write_all(body).await;
    let mut bytes = Vec::new();
    let reset = stream.read_to_end(&mut bytes).await.is_err();
    answer(&bytes, reset)
}

fn answer(bytes: &[u8], reset: bool) -> Answer {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Answer { status: 0, head: String::new(), body: bytes.to_vec(), reset };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec(), reset }
}
