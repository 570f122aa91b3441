//! Parts of archives that aren't held: what is missing is fetched, and nothing else.

use std::time::Duration;

use gitlab_standin::{Archive, Class, Effect, Ending, Fault, Gate, Level, Member, Seen, Storage, pattern};

use crate::scene::{MODES, Scene};
use crate::support::{Larder, Reply, get};

const MIB: u64 = 1 << 20;

/// Bytes of which no two pages are alike.
fn pages(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = pattern(seed, 4096).repeat(length.div_ceil(4096));
    for (number, page) in (seed << 32..).zip(bytes.chunks_mut(4096)) {
        page[..8].copy_from_slice(&number.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Files of a MiB each, more than are fetched for the sake of one, and a small one among them.
fn large() -> Archive {
    let small = Member::stored("small", pages(7, 10 << 10));
    let deflated = Member::file("text", pages(8, 300_000));
    let one = |n: u64| Member::stored(format!("{n}"), pages(n * 1000, 1 << 20));
    Archive::runner((0..40).map(one).chain([small, deflated]).chain((40..80).map(one)))
}

/// The entry's URL at larder.
fn entry(scene: &Scene, name: &str) -> String {
    scene.api(&format!("/projects/{}/jobs/{}/artifacts/{name}", scene.project, scene.job))
}

async fn get_entry(scene: &Scene, name: &str) -> Reply {
    get(&entry(scene, name), &[("private-token", &scene.token)]).await
}

async fn get_range(scene: &Scene, range: &str) -> Reply {
    get(&scene.url(), &[("private-token", &*scene.token), ("range", range)]).await
}

/// What was asked where the archive's bytes are, from there on.
fn parts(scene: &Scene) -> Vec<Seen> {
    let elsewhere = matches!(scene.storage, Storage::Redirect { .. });
    let is_one = |seen: &Seen| {
        let object = seen.class == Class::Object;
        let archive = object || seen.class == Class::JobArchive;
        archive && object == elsewhere
    };
    scene.gitlab.requests().into_iter().filter(is_one).collect()
}

/// Whether more is asked for than a probe asks for.
fn is_span(seen: &Seen) -> bool {
    let range = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let numbers = range.and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?)));
    numbers.is_some_and(|(from, to)| to - from > 4096)
}

