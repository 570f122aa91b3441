//! Single entries: what they say they are, and how damage shows.

use gitlab_standin::{Archive, Class, Effect, Fault, GitLab, JobId, JobStatus, Member, Setup, Visibility};

use super::client::{Answer, ask, get};

async fn scene(archive: Archive) -> (GitLab, JobId) {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let project = gitlab.project("g/p", Visibility::Public);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, archive);
    (gitlab, job)
}

async fn both(gitlab: &GitLab, job: JobId, path: &str) -> (Answer, Answer) {
    let by_job = get(&format!("{}/{path}", gitlab.archive_url(job)), &[]).await;
    (by_job, get(&by_ref(gitlab, path), &[]).await)
}

fn by_ref(gitlab: &GitLab, path: &str) -> String {
    format!("{}/api/v4/projects/1/jobs/artifacts/main/raw/{path}?job=build", gitlab.url())
}

#[tokio::test]
async fn the_extension_counts_by_job_and_the_content_by_ref() {
    const BYTES: &str = "application/octet-stream";
    const SVG: &str = "<?xml version='1.0'?><!-- c --><svg xmlns='http://www.w3.org/2000/svg'></svg>";
    const TEXT: &str = "text/plain; charset=utf-8";
    let (gitlab, job) = scene(Archive::runner([
        Member::directory("dir"),
        Member::file("page.html", "<!DOCTYPE html><script>1</script>"),
        Member::file("data.json", "{\"a\":1}"),
        Member::file("image.svg", SVG),
        Member::file("lies.txt", b"\x89PNG\r\n\x1a\n....".to_vec()),
        Member::stored("program", vec![0x7f, b'E', b'L', b'F', 0, 1, 2]),
        Member::file("empty.css", ""),
        Member::file("dir/ä \"q\\.TXT", "text"),
    ]))
    .await;
    let cases = [
        ("page.html", "text/html; charset=utf-8", BYTES),
        ("data.json", "application/json", BYTES),
        ("image.svg", "image/svg+xml", "image/svg+xml"),
        ("lies.txt", TEXT, BYTES),
        ("program", "application/octet-stream", "application/octet-stream"),
        ("empty.css", "text/css; charset=utf-8", "text/css; charset=utf-8"),
        ("dir%2F%C3%A4%20%22q%5C.TXT", TEXT, BYTES),
        ("dir/", "application/octet-stream", "application/octet-stream"),
    ];
    for (path, extension, content) in cases {
        let (by_job, by_ref) = both(&gitlab, job, path).await;
        assert_eq!((by_job.status, by_ref.status), (200, 200), "{path}");
        assert_eq!(by_job.header("content-type"), Some(extension), "{path}");
        assert_eq!(by_ref.header("content-type"), Some(content), "{path}");
        assert_eq!(by_job.header("content-disposition"), by_ref.header("content-disposition"));
        assert!(by_job.is_whole() && by_ref.is_whole() && by_job.body == by_ref.body);
    }
    let name = |answer: &Answer| answer.header("content-disposition").unwrap().to_owned();
    let (quoted, _) = both(&gitlab, job, "dir%2F%C3%A4%20%22q%5C.TXT").await;
    assert_eq!(name(&quoted), "attachment; filename=\"ä \\\"q\\\\.TXT\"");
    assert_eq!(name(&both(&gitlab, job, "dir/").await.1), "attachment; filename=\"dir\"");
}

/// `archive` with the bytes at `find` (its `nth` place, from 0) replaced.
fn patched(archive: &Archive, find: &[u8], nth: usize, replace: &[u8]) -> Archive {
    let mut bytes = archive.bytes().unwrap().to_vec();
    let places: Vec<usize> =
        bytes.windows(find.len()).enumerate().filter(|(_, at)| *at == find).map(|(at, _)| at).collect();
    let at = places[nth];
    bytes[at..at + replace.len()].copy_from_slice(replace);
    Archive::from_bytes(bytes)
}

/// Text that deflates badly, so that half of the packed bytes are half of the text.
fn noise(len: u32) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] % 64 + 32
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test]
async fn a_damaged_member_ends_short_of_the_length_it_was_promised() {
    let content = noise(100_000);
    let whole = Archive::runner([Member::file("m.txt", content.clone())]);
    // The directory's record says that the packed bytes end in their middle.
    let mut bytes = whole.bytes().unwrap().to_vec();
    let record = bytes.windows(4).position(|four| four == [0x50, 0x4b, 1, 2]).unwrap();
    bytes[record + 20..record + 24].copy_from_slice(&40_000u32.to_le_bytes());
    let (gitlab, job) = scene(Archive::from_bytes(bytes)).await;
    for answer in [both(&gitlab, job, "m.txt").await.0, both(&gitlab, job, "m.txt").await.1] {
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("100000")));
        assert!(answer.body.len() < 100_000 && answer.body.len() > 10_000, "{}", answer.body.len());
        assert!(
            answer.body.ends_with(b"Internal Server Error\n") && answer.body[..10_000] == content[..10_000]
        );
    }
    let head = ask("HEAD", &by_ref(&gitlab, "m.txt"), &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("100000")));
}

