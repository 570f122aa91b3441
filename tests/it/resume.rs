//! Transfers that break off and are taken up where they stopped: those who wait notice nothing but a pause.

use std::time::{Duration, SystemTime};

use gitlab_standin::{Archive, Class, Effect, Ending, Fault, Gate, Level, Member, Seen, Storage, pattern};

use crate::scene::{MODES, Scene, archive};

const SIZE: u64 = 3_000_000;

/// Whether a request is for a part, where the archive's bytes are: what a resumed transfer asks for.
fn is_part(seen: &Seen) -> bool {
    seen.header("range").is_some_and(|range| range.ends_with('-'))
}

/// A fault on requests for the rest of an archive, where its bytes are.
fn on_rest(scene: &Scene, effect: Effect) -> Fault {
    let fault = Fault::new(effect).when(is_part);
    if let Storage::Redirect { .. } = scene.storage { fault.on_store() } else { fault }
}

fn cut(after: u64) -> Effect {
    Effect::Cut { after, ending: Ending::Close }
}

fn bytes(scene: &Scene) -> u64 {
    scene.gitlab.counters().artifact_bytes()
}

#[tokio::test]
async fn a_cut_is_a_pause() {
    for storage in MODES {
        for (after, ending) in [
            (4, Ending::Close),
            (SIZE / 2, Ending::Reset),
            (SIZE - 700, Ending::Close),
            (SIZE - 1, Ending::Close),
        ] {
            let context = format!("{storage:?} {after} {ending:?}");
            let scene = Scene::start(storage, archive(SIZE, 1)).await;
            scene.gitlab.fault(scene.on_transfer(Effect::Cut { after, ending }).once());
            let reply = scene.get().await;
            assert!(scene.is_archive(&reply), "{context}: {} {}", reply.status, reply.body.len());
            assert_eq!(reply.cache(), "larder; fwd=miss; stored", "{context}");
            // What was sent before a reset may be lost on the way.
            let once = ending == Ending::Reset || bytes(&scene) <= SIZE + (65 << 10);
            assert!(once, "{context}: {}", bytes(&scene));
            let hit = scene.get().await;
            assert!(scene.is_archive(&hit) && hit.cache() == "larder; hit", "{context}: {}", hit.cache());
        }
    }
}

#[tokio::test]
async fn fifty_cuts_are_one_transfer_and_a_little() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(SIZE, 2)).await;
        scene.gitlab.fault(scene.on_transfer(cut(70_000)).once());
        scene.gitlab.fault(on_rest(&scene, cut(70_000)).first(49));
        let reply = scene.get().await;
        assert!(scene.is_archive(&reply), "{storage:?}: {} {}", reply.status, reply.body.len());
        // What was fetched twice is half of what each connection brought.
        assert!(bytes(&scene) <= SIZE + 50 * (64 << 10), "{storage:?}: {}", bytes(&scene));
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
    }
}

#[tokio::test]
async fn a_source_that_knows_no_parts_begins_again_and_its_bytes_are_compared() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(SIZE, 3)).await;
        scene.gitlab.fault(scene.on_transfer(cut(SIZE / 2)).once());
        scene.gitlab.fault(on_rest(&scene, Effect::IgnoreRange));
        assert!(scene.is_archive(&scene.get().await), "{storage:?}");
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
    }
}

#[tokio::test]
async fn a_bad_moment_passes() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(SIZE, 4)).await;
        scene.gitlab.fault(scene.on_transfer(cut(SIZE / 2)).once());
        // A signature that has expired, a connection that isn't answered, an object store that is overloaded.
        let refused =
            Effect::Answer { status: 403, content_type: "application/xml", body: "<Error/>".into() };
        let busy = Effect::Answer { status: 503, content_type: "text/plain", body: "Slow Down".into() };
        let mut effects = vec![Effect::Drop(Ending::Close), busy];
        if let Storage::Redirect { .. } = storage {
            effects.push(refused);
        }
        for (turn, effect) in (1..).zip(effects) {
            scene.gitlab.fault(on_rest(&scene, effect).nth(turn));
        }
        assert!(scene.is_archive(&scene.get().await), "{storage:?}");
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
    }
}

