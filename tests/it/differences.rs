//! Exchanges straight with a GitLab and through larder: what GitLab is asked and what its client gets agree, byte for byte.

use std::net::SocketAddr;

use http::{HeaderMap, Response, StatusCode, Version};

use crate::offered::Offered;
use crate::peer::Client;
use crate::raw::{Answer, End, Wire};
use crate::script::Script;

/// What larder adds to a request, and what its own client says of itself.
const ADDED_UP: [&str; 9] = [
    "host",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "connection",
];

/// What it adds to an answer; `Date` only where there is none.
const ADDED_DOWN: [&str; 5] = ["via", "cache-status", "x-request-id", "date", "connection"];

/// One request and its answer by the way of `to`: as GitLab got the one, and the client the other.
async fn exchange(script: &Script, to: SocketAddr, request: &[u8], answer: &[u8]) -> (Answer, Answer) {
    let mut client = Wire::to(to).await;
    let ((), (mut gitlab, asked)) = tokio::join!(client.send(request), script.request());
    let head = request.starts_with(b"HEAD ");
    let sending = async {
        gitlab.send(answer).await;
        let first = String::from_utf8_lossy(&answer[..answer.len().min(200)]).to_lowercase();
        if first.contains("connection: close") || first.starts_with("http/1.0") {
            gitlab.finish().await;
        }
    };
    let ((), got) = tokio::join!(sending, client.answer(head));
    script.keep(gitlab);
    (asked, got)
}

/// Fields of one order, spelling included; those of one name keep theirs.
fn fields(message: &Answer, without: &[&str]) -> Vec<(String, String)> {
    let mut fields = message.fields.clone();
    fields.retain(|(name, _)| !without.contains(&&*name.to_lowercase()));
    fields.sort_by_key(|(name, _)| name.to_lowercase());
    fields
}

fn agree_up(straight: &Answer, through: &Answer, context: &str) {
    assert_eq!(through.line, straight.line, "{context}");
    assert_eq!(fields(through, &ADDED_UP), fields(straight, &ADDED_UP), "{context}");
    assert!(through.body == straight.body && through.end == straight.end, "{context}: the body");
}

fn agree_down(straight: &Answer, through: &Answer, context: &str) {
    // An answer that ends with its connection has a length through larder, or chunks: the client's connection goes on.
    let closes = straight.end == End::Closed;
    let line = straight.line.replace("HTTP/1.0", "HTTP/1.1");
    assert_eq!(through.line.trim_end(), line.trim_end(), "{context}");
    let mut without = ADDED_DOWN.to_vec();
    if closes {
        without.push("transfer-encoding");
    }
    assert_eq!(fields(through, &without), fields(straight, &without), "{context}");
    assert!(through.body == straight.body, "{context}: the body");
    assert_eq!(through.end, End::Framed, "{context}");
}

fn message(line: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line}\r\n").into_bytes();
    for field in fields {
        // Latin-1, as fields are on the wire.
        bytes.extend(field.chars().map(|c| u8::try_from(u32::from(c)).unwrap()));
        bytes.extend(b"\r\n");
    }
    [&bytes, b"\r\n".as_slice(), body].concat()
}

fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend(format!("{:x};a=\"b\"\r\n", piece.len()).into_bytes());
        bytes.extend([piece, b"\r\n".as_slice()].concat());
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// Requests: methods, targets, fields, bodies.
fn requests() -> Vec<(String, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut row = |line: &str, fields: &[&str], body: &[u8]| {
        let host = [&["Host: larder.test"], fields].concat();
        rows.push((
            format!("{line} {fields:?} {}", body.len()),
            message(&format!("{line} HTTP/1.1"), &host, body),
        ));
    };
    for method in
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "MKCOL", "x-odd"]
    {
        row(&format!("{method} /group/project"), &[], b"");
    }
    for target in [
        "/",
        "/?",
        "/a?b=c&b=d",
        "/a?b;c",
        "/a//b/./../c",
        "/a%2Fb%2f%zz",
        "/a+b%20c",
        "/a/[x]{y}|^",
        "/a\"b",
        "/a\\b",
        "/:x@y:80",
        "/a?x=http://y/z?",
        "/a?redirect=%0d%0a",
        "/api/v4/projects/g%2Fp/repository/files/a%2Eb?ref=x",
        "/group/project.git/info/refs?service=git-upload-pack",
        "/api/v4/projects/1/packages/generic/a/1.0/f~x!$'()*,",
        "/v2/group/project/manifests/sha256:0123",
        "/-/cable?token=",
        "/api/graphql",
        "/%00",
    ] {
        row(&format!("GET {target}"), &[], b"");
    }
    for field in [
        "Accept: */*",
        "Accept-Encoding: gzip;q=0, br",
        "Authorization: Bearer a.b-c_d~e+f/g=",
        "PRIVATE-TOKEN: x",
        "Cookie: a=1; b=\"2\"; c",
        "Range: bytes=0-0,5-",
        "If-None-Match: \"a\", W/\"b\"",
        "If-Modified-Since: 0",
        "X-Latin: caf\u{e9} \u{ff}",
        "X-Empty:",
        "X-Odd: a  b\tc",
        "Git-Protocol: version=2",
        "Sudo: root",
        "X-Gitlab-Static-Object-Token: x",
        "Content-Type: text/plain",
        "User-Agent: git/2.50 (x; y)",
        "Pragma: no-cache",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "Origin: null",
        "Referer: http://x/y?z",
        "x-CASE-Kept: 1",
        "Accept-Language: de, en;q=0.5",
        "DPoP: a.b.c",
        "Upgrade-Insecure-Requests: 1",
    ] {
        row("GET /fields", &[field], b"");
    }
    row("GET /repeated", &["X-A: 1", "X-B: 2", "x-a: 3", "X-A: 4"], b"");
    row("GET /repeated", &["Cookie: a=1", "Cookie: b=2"], b"");
    row("GET /long", &[&format!("X-Long: {}", "l".repeat(8000))], b"");
    let many: Vec<String> = (0..60).map(|n| format!("X-Many-{n}: {n}")).collect();
    row("GET /many", &many.iter().map(String::as_str).collect::<Vec<_>>(), b"");
    let huge: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for body in [b"".as_slice(), b"x", b"\0\xff\r\n\r\n", &huge] {
        let length = format!("Content-Length: {}", body.len());
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
            row(&format!("{method} /sized"), &[&length], body);
        }
        let pieces: Vec<&[u8]> = body.chunks(100_000).collect();
        row("POST /chunked", &["Transfer-Encoding: chunked"], &chunked(&pieces));
    }
    let range = ["Content-Range: 0-2", "Content-Length: 3"];
    row("PATCH /api/v4/jobs/1/trace?debug_trace=false", &range, b"abc");
    rows
}

