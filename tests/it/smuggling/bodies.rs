//! Lengths, codings and chunks.

use super::Row;

/// A body as it is written.
macro_rules! chunked {
    ($body:literal) => {
        concat!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", $body).as_bytes()
    };
}

/// The same, its trailers announced.
macro_rules! announced {
    ($body:literal) => {
        concat!("POST /x HTTP/1.1\r\nHost: a\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n", $body)
            .as_bytes()
    };
}

/// `Content-Length`, alone and beside `Transfer-Encoding` (RFC 9112, 6.3).
pub(super) const LENGTHS: &[Row] = &[
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200, goes on: POST /x; Content-Length: 5; \"hello\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200, goes on: POST /x; Content-Length: 0; \"\""),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200, goes on: GET /x; Content-Length: 5; \"hello\""),
    (b"HEAD /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200, goes on: HEAD /x; Content-Length: 5; \"hello\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello", "200, goes on: POST /x; Content-Length: 5; \"hello\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "200, goes on: POST /x; Content-Length: 5; \"hello\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "200, goes on: POST /x; Content-Length: 0; \"\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5,6\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length\t: 5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\n Content-Length: 5\r\n\r\nhello", "400, closed"),
    // Another field; whatever is no word of HTTP's own is the sender's.
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n", "200, goes on: POST /x; Content_Length: 5"),
    // Both: the coding counts, and the connection ends (6.1).
    (
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "200, closed: POST /x; Transfer-Encoding: chunked; \"hi\"",
    ),
    (
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "200, closed: POST /x; Transfer-Encoding: chunked; \"hi\"",
    ),
    (
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "200, closed: POST /x; Transfer-Encoding: chunked; \"\"",
    ),
    (
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: nonsense\r\n\r\n0\r\n\r\n",
        "200, closed: POST /x; Transfer-Encoding: chunked; \"\"",
    ),
    // One that names the length as its connection's own doesn't take it away.
    (
        b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
        "200, goes on: POST /x; Content-Length: 5; \"hello\"",
    ),
    (
        b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Content-Length, Host\r\nContent-Length: 0\r\n\r\n",
        "200, goes on: POST /x",
    ),
];

/// `Transfer-Encoding` (RFC 9112, 6.1): once, and `chunked`.
pub(super) const CODINGS: &[Row] = &[
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "200, goes on: POST /x; Transfer-Encoding: chunked; \"hi\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "200, goes on: POST /x; Transfer-Encoding: chunked; \"hi\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\ntRANSFER-eNCODING:\t CHUNKED \t\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "200, goes on: POST /x; tRANSFER-eNCODING: chunked; \"hi\""),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "200, goes on: GET /x; Transfer-Encoding: chunked; \"hi\""),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200, goes on: GET /x; Transfer-Encoding: chunked; \"\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", "501, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "501, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", "501, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip;a=\"b, chunked\"\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip;a=\"b,chunked\r\n\r\n0\r\n\r\n", "501, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200, goes on: POST /x; Transfer-Encoding: chunked; X: y; \"\""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: cow\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "200, goes on: POST /x; Transfer-Encoding: chunked; \"hi\""),
    (b"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", "200, goes on: POST /x; Transfer_Encoding: chunked"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTE: chunked\r\n\r\n", "200, goes on: POST /x"),
];

/// Chunks (RFC 9112, 7.1). Where one is wrong, its request's head may be at GitLab already; its end never is.
pub(super) const CHUNKS: &[Row] = &[
    (
        chunked!("1;a=b\r\nh\r\n001;c=\"d\"\r\ni\r\n00\r\n\r\n"),
        "200, goes on: POST /x; Transfer-Encoding: chunked; \"hi\"",
    ),
    (
        chunked!("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
        "200, goes on: POST /x; Transfer-Encoding: chunked; \"01234567890123456789\"",
    ),
    (
        chunked!("2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"),
        "200, goes on: POST /x; Transfer-Encoding: chunked; \"hi\"",
    ),
    (
        announced!("2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"),
        "200, goes on: POST /x; Transfer-Encoding: chunked; Trailer: x-sum; \"hi\"; X-Sum: 1",
    ),
    (
        announced!(
            "2\r\nhi\r\n0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nHost: b\r\nX-Sum: 1\r\n\r\n"
        ),
        "200, goes on: POST /x; Transfer-Encoding: chunked; Trailer: x-sum; \"hi\"; X-Sum: 1",
    ),
    (
        announced!("0\r\nAuthorization: x\r\nX-Forwarded-For: 6.6.6.6\r\nGitlab-Workhorse: x\r\n\r\n"),
        "200, goes on: POST /x; Transfer-Encoding: chunked; Trailer: x-sum; \"\"",
    ),
    (chunked!("2 \r\nhi\r\n0\r\n\r\n"), "200, goes on: POST /x; Transfer-Encoding: chunked; \"hi\""),
    (chunked!("10000000000000002\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (
        chunked!("0000000000000000000000002\r\nhi\r\n0\r\n\r\n"),
        "200, goes on: POST /x; Transfer-Encoding: chunked; \"hi\"",
    ),
    (chunked!("-2\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("+2\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("0x2\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("2h\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!(" 2\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("2 2\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!(";a\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("2\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("2\rhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("2\r\nhi0\r\n\r\n"), "400, closed"),
    (chunked!("2\r\nhi\n0\r\n\r\n"), "400, closed"),
    (chunked!("2\r\nhi\r0\r\n\r\n"), "400, closed"),
    (chunked!("2\r\nhi!\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("2;a\nb\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("2;a\rb\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    // What an extension says goes no further.
    (chunked!("2;a\0\r\nhi\r\n0\r\n\r\n"), "200, goes on: POST /x; Transfer-Encoding: chunked; \"hi\""),
    (chunked!("0\n\r\n"), "400, closed"),
    (chunked!("0\r\nX Sum: 1\r\n\r\n"), "400, closed"),
    (chunked!("0\r\nX-Sum\r\n\r\n"), "400, closed"),
    (chunked!("0\r\nX-Sum: 1\r\n folded\r\n\r\n"), "400, closed"),
    // What follows the end is the next request, and none.
    (chunked!("0\r\n\r\nG"), "200, goes on: POST /x; Transfer-Encoding: chunked; \"\": GGET /second"),
];

/// What has no end: the second request is part of it, and so is the end of the connection.
pub(super) const UNENDED: &[Row] = &[
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello", "400, closed"),
    (chunked!("ffffffffffffffff\r\nhi\r\n0\r\n\r\n"), "400, closed"),
    (chunked!("0\r\nX-Sum: 1\r\n"), "400, closed"),
];

/// Chunks that are too much.
pub(super) fn large() -> Vec<(Vec<u8>, String)> {
    let head = chunked!("");
    let refused = "400, closed".to_owned();
    let extension = [head, b"2;", &*b"a".repeat(20_000), b"\r\nhi\r\n0\r\n\r\n"].concat();
    let extensions = [head, &*b"1;abcdefgh\r\nx\r\n".repeat(4_000), b"0\r\n\r\n"].concat();
    let trailer = [head, b"0\r\nX-Sum: ", &*b"a".repeat(70_000), b"\r\n\r\n"].concat();
    let trailers = [head, b"0\r\n", &*b"X-Sum: 1\r\n".repeat(2_000), b"\r\n"].concat();
    [extension, extensions, trailer, trailers].into_iter().map(|sent| (sent, refused.clone())).collect()
}
