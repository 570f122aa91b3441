//! Archives that are made to cost work: little to send, and much to unpack.

use gitlab_standin::{Archive, Effect, Ending, Etag, Member, Storage};

use crate::scene::{MODES, Scene, come_to};
use crate::support::{Reply, get};

/// Where nothing but a date says that two transfers were of one archive: all of it has to be checked.
const BY_DATE: Storage = Storage::Local { etag: Etag::Weak };

/// 3,000 entries that share a stream of 4 MiB: 12 GiB to unpack, 0.3 MiB to send.
fn sharing() -> Archive {
    Archive::sharing(3000, 4 << 20)
}

/// One entry that is a thousand times as long unpacked.
fn zeros() -> Archive {
    Archive::runner([Member::file("zeros.bin", vec![0; 100 << 20])])
}

fn unpacked(scene: &Scene) -> u64 {
    u64::try_from(scene.larder.count("larder_unpacked_bytes_total")).unwrap()
}

async fn get_range(scene: &Scene, range: &str) -> Reply {
    get(&scene.url(), &[("private-token", &*scene.token), ("range", range)]).await
}

#[tokio::test]
async fn a_byte_of_an_archive_whose_entries_share_bytes_unpacks_nothing() {
    for storage in MODES {
        let scene = Scene::start(storage, sharing()).await;
        for _ in 0..2 {
            let first = get_range(&scene, "bytes=0-0").await;
            let whole = scene.archive.bytes().unwrap();
            let right = match first.status.as_u16() {
                206 => first.body == whole[..1],
                302 => matches!(storage, Storage::Redirect { .. }),
                _ => first.body == whole,
            };
            assert!(right && first.whole, "{storage:?}: {} {}", first.status, first.body.len());
        }
        let all = scene.get().await;
        assert!(scene.is_archive(&all), "{storage:?}: it is GitLab's to have such archives");
        assert_ne!(all.cache(), "larder; hit", "{storage:?}");
        come_to(scene.larder.dir.path(), 0, &format!("{storage:?}")).await;
        assert_eq!(unpacked(&scene), 0, "{storage:?}");
    }
}

#[tokio::test]
async fn a_transfer_that_is_cut_unpacks_no_more_than_an_archive_is_worth() {
    for (archive, name) in [(sharing(), "shared"), (zeros(), "zeros")] {
        for storage in MODES {
            let scene = Scene::start(storage, archive.clone()).await;
            let cut = Effect::Cut { after: archive.len() / 2, ending: Ending::Reset };
            scene.gitlab.fault(scene.on_transfer(cut).once());
            let reply = scene.get().await;
            assert!(!reply.whole || scene.is_archive(&reply), "{name} {storage:?}: never other bytes");
            let most = archive.len() * 64 + (16 << 20);
            assert!(unpacked(&scene) <= most, "{name} {storage:?}: {}", unpacked(&scene));
            let again = scene.get().await;
            assert!(scene.is_archive(&again), "{name} {storage:?}: {} {}", again.status, again.body.len());
        }
    }
}

#[tokio::test]
async fn what_cannot_be_proven_in_parts_is_fetched_as_a_whole_and_kept() {
    let scene = Scene::start(BY_DATE, zeros()).await;
    let first = get_range(&scene, "bytes=0-0").await;
    assert_eq!((first.status.as_u16(), first.body.len()), (206, 1));
    scene.larder.stored(1).await;
    assert_eq!(get_range(&scene, "bytes=1-2").await.cache(), "larder; hit");
    assert_eq!((unpacked(&scene), scene.transfers()), (0, 1));
}

#[tokio::test]
async fn many_ranges_of_a_file_are_one_pass_over_it() {
    const SIZE: u64 = 4 << 20;
    let text: Vec<u8> = (0..SIZE).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
    let archive = Archive::runner([Member::file("large.log", text.clone())]);
    let scene = Scene::start(BY_DATE, archive).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    let url = format!("{}/large.log", scene.url());
    let at = |n: u64| format!("{}-{}", n * 100_000, n * 100_000 + 9);
    let ascending: Vec<String> = (0..32).map(at).collect();
    let descending: Vec<String> = (0..32).rev().map(at).collect();
    let overlapping: Vec<String> = (0..32).map(|n| format!("{n}-{}", n + 5)).collect();
    let ask = async |ranges: &[String]| {
        let before = unpacked(&scene);
        let range = format!("bytes={}", ranges.join(","));
        let reply = get(&url, &[("private-token", &*scene.token), ("range", &range)]).await;
        assert_eq!((reply.cache(), reply.whole), ("larder; hit", true));
        assert!(unpacked(&scene) - before <= SIZE, "{}", unpacked(&scene) - before);
        reply
    };
    for round in 0..2 {
        let parts = ask(&ascending).await;
        assert_eq!(parts.status, 206, "{round}");
        let found = (0..32).filter(|n| {
            let from = n * 100_000;
            parts.body.windows(10).any(|window| *window == text[from..from + 10])
        });
        assert_eq!(found.count(), 32, "{round}");
        for ranges in [&descending, &overlapping] {
            let whole = ask(ranges).await;
            assert_eq!((whole.status.as_u16(), whole.body == text), (200, true), "{round}");
        }
    }
}