/// Answers: statuses, reasons, fields, bodies.
fn answers() -> Vec<(String, &'static str, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut row = |method: &'static str, line: &str, fields: &[&str], body: &[u8]| {
        let line = format!("HTTP/1.1 {line}");
        rows.push((
            format!("{method}: {line} {fields:?} {}", body.len()),
            method,
            message(&line, fields, body),
        ));
    };
    for status in [
        200, 201, 202, 203, 206, 207, 226, 299, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405,
        406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431,
        451, 499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 599,
    ] {
        row("GET", &format!("{status} Some Reason"), &["Content-Length: 4"], b"body");
        row("HEAD", &format!("{status} Some Reason"), &["Content-Length: 4"], b"");
    }
    for line in ["204 No Content", "304 Not Modified"] {
        for method in ["GET", "HEAD", "DELETE"] {
            row(method, line, &["ETag: W/\"x\"", "X-A: 1"], b"");
        }
    }
    row("GET", "205 Reset Content", &["Content-Length: 0"], b"");
    row("GET", "200 ", &["Content-Length: 0"], b"");
    row(
        "GET",
        "200 Caf\u{e9}-free, and long: ok?".replace('\u{e9}', "e").as_str(),
        &["Content-Length: 0"],
        b"",
    );
    for field in [
        "Set-Cookie: _gitlab_session=x; path=/; HttpOnly",
        "ETag: \"a\"",
        "Last-Modified: 0",
        "Vary: Origin, Accept",
        "Cache-Control: max-age=0, private, must-revalidate",
        "Content-Type: text/html; charset=utf-8",
        "X-Empty:",
        "Content-Disposition: attachment; filename=\"x\"; filename*=UTF-8''%c3%a4",
        "X-Latin: caf\u{e9} \u{ff}",
        "X-UTF8: \u{c3}\u{a4}",
        "WWW-Authenticate: Bearer realm=\"https://gitlab.example.com/jwt/auth\",service=\"r\"",
        "Strict-Transport-Security: max-age=63072000",
        "Content-Security-Policy: default-src 'self'; x 'nonce-a=='",
        "Link: <https://elsewhere.test/x?a=1,2>; rel=\"next\"",
        "Location: /relative?x#y",
        "Location: https://elsewhere.test/",
        "Content-Encoding: gzip",
        "Retry-After: 60",
        "RateLimit-Remaining: 199",
        "X-Request-Id: their-own",
        "Server: nginx",
        "Accept-Ranges: bytes",
        "Content-Range: bytes 0-1/2",
        "x-CASE-Kept: 1",
        "NEL: {\"max_age\": 0}",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT",
        "Age: 3",
        "Pragma: no-cache",
        "Refresh: 5",
        "Content-Location: /x",
    ] {
        row("GET", "200 OK", &[field, "Content-Length: 2"], b"ok");
        row("POST", "201 Created", &[field, "Content-Length: 0"], b"");
    }
    let cookies =
        ["Set-Cookie: a=1; path=/", "X-Between: x", "Set-Cookie: b=2; expires=Thu, 01 Jan 1970 00:00:00 GMT"];
    row("GET", "200 OK", &[&cookies[..], &["Content-Length: 0"]].concat(), b"");
    let huge: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    for body in [b"".as_slice(), b"\0\xff", b"a\r\n\r\n0\r\n\r\n", &huge] {
        row("GET", "200 OK", &[&format!("Content-Length: {}", body.len())], body);
        let pieces: Vec<&[u8]> = body.chunks(70_000).collect();
        row("GET", "200 OK", &["Transfer-Encoding: chunked"], &chunked(&pieces));
        row("GET", "200 OK", &["Connection: close"], body);
    }
    row("HEAD", "200 OK", &["Content-Length: 123456789012"], b"");
    row("HEAD", "200 OK", &["Content-Length: 0"], b"");
    rows
}

#[tokio::test]
async fn gitlab_is_asked_what_the_client_asked() {
    let script = Script::start().await;
    let rows = requests();
    assert!(rows.len() >= 80, "{}", rows.len());
    for (context, request) in rows {
        let ok = message("HTTP/1.1 200 OK", &["Content-Length: 0"], b"");
        let (straight, _) = exchange(&script, script.address(), &request, &ok).await;
        let (through, _) = exchange(&script, script.larder.address, &request, &ok).await;
        agree_up(&straight, &through, &context);
    }
}

#[tokio::test]
async fn the_client_gets_what_gitlab_answered() {
    let script = Script::start().await;
    let rows = answers();
    assert!(rows.len() >= 180, "{}", rows.len());
    for (context, method, answer) in rows {
        let request =
            message(&format!("{method} /x HTTP/1.1"), &["Host: larder.test", "Content-Length: 0"], b"");
        let (_, straight) = exchange(&script, script.address(), &request, &answer).await;
        let (_, through) = exchange(&script, script.larder.address, &request, &answer).await;
        agree_down(&straight, &through, &context);
    }
}

