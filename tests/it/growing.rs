//! Archives that are still arriving: parts, conditions, newcomers, and one that is replaced meanwhile.

use std::time::{Duration, UNIX_EPOCH};

use gitlab_standin::{Effect, Etag, Gate, Level, Storage};
use http::Method;

use crate::scene::{MODES, Scene, archive};
use crate::support::{Larder, Reply, get, open, send};

const SIZE: u64 = 4 << 20;

/// A scene in which alice's download holds after its first 64 KiB.
async fn held(storage: Storage, seed: u64) -> (Scene, Gate) {
    let scene = Scene::start(storage, archive(SIZE, seed)).await;
    let body = Gate::new();
    scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())).once());
    body.release(64 << 10);
    (scene, body)
}

async fn part(scene: &Scene, token: &str, range: &str) -> Reply {
    get(&scene.url(), &[("private-token", token), ("range", range)]).await
}

#[tokio::test]
async fn a_range_waits_for_its_own_bytes_only() {
    for storage in MODES {
        let (scene, body) = held(storage, 1).await;
        let bob = scene.member("bob", Level::Developer);
        let leader = scene.open().await;
        for (token, range) in [(&scene.token, "bytes=0-999"), (&bob, "bytes=1000-1999")] {
            let reply = part(&scene, token, range).await;
            let cache = "larder; fwd=miss; collapsed";
            assert_eq!((reply.status.as_u16(), reply.cache()), (206, cache), "{storage:?}");
            let from = if range.contains("=0") { 0 } else { 1000 };
            assert!(reply.whole && reply.body == scene.archive.read_at(from, 1000).unwrap(), "{storage:?}");
            let span = format!("bytes {from}-{}/{SIZE}", from + 999);
            assert_eq!(reply.field("content-range"), Some(&*span), "{storage:?}");
        }
        let fields = [("private-token", &*scene.token), ("range", "bytes=-1000")];
        let late = open(Method::GET, &scene.url(), &fields, "").await.unwrap();
        body.open();
        let late = late.rest().await;
        assert!(late.whole && late.body == scene.archive.read_at(SIZE - 1000, 1000).unwrap(), "{storage:?}");
        assert!(scene.is_archive(&leader.rest().await), "{storage:?}");
        assert_eq!(scene.transfers(), 1, "{storage:?}: the whole archive was asked for, once");
    }
}

#[tokio::test]
async fn several_ranges_come_from_what_is_there_and_files_from_gitlab() {
    for storage in MODES {
        let (scene, body) = held(storage, 5).await;
        let bob = scene.member("bob", Level::Developer);
        let leader = scene.open().await;
        let several = "bytes=0-9,1000-1099,50000-50000";
        for token in [&scene.token, &bob] {
            let reply = part(&scene, token, several).await;
            let cache = "larder; fwd=miss; collapsed";
            assert_eq!((reply.status.as_u16(), reply.cache()), (206, cache), "{storage:?}");
            assert!(reply.field("content-type").unwrap().starts_with("multipart/byteranges; boundary="));
            for (from, length) in [(0, 10), (1000, 100), (50_000, 1)] {
                let bytes = scene.archive.read_at(from, length).unwrap();
                let said = format!(
                    "Content-Range: bytes {from}-{}/{SIZE}\r\n\r\n",
                    from + u64::try_from(length).unwrap() - 1
                );
                let expected = [said.as_bytes(), &bytes, b"\r\n--"].concat();
                let found = reply.body.windows(expected.len()).any(|window| window == expected);
                assert!(reply.whole && found, "{storage:?}: {said}");
            }
        }
        // Where a file lies in it isn't known before its end.
        let entry = format!("{}/none.txt", scene.url());
        let file = get(&entry, &[("private-token", &bob)]).await;
        assert_eq!((file.status.as_u16(), file.cache()), (404, "larder; fwd=bypass; detail=refused"));
        body.open();
        assert!(scene.is_archive(&leader.rest().await), "{storage:?}");
        assert_eq!(scene.transfers(), 1, "{storage:?}");
    }
}

