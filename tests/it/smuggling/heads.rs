//! Request lines, fields, targets and hosts.

use super::Row;

/// Request lines and the ends of lines (RFC 9112, 2.2 and 3).
pub(super) const LINES: &[Row] = &[
    (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "200, goes on: GET /x"),
    // An empty line before a request is nobody's harm (2.2).
    (b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", "200, goes on: GET /x"),
    // A single LF may end a line (2.2); GitLab gets it as it should be.
    (b"GET /x HTTP/1.1\nHost: a\n\n", "200, goes on: GET /x"),
    (b"GET /x HTTP/1.1\rHost: a\r\r", "400, closed"),
    (b"GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x  HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET\t/x HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b" GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1 \r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x y HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x\0 HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x\x0b HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x\x7f HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"G\xc4T /x HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"G(T /x HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"\0GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"get /x HTTP/1.1\r\nHost: a\r\n\r\n", "200, goes on: get /x"),
    (b"GET /x HTTP/1.2\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.10\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/11\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/3.0\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x http/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTPS/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x ICAP/1.0\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x\r\n", "400, closed"),
    (b"GET /x\r\n\r\n", "400, closed"),
    (b"/x HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.0\r\n\r\n", "200, closed: GET /x"),
    (b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200, goes on: GET /x"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200, closed: GET /x"),
    (
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
        "200, closed: GET /x",
    ),
    // What HTTP/2 begins with, and halves of it.
    (b"PRI * HTTP/2.0\r\n\r\n", "400, closed"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", "400, closed"),
    (b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (b"PRI /x HTTP/1.1\r\nHost: a\r\n\r\n", "200, goes on: PRI /x"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "200, closed: GET /x"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400, closed"),
];

/// Fields (RFC 9112, 5).
pub(super) const FIELDS: &[Row] = &[
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX:y\r\nX-Z:  \t z\t \r\n\r\n", "200, goes on: GET /x; X: y; X-Z: z"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n\tfolded\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX Y: y\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX\tY: y\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX\xe4: y\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX(Y): y\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\x1bb\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n\rGET /y HTTP/1.1\r\nHost: a\r\n\r\n", "400, closed"),
    (
        b"GET /x HTTP/1.1\r\nHost: a\r\nX: y\n\nGET /y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "200, goes on: GET /x; X: y: GET /y",
    ),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: GET /y HTTP/1.1\r\n\r\n", "200, goes on: GET /x; X: GET /y HTTP/1.1"),
    (
        b"GET /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "200, goes on: GET /x; Expect: 100-continue",
    ),
    (
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: X, Host, X-Forwarded-For\r\nX: y\r\n\r\n",
        "200, goes on: GET /x",
    ),
];

/// The forms of a target (RFC 9112, 3.2).
pub(super) const TARGETS: &[Row] = &[
    (b"GET http://larder.test/x?y HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /x?y"),
    (b"GET http://elsewhere.test/x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /x"),
    (b"GET http://elsewhere.test HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /"),
    (b"GET HTTPS://elsewhere.test:1/x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /x"),
    (b"GET http://user:pass@larder.test/x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"GET ftp://larder.test/x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /x"),
    (b"GET http:///x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"GET http:/x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"GET larder.test/x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"GET larder.test:80 HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"GET x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"GET ?x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"GET * HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"OPTIONS * HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: OPTIONS *"),
    (b"OPTIONS */x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    (b"CONNECT larder.test:80 HTTP/1.1\r\nHost: larder.test:80\r\n\r\n", "400, closed"),
    (b"CONNECT /x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "400, closed"),
    // A fragment is no part of a target (RFC 9110, 7.1); it goes no further.
    (b"GET /x#fragment HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /x"),
    (b"GET //elsewhere.test/x HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET //elsewhere.test/x"),
    (b"GET /x%0d%0aX:%20y HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /x%0d%0aX:%20y"),
    (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /\u{c3}\u{a4}"),
    (b"GET /\xe4 HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /\u{e4}"),
    (b"GET /x\\..\\y HTTP/1.1\r\nHost: larder.test\r\n\r\n", "200, goes on: GET /x\\..\\y"),
];

/// `Host` (RFC 9112, 3.2): one, and one.
pub(super) const HOSTS: &[Row] = &[
    (b"GET /x HTTP/1.1\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a?b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a#b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\\b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: user@a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: http://a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a:b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a:80:80\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a:99999\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: :80\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: \"a\"\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a\xe4\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost: a<b\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n", "400, closed"),
    (b"GET /x HTTP/1.1\r\nHost:\r\n\r\n", "200, goes on: GET /x"),
    (b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "200, goes on: GET /x"),
    (b"GET /x HTTP/1.1\r\nHost: A.b-c_d:1\r\n\r\n", "200, goes on: GET /x"),
    (b"GET /x HTTP/1.0\r\nHost: a b\r\nConnection: keep-alive\r\n\r\n", "400, closed"),
    // One with a body: what follows it is read by nobody.
    (b"POST /x HTTP/1.1\r\nHost: a\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "400, closed"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400, closed"),
];

/// Heads that are too much.
pub(super) fn large() -> Vec<(Vec<u8>, String)> {
    let head = |target: &[u8], fields: &[u8]| {
        [b"GET /", target, b" HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat()
    };
    let field = |length| [b"X: ", &*b"y".repeat(length), b"\r\n"].concat();
    [
        (head(&b"x".repeat(8_000), b""), "200, goes on: 8005 bytes"),
        (head(&b"x".repeat(66_000), b""), "431, closed"),
        (head(b"x", &field(60_000)), "200, goes on: GET /x; 60003 bytes"),
        (head(b"x", &field(70_000)), "431, closed"),
        (head(b"x", &field(400_000)), "431, closed"),
        (head(b"x", &b"X: y\r\n".repeat(200)), "431, closed"),
        (head(b"x", &b"X: y\r\n".repeat(20_000)), "431, closed"),
        ([b"GET /x HTTP/1.1\r\nHost: a\r\nX", &*b"x".repeat(70_000)].concat(), "431, closed"),
        ([b"GET /x HTTP/1.1\r\nHost: a\r\n", &*b"x".repeat(70_000), b": y\r\n\r\n"].concat(), "431, closed"),
        (b"x".repeat(70_000), "431, closed"),
        (b"\r\n".repeat(100_000), "431, closed"),
    ]
    .into_iter()
    .map(|(sent, expected)| (sent, expected.to_owned()))
    .collect()
}
