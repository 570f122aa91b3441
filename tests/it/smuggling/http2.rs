//! HTTP/2 that would be another request in HTTP/1 (RFC 9113, 8.2 and 8.3).

use std::time::Duration;

use super::Observed;
use super::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, Field, GOAWAY, HEADERS, RST_STREAM, block, data, frame, head, talk,
};

const POST: [Field<'static>; 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/x")];
const GET: [Field<'static>; 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/x")];

/// GET with more fields.
fn get(more: &[Field<'static>]) -> Vec<u8> {
    head(&[&GET[..], more].concat(), END_STREAM)
}

/// A head of these fields alone.
fn only(fields: &[Field<'static>]) -> Vec<u8> {
    head(fields, END_STREAM)
}

fn post(more: &[Field<'static>], body: &str) -> Vec<u8> {
    [head(&[&POST[..], more].concat(), 0), data(body, END_STREAM)].concat()
}

/// `GET /x` with one of the fields that it begins with written otherwise.
fn with(name: &str, value: &'static str) -> Vec<u8> {
    only(&GET.map(|(field, given)| (field, if field == name { value } else { given })))
}

type Row = (&'static str, Vec<u8>, &'static str);

fn lengths() -> Vec<Row> {
    let long =
        [head(&[&POST[..], &[("content-length", "9")]].concat(), 0), data("hello", END_STREAM)].concat();
    let trailing = |trailers: &[Field<'static>]| {
        let begun = [head(&[&POST[..], &[("trailer", "x-sum")]].concat(), 0), data("hi", 0)].concat();
        [begun, head(trailers, END_STREAM)].concat()
    };
    vec![
        ("a body", post(&[], "hello"), "200, goes on: POST /x; Transfer-Encoding: chunked; \"hello\""),
        ("an empty body", post(&[], ""), "200, goes on: POST /x; Transfer-Encoding: chunked; \"\""),
        (
            "a length",
            post(&[("content-length", "5")], "hello"),
            "200, goes on: POST /x; Content-Length: 5; \"hello\"",
        ),
        (
            "a GET with a body",
            [head(&GET, 0), data("hi", END_STREAM)].concat(),
            "200, goes on: GET /x; Transfer-Encoding: chunked; \"hi\"",
        ),
        ("a length too small", post(&[("content-length", "3")], "hello"), "reset 1, goes on"),
        ("a length too large", long, "reset 1, goes on"),
        ("a length of nothing", get(&[("content-length", "5")]), "reset 1, goes on"),
        (
            "none and so said",
            get(&[("content-length", "0")]),
            "200, goes on: GET /x; Content-Length: 0; \"\"",
        ),
        (
            "twice none",
            get(&[("content-length", "0"), ("content-length", "0")]),
            "200, goes on: GET /x; Content-Length: 0; \"\"",
        ),
        (
            "two lengths",
            post(&[("content-length", "5"), ("content-length", "6")], "hello"),
            "reset 1, goes on",
        ),
        (
            "one twice",
            post(&[("content-length", "5"), ("content-length", "5")], "hello"),
            "200, goes on: POST /x; Content-Length: 5; \"hello\"",
        ),
        ("a list", post(&[("content-length", "5, 5")], "hello"), "reset 1, goes on"),
        ("a sign", post(&[("content-length", "+5")], "hello"), "reset 1, goes on"),
        ("letters", post(&[("content-length", "0x5")], "hello"), "reset 1, goes on"),
        ("nothing said", get(&[("content-length", "")]), "200, goes on: GET /x; Content-Length: 0; \"\""),
        (
            "trailers",
            trailing(&[("x-sum", "1")]),
            "200, goes on: POST /x; Transfer-Encoding: chunked; Trailer: x-sum; \"hi\"; X-Sum: 1",
        ),
        (
            "a length behind",
            trailing(&[("content-length", "1"), ("host", "b"), ("x-sum", "1")]),
            "200, goes on: POST /x; Transfer-Encoding: chunked; Trailer: x-sum; \"hi\"; X-Sum: 1",
        ),
        ("a coding behind", trailing(&[("transfer-encoding", "chunked")]), "reset 1, goes on"),
        (
            "a path behind",
            trailing(&[(":path", "/y")]),
            "200, goes on: POST /x; Transfer-Encoding: chunked; Trailer: x-sum; \"hi\"",
        ),
    ]
}

fn fields() -> Vec<Row> {
    vec![
        ("a field", get(&[("x-y", " z ")]), "200, goes on: GET /x; X-Y:  z "),
        ("a coding", get(&[("transfer-encoding", "chunked")]), "reset 1, goes on"),
        (
            "a coding and its body",
            post(&[("transfer-encoding", "chunked")], "0\r\n\r\nGET /y HTTP/1.1\r\n\r\n"),
            "reset 1, goes on",
        ),
        ("a connection", get(&[("connection", "x")]), "reset 1, goes on"),
        ("an upgrade", get(&[("upgrade", "websocket")]), "reset 1, goes on"),
        ("keep-alive", get(&[("keep-alive", "1")]), "reset 1, goes on"),
        ("proxy-connection", get(&[("proxy-connection", "close")]), "reset 1, goes on"),
        ("te", get(&[("te", "trailers")]), "200, goes on: GET /x; Te: trailers"),
        ("another te", get(&[("te", "gzip")]), "reset 1, goes on"),
        ("upper case", get(&[("X-Y", "z")]), "none, ended 1"),
        ("CRLF in a value", get(&[("x", "y\r\nz: 1")]), "none, ended 1"),
        ("LF in a value", get(&[("x", "y\nz")]), "none, ended 1"),
        ("CR in a value", get(&[("x", "y\rz")]), "none, ended 1"),
        ("NUL in a value", get(&[("x", "y\0z")]), "none, ended 1"),
        ("CRLF in a name", get(&[("x\r\ny", "z")]), "none, ended 1"),
        ("a colon in a name", get(&[("x:y", "z")]), "none, ended 1"),
        ("a space in a name", get(&[("x y", "z")]), "none, ended 1"),
        ("no name", get(&[("", "z")]), "none, ended 1"),
        (
            "a chopped cookie",
            get(&[("cookie", "a=1"), ("cookie", "b=2")]),
            "200, goes on: GET /x; Cookie: a=1; b=2",
        ),
    ]
}

fn pseudo() -> Vec<Row> {
    vec![
        ("behind others", only(&[&GET[..3], &[("x", "y"), GET[3]]].concat()), "reset 1, goes on"),
        ("the path twice", get(&[(":path", "/y")]), "reset 1, goes on"),
        ("the method twice", get(&[(":method", "POST")]), "reset 1, goes on"),
        ("an unknown one", get(&[(":evil", "1")]), "none, ended 1"),
        ("a status", get(&[(":status", "200")]), "reset 1, goes on"),
        ("no method", only(&GET[1..]), "reset 1, goes on"),
        ("no scheme", only(&[GET[0], GET[2], GET[3]]), "reset 1, goes on"),
        ("no path", only(&GET[..3]), "reset 1, goes on"),
        ("no authority", only(&[GET[0], GET[1], GET[3]]), "400, goes on"),
        ("Host instead", only(&[GET[0], GET[1], GET[3], ("host", "a")]), "200, goes on: GET /x"),
        ("another Host", get(&[("host", "b")]), "400, goes on"),
        ("the same Host", get(&[("host", "A")]), "200, goes on: GET /x"),
        ("two Hosts", get(&[("host", "a"), ("host", "b")]), "400, goes on"),
        ("a user", with(":authority", "user@a"), "400, goes on"),
        ("an empty path", with(":path", ""), "reset 1, goes on"),
        ("no slash", with(":path", "x"), "reset 1, goes on"),
        ("an absolute path", with(":path", "http://b/y"), "reset 1, goes on"),
        ("a request in the path", with(":path", "/y HTTP/1.1\r\nHost: b\r\n\r\nGET /z"), "reset 1, goes on"),
        ("a space in the path", with(":path", "/x y"), "reset 1, goes on"),
        ("a fragment", with(":path", "/x#y"), "200, goes on: GET /x"),
        ("a star", with(":path", "*"), "400, goes on"),
        (
            "a request in the method",
            with(":method", "GET /y HTTP/1.1\r\nHost: b\r\n\r\nGET"),
            "none, ended 1",
        ),
        ("a space in the method", with(":method", "GET /y"), "none, ended 1"),
        ("a line in the authority", with(":authority", "a\r\nX: y"), "reset 1, goes on"),
        ("a line in the scheme", with(":scheme", "http\r\nX: y"), "reset 1, goes on"),
        ("another scheme", with(":scheme", "ftp"), "200, goes on: GET /x"),
        ("CONNECT", only(&[(":method", "CONNECT"), (":authority", "a:80")]), "400, goes on"),
        ("CONNECT to a protocol", get(&[(":protocol", "websocket")]), "reset 1, goes on"),
    ]
}

#[tokio::test]
async fn http2_that_is_none_in_http1_is_refused() {
    let observed = Observed::start().await;
    let second = frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        3,
        &block(&GET.map(|(name, value)| (name, if name == ":path" { "/second" } else { value }))),
    );
    let mut wrong = Vec::new();
    for (name, frames, expected) in lengths().into_iter().chain(fields()).chain(pseudo()) {
        let talking = talk(&observed.larder, [&frames[..], &second].concat());
        let heard = tokio::time::timeout(Duration::from_secs(20), talking).await.unwrap_or_default();
        let mut seen = observed.recorder.take();
        // Side by side, one may be done before the other.
        seen.retain(|note| !(heard.second && note == "GET /second"));
        let first = heard.first.unwrap_or_else(|| "none".to_owned());
        let end = match heard.goodbye {
            _ if heard.second => "goes on".to_owned(),
            Some(code) => format!("ended {code}"),
            None => "ended".to_owned(),
        };
        let found = seen.iter().fold(format!("{first}, {end}"), |text, note| format!("{text}: {note}"));
        if found != expected {
            wrong.push(format!("{name}\n    expected {expected}\n    found    {found}"));
        }
    }
    observed.finish().await;
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let observed = Observed::start().await;
    let begun = frame(HEADERS, END_STREAM, 1, &block(&GET));
    for piece in [&b""[..], &block(&[("x", "y")]), &block(&[("x", &*"y".repeat(10_000))])] {
        let flood = frame(CONTINUATION, 0, 1, piece).repeat(20_000);
        let heard = talk(&observed.larder, [&begun[..], &flood].concat()).await;
        assert!(heard.goodbye == Some(ENHANCE_YOUR_CALM) && heard.first.is_none(), "{heard:?}");
    }
    // Nothing may stand between the pieces of a head (RFC 9113, 6.10).
    for between in [frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()), frame(GOAWAY, 0, 0, &[0; 8]), data("x", 0)]
    {
        let heard = talk(&observed.larder, [&begun[..], &between].concat()).await;
        assert_eq!((heard.goodbye, heard.first), (Some(1), None));
    }
    observed.finish().await;
}