#[tokio::test]
async fn a_condition_that_holds_is_304_cold_growing_and_hot() {
    for storage in MODES {
        let (scene, body) = held(storage, 2).await;
        let bob = scene.member("bob", Level::Developer);
        let etag = {
            let other = Larder::start(&scene.gitlab).await;
            let url = scene.url().replace(&scene.larder.url(), &other.url());
            let head = send(Method::HEAD, &url, &[("private-token", &scene.token)]).await;
            head.field("etag").expect("an entity tag").to_owned()
        };
        let condition = |token| [("private-token", token), ("if-none-match", &*etag)];
        for (when, token) in [("cold", &scene.token), ("growing", &bob), ("growing again", &bob)] {
            let reply = get(&scene.url(), &condition(token)).await;
            assert_eq!((reply.status.as_u16(), reply.body.len()), (304, 0), "{storage:?} {when}");
            assert_eq!(reply.field("etag"), Some(&*etag), "{storage:?} {when}");
        }
        body.open();
        assert!(scene.is_archive(&scene.get().await), "{storage:?}: the fill went on");
        let hot = get(&scene.url(), &condition(&scene.token)).await;
        assert_eq!((hot.status.as_u16(), hot.cache()), (304, "larder; hit"), "{storage:?}");
        let other = get(&scene.url(), &[("private-token", &scene.token), ("if-none-match", "\"x\"")]).await;
        assert!(scene.is_archive(&other), "{storage:?}");
        assert_eq!(scene.transfers(), 1, "{storage:?}");
    }
}

#[tokio::test]
async fn newcomers_join_with_their_own_yes_only() {
    for storage in MODES {
        let (scene, body) = held(storage, 3).await;
        let (bob, stranger) = (scene.member("bob", Level::Developer), scene.stranger());
        let alices = scene.open().await;
        let straight = get(&scene.straight_url(), &[("private-token", &stranger)]).await;
        let refused = scene.get_as(&stranger).await;
        assert_eq!((refused.status.as_u16(), &refused.body), (404, &straight.body), "{storage:?}");
        let nobody = get(&scene.url(), &[]).await;
        assert_eq!(nobody.status, 404, "{storage:?}");
        let bobs = scene.open_as(&bob).await;
        assert_eq!(bobs.fields["cache-status"], "larder; fwd=miss; collapsed", "{storage:?}");
        body.open();
        for exchange in [alices, bobs] {
            assert!(scene.is_archive(&exchange.rest().await), "{storage:?}");
        }
        let moved = scene.gitlab.counters().artifact_bytes();
        assert!(moved < SIZE + 10_000, "{storage:?}: {moved}");
    }
}

#[tokio::test]
async fn a_newcomer_never_gets_a_mix_of_an_archive_and_the_one_that_replaced_it() {
    for storage in MODES {
        for size in [SIZE, SIZE + 1000, SIZE / 2] {
            let context = format!("{storage:?} {size}");
            let (scene, body) = held(storage, 4).await;
            let bob = scene.member("bob", Level::Developer);
            let alices = scene.open().await;
            let new = archive(size, 5);
            scene.gitlab.put_archive(scene.job, new.clone());
            let bobs = scene.get_as(&bob).await;
            if let Storage::Redirect { .. } = storage {
                let place = bobs.field("location").unwrap_or_default();
                let straight = get(&scene.straight_url(), &[("private-token", &bob)]).await;
                let path = |url: &str| url.split('?').next().unwrap().to_owned();
                assert_eq!(
                    path(place),
                    path(straight.field("location").unwrap()),
                    "{context}: to the new one"
                );
            } else {
                assert!(bobs.whole && bobs.body == new.bytes().unwrap(), "{context}");
            }
            body.open();
            assert!(scene.is_archive(&alices.rest().await), "{context}: GitLab still sends the old one");
            for token in [&bob, &scene.stranger()] {
                scene.larder.clock.advance(Duration::from_secs(61));
                let reply = scene.get_as(token).await;
                let right = reply.body == new.bytes().unwrap();
                assert!(reply.whole && right == (reply.status == 200), "{context}: {}", reply.status);
            }
        }
    }
}

#[tokio::test]
async fn where_only_the_end_tells_a_newcomer_does_not_see_it_end() {
    let (scene, body) = held(Storage::Local { etag: Etag::Weak }, 6).await;
    let date = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    scene.gitlab.put_archive_dated(scene.job, scene.archive.clone(), date);
    let bob = scene.member("bob", Level::Developer);
    let alices = scene.open().await;
    let new = archive(SIZE, 7);
    assert_eq!(new.len(), scene.archive.len());
    scene.gitlab.put_archive_dated(scene.job, new.clone(), date);
    let bobs = scene.open_as(&bob).await;
    body.open();
    assert!(scene.is_archive(&alices.rest().await));
    let bobs = bobs.rest().await;
    assert!(!bobs.whole || bobs.body == new.bytes().unwrap(), "bob was told of another end");
    scene.larder.clock.advance(Duration::from_secs(61));
    let later = scene.get_as(&bob).await;
    assert!(later.whole && later.body == new.bytes().unwrap());
}
