//! Answers of a GitLab, or of something between, that aren't HTTP: the client gets an error, or sees that what it gets
//! has no end, and the connection is used for nobody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::raw::{End, Wire, request};
use crate::support::Larder;

/// What is answered to `GET /x`, and what its client sees: a status, and how the body ends, if there is more to it than
/// its framing says.
type Row = (&'static [u8], &'static str);

const ROWS: &[Row] = &[
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 \"ok\""),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "200 \"ok\""),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "200 \"ok\""),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", "502"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", "200 \"ok\" broken"),
    // More than was said is nobody's answer.
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "200 \"ok\""),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", "204"),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", "304"),
    // Both: the coding counts, and the length is not told (RFC 9112, 6.3).
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 \"ok\""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 \"ok\""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 \"ok\""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "200 \"ok\" broken"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "200 \"ok\" broken"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n", "200 \"ok\" broken"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", "broken"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n", "broken"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n", "broken"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n", "broken"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\nok\r\n0\r\n\r\n", "broken"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n z\r\n\r\n", "broken"),
    // A coding that isn't known: to the end of the connection, and still coded (RFC 9112, 6.3).
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nok", "502"),
    (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
    (b"HTTP/1.1 200 OK\r\n\r\nok", "200 \"ok\""),
    (b"HTTP/1.0 200 OK\r\n\r\nok", "200 \"ok\""),
    // Heads.
    (b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nX Y: y\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\n: y\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200 OK\r\nno field\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "200 \"ok\""),
    (b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
    (b"\0\0\x12\x04\0\0\0\0\0", "502"),
    (b"ok", "502"),
    (b"HTTP/1.1 200 OK\r\nContent-Le", "502"),
    (b"", "502"),
    // Heads before the head.
    (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 \"ok\""),
    (b"HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 \"ok\""),
    (b"HTTP/1.1 103 Early Hints\r\nX: y", "502"),
];

/// What a client sees of one answer, GitLab's side being closed behind it.
async fn seen(listener: &TcpListener, larder: &Larder, answer: &[u8]) -> String {
    let mut wire = Wire::to(larder.address).await;
    wire.send(&request("GET", b"/x", &[], b"")).await;
    let serving = async {
        // A request that found nothing is sent once more, on a connection of its own.
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n")
                && stream.read_buf(&mut read).await.is_ok_and(|length| length > 0)
            {}
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut read).await;
        }
    };
    let answer = tokio::select! {
        never = serving => never,
        answer = tokio::time::timeout(Duration::from_secs(20), wire.next_answer(false)) => answer,
    };
    let Ok(answer) = answer.expect("an answer") else {
        // Its head may not have gone before its body broke.
        return "broken".to_owned();
    };
    let status = answer.status();
    if status == 502 {
        let told = answer.field("proxy-status").unwrap_or_default();
        assert!(told.starts_with("larder; error="), "{answer:?}");
        assert!(answer.json()["message"].as_str().unwrap().starts_with("502 Bad Gateway - "));
        return "502".to_owned();
    }
    assert!(
        answer.field("content-length").is_none() || answer.field("transfer-encoding").is_none(),
        "{answer:?}"
    );
    let body = if matches!(status, 204 | 304) {
        String::new()
    } else {
        format!(" \"{}\"", answer.body.escape_ascii())
    };
    if answer.body.is_empty() && answer.end != End::Framed {
        return "broken".to_owned();
    }
    let end = if answer.end == End::Framed { "" } else { " broken" };
    format!("{status}{body}{end}")
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_and_what_breaks_off_is_broken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let larder = Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), |_| ()).await;
    let mut wrong = Vec::new();
    for (answer, expected) in ROWS {
        let found = seen(&listener, &larder, answer).await;
        if found != *expected {
            wrong.push(format!("{}\n    expected {expected}\n    found    {found}", answer.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}
