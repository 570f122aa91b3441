//! What GitLab says to pages of other origins: with a yes that is remembered as with the yes itself.

use gitlab_standin::Archive;

use crate::raw::{Answer, request};
use crate::script::Script;

const ARCHIVE: &[u8] = b"/api/v4/projects/7/jobs/42/artifacts";

fn asking(origin: Option<&str>) -> Vec<u8> {
    let origin = origin.map(|origin| format!("Origin: {origin}"));
    let lines: Vec<&[u8]> =
        [&b"PRIVATE-TOKEN: t"[..]].into_iter().chain(origin.as_deref().map(str::as_bytes)).collect();
    request("GET", ARCHIVE, &lines, b"")
}

fn said(answer: &Answer) -> [Option<&str>; 5] {
    let names = [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-expose-headers",
        "vary",
        "set-cookie",
    ];
    names.map(|name| answer.field(name))
}

/// What GitLab says besides to one origin, or to none.
fn fields(origin: Option<&str>) -> String {
    let Some(origin) = origin else { return "Vary: Origin\r\n".to_owned() };
    format!(
        "Vary: Origin\r\nAccess-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
        Access-Control-Expose-Headers: Link, X-Total\r\n"
    )
}

#[tokio::test]
async fn pages_of_other_origins_may_read_a_hit_as_often_as_gitlab_lets_them_read_it_once() {
    let script = Script::start().await;
    let archive = Archive::sized(20_000).unwrap().bytes().unwrap();
    let (one, other) = (Some("https://pages.test"), Some("https://other.test"));
    let mut first = true;
    for origin in [one, other, None] {
        let mut client = script.client().await;
        client.send(&asking(origin)).await;
        let (mut gitlab, _) = script.request().await;
        let line = if first { "200 OK" } else { "304 Not Modified" };
        let head = format!(
            "HTTP/1.1 {line}\r\nETag: \"0123456789abcdef\"\r\nContent-Type: application/zip\r\n\
            Set-Cookie: s=1\r\nConnection: close\r\n{}",
            fields(origin)
        );
        let (length, body) = if first {
            (format!("Content-Length: {}\r\n", archive.len()), &archive[..])
        } else {
            (String::new(), &[][..])
        };
        gitlab.send(&[format!("{head}{length}\r\n").as_bytes(), body].concat()).await;
        let asked = client.answer(false).await;
        assert_eq!((asked.status(), asked.body.len()), (200, archive.len()));
        let allowed = origin.map(|_| "true");
        let exposed = origin.map(|_| "Link, X-Total");
        assert_eq!(said(&asked), [origin, allowed, exposed, Some("Origin"), Some("s=1")]);
        // GitLab says nothing more: these are answered without it.
        for _ in 0..2 {
            client.send(&asking(origin)).await;
            let hit = client.answer(false).await;
            assert_eq!((hit.status(), hit.body.len()), (200, archive.len()));
            assert_eq!(said(&hit), [origin, allowed, exposed, Some("Origin"), None], "{origin:?}");
            assert!(hit.fields.iter().any(|(name, _)| name == "ETag"), "{:?}", hit.fields);
        }
        first = false;
    }
}

#[tokio::test]
async fn a_yes_with_more_than_can_be_kept_is_asked_for_again() {
    let script = Script::start().await;
    let archive = Archive::sized(20_000).unwrap().bytes().unwrap();
    let long = format!("Access-Control-Expose-Headers: {}\r\n", "X-Long, ".repeat(300));
    let mut client = script.client().await;
    for line in ["200 OK", "304 Not Modified", "304 Not Modified"] {
        client.send(&asking(None)).await;
        let (mut gitlab, _) = script.request().await;
        let body = if line.starts_with("200") { &archive[..] } else { &[] };
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!(
            "HTTP/1.1 {line}\r\nETag: \"0123456789abcdef\"\r\nContent-Type: application/zip\r\n\
            Connection: close\r\n{long}{length}\r\n"
        );
        gitlab.send(&[head.as_bytes(), body].concat()).await;
        let answer = client.answer(false).await;
        assert!(answer.field("access-control-expose-headers").is_some_and(|value| value.len() > 2_000));
    }
}
