//! Files of archives that have just come, or are coming.

use std::time::Duration;

use gitlab_standin::{Archive, Class, Effect, Etag, Fault, Gate, JobStatus, Member, Seen, Storage};
use http::Method;

use super::{asking_each_time, noise, text};
use crate::scene::{MODES, Scene};
use crate::support::{get, send};

/// Archives that are asked for one after the other: each lands while its file is asked for, for however short a time.
const ARCHIVES: usize = 6;

fn report(n: usize) -> Vec<u8> {
    [format!("{n}\n").into_bytes(), text(400_000)].concat()
}

#[tokio::test]
async fn a_file_asked_for_right_after_its_archives_last_byte_comes_from_what_is_here() {
    for storage in MODES {
        let scene = Scene::with(storage, super::archive(), asking_each_time).await;
        let fields = [("private-token", scene.token.as_str())];
        for n in 0..ARCHIVES {
            let job = scene.gitlab.job(scene.project, JobStatus::Success);
            let members = [Member::file("report.html", report(n)), Member::stored("noise", noise(3 << 20))];
            let archive = Archive::runner(members);
            scene.gitlab.put_archive(job, archive.clone());
            let url = scene.api(&format!("/projects/{}/jobs/{job}/artifacts", scene.project));
            assert!(get(&url, &fields).await.body == archive.bytes().unwrap(), "{storage:?} {n}");
            let file = format!("{url}/report.html");
            let (reply, head) = tokio::join!(get(&file, &fields), send(Method::HEAD, &file, &fields));
            assert!(reply.whole && reply.body == report(n), "{storage:?} {n}");
            assert_eq!((reply.cache(), head.cache()), ("larder; hit", "larder; hit"), "{storage:?} {n}");
        }
        assert_eq!(scene.transfers(), ARCHIVES, "{storage:?}");
        // A question that GitLab answers with the file is broken off.
        let files = scene.gitlab.counters().bytes_of(Class::JobEntry);
        let longest = u64::try_from(ARCHIVES * report(0).len()).unwrap();
        assert!(files < longest, "{storage:?}: {files} bytes of files");
    }
}

#[tokio::test]
async fn a_file_whose_bytes_are_here_comes_from_there_while_the_rest_arrives() {
    // Its data end in the first MiB, and what is reckoned with for its local header in the second.
    let first = noise((1 << 20) - 200);
    let members = [Member::stored("first", first.clone()), Member::stored("rest", noise(6 << 20))];
    let scene = Scene::start(Storage::Local { etag: Etag::Weak }, Archive::runner(members)).await;
    let rest = Gate::new();
    let is_rest = |seen: &Seen| seen.header("range").is_some_and(|range| range.starts_with("bytes=0-"));
    scene.gitlab.fault(Fault::new(Effect::Slow(rest.clone())).on(Class::JobArchive).when(is_rest));
    rest.release((1 << 20) + (64 << 10));
    let ask = || scene.get_entry("first");
    assert_eq!(ask().await.cache(), "larder; fwd=miss");
    let hit = async {
        loop {
            let reply = ask().await;
            if reply.cache() == "larder; hit" {
                return reply;
            }
            tokio::task::yield_now().await;
        }
    };
    let reply = tokio::time::timeout(Duration::from_secs(30), hit).await.expect("it is here");
    assert!(reply.whole && reply.body == first);
    let head = send(Method::HEAD, &scene.entry("first"), &[("private-token", &scene.token)]).await;
    assert_eq!(head.cache(), "larder; hit");
    rest.open();
}
