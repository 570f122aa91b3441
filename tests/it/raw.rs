//! A client that sends bytes as they are and shows what came back as it was on the wire.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Where its framing said.
    Framed,
    /// With the connection, in order: the end, to whoever was told no other.
    Closed,
    /// Before the end that its framing promised, by an orderly close.
    Cut,
    /// By a reset.
    Reset,
}

/// An answer, its chunks put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The first line.
    pub(crate) line: String,
    /// The fields, in the order and spelling they came in.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The first value of a field, whatever the spelling of its name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
    requests: usize,
}

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).await.unwrap())
    }

    /// The other side of one.
    pub(crate) const fn of(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new(), requests: 0 }
    }

    /// Whether something has come, or else the end.
    pub(crate) fn poll_any(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut byte = [0];
        let peeked = self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte));
        peeked.map(|peeked| peeked.is_ok_and(|length| length > 0))
    }

    /// Whether the last request that was received was another one than the first.
    pub(crate) const fn was_used(&self) -> bool {
        self.requests > 1
    }

    /// Says that nothing more will be sent; what comes can still be read.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// So many bytes that follow, in whatever protocol.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let (bytes, end) = self.exactly(length).await;
        assert_eq!(end, End::Framed, "so far: {}", latin1(&bytes));
        bytes
    }

    /// How it ends; nothing else may come.
    pub(crate) async fn end(&mut self) -> End {
        loop {
            assert!(self.read.is_empty(), "{}", latin1(&self.read));
            if let Err(end) = self.more().await {
                return end;
            }
        }
    }

    /// The next request, as its receiver sees it.
    pub(crate) async fn request(&mut self) -> Answer {
        let mut request = self.request_head().await;
        if request.field("transfer-encoding").is_some() || request.field("content-length").is_some() {
            (request.body, request.end) = self.body(&request).await;
        }
        request
    }

    /// Its head alone.
    pub(crate) async fn request_head(&mut self) -> Answer {
        self.requests += 1;
        parsed(&self.head().await)
    }

    /// A line that ends a chunked body's head, its trailers and the empty line behind them.
    pub(crate) async fn trailers(&mut self) -> String {
        self.head().await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The same, as much of it as is taken before the connection ends.
    pub(crate) async fn send_what_is_taken(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next answer; to a HEAD, no body comes whatever the fields say.
    pub(crate) async fn answer(&mut self, to_head: bool) -> Answer {
        match self.next_answer(to_head).await {
            Ok(answer) => answer,
            Err(end) => panic!("{end:?} before a head; so far: {}", latin1(&self.read)),
        }
    }

    /// The same, or the end that came before its head.
    pub(crate) async fn next_answer(&mut self, to_head: bool) -> Result<Answer, End> {
        let mut answer = parsed(&self.next_head().await?);
        let bodiless = to_head || matches!(answer.status(), 204 | 304);
        if !bodiless {
            (answer.body, answer.end) = self.body(&answer).await;
        }
        Ok(answer)
    }

    /// The head of an answer before the answer, such as 100.
    pub(crate) async fn interim(&mut self) -> String {
        self.head().await
    }

    async fn head(&mut self) -> String {
        match self.next_head().await {
            Ok(head) => head,
            Err(end) => panic!("{end:?} before a head; so far: {}", latin1(&self.read)),
        }
    }

    async fn next_head(&mut self) -> Result<String, End> {
        loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = latin1(&self.read[..at]);
                self.read.drain(..at + 4);
                return Ok(head);
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, answer: &Answer) -> (Vec<u8>, End) {
        if answer.field("transfer-encoding") == Some("chunked") {
            return self.chunks().await;
        }
        let Some(length) = answer.field("content-length") else {
            return loop {
                if let Err(end) = self.more().await {
                    break (std::mem::take(&mut self.read), end);
                }
            };
        };
        self.exactly(length.parse().unwrap()).await
    }

    async fn chunks(&mut self) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        loop {
            let Some(at) = self.read.windows(2).position(|window| window == b"\r\n") else {
                match self.more().await {
                    Ok(()) => continue,
                    Err(end) => return (body, cut(end)),
                }
            };
            let size = std::str::from_utf8(&self.read[..at]).unwrap().split(';').next().unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            self.read.drain(..at + 2);
            let (mut chunk, end) = self.exactly(size + 2).await;
            if end != End::Framed {
                body.extend(chunk);
                return (body, end);
            }
            chunk.truncate(size);
            body.extend(chunk);
            if size == 0 {
                return (body, End::Framed);
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> (Vec<u8>, End) {
        while self.read.len() < length {
            if let Err(end) = self.more().await {
                return (std::mem::take(&mut self.read), cut(end));
            }
        }
        (self.read.drain(..length).collect(), End::Framed)
    }

    async fn more(&mut self) -> Result<(), End> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) => Err(End::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) => panic!("{error}"),
        }
    }
}

fn parsed(head: &str) -> Answer {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let fields = lines.map(|line| line.split_once(':').unwrap());
    let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Answer { line, fields, body: Vec::new(), end: End::Framed }
}

/// A close where more was promised.
fn cut(end: End) -> End {
    if end == End::Closed { End::Cut } else { end }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Sends one request, head and body as they are, and reads its answer.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut wire = Wire::to(address).await;
    wire.send(request).await;
    wire.answer(request.starts_with(b"HEAD ")).await
}

/// A request with these lines, as bytes.
pub(crate) fn request(method: &str, target: &[u8], lines: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut bytes = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: larder.test\r\n"].concat();
    for line in lines {
        bytes.extend([line, b"\r\n".as_slice()].concat());
    }
    [&bytes, b"\r\n".as_slice(), body].concat()
}

/// The same request to GitLab and through larder.
pub(crate) async fn both(gitlab: SocketAddr, larder: SocketAddr, request: &[u8]) -> (Answer, Answer) {
    (exchange(gitlab, request).await, exchange(larder, request).await)
}
