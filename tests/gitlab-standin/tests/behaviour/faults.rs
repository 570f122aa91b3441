//! Faults break what they say, and nothing else.

use gitlab_standin::{
    Archive, Class, Effect, Ending, Etag, Fault, Gate, GitLab, JobId, JobStatus, Listening, Server, Setup,
    Storage, Visibility,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::client::{Answer, get};

const SIZE: u64 = 100_000;

async fn scene(storage: Storage) -> (GitLab, JobId, String) {
    let gitlab = GitLab::start(Setup::default().storage(storage)).await.unwrap();
    let project = gitlab.project("g/p", Visibility::Public);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, Archive::sized(SIZE).unwrap());
    let url = gitlab.archive_url(job);
    (gitlab, job, url)
}

async fn local() -> (GitLab, JobId, String) {
    scene(Storage::Local { etag: Etag::Sha256 }).await
}

async fn struck(effect: Effect, lines: &[&str]) -> Answer {
    let (gitlab, _, url) = local().await;
    let handle = gitlab.fault(Fault::new(effect).on(Class::JobArchive).once());
    let answer = get(&url, lines).await;
    assert_eq!(handle.hits(), 1);
    assert!(get(&url, &[]).await.is_whole(), "only once");
    answer
}

#[tokio::test]
async fn a_cut_body_ends_after_exactly_so_many_bytes() {
    for after in [0, 1, 50_000, SIZE - 1] {
        let cut = struck(Effect::Cut { after, ending: Ending::Close }, &[]).await;
        assert_eq!((cut.status, cut.body.len()), (200, usize::try_from(after).unwrap()));
        assert!(!cut.is_whole() && !cut.reset);
    }
    assert!(struck(Effect::Cut { after: 50_000, ending: Ending::Reset }, &[]).await.reset);
}

#[tokio::test]
async fn lengths_lie() {
    let more = struck(Effect::DeclareMore(7), &[]).await;
    assert_eq!(more.header("content-length"), Some("100007"));
    assert_eq!(more.body.len(), 100_000);
    let fewer = struck(Effect::DeclareFewer(7), &[]).await;
    assert!(fewer.is_whole());
    assert_eq!(fewer.body.len(), 99_993);
}

