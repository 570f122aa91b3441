//! What somebody else has put into the directory: links, pipes, second names, and files that are none of larder's.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::store::record::CHUNK;

const ROOM: u64 = 100 << 20;

/// Names that larder gives to files, in every place where it has some.
const OURS: [&str; 10] = [
    "42-00000000000000ff.zip",
    "42-00000000000000ff.rec",
    "42-00000000000000ff.new",
    "lock",
    "scrub",
    "scrub.new",
    "db",
    "conf",
    "index/db",
    "2a/42-00000000000000ff.zip",
];

/// Somebody's directory, which larder has no business in.
fn foreign() -> tempfile::TempDir {
    let foreign = tempfile::tempdir().unwrap();
    for name in OURS {
        let path = foreign.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "somebody's").unwrap();
    }
    foreign
}

/// All that lies below a directory: whose inode, which mode, what it holds.
fn contents(dir: &Path) -> BTreeMap<PathBuf, (u64, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let at = fs::symlink_metadata(&path).unwrap();
        let held = if at.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if at.is_dir() {
            found.extend(contents(&path));
        }
        found.insert(path, (at.ino(), at.permissions().mode(), held));
    }
    found
}

fn open(dir: &Path) -> Result<Store, Error> {
    Store::open(&settings(dir, ROOM), "test", Clock::manual(1_000_000))
}

/// Puts something at a path; the other path is a file that may be used for it.
type Plant = fn(&Path, &Path);

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn a_link_in_the_place_of_a_directory_or_of_the_lock_keeps_larder_from_starting_and_is_named() {
    for name in ["lock", "test", "test/incoming", "test/partial", "test/archives"] {
        let (dir, foreign) = (tempfile::tempdir().unwrap(), foreign());
        let before = contents(foreign.path());
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let to = if name == "lock" { foreign.path().join("lock") } else { foreign.path().to_owned() };
        symlink(to, &path).unwrap();
        let error = open(dir.path()).map(drop).unwrap_err().to_string();
        let last = path.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(&format!("{last} is a link")), "{name}: {error}");
        assert_eq!(contents(foreign.path()), before, "{name}");
    }
}

#[test]
fn a_link_to_nothing_is_not_created_through() {
    for name in ["lock", "test", "test/incoming", "test/archives", "test/index"] {
        let (dir, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(foreign.path().join("made"), &path).unwrap();
        if let Ok(store) = open(dir.path()) {
            assert_eq!(name, "test/index", "which can be done without");
            while store.check_some() {}
            store.close();
        }
        assert!(!foreign.path().join("made").exists(), "{name}");
    }
}

#[test]
fn what_is_no_file_in_the_place_of_the_lock_is_neither_waited_for_nor_taken() {
    let elsewhere = tempfile::tempdir().unwrap();
    let plants: [Plant; 3] = [
        |path, _| fifo(path),
        |path, _| fs::create_dir(path).unwrap(),
        |path, other| fs::hard_link(other, path).unwrap(),
    ];
    for plant in plants {
        let dir = tempfile::tempdir_in(elsewhere.path()).unwrap();
        let other = elsewhere.path().join("somebodys");
        fs::write(&other, "somebody's").unwrap();
        plant(&dir.path().join("lock"), &other);
        assert!(matches!(open(dir.path()).map(drop), Err(Error::Directory { .. })));
        assert_eq!(fs::read(&other).unwrap(), b"somebody's");
    }
}

#[tokio::test]
async fn the_directory_itself_may_be_a_link_of_the_operators() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let link = elsewhere.path().join("cache");
    symlink(dir.path(), &link).unwrap();
    let bench = Bench::new(&link, ROOM);
    bench.fill(42, b"bytes").await.unwrap();
    assert_eq!(bench.read(42).await.as_deref(), Some(&b"bytes"[..]));
    // Whoever bends it while larder runs bends nothing.
    fs::remove_file(&link).unwrap();
    let foreign = foreign();
    let before = contents(foreign.path());
    symlink(foreign.path(), &link).unwrap();
    bench.fill(43, b"more").await.unwrap();
    bench.store.remove(key(42), None).await;
    assert_eq!(bench.read(43).await.as_deref(), Some(&b"more"[..]));
    bench.store.close();
    assert_eq!(contents(foreign.path()), before);
}

