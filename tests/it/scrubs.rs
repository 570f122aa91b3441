//! A disk that changes what lies on it while larder serves: found before anybody reads it, and never sent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use larder::store::TimeShare;

use crate::scene::{MODES, Scene, archive, zips};
use crate::support::Larder;

/// Waits until the pass that began with this larder has been over everything.
async fn over(dir: &Path) {
    let over = async {
        while !fs::read_to_string(dir.join("test/scrub")).is_ok_and(|noted| noted.ends_with(" 256\n")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), over).await.expect("a pass has an end");
}

#[tokio::test]
async fn damage_below_a_running_larder_is_found_and_mended_by_the_next_reader() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(5 << 20, 9)).await;
        assert!(scene.is_archive(&scene.get().await));
        let dir = scene.larder.stop().await;
        let zip = zips(dir.path()).pop().expect("one archive");
        let url = scene.gitlab.url();
        let larder = Larder::on(&url, dir, |config| {
            config.store.scrub = TimeShare::percent(50).unwrap();
        });
        let scene = Scene { larder: larder.await, ..scene };
        over(scene.larder.dir.path()).await;
        assert!(scene.is_archive(&scene.get().await), "{storage:?}: every chunk has been compared");

        let file = File::options().read(true).write(true).open(&zip).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, (3 << 20) + 1).unwrap();
        file.write_all_at(&[byte[0] ^ 1], (3 << 20) + 1).unwrap();
        scene.larder.clock.advance(Duration::from_secs(8 * 86_400));
        scene.larder.counted("larder_damaged_chunks_total{result=\"found\"}", 1).await;

        let reply = scene.get().await;
        assert!(scene.is_archive(&reply), "{storage:?}");
        assert_eq!(reply.cache(), "larder; hit", "{storage:?}");
        assert_eq!(scene.larder.count("larder_damaged_chunks_total{result=\"mended\"}"), 1, "{storage:?}");
        assert!(fs::read(&zip).unwrap() == scene.archive.bytes().unwrap(), "{storage:?}");
    }
}

#[tokio::test]
async fn a_larder_that_is_told_to_end_waits_for_no_pass() {
    let scene = Scene::with(MODES[0], archive(5 << 20, 9), |config| {
        config.store.scrub = TimeShare::percent(1).unwrap();
    });
    let scene = scene.await;
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stop().await;
}