/// Waits until a file is served without GitLab's bytes.
async fn until_held(scene: &Scene, name: &str) -> Reply {
    let held = async {
        loop {
            let reply = get_entry(scene, name).await;
            if reply.cache() == "larder; hit" {
                return reply;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held).await.expect("held in time")
}

#[tokio::test]
async fn one_small_file_of_a_large_archive_costs_its_end_and_its_own_mib() {
    for storage in MODES {
        let scene = Scene::start(storage, large()).await;
        let first = get_entry(&scene, "small").await;
        assert_eq!((first.status.as_u16(), first.cache()), (200, "larder; fwd=miss"), "{storage:?}");
        assert!(first.body == pages(7, 10 << 10), "{storage:?}");
        let hit = until_held(&scene, "small").await;
        assert!(hit.body == first.body, "{storage:?}");
        let bytes = scene.gitlab.counters().artifact_bytes();
        assert!(bytes <= 3 * MIB + (64 << 10), "{storage:?}: {bytes}");
        if let Storage::Redirect { .. } = storage {
            assert!(parts(&scene).len() <= 3, "{:?}", parts(&scene).len());
        }
        // Another one of the same MiB is there already, or costs its own.
        let text = get_entry(&scene, "text").await;
        assert!(text.body == pages(8, 300_000), "{storage:?}");
        let more = scene.gitlab.counters().artifact_bytes() - bytes;
        assert!(more <= 2 * MIB + (64 << 10), "{storage:?}: {more}");
    }
}

#[tokio::test]
async fn ranges_of_a_cold_archive_are_fetched_alone_and_kept() {
    for storage in MODES {
        let scene = Scene::start(storage, large()).await;
        let whole = scene.archive.bytes().unwrap();
        let (from, to) = (30 * 1_048_576 + 17, 32 * 1_048_576);
        let range = format!("bytes={from}-{to}");
        for (turn, cache) in ["larder; fwd=partial; stored", "larder; hit"].into_iter().enumerate() {
            let reply = get_range(&scene, &range).await;
            assert_eq!(reply.status, 206, "{storage:?}");
            assert!(reply.body == whole.slice(from..=to), "{storage:?}");
            assert_eq!(reply.cache(), cache, "{storage:?} {turn}");
        }
        let bytes = scene.gitlab.counters().artifact_bytes();
        assert!(bytes <= 5 * MIB + (64 << 10), "{storage:?}: {bytes}");
        let end = get_range(&scene, "bytes=-5000").await;
        assert_eq!((end.status.as_u16(), end.cache()), (206, "larder; hit"), "{storage:?}");
        assert_eq!(end.body, whole.slice(whole.len() - 5000..), "{storage:?}");
    }
}

#[tokio::test]
async fn what_is_wanted_whole_is_completed_with_what_is_missing() {
    for storage in MODES {
        let scene = Scene::start(storage, large()).await;
        let part = get_range(&scene, "bytes=31457280-41943039").await;
        assert_eq!((part.status.as_u16(), part.body.len()), (206, 10 << 20), "{storage:?}");
        let reply = scene.get().await;
        assert!(
            scene.is_archive(&reply),
            "{storage:?}: {} {} {}",
            reply.status,
            reply.body.len(),
            reply.whole
        );
        assert_eq!(reply.cache(), "larder; fwd=partial; stored", "{storage:?}");
        let moved = scene.gitlab.counters().artifact_bytes();
        assert!(moved <= scene.archive.len() + 300_000, "{storage:?}: {moved} of {}", scene.archive.len());
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
        assert_eq!(scene.transfers(), 0, "{storage:?}: never as a whole");
        // It is a whole archive among the others now, which the next larder finds.
        let dir = scene.larder.stop().await;
        let larder = Larder::on(&scene.gitlab.url(), dir, |_| ()).await;
        let scene = Scene { larder, ..scene };
        let again = scene.get().await;
        assert!(scene.is_archive(&again) && again.cache() == "larder; hit", "{storage:?} {}", again.cache());
    }
}

#[tokio::test]
async fn a_restart_keeps_what_is_here() {
    for storage in MODES {
        let scene = Scene::start(storage, large()).await;
        let range = "bytes=31457280-33554431";
        let part = get_range(&scene, range).await;
        let dir = scene.larder.stop().await;
        let larder = Larder::on(&scene.gitlab.url(), dir, |_| ()).await;
        let scene = Scene { larder, ..scene };
        let before = scene.gitlab.counters().artifact_bytes();
        let again = get_range(&scene, range).await;
        assert!(again.cache() == "larder; hit" && again.body == part.body, "{storage:?} {}", again.cache());
        let moved = scene.gitlab.counters().artifact_bytes() - before;
        assert!(moved < 4096, "{storage:?}: {moved}");
    }
}

#[tokio::test]
async fn a_transfer_that_ended_with_its_larder_goes_on_with_the_next() {
    for storage in MODES {
        let scene =
            Scene::with(storage, large(), |config| config.upstream.resume_timeout = Duration::ZERO).await;
        let cut = Effect::Cut { after: 50 * MIB, ending: Ending::Close };
        scene.gitlab.fault(scene.on_transfer(cut).once());
        let broken = scene.get().await;
        assert!(!broken.whole, "{storage:?}");
        let dir = scene.larder.stop().await;
        let larder = Larder::on(&scene.gitlab.url(), dir, |_| ()).await;
        let scene = Scene { larder, ..scene };
        let reply = scene.get().await;
        assert!(
            scene.is_archive(&reply),
            "{storage:?}: {} {} {}",
            reply.status,
            reply.body.len(),
            reply.whole
        );
        assert_eq!(reply.cache(), "larder; fwd=partial; stored", "{storage:?}");
        let moved = scene.gitlab.counters().artifact_bytes();
        assert!(moved <= scene.archive.len() + MIB + 4096, "{storage:?}: {moved}");
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
    }
}

#[tokio::test]
async fn a_crowd_of_ranges_fetches_each_byte_once() {
    for storage in MODES {
        let scene = Scene::start(storage, large()).await;
        let whole = scene.archive.bytes().unwrap();
        let length = whole.len();
        let ranges = (0..16).map(|n| (length * n / 16, length * (n + 1) / 16 - 1));
        let replies = ranges.map(|(from, to)| {
            let (url, token, part) = (scene.url(), scene.token.clone(), whole.slice(from..=to));
            async move {
                let range = format!("bytes={from}-{to}");
                let reply = get(&url, &[("private-token", &*token), ("range", &range)]).await;
                reply.status == 206 && reply.body == part
            }
        });
        let replies: tokio::task::JoinSet<bool> = replies.collect();
        assert!(replies.join_all().await.into_iter().all(|right| right), "{storage:?}");
        let moved = scene.gitlab.counters().artifact_bytes();
        assert!(moved <= scene.archive.len() + 400_000, "{storage:?}: {moved} of {length}");
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
    }
}

#[tokio::test]
async fn a_crowd_that_wants_one_file_of_a_cold_archive_moves_no_more_than_a_few_do() {
    for storage in MODES {
        let long = pages(9, 4 << 20);
        let one = |n: u64| Member::stored(format!("{n}"), pages(n * 1000, 1 << 20));
        let archive = (0..40).map(one).chain([Member::stored("long", long.clone())]).chain((40..80).map(one));
        let scene = Scene::start(storage, Archive::runner(archive)).await;
        let crowd: tokio::task::JoinSet<Reply> = (0..12)
            .map(|_| {
                let (url, token) = (entry(&scene, "long"), scene.token.clone());
                async move { get(&url, &[("private-token", &*token)]).await }
            })
            .collect();
        let replies = crowd.join_all().await;
        assert!(replies.iter().all(|reply| reply.status == 200 && reply.body == long), "{storage:?}");
        let passed = replies.iter().filter(|reply| reply.cache() == "larder; fwd=miss").count();
        assert_eq!(passed, 1, "{storage:?}");
        // GitLab's own answer to the first; then a question or two, whose answers are cut off; the end, and the file to the
        // bounds of its MiB. Each by himself had 48.
        let moved = scene.gitlab.counters().artifact_bytes();
        assert!(moved <= (4 + 8 + 6) * MIB + (256 << 10), "{storage:?}: {moved}");
    }
}

#[tokio::test]
async fn a_crowd_whom_gitlab_refuses_is_not_held_up() {
    let scene = Scene::start(MODES[0], large()).await;
    let stranger = scene.stranger();
    let crowd: tokio::task::JoinSet<Reply> = (0..12)
        .map(|_| {
            let (url, token) = (entry(&scene, "small"), stranger.clone());
            async move { get(&url, &[("private-token", &*token)]).await }
        })
        .collect();
    assert!(crowd.join_all().await.iter().all(|reply| reply.status == 404));
}

#[tokio::test]
async fn whoever_gitlab_refuses_gets_no_part() {
    for storage in MODES {
        let scene = Scene::start(storage, large()).await;
        let stranger = scene.stranger();
        let range = "bytes=31457280-33554431";
        for held in [false, true] {
            let fields = [("private-token", &*stranger), ("range", range)];
            let refused = get(&scene.url(), &fields).await;
            assert_eq!((refused.status.as_u16(), refused.body.len()), (404, 35), "{storage:?} {held}");
            let refused = get(&entry(&scene, "small"), &fields).await;
            assert_eq!(refused.status, 404, "{storage:?} {held}");
            assert_eq!(get_range(&scene, range).await.status, 206, "{storage:?}");
        }
    }
}

#[tokio::test]
async fn a_part_of_another_archive_ends_it() {
    for storage in MODES {
        let scene = Scene::start(storage, large()).await;
        let first = get_range(&scene, "bytes=31457280-32505855").await;
        assert_eq!(first.status, 206, "{storage:?}");
        let newer = Archive::seeded(90 * MIB, 5).unwrap();
        scene.gitlab.put_archive(scene.job, newer.clone());
        scene.larder.clock.advance(Duration::from_secs(60));
        let reply = get_range(&scene, "bytes=41943040-42991615").await;
        let expected = newer.read_at(41_943_040, 1 << 20).unwrap();
        assert!(reply.status == 206 && reply.body == expected, "{storage:?}: {}", reply.status);
    }
}

#[tokio::test]
async fn a_source_that_knows_no_parts_is_fetched_whole() {
    for storage in MODES {
        let scene = Scene::start(storage, large()).await;
        let whole = scene.archive.bytes().unwrap();
        scene.gitlab.fault(Fault::new(Effect::IgnoreRange).when(|seen| seen.header("range").is_some()));
        scene.gitlab.fault(Fault::new(Effect::IgnoreRange).on_store());
        let reply = get_range(&scene, "bytes=31457280-32505855").await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (206, 1 << 20), "{storage:?}");
        assert!(reply.body == whole.slice(31_457_280..32_505_856), "{storage:?}");
    }
}

#[tokio::test]
async fn a_long_file_streams_while_it_is_fetched_and_many_share_it() {
    for storage in MODES {
        let long = pages(3, 70 << 20);
        let members = [Member::stored("before", pages(1, 5 << 20)), Member::stored("long", long.clone())];
        let scene = Scene::start(
            storage,
            Archive::runner(members.into_iter().chain([Member::stored("after", pages(2, 80 << 20))])),
        )
        .await;
        until_held(&scene, "before").await;
        let gate = Gate::new();
        let fault = Fault::new(Effect::Slow(gate.clone())).when(is_span);
        scene.gitlab.fault(if let Storage::Redirect { .. } = storage {
            fault.on_store()
        } else {
            fault.on(Class::JobArchive)
        });
        let bob = scene.member("bob", Level::Developer);
        gate.release(4 * MIB);
        let before = scene.gitlab.counters().artifact_bytes();
        let open = |token: String| {
            let url = entry(&scene, "long");
            async move {
                crate::support::open(http::Method::GET, &url, &[("private-token", &token)], "")
                    .await
                    .expect("a head")
            }
        };
        let (mut one, mut other) = (open(scene.token.clone()).await, open(bob).await);
        assert!(one.next().await.unwrap().is_ok() && other.next().await.unwrap().is_ok(), "{storage:?}");
        gate.open();
        for exchange in [one, other] {
            let reply = exchange.rest().await;
            assert!(reply.whole && long.ends_with(&reply.body), "{storage:?}");
        }
        let moved = scene.gitlab.counters().artifact_bytes() - before;
        assert!(moved <= scene.archive.len() + MIB, "{storage:?}: {moved}");
    }
}