#[tokio::test]
async fn damage_in_what_is_still_held_back_is_500_by_ref_alone() {
    let whole = Archive::runner([Member::stored("m", "0123456789".repeat(10))]);
    // The directory's record: 4 + 20 bytes to the size, 100, which becomes 200.
    let bytes = whole.bytes().unwrap();
    let record = bytes.windows(4).position(|four| four == [0x50, 0x4b, 1, 2]).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[record + 24] = 200;
    let (gitlab, job) = scene(Archive::from_bytes(bytes)).await;
    let (by_job, by_ref) = both(&gitlab, job, "m").await;
    assert_eq!((by_job.status, by_job.header("content-length")), (200, Some("200")));
    assert_eq!(by_job.body.len(), 100 + "Internal Server Error\n".len());
    assert_eq!((by_ref.status, by_ref.is_whole()), (500, true));
}

#[tokio::test]
async fn a_wrong_crc_changes_nothing_on_the_wire() {
    let whole = Archive::runner([Member::stored("m", "needle in a haystack")]);
    for archive in [
        patched(&whole, b"needle", 0, b"noodle"),
        patched(&whole, &crc32fast::hash(b"needle in a haystack").to_le_bytes(), 1, &[0; 4]),
    ] {
        let (gitlab, job) = scene(archive).await;
        let (by_job, by_ref) = both(&gitlab, job, "m").await;
        assert!(by_job.is_whole() && by_job.status == 200);
        assert!(by_ref.is_whole() && by_ref.status == 200);
    }
}

#[tokio::test]
async fn what_go_cannot_open_is_500() {
    let whole = Archive::runner([Member::file("m", "text"), Member::file("n", "text")]);
    let record = [0x50, 0x4b, 1, 2, 0x14, 3, 20, 0, 8, 0, 8, 0];
    let mut bzip2 = record;
    bzip2[10] = 12;
    let cases = [
        ("a method", patched(&whole, &record, 0, &bzip2)),
        ("a local header", patched(&whole, &[0x50, 0x4b, 3, 4], 0, b"XXXX")),
        ("no zip", Archive::from_bytes("text")),
    ];
    for (case, archive) in cases {
        let (gitlab, job) = scene(archive).await;
        let (by_job, by_ref) = both(&gitlab, job, "m").await;
        assert_eq!((by_job.status, by_ref.status), (500, 500), "{case}");
        assert_eq!(by_job.text(), "Internal Server Error\n", "{case}");
        let other = both(&gitlab, job, "n").await.0.status;
        assert_eq!(other, if case == "no zip" { 500 } else { 200 }, "{case}");
    }
}

#[tokio::test]
async fn a_directory_is_where_go_looks_for_it() {
    let whole = Archive::runner([Member::file("m", "text"), Member::file("n", "more")]);
    let bytes = whole.bytes().unwrap().to_vec();
    let end = bytes.windows(4).rposition(|four| four == b"PK\x05\x06").unwrap();
    let changed = |field: usize, by: u8| {
        let mut bytes = bytes.clone();
        bytes[end + field] = bytes[end + field].wrapping_add(by);
        Archive::from_bytes(bytes)
    };
    let cases = [
        ("a size too large", changed(12, 1), 500),
        ("a size too small", changed(12, 255), 200),
        ("an offset too large", changed(16, 1), 500),
        // The directory is found before its end, and every member beside its place.
        ("an offset too small", changed(16, 255), 500),
        ("a number of records", changed(10, 1), 500),
        ("a comment beyond the end", changed(20, 1), 500),
        ("a stub before it", Archive::from_bytes([b"stub".as_slice(), &bytes].concat()), 200),
        ("something behind it", Archive::from_bytes([&bytes[..], b"more"].concat()), 200),
    ];
    for (case, archive, status) in cases {
        let (gitlab, job) = scene(archive).await;
        for member in ["m", "n"] {
            let (by_job, by_ref) = both(&gitlab, job, member).await;
            assert_eq!((by_job.status, by_ref.status), (status, status), "{case}: {member}");
        }
    }
}

#[tokio::test]
async fn zip64_directories_are_read() {
    let (gitlab, job) = scene(Archive::many(66_000)).await;
    let last = both(&gitlab, job, "dir-257/file-065999.txt").await.0;
    assert!(last.status == 200 && last.text().starts_with("file 65999\n"));
}

#[tokio::test]
async fn a_big_member_comes_whole() {
    let line = "0123456789abcdef".repeat(4096);
    let content = line.repeat((64 << 20) / line.len() + 1);
    let (gitlab, job) = scene(Archive::runner([Member::file("big.log", content.clone())])).await;
    let (by_job, by_ref) = both(&gitlab, job, "big.log").await;
    assert!(by_job.is_whole() && by_job.body == content.as_bytes());
    assert!(by_ref.is_whole() && by_ref.body == content.as_bytes());
}

#[tokio::test]
async fn faults_hit_entries_by_ref() {
    let (gitlab, job) = scene(Archive::runner([Member::file("m", "text")])).await;
    let fault = gitlab.fault(Fault::new(Effect::SignIn).on(Class::RefEntry));
    let (by_job, by_ref) = both(&gitlab, job, "m").await;
    assert_eq!((by_job.status, by_ref.status, fault.hits()), (200, 302, 1));
}