#[tokio::test]
async fn framing_without_length() {
    let chunked = struck(Effect::Chunked, &[]).await;
    assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
    assert!(chunked.header("content-length").is_none() && chunked.body.ends_with(b"0\r\n\r\n"));
    let until_close = struck(Effect::CloseDelimited, &[]).await;
    assert!(until_close.head.starts_with("HTTP/1.0 200"), "{}", until_close.head);
    assert_eq!((until_close.header("content-length"), until_close.body.len()), (None, 100_000));
    let garbage = struck(Effect::Garbage, &[]).await;
    assert_eq!((garbage.status, garbage.header("transfer-encoding")), (200, Some("chunked")));
    assert!(!garbage.body.is_empty() && !garbage.body.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn other_answers_take_the_place_of_the_real_one() {
    assert_eq!(struck(Effect::IgnoreRange, &["Range: bytes=0-0"]).await.body.len(), 100_000);
    let page = struck(Effect::Html, &[]).await;
    assert!(page.status == 200 && page.text().contains("<html>"));
    let sign_in = struck(Effect::SignIn, &["X-Forwarded-Host: ci.example.com"]).await;
    assert_eq!(sign_in.header("location"), Some("http://ci.example.com/users/sign_in"));
    let away = Effect::Redirect { status: 307, location: "http://169.254.169.254/x".into() };
    let away = struck(away, &[]).await;
    assert_eq!((away.status, away.header("location")), (307, Some("http://169.254.169.254/x")));
    let busy = Effect::Answer { status: 503, content_type: "text/plain", body: "Retry later".into() };
    assert_eq!(struck(busy, &[]).await.status, 503);
    let no_zip = struck(Effect::Body("no zip".into()), &[]).await;
    assert!(no_zip.is_whole() && no_zip.header("content-disposition").is_some());
    assert_eq!(no_zip.text(), "no zip");
    assert_eq!(struck(Effect::Drop(Ending::Close), &[]).await.status, 0);
    assert!(struck(Effect::Drop(Ending::Reset), &[]).await.reset);
}

#[tokio::test]
async fn a_gate_lets_out_what_it_was_told() {
    let (gitlab, _, url) = local().await;
    let gate = Gate::new();
    gitlab.fault(Fault::new(Effect::Slow(gate.clone())).carrying("token-of-the-slow-one"));
    let (address, target) = super::client::split(&url);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\nX-Id: token-of-the-slow-one\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    gate.arrived(1).await;
    gate.release(1000);
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains("\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    let mut first = vec![0; 1000];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(gitlab.counters().bytes_of(Class::JobArchive), 1000);
    assert!(get(&url, &[]).await.is_whole(), "others aren't held");
    gate.open();
    let mut rest = vec![0; 99_000];
    stream.read_exact(&mut rest).await.unwrap();
}

#[tokio::test]
async fn a_held_head_is_answered_as_things_are_then() {
    let (gitlab, job, url) = local().await;
    let gate = Gate::new();
    gitlab.fault(Fault::new(Effect::Hold(gate.clone())).nth(2));
    assert_eq!(get(&url, &[]).await.status, 200);
    let held = tokio::spawn({
        let url = url.clone();
        async move { get(&url, &[]).await }
    });
    gate.arrived(1).await;
    gitlab.delete_archive(job);
    gate.release(1);
    assert_eq!(held.await.unwrap().status, 404);
}

#[tokio::test]
async fn a_closed_door_refuses_slams_and_opens_again() {
    let (gitlab, _, url) = scene(Storage::Redirect { job_id_in_path: false }).await;
    let address = gitlab.address();
    gitlab.set_listening(Server::Gitlab, Listening::Refuse).unwrap();
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    gitlab.set_listening(Server::Gitlab, Listening::Slam).unwrap();
    let mut slammed = TcpStream::connect(address).await.unwrap();
    assert_eq!(slammed.read(&mut [0; 1]).await.unwrap(), 0);
    gitlab.set_listening(Server::Gitlab, Listening::Open).unwrap();
    let location = get(&url, &[]).await.header("location").unwrap().to_owned();
    gitlab.set_listening(Server::Store, Listening::Refuse).unwrap();
    assert!(TcpStream::connect(gitlab.store_address()).await.is_err());
    gitlab.set_storage(Storage::Proxied { etag: Etag::Weak });
    assert_eq!(get(&url, &[]).await.status, 502);
    gitlab.set_listening(Server::Store, Listening::Open).unwrap();
    assert!(get(&location, &[]).await.is_whole());
}

#[tokio::test]
async fn the_store_has_faults_of_its_own() {
    let (gitlab, _, url) = scene(Storage::Redirect { job_id_in_path: false }).await;
    gitlab.fault(Fault::new(Effect::Html).on_store().when(|seen| seen.header("range").is_some()));
    let location = get(&url, &["Range: bytes=0-0"]).await.header("location").unwrap().to_owned();
    assert!(get(&location, &[]).await.is_whole());
    assert!(get(&location, &["Range: bytes=0-0"]).await.text().contains("<html>"));
    gitlab.clear_faults();
    assert_eq!(get(&location, &["Range: bytes=0-0"]).await.status, 206);
    assert_eq!(gitlab.requests_of(Class::Object).len(), 3);
}

#[tokio::test]
async fn everything_ends_with_the_handle() {
    let (gitlab, _, url) = local().await;
    let (address, store) = (gitlab.address(), gitlab.store_address());
    let mut idle = TcpStream::connect(address).await.unwrap();
    assert!(get(&url, &[]).await.is_whole());
    drop(gitlab);
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err() && TcpStream::connect(store).await.is_err());
}