/// A download of alice's, and a follower's, of which half is there when the transfer breaks off at the gate's word.
async fn half(scene: &Scene) -> (Gate, crate::support::Exchange, crate::support::Exchange) {
    let bob = scene.member("bob", Level::Developer);
    let body = Gate::new();
    scene.gitlab.fault(scene.on_transfer(Effect::Slow(body.clone())).once());
    scene.gitlab.fault(scene.on_transfer(cut(SIZE / 2)).once());
    body.release(100_000);
    let (leader, follower) = (scene.open().await, scene.open_as(&bob).await);
    assert_eq!(follower.fields["cache-status"], "larder; fwd=miss; collapsed", "{:?}", scene.storage);
    (body, leader, follower)
}

#[tokio::test]
async fn whoever_still_waits_is_asked_for_when_the_leader_is_refused() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(SIZE, 5)).await;
        let (body, leader, follower) = half(&scene).await;
        scene.gitlab.revoke(&scene.token);
        body.open();
        for exchange in [leader, follower] {
            assert!(scene.is_archive(&exchange.rest().await), "{storage:?}");
        }
        assert!(bytes(&scene) <= SIZE + (64 << 10) + 2048, "{storage:?}: {}", bytes(&scene));
    }
}

#[tokio::test]
async fn an_archive_that_was_replaced_meanwhile_breaks_off_and_comes_whole_to_the_next() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(SIZE, 6)).await;
        let (body, leader, follower) = half(&scene).await;
        let newer = archive(SIZE, 7);
        scene.gitlab.put_archive(scene.job, newer.clone());
        body.open();
        for exchange in [leader, follower] {
            let reply = exchange.rest().await;
            assert!(!reply.whole && scene.archive.bytes().unwrap().starts_with(&reply.body), "{storage:?}");
        }
        let scene = Scene { archive: newer, ..scene };
        assert!(scene.is_archive(&scene.get().await), "{storage:?}");
        assert_eq!(scene.get().await.cache(), "larder; hit", "{storage:?}");
    }
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    for storage in MODES {
        let scene = Scene::start(storage, archive(SIZE, 8)).await;
        scene.gitlab.fault(scene.on_transfer(cut(SIZE / 2)).once());
        let gate = Gate::new();
        scene.gitlab.fault(on_rest(&scene, Effect::Hold(gate.clone())));
        scene.gitlab.fault(on_rest(&scene, Effect::Drop(Ending::Close)));
        let later = async {
            gate.arrived(1).await;
            scene.larder.clock.advance(Duration::from_secs(61));
            gate.open();
        };
        let (reply, ()) = tokio::join!(scene.get(), later);
        assert!(!reply.whole && scene.archive.bytes().unwrap().starts_with(&reply.body), "{storage:?}");
    }
}

#[tokio::test]
async fn a_part_of_something_else_is_not_taken_for_the_rest() {
    let scene = Scene::start(MODES[2], archive(SIZE, 9)).await;
    scene.gitlab.fault(scene.on_transfer(cut(SIZE / 2)).once());
    // The right head and other bytes: what comes again isn't what came before.
    scene.gitlab.fault(on_rest(&scene, Effect::Body(vec![7; 2_000_000].into())));
    let reply = scene.get().await;
    assert!(!reply.whole && scene.archive.bytes().unwrap().starts_with(&reply.body));
    assert_eq!(scene.gitlab.counters().requests_of(Class::JobArchive), 2);
}

/// Archives of one length, alike but for their first file.
fn alike(first: u64) -> Archive {
    let file = |name: &str, seed, length| Member::stored(name, pattern(seed, length));
    Archive::runner([file("a", first, 100_000), file("b", 1, 400_000), file("c", 2, 100_000)])
}

#[tokio::test]
async fn halves_of_two_archives_of_one_date_that_are_alike_where_they_meet_are_no_archive() {
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for storage in MODES {
        let scene = Scene::start(storage, alike(10)).await;
        scene.gitlab.put_archive_dated(scene.job, alike(10), date);
        let gate = Gate::new();
        scene.gitlab.fault(scene.on_transfer(Effect::Slow(gate.clone())).once());
        scene.gitlab.fault(scene.on_transfer(cut(300_000)).once());
        gate.release(50_000);
        let leader = scene.open().await;
        scene.gitlab.put_archive_dated(scene.job, alike(11), date);
        gate.open();
        let reply = leader.rest().await;
        assert!(!reply.whole, "{storage:?}: {} bytes", reply.body.len());
        let scene = Scene { archive: alike(11), ..scene };
        let reply = scene.get().await;
        assert!(scene.is_archive(&reply) && reply.cache() == "larder; fwd=miss; stored", "{storage:?}");
    }
}
