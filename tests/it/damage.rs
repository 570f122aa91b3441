//! A disk that changes what was written: nothing of it is sent, and what can be had again is.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use gitlab_standin::{Effect, Fault};
use http::Method;

use crate::scene::{MODES, Scene, archive, come_to, zips};
use crate::support::{Larder, get, open};

const MIB: usize = 1 << 20;

/// A larder, started anew, whose one archive has a wrong byte in each of these places.
async fn damaged(storage: gitlab_standin::Storage, places: &[usize]) -> (Scene, PathBuf) {
    let scene = Scene::start(storage, archive(5 << 20, 9)).await;
    assert!(scene.is_archive(&scene.get().await));
    let dir = scene.larder.stop().await;
    let zip = zips(dir.path()).pop().expect("one archive");
    let mut bytes = fs::read(&zip).unwrap();
    for at in places {
        bytes[*at] ^= 0x40;
    }
    fs::write(&zip, bytes).unwrap();
    let larder = Larder::on(&scene.gitlab.url(), dir, |config| config.access.ttl = Duration::ZERO).await;
    scene.gitlab.reset_counters();
    (Scene { larder, ..scene }, zip)
}

fn chunks(scene: &Scene, result: &str) -> i64 {
    scene.larder.count(&format!("larder_damaged_chunks_total{{result=\"{result}\"}}"))
}

#[tokio::test]
async fn a_damaged_chunk_is_fetched_again_and_stays_mended() {
    for storage in MODES {
        let (scene, zip) = damaged(storage, &[MIB + 5, 3 * MIB]).await;
        let reply = scene.get().await;
        assert!(scene.is_archive(&reply), "{storage:?}");
        assert_eq!(reply.cache(), "larder; hit", "{storage:?}");
        assert_eq!((chunks(&scene, "mended"), chunks(&scene, "lost")), (2, 0), "{storage:?}");
        let moved = scene.gitlab.counters().artifact_bytes();
        assert!(moved <= 2 * (1 << 20) + 8 * 1024, "{storage:?}: {moved} bytes for two MiB");
        assert!(
            fs::read(&zip).unwrap() == scene.archive.bytes().unwrap(),
            "{storage:?}: on the disk as well"
        );
        scene.gitlab.reset_counters();
        assert!(scene.is_archive(&scene.get().await));
        assert!(scene.gitlab.counters().artifact_bytes() <= 2048, "{storage:?}: once");
    }
}

#[tokio::test]
async fn parts_beside_the_damage_need_nothing() {
    let (scene, _) = damaged(MODES[0], &[4 * MIB + 1]).await;
    let fields = [("private-token", scene.token.as_str()), ("range", "bytes=100-2000000")];
    let reply = get(&scene.url(), &fields).await;
    assert!(reply.body == scene.archive.bytes().unwrap()[100..=2_000_000]);
    assert_eq!(chunks(&scene, "mended"), 0);
    let fields = [fields[0], ("range", "bytes=4194304-4194305")];
    let reply = get(&scene.url(), &fields).await;
    assert!(reply.whole && reply.body == scene.archive.bytes().unwrap()[4_194_304..=4_194_305]);
    assert_eq!(chunks(&scene, "mended"), 1);
}

#[tokio::test]
async fn what_cannot_be_had_again_breaks_off_and_leaves_the_store() {
    for storage in MODES {
        let (scene, _) = damaged(storage, &[2 * MIB + 9]).await;
        // What is no probe for the archive's end fails.
        let part = |seen: &gitlab_standin::Seen| seen.header("range") == Some("bytes=2097152-3145727");
        let fault = Fault::new(Effect::Cut { after: 1000, ending: gitlab_standin::Ending::Close }).when(part);
        let redirected = matches!(storage, gitlab_standin::Storage::Redirect { .. });
        scene.gitlab.fault(if redirected { fault.on_store() } else { fault });
        let reply = scene.get().await;
        assert!(!reply.whole, "{storage:?}");
        assert!(reply.body.len() <= 2 * MIB && scene.archive.bytes().unwrap().starts_with(&reply.body));
        assert_eq!(chunks(&scene, "lost"), 1, "{storage:?}");
        come_to(scene.larder.dir.path(), 0, "it is of no use").await;
        scene.gitlab.clear_faults();
        let again = scene.get().await;
        assert!(scene.is_archive(&again), "{storage:?}");
        assert_eq!(again.cache(), "larder; fwd=miss; stored", "{storage:?}");
    }
}

