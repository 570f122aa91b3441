//! What answers under way may hold: directories, and ends of archives that are compared.

use std::time::{Duration, SystemTime};

use gitlab_standin::{Archive, Class, Etag, JobStatus, Level, Member, PipelineStatus, Storage};

use crate::scene::Scene;
use crate::support::get;

const BY_DATE: Storage = Storage::Local { etag: Etag::Weak };

/// Some 3.9 MiB of directory: as much as is compared as a whole.
const FILES: u32 = 38_000;

/// Bytes held now, as the metrics page says.
async fn held(scene: &Scene) -> u64 {
    let page = get(&format!("http://{}/metrics", scene.larder.admin), &[]).await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("larder_memory_held_bytes "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn many_who_ask_for_a_ref_at_once_cost_one_end_of_its_archive() {
    let archive = Archive::many(FILES);
    let scene = Scene::start(BY_DATE, archive.clone()).await;
    let pipeline = scene.gitlab.pipeline(scene.project, "main", PipelineStatus::Success);
    let job = scene.gitlab.job_in(pipeline, "build", JobStatus::Success);
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    scene.gitlab.put_archive_dated(job, archive.clone(), date);
    let url = scene.api(&format!("/projects/{}/jobs/artifacts/main/download?job=build", scene.project));
    let whole = get(&url, &[("private-token", &scene.token)]).await;
    assert!(whole.body == archive.bytes().unwrap());
    scene.larder.stored(1).await;
    let bob = scene.member("bob", Level::Developer);
    let before = scene.gitlab.counters().bytes_of(Class::RefArchive);
    let asked: Vec<_> = (0..400)
        .map(|_| {
            let (url, bob) = (url.clone(), bob.clone());
            tokio::spawn(async move { get(&url, &[("private-token", &bob), ("range", "bytes=0-9")]).await })
        })
        .collect();
    for reply in asked {
        let reply = reply.await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.cache()), (206, "larder; hit"));
        assert!(reply.body == archive.bytes().unwrap()[..10]);
    }
    let fetched = scene.gitlab.counters().bytes_of(Class::RefArchive) - before;
    assert!((3 << 20..=4 << 20).contains(&fetched), "{fetched}: one question, and one answer for all");
    assert_eq!(held(&scene).await, 0, "nobody compares any more");
}

#[tokio::test]
async fn files_of_an_archive_whose_directory_is_too_heavy_are_gitlabs_to_give() {
    // Of 16 MiB a directory may take 4: that of 38,000 entries takes 2.7, that of 100,000 at least 4.6.
    for (count, fits) in [(FILES, true), (100_000, false)] {
        let small = |config: &mut larder::config::Config| config.server.memory = 16 << 20;
        let scene = Scene::with(BY_DATE, Archive::many(count), small).await;
        assert!(scene.is_archive(&scene.get().await));
        scene.larder.stored(1).await;
        let file = format!("{}/dir-000/file-000007.txt", scene.url());
        for _ in 0..2 {
            let reply = get(&file, &[("private-token", &scene.token)]).await;
            assert_eq!((reply.status.as_u16(), &reply.body[..7]), (200, &b"file 7\n"[..]), "{count}");
            assert_eq!(reply.cache() == "larder; hit", fits, "{count}: {}", reply.cache());
        }
        let bytes = held(&scene).await;
        assert_eq!(bytes > 1 << 20, fits, "{count}: {bytes}");
        assert!(bytes < 4 << 20, "{count}: {bytes}");
        assert_eq!(scene.get().await.cache(), "larder; hit", "{count}: the archive itself is");
    }
}

#[tokio::test]
async fn directories_of_many_archives_take_no_more_than_their_part() {
    let small = |config: &mut larder::config::Config| config.server.memory = 16 << 20;
    let scene = Scene::with(BY_DATE, Archive::runner([Member::file("a", "a")]), small).await;
    let archive = Archive::many(30_000);
    for _ in 0..6 {
        let job = scene.gitlab.job(scene.project, JobStatus::Success);
        scene.gitlab.put_archive(job, archive.clone());
        let url = scene.api(&format!("/projects/{}/jobs/{job}/artifacts", scene.project));
        let whole = get(&url, &[("private-token", &scene.token)]).await;
        assert!(whole.body == archive.bytes().unwrap());
        let file = format!("{url}/dir-000/file-000003.txt");
        let settled =
            async { while get(&file, &[("private-token", &scene.token)]).await.cache() != "larder; hit" {} };
        tokio::time::timeout(Duration::from_secs(30), settled).await.expect("it is served in the end");
        let bytes = held(&scene).await;
        // Its part, that of unpacked files, and what the answers that have just gone may still hold.
        assert!(bytes <= ((4 + 2) << 20) + (256 << 10), "{bytes}");
    }
}
