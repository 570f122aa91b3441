//! Parts, conditions and gzip.

use std::io::Read;

use gitlab_standin::{Etag, Storage};

use super::{asking_each_time, files, noise, scene, text};
use crate::scene::{MODES, Scene};
use crate::support::{Reply, get};

async fn with(scene: &Scene, name: &str, fields: &[(&str, &str)]) -> Reply {
    let token = ("private-token", scene.token.as_str());
    get(&scene.entry(name), &[&[token], fields].concat()).await
}

#[tokio::test]
async fn parts_of_files_are_parts_of_what_gitlab_gives() {
    let scene = scene(Storage::Local { etag: Etag::Weak }, |_| ()).await;
    scene.warm().await;
    // Twice: checked on its way, and known to be right.
    for round in 0..2 {
        for (name, bytes, _) in files().into_iter().filter(|(_, bytes, _)| bytes.len() > 100) {
            let end = bytes.len();
            for (range, expected) in [
                ("bytes=0-0".to_owned(), 0..1),
                ("bytes=10-99".to_owned(), 10..100),
                ("bytes=-7".to_owned(), end - 7..end),
                (format!("bytes={}-", end / 2), end / 2..end),
                ("bytes=1-99999999".to_owned(), 1..end),
            ] {
                let reply = with(&scene, name, &[("range", &range)]).await;
                let context = format!("{name} {range} round {round}");
                assert_eq!(reply.status, 206, "{context}");
                assert!(reply.whole && reply.body == bytes[expected.clone()], "{context}");
                let said = format!("bytes {}-{}/{end}", expected.start, expected.end - 1);
                assert_eq!(reply.field("content-range"), Some(said.as_str()), "{context}");
            }
            let beyond = with(&scene, name, &[("range", &format!("bytes={end}-"))]).await;
            assert_eq!(beyond.status, 416, "{name}");
        }
    }
}

#[tokio::test]
async fn conditions_are_met_by_the_tag_that_a_hit_gives() {
    for storage in MODES {
        let scene = scene(storage, asking_each_time).await;
        scene.warm().await;
        let reply = with(&scene, "report.txt", &[]).await;
        let tag = reply.field("etag").unwrap().to_owned();
        assert!(tag.starts_with('"'), "{storage:?}: strong");
        if storage == (Storage::Local { etag: Etag::Sha256 }) {
            let direct =
                get(&scene.straight(&scene.entry("report.txt")), &[("private-token", &scene.token)]).await;
            assert_eq!(direct.field("etag"), Some(tag.as_str()), "GitLab's own");
        }
        assert_eq!(with(&scene, "report.txt", &[("if-none-match", &tag)]).await.status, 304, "{storage:?}");
        assert_eq!(with(&scene, "report.txt", &[("if-match", "\"x\"")]).await.status, 412, "{storage:?}");
        let part = [("range", "bytes=0-3"), ("if-range", tag.as_str())];
        assert_eq!(with(&scene, "report.txt", &part).await.status, 206, "{storage:?}");
        let other = [("range", "bytes=0-3"), ("if-range", "\"x\"")];
        assert_eq!(with(&scene, "report.txt", &other).await.status, 200, "{storage:?}");
        let constant = "W/\"12ae32cb1ec02d01eda3581b127c1fee\"";
        assert_eq!(
            with(&scene, "report.txt", &[("if-none-match", constant)]).await.status,
            200,
            "{storage:?}"
        );
        let page = with(&scene, "d/page.html", &[("if-none-match", &tag)]).await;
        assert_eq!(page.status, 200, "{storage:?}: another file's");
        let dir = scene.larder.stop().await;
        let larder = crate::support::Larder::on(&scene.gitlab.url(), dir, |_| ()).await;
        let scene = Scene { larder, ..scene };
        assert_eq!(
            with(&scene, "report.txt", &[]).await.field("etag"),
            Some(tag.as_str()),
            "after a restart"
        );
    }
}

#[tokio::test]
async fn the_constant_tag_neither_goes_out_nor_comes_in() {
    let scene = scene(Storage::Local { etag: Etag::Weak }, |config| {
        config.serving.on_file = larder::proxy::OnFile::Pass;
    });
    let scene = scene.await;
    let constant = "W/\"12ae32cb1ec02d01eda3581b127c1fee\"";
    let reply = with(&scene, "report.txt", &[("if-none-match", constant)]).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 5_000));
    assert_eq!(reply.field("etag"), None);
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut unpacked).unwrap();
    unpacked
}

