//! Targets and hosts: they travel as they are written, and only one spelling of a route is larder's business.

use gitlab_standin::{GitLab, Setup};

use crate::raw::{self, End, both, request};
use crate::script::Script;
use crate::support::Larder;

async fn town() -> (GitLab, Larder) {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    (gitlab, larder)
}

#[tokio::test]
async fn methods_and_targets_arrive_byte_for_byte() {
    let (gitlab, larder) = town().await;
    let targets: [&[u8]; 22] = [
        b"/echo",
        b"/echo/",
        b"/echo?",
        b"/echo?a=b&a=c&&",
        b"/echo?a;b",
        b"/echo??x",
        b"/echo//x",
        b"//echo///x//",
        b"/echo/./x",
        b"/echo/../x/..",
        b"/echo/a%2Fb%2f",
        b"/echo/%zz%",
        b"/echo/%00%0a",
        b"/echo/a;b=c,d",
        b"/echo/a+b%20c",
        b"/echo/[x]{y}|^`",
        b"/echo/\"q\"",
        b"/echo/\\x",
        "/echo/gr\u{fc}n/\u{1f600}".as_bytes(),
        b"/echo?q=%zz&x[]=\"1\"",
        b"/echo?redirect=http://x/y?z",
        b"/echo/:x@y:80//http://z",
    ];
    for target in targets {
        let name = String::from_utf8_lossy(target).into_owned();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get"] {
            let bytes = request(method, target, &[b"Content-Length: 3"], b"a\0b");
            let (straight, through) = both(gitlab.address(), larder.address, &bytes).await;
            assert_eq!(through.line, straight.line, "{method} {name}");
            if straight.status() == 200 {
                assert_eq!(straight.json()["target"], *name, "{method}");
                for said in ["method", "target", "length", "sha256"] {
                    assert_eq!(through.json()[said], straight.json()[said], "{method} {name}");
                }
            }
        }
        let head = request("HEAD", target, &[], b"");
        let (straight, through) = both(gitlab.address(), larder.address, &head).await;
        assert_eq!(through.line, straight.line, "HEAD {name}");
    }
}

#[tokio::test]
async fn bytes_that_no_uri_may_hold_arrive_as_they_came() {
    let script = Script::start().await;
    let mut client = script.client().await;
    for target in [
        &b"/a<b>c"[..],
        b"/`x`?`y`",
        b"/a?q=\"<b>\"",
        b"/gr\xfcn/caf\xe9?q=\xff\xfe",
        b"/\xc3\xbc/\xf0\x9f\x98\x80/\xf0\x9f",
        "/\u{f003c}/\u{f000d}\u{f000a}?\u{f00ff}".as_bytes(),
        b"/plain",
        b"/api/v4/projects/7/jobs/42/artifacts?private_token=<t>",
        b"/api/v4/projects/7/jobs/42/artifacts/\xfc.txt",
        b"/api/v4/projects/7/jobs/artifacts/main/raw/<a>?job=b",
    ] {
        for method in ["GET", "POST"] {
            let lines: [&[u8]; 2] = [b"Content-Length: 8", b"X-Name: <\xfc>"];
            let sent = if method == "GET" {
                request(method, target, &lines[1..], b"")
            } else {
                request(method, target, &lines, b"GET /<> ")
            };
            client.send(&sent).await;
            let (mut gitlab, asked) = script.request().await;
            let name: String = target.iter().copied().map(char::from).collect();
            assert_eq!(asked.line, format!("{method} {name} HTTP/1.1"));
            assert_eq!(asked.field("x-name"), Some("<\u{fc}>"));
            assert_eq!(asked.body, if method == "GET" { &b""[..] } else { b"GET /<> " });
            gitlab.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let answer = client.answer(false).await;
            assert_eq!(answer.status(), 200);
            if method == "GET" {
                assert_eq!(answer.field("cache-status"), Some("larder; fwd=bypass; detail=pass"));
            }
            script.keep(gitlab);
        }
    }
}