/// Fields as HTTP/2 has them: names in small letters, values as bytes in Latin-1.
fn shared_fields(fields: &HeaderMap, without: &[&str]) -> Vec<(String, String)> {
    let value =
        |value: &http::HeaderValue| value.as_bytes().iter().copied().map(char::from).collect::<String>();
    let kept = fields.iter().filter(|(name, _)| !without.contains(&name.as_str()));
    sorted(kept.map(|(name, text)| (name.as_str().to_owned(), value(text).trim().to_owned())))
}

/// The same of a message of HTTP/1.1.
fn small_fields(message: &Answer, without: &[&str]) -> Vec<(String, String)> {
    sorted(fields(message, without).into_iter().map(|(name, value)| (name.to_lowercase(), value)))
}

/// That there is no body, a message of HTTP/1.1 may say by an empty chunk or by nothing at all (RFC 9112, 6.3).
fn sorted(fields: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let nothing = |(name, value): &(String, String)| name == "content-length" && value == "0";
    let mut fields: Vec<_> = fields.filter(|field| !nothing(field)).collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

#[tokio::test]
async fn a_gitlab_that_offers_http2_is_asked_the_same() {
    let (script, offered) = (Script::start().await, Offered::start(&[b"h2", b"http/1.1"], |_| ()).await);
    let (mut shared, mut alone) = (0, 0);
    for (context, request) in requests() {
        let ok = message("HTTP/1.1 200 OK", &["Content-Length: 0"], b"");
        let (straight, _) = exchange(&script, script.address(), &request, &ok).await;
        let mut client = Wire::to(offered.larder.address).await;
        let ((), asked) = tokio::join!(client.send(&request), offered.asked());
        let version = asked.version();
        let has_length = straight.field("transfer-encoding").is_none();
        // Packages are known to be long.
        let small = has_length && straight.body.len() <= 64 << 10 && !straight.line.contains("/packages/");
        assert_eq!(version, if small { Version::HTTP_2 } else { Version::HTTP_11 }, "{context}");
        *(if small { &mut shared } else { &mut alone }) += 1;
        let target = asked.request.uri().path_and_query().unwrap();
        let line = format!("{} {target} HTTP/1.1", asked.request.method());
        assert_eq!(line, straight.line, "{context}");
        // GitLab is behind https here, and is told so.
        let mut without = ADDED_UP.to_vec();
        without.push("x-forwarded-ssl");
        assert_eq!(
            shared_fields(asked.request.headers(), &without),
            small_fields(&straight, &without),
            "{context}"
        );
        assert!(asked.request.body() == &straight.body, "{context}: the body");
        asked.answer(Response::builder().header("content-length", "0"), "");
        assert_eq!(client.answer(request.starts_with(b"HEAD ")).await.status(), 200, "{context}");
    }
    assert!(shared >= 70 && alone >= 5, "{shared} {alone}");
}

#[tokio::test]
async fn the_client_gets_what_gitlab_answered_over_http2() {
    let (script, offered) = (Script::start().await, Offered::start(&[b"h2", b"http/1.1"], |_| ()).await);
    for (context, method, answer) in answers() {
        let request =
            message(&format!("{method} /x HTTP/1.1"), &["Host: larder.test", "Content-Length: 0"], b"");
        let (_, straight) = exchange(&script, script.address(), &request, &answer).await;
        let mut client = Wire::to(offered.larder.address).await;
        let ((), asked) = tokio::join!(client.send(&request), offered.asked());
        assert_eq!(asked.version(), Version::HTTP_2, "{context}");
        let mut head = Response::builder().status(straight.status());
        for (name, value) in &straight.fields {
            // What HTTP/2 has no words for.
            if !["connection", "transfer-encoding"].contains(&&*name.to_lowercase()) {
                let value: Vec<u8> = value.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
                head = head.header(name, value);
            }
        }
        asked.answer(head, straight.body.clone());
        let through = client.answer(method == "HEAD").await;
        assert_eq!(through.status(), straight.status(), "{context}");
        let known = StatusCode::from_u16(straight.status()).unwrap().canonical_reason();
        assert_eq!(
            through.line.splitn(3, ' ').nth(2).unwrap().trim(),
            known.unwrap_or("<none>"),
            "{context}"
        );
        let mut without = ADDED_DOWN.to_vec();
        without.push("transfer-encoding");
        assert_eq!(small_fields(&through, &without), small_fields(&straight, &without), "{context}");
        assert!(through.body == straight.body, "{context}: the body");
        assert_eq!(through.end, End::Framed, "{context}");
    }
}

#[tokio::test]
async fn a_gitlab_that_does_not_offer_http2_is_asked_by_http1_and_not_offered_it_each_time() {
    for (protocols, version) in [(&[&b"http/1.1"[..]][..], Version::HTTP_11), (&[], Version::HTTP_11)] {
        let offered = Offered::start(protocols, |_| ()).await;
        let mut client = Wire::to(offered.larder.address).await;
        for _ in 0..3 {
            client.send(&message("GET /x HTTP/1.1", &["Host: larder.test"], b"")).await;
            let asked = offered.asked().await;
            assert_eq!(asked.version(), version);
            asked.answer(Response::builder().header("content-length", "0"), "");
            assert_eq!(client.answer(false).await.status(), 200);
        }
        // One to find out; larder may have made another before the first was free again.
        assert!((2..=4).contains(&offered.connections()), "{}", offered.connections());
    }
}

#[tokio::test]
async fn http2_that_is_off_is_not_spoken() {
    let off = larder::upstream::Http2::Off;
    let offered = Offered::start(&[b"h2", b"http/1.1"], |config| config.upstream.http2 = off).await;
    let mut client = Wire::to(offered.larder.address).await;
    client.send(&message("GET /x HTTP/1.1", &["Host: larder.test"], b"")).await;
    let asked = offered.asked().await;
    assert_eq!(asked.version(), Version::HTTP_11);
    asked.answer(Response::builder().header("content-length", "0"), "");
    assert_eq!(client.answer(false).await.status(), 200);
}

#[tokio::test]
async fn what_http2_cannot_carry_goes_by_http1_and_grpc_by_http2_where_it_is_offered() {
    let offered = Offered::start(&[b"h2", b"http/1.1"], |_| ()).await;
    let long = message("POST /x HTTP/1.1", &["Host: x", "Content-Length: 65537"], &vec![b'x'; 65_537]);
    for (request, version) in [
        (
            message("GET /-/cable HTTP/1.1", &["Host: x", "Connection: upgrade", "Upgrade: websocket"], b""),
            Version::HTTP_11,
        ),
        (
            message("PUT /x HTTP/1.1", &["Host: x", "Expect: 100-continue", "Content-Length: 2"], b"ok"),
            Version::HTTP_11,
        ),
        (long, Version::HTTP_11),
        (message("GET /g/p/-/archive/main/p.zip HTTP/1.1", &["Host: x"], b""), Version::HTTP_11),
        (message("GET /x HTTP/1.1", &["Host: x"], b""), Version::HTTP_2),
    ] {
        let mut client = Wire::to(offered.larder.address).await;
        let ((), asked) = tokio::join!(client.send(&request), offered.asked());
        assert_eq!(asked.version(), version);
        asked.answer(Response::builder().status(426).header("content-length", "0"), "");
        if request.windows(6).any(|window| window == b"Expect") {
            assert!(client.interim().await.starts_with("HTTP/1.1 100"));
        }
        assert_eq!(client.answer(false).await.status(), 426);
    }
    let mut client = Client::with(&offered.larder, &h2::client::Builder::new()).await;
    let call = [("content-type", "application/grpc"), ("te", "trailers")];
    let (answer, mut body) = client.send("POST /agent/Call", &call, false).await;
    body.send_data(vec![0; 70_000].into(), true).unwrap();
    let asked = offered.asked().await;
    assert_eq!((asked.version(), asked.request.body().len()), (Version::HTTP_2, 70_000));
    assert_eq!(asked.request.headers()["te"], "trailers");
    asked.answer(Response::builder().header("grpc-status", "0"), "");
    assert_eq!(answer.whole().await.unwrap().0, 200);
}
