//! HTTP/2 as it is on the wire, well-formed or not.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Larder;

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const DATA: u8 = 0;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) type Field<'a> = (&'a str, &'a str);

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(super) fn data(body: &str, flags: u8) -> Vec<u8> {
    frame(DATA, flags, 1, body.as_bytes())
}

/// A head on the first stream.
pub(super) fn head(fields: &[Field<'_>], flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, 1, &block(fields))
}

/// Fields as literals that no table keeps (RFC 7541, 6.2.2).
pub(super) fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A length of seven bits and more (RFC 7541, 5.1).
fn integer(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(u8::try_from(length).unwrap());
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// What came back on a connection.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The beginning of the first stream's head, or the code of its reset.
    pub(super) first: Option<String>,
    /// Whether the third stream has been answered with all of its body.
    pub(super) second: bool,
    /// The code of a GOAWAY.
    pub(super) goodbye: Option<u32>,
}

/// Sends frames behind a preface and reads until the third stream has ended and the first been answered, in whatever order,
/// or the connection has ended.
pub(super) async fn talk(larder: &Larder, frames: Vec<u8>) -> Heard {
    let mut stream = TcpStream::connect(larder.address).await.unwrap();
    // It may end before all is sent.
    let _ = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames].concat()).await;
    let (mut read, mut heard) = (Vec::new(), Heard::default());
    while !(heard.second && heard.first.is_some()) && matches!(stream.read_buf(&mut read).await, Ok(1..)) {
        while let Some(length) = whole(&read) {
            let taken: Vec<u8> = read.drain(..length).collect();
            heard.take(&taken);
        }
    }
    heard
}

/// The length of the frame that bytes begin with, once it is there.
fn whole(read: &[u8]) -> Option<usize> {
    let [a, b, c, ..] = read else { return None };
    let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap() + 9;
    (read.len() >= length).then_some(length)
}

impl Heard {
    fn take(&mut self, frame: &[u8]) {
        let (kind, flags, payload) = (frame[3], frame[4], &frame[9..]);
        let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap());
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match (kind, stream) {
            (HEADERS, 1) => self.first = Some(status(payload)),
            (RST_STREAM, 1) if self.first.is_none() => self.first = Some(format!("reset {}", code(0))),
            (HEADERS | DATA, 3) if flags & END_STREAM != 0 => self.second = true,
            (GOAWAY, 0) => self.goodbye = Some(code(4)),
            _ => {}
        }
    }
}

/// The status that a head begins with (RFC 7541, appendix A), where the table has it.
fn status(block: &[u8]) -> String {
    match block {
        [0x88, ..] => "200".to_owned(),
        [0x8c, ..] => "400".to_owned(),
        other => format!("other {:02x?}", &other[..other.len().min(6)]),
    }
}