#[tokio::test]
async fn nothing_is_reached_through_a_link_that_comes_while_larder_runs() {
    for name in ["test", "test/incoming", "test/archives", "test/archives/2a", "test/partial", "test/index"] {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::new(dir.path(), ROOM);
        bench.fill(42, b"bytes").await.unwrap();
        let foreign = foreign();
        let before = contents(foreign.path());
        let path = dir.path().join(name);
        let moved = foreign
            .path()
            .parent()
            .unwrap()
            .join(format!("{}-moved", foreign.path().file_name().unwrap().display()));
        fs::rename(&path, &moved).unwrap();
        symlink(foreign.path(), &path).unwrap();
        let _ = bench.begin(43, Some(4)).await;
        let _ = bench.read(42).await;
        bench.store.remove(key(42), None).await;
        bench.store.remove(key(298), None).await;
        bench.store.sweep();
        while bench.store.check_some() {}
        bench.store.close();
        assert_eq!(contents(foreign.path()), before, "{name}");
        fs::remove_dir_all(moved).unwrap();
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_a_shard_costs_its_archives_and_nobody_elses() {
    let (dir, foreign) = (tempfile::tempdir().unwrap(), foreign());
    let before = contents(foreign.path());
    fs::create_dir_all(dir.path().join("test/archives")).unwrap();
    symlink(foreign.path(), dir.path().join("test/archives/2a")).unwrap();
    let bench = Bench::new(dir.path(), ROOM);
    assert!(bench.read(42).await.is_none());
    let (archive, claim) = bench.begin(42, Some(5)).await.unwrap();
    write_all(claim, b"bytes").unwrap();
    let error = bench.store.commit(&archive, still).unwrap_err();
    drop(archive);
    assert!(error.to_string().contains("2a is a link"), "{error}");
    bench.store.remove(key(42), None).await;
    bench.fill(43, b"bytes").await.unwrap();
    assert_eq!(bench.read(43).await.as_deref(), Some(&b"bytes"[..]));
    bench.store.close();
    assert_eq!(contents(foreign.path()), before);
}

#[tokio::test]
async fn an_index_that_leads_elsewhere_is_none_of_larders() {
    for name in
        ["index", "index/db", "index/conf", "index/blobs", "index/snap.0000000000000000", "index.broken"]
    {
        for hard in [false, true] {
            let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let target = elsewhere.path().join("target");
            let is_file = name.contains("index/") && !name.ends_with("blobs");
            if is_file {
                fs::write(&target, "somebody's").unwrap();
            } else if hard {
                continue;
            } else {
                fs::create_dir(&target).unwrap();
                fs::write(target.join("db"), "somebody's").unwrap();
            }
            let before = contents(elsewhere.path());
            let path = dir.path().join("test").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if hard { fs::hard_link(&target, &path) } else { symlink(&target, &path) }.unwrap();
            if name == "index.broken" {
                fs::create_dir(dir.path().join("test/index")).unwrap();
                fs::write(dir.path().join("test/index/conf"), [0x5a_u8; 4096]).unwrap();
            }
            for _ in 0..2 {
                let bench = Bench::new(dir.path(), ROOM);
                bench.fill(42, b"bytes").await.unwrap();
                bench.store.close();
                assert_eq!(contents(elsewhere.path()), before, "{name}, hard: {hard}");
            }
            assert!(
                dir.path().join("test/index/db").symlink_metadata().unwrap().is_file(),
                "it is made anew"
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_of_larders_naming_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), ROOM);
    bench.fill(42, b"bytes").await.unwrap();
    bench.store.close();
    drop(bench);
    let mut theirs = Vec::new();
    for folder in ["", "test", "test/incoming", "test/partial", "test/archives", "test/archives/2a"] {
        for name in [
            "notes.txt",
            "42.zip",
            "42-00000000000000ff.zip.bak",
            "42-00000000000000FF.zip",
            ".hidden",
            "x-y.rec",
        ] {
            let path = dir.path().join(folder).join(name);
            fs::write(&path, "somebody's").unwrap();
            theirs.push(path);
        }
        let path = dir.path().join(folder).join("7-00000000000000aa.zip");
        fs::create_dir_all(path.join("kept")).unwrap();
        theirs.push(path.join("kept"));
    }
    let stray = dir.path().join("test/incoming/42-00000000000000ff.zip");
    fs::write(&stray, "ours, unfinished").unwrap();
    let bench = Bench::new(dir.path(), ROOM);
    assert_eq!(bench.read(42).await.as_deref(), Some(&b"bytes"[..]));
    bench.store.remove(key(42), None).await;
    bench.store.close();
    drop(bench);
    assert!(!stray.exists());
    for path in theirs {
        assert!(path.exists(), "{}", path.display());
    }
    assert!(scan::verify::verify(&settings(dir.path(), ROOM), "test", true, |_| ()).is_ok());
}

#[tokio::test]
async fn what_stands_in_the_place_of_an_archives_file_is_no_file_of_it() {
    let plants: [(&str, Plant); 4] = [
        ("pipe", |path, _| fifo(path)),
        ("link", |path, target| symlink(target, path).unwrap()),
        ("link to a good file", |path, target| {
            fs::rename(path.with_extension("kept"), target).unwrap();
            symlink(target, path).unwrap();
        }),
        ("directory", |path, _| fs::create_dir(path).unwrap()),
    ];
    for (what, plant) in plants {
        for extension in ["zip", "rec"] {
            let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let bench = Bench::new(dir.path(), ROOM);
            let archive = bench.fill(42, b"bytes").await.unwrap();
            let zip = bench.shared_layout().zip(key(42), archive.id());
            drop(archive);
            bench.store.close();
            drop(bench);
            let path = zip.with_extension(extension);
            fs::rename(&path, path.with_extension("kept")).unwrap();
            let target = elsewhere.path().join("target");
            fs::write(&target, "somebody's").unwrap();
            plant(&path, &target);
            let before = contents(elsewhere.path());
            for index in [true, false] {
                if !index {
                    fs::remove_dir_all(dir.path().join("test/index")).unwrap();
                }
                let bench = Bench::unchecked(dir.path(), ROOM);
                assert_eq!(bench.read(42).await, None, "{what} {extension}");
                bench.check();
                assert_eq!(bench.read(42).await, None, "{what} {extension}");
                bench.store.close();
            }
            assert!(scan::verify::verify(&settings(dir.path(), ROOM), "test", true, |_| ()).is_ok());
            assert_eq!(contents(elsewhere.path()), before, "{what} {extension}");
        }
    }
}

#[tokio::test]
async fn a_file_with_another_name_is_read_and_never_written_to() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bench = Bench::new(dir.path(), ROOM);
    let record = Record { filled_at: 1_000_000, ..record::tests::record(42, 0, 2 * CHUNK) };
    let sparse = bench.store.begin_in_parts(record).unwrap();
    assert!(bench.store.place(&sparse, still).unwrap());
    let mut claim = bench.store.claim(&sparse, &(0..CHUNK)).unwrap();
    claim.write(&vec![7; usize::try_from(CHUNK).unwrap()]).unwrap();
    drop(claim);
    bench.store.note(&sparse).unwrap();
    let zip = bench.shared_layout().partial_zip(key(42), sparse.id());
    drop(sparse);
    bench.store.close();
    drop(bench);
    let target = elsewhere.path().join("target");
    fs::hard_link(&zip, &target).unwrap();
    for name in ["scrub", "scrub.new"] {
        fs::hard_link(&target, dir.path().join("test").join(name)).unwrap();
    }
    let before = contents(elsewhere.path());
    let bench = Bench::new(dir.path(), ROOM);
    assert!(bench.store.find(key(42)).await.is_none(), "what would be written to can't be used");
    let mut scrub = Scrub::new(Arc::clone(&bench.store), Arc::default(), TimeShare::NONE);
    while scrub.step() {}
    bench.store.close();
    assert_eq!(contents(elsewhere.path()), before);
}

#[test]
fn what_larder_makes_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(dir.path().join("test/index")).unwrap();
    fs::set_permissions(dir.path().join("test/index"), fs::Permissions::from_mode(0o777)).unwrap();
    let store = open(dir.path()).unwrap();
    while store.check_some() {}
    store.close();
    for (name, mode) in [
        ("", 0o700),
        ("lock", 0o600),
        ("test/incoming", 0o700),
        ("test/archives", 0o700),
        ("test/index", 0o700),
    ] {
        let found = fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}: {found:o}");
    }
}

#[tokio::test]
async fn in_a_directory_of_somebody_elses_his_rights_and_his_files_stay_as_they_are() {
    let us = rustix::process::geteuid();
    if !us.is_root() {
        // Nobody else can give a directory away.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("theirs"), "somebody's").unwrap();
    for folder in ["test", "test/incoming", "test/index"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        std::os::unix::fs::chown(dir.path().join(folder), Some(65_534), None).unwrap();
    }
    fs::write(dir.path().join("test/index/conf"), "somebody's").unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65_534), None).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let bench = Bench::new(dir.path(), ROOM);
    bench.fill(42, b"bytes").await.unwrap();
    assert_eq!(bench.read(42).await.as_deref(), Some(&b"bytes"[..]));
    bench.store.close();
    assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::read(dir.path().join("theirs")).unwrap(), b"somebody's");
    let index = fs::metadata(dir.path().join("test/index")).unwrap();
    assert_eq!(
        (index.uid(), index.permissions().mode() & 0o777),
        (us.as_raw(), 0o700),
        "one of larder's own"
    );
}