#[tokio::test]
async fn text_goes_out_as_gzip_to_those_who_take_it() {
    let scene = scene(Storage::Local { etag: Etag::Weak }, |_| ()).await;
    scene.warm().await;
    for (name, bytes) in [("report.txt", text(5_000)), ("d/large.log", text(3_000_000))] {
        let plain = with(&scene, name, &[]).await;
        let packed = with(&scene, name, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(packed.field("content-encoding"), Some("gzip"), "{name}");
        assert_eq!(packed.field("content-length"), Some(packed.body.len().to_string().as_str()));
        assert!(packed.body.len() < bytes.len() / 10 && unpacked(&packed.body) == bytes, "{name}");
        assert_eq!(packed.field("content-type"), plain.field("content-type"));
        for reply in [&plain, &packed] {
            assert!(reply.field("vary").unwrap().contains("Accept-Encoding"), "{name}");
        }
        let tag = packed.field("etag").unwrap();
        assert_ne!(plain.field("etag"), Some(tag));
        let again = with(&scene, name, &[("accept-encoding", "gzip"), ("if-none-match", tag)]).await;
        assert_eq!(again.status, 304);
        for refusing in ["identity", "gzip;q=0", "br"] {
            let reply = with(&scene, name, &[("accept-encoding", refusing)]).await;
            assert!(reply.field("content-encoding").is_none() && reply.body == bytes, "{name} {refusing}");
        }
        let part = with(&scene, name, &[("accept-encoding", "gzip"), ("range", "bytes=0-9")]).await;
        assert_eq!(
            (part.status.as_u16(), &part.body[..]),
            (206, &bytes[..10]),
            "parts are of the file as it is"
        );
    }
}

#[tokio::test]
async fn what_is_no_text_or_not_deflated_goes_out_as_it_is_unless_all_is_asked_for() {
    use larder::proxy::GzipFor;
    for (gzip, packed) in [
        (GzipFor::Text, vec!["report.txt"]),
        (GzipFor::All, vec!["report.txt", "squeezed.bin"]),
        (GzipFor::Off, vec![]),
    ] {
        let archive = gitlab_standin::Archive::runner([
            gitlab_standin::Member::file("report.txt", text(5_000)),
            gitlab_standin::Member::stored("stored.txt", text(5_000)),
            gitlab_standin::Member::file("squeezed.bin", vec![0; 5_000]),
            gitlab_standin::Member::stored("noise.bin", noise(5_000)),
        ]);
        let change = |config: &mut larder::config::Config| config.serving.gzip = gzip;
        let scene = Scene::with(Storage::Local { etag: Etag::Weak }, archive, change).await;
        scene.warm().await;
        for name in ["report.txt", "stored.txt", "squeezed.bin", "noise.bin"] {
            let reply = with(&scene, name, &[("accept-encoding", "gzip")]).await;
            let is_packed = reply.field("content-encoding") == Some("gzip");
            assert_eq!(is_packed, packed.contains(&name), "{name} {gzip:?}");
        }
    }
}

#[tokio::test]
async fn several_ranges_come_as_parts() {
    let scene = scene(Storage::Local { etag: Etag::Weak }, |_| ()).await;
    scene.warm().await;
    let archive = scene.archive.bytes().unwrap();
    let fields = [("private-token", scene.token.as_str()), ("range", "bytes=0-9,100-199,-5")];
    for (url, whole) in [(scene.url(), archive.to_vec()), (scene.entry("d/large.log"), text(3_000_000))] {
        let reply = get(&url, &fields).await;
        assert_eq!(reply.status, 206, "{url}");
        let kind = reply.field("content-type").unwrap();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        assert_eq!(reply.field("content-length"), Some(reply.body.len().to_string().as_str()));
        let end = whole.len();
        let mut rest = &reply.body[..];
        for part in [0..10, 100..200, end - 5..end] {
            let said = format!("Content-Range: bytes {}-{}/{end}\r\n\r\n", part.start, part.end - 1);
            let at = rest.windows(said.len()).position(|window| window == said.as_bytes()).unwrap();
            assert!(String::from_utf8_lossy(&rest[..at]).contains(&format!("--{boundary}\r\n")), "{url}");
            rest = &rest[at + said.len()..];
            assert_eq!(rest[..part.len()], whole[part.clone()], "{url} {part:?}");
            rest = &rest[part.len()..];
        }
        assert_eq!(rest, format!("\r\n--{boundary}--\r\n").as_bytes(), "{url}");
    }
}