#[tokio::test]
async fn an_archive_that_gitlab_replaced_meanwhile_mends_nothing() {
    let (scene, zip) = damaged(MODES[0], &[7]).await;
    let before = fs::read(&zip).unwrap();
    let other = archive(5 << 20, 10);
    let swap = Fault::new(Effect::Answer {
        status: 206,
        content_type: "application/octet-stream",
        body: other.bytes().unwrap().slice(..MIB),
    });
    scene.gitlab.fault(swap.when(|seen| seen.header("range") == Some("bytes=0-1048575")));
    let reply = scene.get().await;
    assert!(!reply.whole || reply.status != 200 || scene.is_archive(&reply));
    assert!(!reply.body.starts_with(&before[..100]), "the damaged bytes");
    assert!(!reply.body.starts_with(&other.bytes().unwrap()[..100]), "another archive's");
}

#[tokio::test]
async fn an_archive_that_is_cut_while_it_is_open_is_mended_by_the_second_reader() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(5 << 20, 9)).await;
        assert!(scene.is_archive(&scene.get().await));
        scene.larder.stored(1).await;
        let zip = zips(scene.larder.dir.path()).pop().expect("one archive");
        let length = fs::metadata(&zip).unwrap().len();
        let whole = scene.archive.bytes().unwrap();
        // Within its last page, which a mapping fills with zeros, and before half of it.
        for left in [length - 1000, length / 2 + 77, 0] {
            fs::File::options().write(true).open(&zip).unwrap().set_len(left).unwrap();
            // Whoever finds out that what was sound isn't any more goes without; the next one mends it.
            let head = open(Method::GET, &scene.url(), &[("private-token", &scene.token)], "").await;
            if let Some(head) = head {
                let reply = head.rest().await;
                assert!(!reply.whole && whole.starts_with(&reply.body), "{storage:?}, {left} bytes left");
            }
            let reply = scene.get().await;
            assert!(scene.is_archive(&reply), "{storage:?}, {left} bytes left");
            assert_eq!(reply.cache(), "larder; hit", "{storage:?}, {left} bytes left");
            assert!(fs::read(&zip).unwrap() == whole, "{storage:?}, {left} bytes left");
        }
        assert_eq!(chunks(&scene, "lost"), 0, "{storage:?}");
    }
}

#[tokio::test]
async fn a_short_one_that_is_cut_breaks_off_at_most_until_somebody_looks() {
    let scene = Scene::start(MODES[1], archive(200_000, 9)).await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    assert!(scene.is_archive(&scene.get().await));
    let zip = zips(scene.larder.dir.path()).pop().expect("one archive");
    let length = fs::metadata(&zip).unwrap().len();
    fs::File::options().write(true).open(&zip).unwrap().set_len(length - 1000).unwrap();
    let whole = scene.archive.bytes().unwrap();
    let mut right = 0;
    for n in 0..40 {
        let head = open(Method::GET, &scene.url(), &[("private-token", &scene.token)], "").await;
        // A head that is sent together with bytes that can't be had is lost with them.
        let Some(head) = head else {
            right = 0;
            continue;
        };
        let reply = head.rest().await;
        assert!(whole.starts_with(&reply.body), "{n}: other bytes than GitLab's");
        assert!(!reply.whole || reply.body == whole, "{n}");
        right = if reply.whole { right + 1 } else { 0 };
    }
    assert!(right >= 20, "{right}");
}