#[tokio::test]
async fn what_ends_a_line_or_a_word_is_no_part_of_a_target() {
    let script = Script::start().await;
    for target in [&b"/a b"[..], b"/a\x7f", b"/a\x00", b"/a\tb", b"/<\rX: y"] {
        let answer = raw::exchange(script.larder.address, &request("GET", target, &[], b"")).await;
        assert_eq!(answer.status(), 400, "{target:?}");
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_goes_to_gitlab_all_the_same() {
    let (_gitlab, larder) = town().await;
    let answer =
        raw::exchange(larder.address, &request("GET", b"http://elsewhere.test/echo/a?b", &[], b"")).await;
    assert_eq!((answer.status(), answer.json()["target"].as_str()), (200, Some("/echo/a?b")));
}

#[tokio::test]
async fn spellings_that_gitlab_may_read_otherwise_pass() {
    let (gitlab, larder) = town().await;
    for target in [
        "/api/v4/projects/7/jobs/42/artifacts/",
        "/api/v4/projects/7/jobs/42/artifacts.json",
        "/api/v4/projects/7//jobs/42/artifacts",
        "//api/v4/projects/7/jobs/42/artifacts",
        "/api/v4/../v4/projects/7/jobs/42/artifacts",
        "/API/v4/projects/7/jobs/42/artifacts",
        "/api/v4/projects/07/jobs/42/artifacts",
        "/api/v4/projects/name/jobs/42/artifacts",
        "/api/v4/projects/g%2Fp%00/jobs/42/artifacts",
        "/api/v4/projects/g%2Fp%zz/jobs/42/artifacts",
        "/api/v4/projects/7/jobs/042/artifacts",
        "/api/v4/projects/7/jobs/+42/artifacts",
        "/api/v4/projects/7/jobs/9223372036854775808/artifacts",
        "/api/v4/projects/7/jobs/42/artifacts?unknown=1",
        "/api/v4/projects/7/jobs/42/artifacts?job_token=a&job_token=b",
        "/api/v4/projects/7/jobs/42/artifacts?job_token=a;private_token=b",
        "/api/v4/projects/7/jobs/42/artifacts?job_token[]=a",
        "/api/v4/projects/7/jobs/42/artifacts?job%5Ftoken=a",
        "/api/v4/projects/7/jobs/42/artifacts?job_token",
        "/api/v4/jobs/42/artifacts?direct_download=1",
        "/api/v4/jobs/42/artifacts/",
    ] {
        gitlab.reset_counters();
        let answer = raw::exchange(larder.address, &request("GET", target.as_bytes(), &[], b"")).await;
        assert_eq!(answer.field("cache-status"), Some("larder; fwd=bypass; detail=pass"), "{target}");
        let asked = gitlab.requests();
        assert_eq!((asked.len(), &*asked[0].target), (1, target), "as it was, and once");
        assert_eq!(answer.end, End::Framed);
    }
    let with_body = request("GET", b"/api/v4/jobs/42/artifacts", &[b"Content-Length: 2"], b"{}");
    let answer = raw::exchange(larder.address, &with_body).await;
    assert_eq!(answer.field("cache-status"), Some("larder; fwd=bypass; detail=pass"), "a GET with a body");
}

#[tokio::test]
async fn a_relative_root_is_part_of_the_path_and_travels_on() {
    let gitlab = GitLab::start(Setup::default().relative_root("/gitlab")).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    for (target, status) in [("/gitlab/echo/x?y", 200), ("/echo/x", 404), ("/gitlabs/echo", 404)] {
        let (straight, through) =
            both(gitlab.address(), larder.address, &request("GET", target.as_bytes(), &[], b"")).await;
        assert_eq!((straight.status(), through.status()), (status, status), "{target}");
        assert_eq!(gitlab.requests().last().unwrap().target, target);
    }
}

#[tokio::test]
async fn a_request_without_one_host_is_malformed() {
    let (gitlab, larder) = town().await;
    for head in [
        "GET /echo HTTP/1.1\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    ] {
        let answer = raw::exchange(larder.address, head.as_bytes()).await;
        assert_eq!(answer.status(), 400, "{head}");
        assert_eq!(answer.field("proxy-status"), Some("larder; error=http_request_error"), "{head}");
        assert!(answer.json()["message"].as_str().unwrap().starts_with("400 Bad Request - "), "{head}");
    }
    assert!(gitlab.requests().is_empty());
    let old = raw::exchange(larder.address, b"GET /echo HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.status(), 200, "HTTP/1.0 knows no Host");
}
