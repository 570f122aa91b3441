//! Archives, read back by somebody else's reader.

use gitlab_standin::{Archive, Member};
use rawzip::{CompressionMethod, ZipArchive};

fn names(archive: &Archive) -> Vec<(String, u64, bool)> {
    let bytes = archive.bytes().unwrap();
    let zip = ZipArchive::from_slice(&bytes).unwrap();
    zip.entries()
        .map(|record| {
            let record = record.unwrap();
            let name = String::from_utf8(record.file_path().as_ref().to_vec()).unwrap();
            let entry = zip.get_entry(record.wayfinder()).unwrap();
            let mut content = Vec::new();
            let packed = entry.data();
            if record.compression_method() == CompressionMethod::DEFLATE {
                let mut inflated = flate2::read::DeflateDecoder::new(packed);
                std::io::copy(&mut entry.verifying_reader(&mut inflated), &mut content).unwrap();
            } else {
                std::io::copy(&mut entry.verifying_reader(packed), &mut content).unwrap();
            }
            (name, record.uncompressed_size_hint(), record.is_dir())
        })
        .collect()
}

#[test]
fn an_independent_reader_takes_every_member() {
    let archive = Archive::runner([
        Member::directory("dir"),
        Member::file("dir/ä.txt", "text".repeat(1000)),
        Member::stored("empty", ""),
        Member::symlink("link", "dir/ä.txt"),
        Member::file("run.sh", "#!/bin/sh\n").mode(0o755),
    ]);
    let expected = [
        ("dir/", 0, true),
        ("dir/ä.txt", 4000, false),
        ("empty", 0, false),
        ("link", 10, false),
        ("run.sh", 10, false),
    ];
    let expected: Vec<_> = expected.map(|(name, size, dir)| (name.to_owned(), size, dir)).to_vec();
    assert_eq!(names(&archive), expected);
}

#[test]
fn many_members_and_the_limits_of_16_bits() {
    for count in [0, 1, 20_000, 66_000] {
        let archive = Archive::many(count);
        let zip_names = names(&archive);
        assert_eq!(u32::try_from(zip_names.len()).unwrap(), count);
    }
}

#[test]
fn sizes_are_exact_and_runs_are_alike() {
    for size in [1024, 65_536, 1_000_003, 64 << 20, (64 << 20) + 1] {
        let archive = Archive::sized(size).unwrap();
        assert_eq!(archive.len(), size);
        assert_eq!(archive.sha256(), Archive::sized(size).unwrap().sha256());
        assert_ne!(archive.sha256(), Archive::seeded(size, 2).unwrap().sha256());
    }
    names(&Archive::sized(1_000_003).unwrap());
}

#[test]
fn twins_differ_where_nobody_looks() {
    let (one, other) = Archive::twins(100_000);
    assert_eq!(one.len(), other.len());
    assert_ne!(one.sha256(), other.sha256());
    let tail = |archive: &Archive| archive.read_at(archive.len() - 1024, 1024).unwrap();
    assert_eq!(tail(&one), tail(&other));
    assert_eq!(names(&one), names(&other));
}
