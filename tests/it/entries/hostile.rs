//! Archives that lie.

use gitlab_standin::{Archive, Etag, Member, Storage};

use super::{noise, text};
use crate::scene::Scene;
use crate::support::get;

const LOCAL: Storage = Storage::Local { etag: Etag::Weak };

/// The place of the `n`th central record's field.
fn central(zip: &[u8], n: usize, field: usize) -> usize {
    let records = zip.windows(4).enumerate().filter(|(_, window)| *window == b"PK\x01\x02");
    records.map(|(at, _)| at).nth(n).unwrap() + field
}

/// An archive of two files, the first of which is spoilt.
fn spoilt(member: Member, spoil: impl FnOnce(&mut Vec<u8>)) -> Archive {
    let whole = Archive::runner([member, Member::file("good.txt", "good")]);
    let mut bytes = whole.bytes().unwrap().to_vec();
    spoil(&mut bytes);
    Archive::from_bytes(bytes)
}

/// Lies about a file of this kind, each with a name.
fn lies(member: &Member) -> Vec<(&'static str, Archive)> {
    let lie = |spoil: fn(&mut Vec<u8>)| spoilt(member.clone(), spoil);
    vec![
        (
            "checksum",
            lie(|zip| {
                let at = central(zip, 0, 16);
                zip[at] ^= 1;
            }),
        ),
        (
            "size",
            lie(|zip| {
                let at = central(zip, 0, 24);
                zip[at] = zip[at].wrapping_sub(1);
            }),
        ),
        (
            "method",
            lie(|zip| {
                let at = central(zip, 0, 10);
                zip[at] = 12;
            }),
        ),
        (
            "encrypted",
            lie(|zip| {
                let at = central(zip, 0, 8);
                zip[at] |= 1;
            }),
        ),
        (
            "place",
            lie(|zip| {
                let at = central(zip, 0, 42);
                zip[at] = zip[at].wrapping_add(3);
            }),
        ),
    ]
}

#[tokio::test]
async fn what_does_not_add_up_never_ends_cleanly_with_other_bytes_than_gitlabs() {
    for (kind, member) in [
        ("small deflated", Member::file("bad.txt", text(5_000))),
        ("small stored", Member::stored("bad.txt", noise(5_000))),
        ("large deflated", Member::file("bad.txt", text(2_000_000))),
        ("large stored", Member::stored("bad.txt", noise(2_000_000))),
    ] {
        for (lie, archive) in lies(&member) {
            let scene = Scene::start(LOCAL, archive).await;
            scene.warm().await;
            let context = format!("{kind}, {lie}");
            let fields = [("private-token", scene.token.as_str())];
            let direct = get(&scene.straight(&scene.entry("bad.txt")), &fields).await;
            // The first may break off where it turns out not to add up; from then on it is GitLab's own answer.
            for round in 0..3 {
                let ours = get(&scene.entry("bad.txt"), &fields).await;
                let gitlabs =
                    ours.status == direct.status && ours.whole == direct.whole && ours.body == direct.body;
                let broken = !ours.whole;
                assert!(gitlabs || broken, "{context}, round {round}: {} {}", ours.status, ours.body.len());
                assert!(round == 0 || gitlabs, "{context}, round {round}");
            }
            let good = get(&scene.entry("good.txt"), &fields).await;
            assert_eq!((&good.body[..], good.cache()), (&b"good"[..], "larder; hit"), "{context}");
            let gzip = [fields[0], ("accept-encoding", "gzip")];
            let packed = get(&scene.entry("bad.txt"), &gzip).await;
            assert_eq!(packed.field("content-encoding"), None, "{context}");
        }
    }
}

/// A number of so many bytes in the end record, changed by so much.
fn off(archive: &Archive, field: usize, length: usize, by: i64) -> Archive {
    let mut bytes = archive.bytes().unwrap().to_vec();
    let at = bytes.windows(4).rposition(|four| four == b"PK\x05\x06").unwrap() + field;
    let mut number = [0; 8];
    number[..length].copy_from_slice(&bytes[at..at + length]);
    let changed = i64::from_le_bytes(number) + by;
    bytes[at..at + length].copy_from_slice(&changed.to_le_bytes()[..length]);
    Archive::from_bytes(bytes)
}

/// Archives whose end record, or whose last record before it, isn't right: what Go's reader says of them differs from what
/// others do.
fn with_wrong_ends() -> Vec<(String, Archive)> {
    let whole =
        Archive::runner([Member::file("d/first.txt", "first"), Member::stored("last.txt", noise(3_000))]);
    let mut all = vec![("none".to_owned(), whole.clone())];
    for (name, field, length, wrong) in [
        ("records", 10, 2, &[-2, -1, 1, 60_000][..]),
        ("size", 12, 4, &[-46, -1, 1, 46, 200, 20_000]),
        ("offset", 16, 4, &[-46, -1, 1, 46, 200, 20_000]),
    ] {
        all.extend(wrong.iter().map(|by| (format!("{name} {by}"), off(&whole, field, length, *by))));
    }
    let bytes = whole.bytes().unwrap();
    let last = central(&bytes, 1, 0);
    for (name, field) in [("name", 28), ("extra field", 30), ("comment", 32)] {
        for more in [1_u8, 22, 200] {
            let mut over = bytes.to_vec();
            over[last + field] = over[last + field].wrapping_add(more);
            all.push((format!("a record's {name} longer by {more}"), Archive::from_bytes(over)));
        }
    }
    all.push(("a comment beyond the end".to_owned(), off(&whole, 20, 2, 1)));
    let stub = [b"#!/bin/sh\nexit\n".as_slice(), &bytes].concat();
    all.push(("a stub before it".to_owned(), Archive::from_bytes(stub)));
    all
}

#[tokio::test]
async fn an_archive_whose_end_record_is_wrong_has_the_files_that_go_finds_in_it() {
    for (lie, archive) in with_wrong_ends() {
        let scene = Scene::start(LOCAL, archive).await;
        let fields = [("private-token", scene.token.as_str())];
        for hot in [false, true] {
            if hot {
                assert!(scene.is_archive(&scene.get().await), "{lie}");
            }
            for name in ["d/first.txt", "last.txt", "none.txt"] {
                let direct = get(&scene.straight(&scene.entry(name)), &fields).await;
                let ours = get(&scene.entry(name), &fields).await;
                let context = format!("{lie}: {name}, hot: {hot}");
                assert_eq!(ours.status, direct.status, "{context}");
                assert!(ours.whole && ours.body == direct.body, "{context}");
                if direct.status == 500 {
                    assert!(!ours.cache().contains("hit"), "{context}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_first_of_two_files_of_one_name_is_it() {
    let archive = Archive::runner([
        Member::file("twice.txt", "first"),
        Member::file("twice.txt", "second"),
        Member::file("../escapes.txt", "outside"),
    ]);
    let scene = Scene::start(LOCAL, archive).await;
    scene.warm().await;
    let fields = [("private-token", scene.token.as_str())];
    let reply = get(&scene.entry("twice.txt"), &fields).await;
    assert_eq!((&reply.body[..], reply.cache()), (&b"first"[..], "larder; hit"));
    let escaping = get(&scene.entry("../escapes.txt"), &fields).await;
    assert!(!escaping.cache().contains("hit"), "GitLab may read it otherwise");
}
