//! A disk that is full, one that may only be read, one that is gone: every download arrives, the log has one line about
//! it, and when it is over nothing needs to be done.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gitlab_standin::{Effect, Etag, Fault, Storage};

use crate::process::{Process, Town, command, spawn};

const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };
const SIZE: u64 = 3 << 20;
const PASSED: &str = "larder; fwd=bypass; detail=no-room";
const STORED: &str = "larder; fwd=miss; stored";

/// Who owns nothing and may do nothing.
pub(crate) const NOBODY: u32 = 65_534;

/// The longest wait for a trial of the disk, far above the time between two of them.
const TRIED: Duration = Duration::from_secs(120);

/// Makes the disk refuse, and take archives again.
struct Disk {
    what: &'static str,
    larder: Process,
    refuse: Box<dyn Fn()>,
    relent: Box<dyn Fn()>,
    _dir: tempfile::TempDir,
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A command with other words in the place of its program.
pub(crate) fn instead(words: &[&OsStr], command: &Command) -> Command {
    let mut other = Command::new(words[0]);
    other.env_clear().args(&words[1..]).args(command.get_args());
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    other
}

/// A command that runs as what another one runs in the end.
fn within(prefix: &[&str], command: &Command) -> Command {
    let words: Vec<&OsStr> = prefix.iter().map(OsStr::new).chain([command.get_program()]).collect();
    instead(&words, command)
}

/// Eight MiB of memory as a disk, mounted where only the program sees it: nothing is left of it when that ends. `None`
/// where the system lets nobody mount anything.
fn full(town: &Town) -> Option<Disk> {
    const MOUNT: &str = "mount -t tmpfs -o size=8m larder \"$0\" && exec \"$@\"";
    let dir = tempfile::tempdir().unwrap();
    let own = ["/usr/bin/unshare", "--mount", "--user", "--map-root-user"];
    let unshare = if is_root() { &own[..2] } else { &own[..] };
    let inside = ["/bin/sh", "-c", MOUNT, dir.path().to_str().unwrap()];
    let prefix = [unshare, &inside].concat();
    let mut can = within(&prefix, &Command::new("/bin/true"));
    if !spawn(can.stdout(Stdio::null()).stderr(Stdio::null())).wait().unwrap().success() {
        return None;
    }
    let larder = Process::run(&mut within(&prefix, &command(&town.gitlab.url(), dir.path())));
    let seen = dir.path().strip_prefix("/").unwrap();
    let ballast = Path::new("/proc").join(larder.id().to_string()).join("root").join(seen).join("ballast");
    let heap = ballast.clone();
    let refuse = move || {
        let mut file = File::create(&heap).unwrap();
        // A page at a time, until there is none.
        while file.write_all(&[7; 4096]).is_ok() {}
    };
    let relent = move || fs::remove_file(&ballast).unwrap();
    Some(Disk { what: "full", larder, refuse: Box::new(refuse), relent: Box::new(relent), _dir: dir })
}

/// A directory in which nothing may be made, for a user to whom that means something.
fn read_only(town: &Town) -> Disk {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let mut larder = command(&town.gitlab.url(), &cache);
    if is_root() {
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        chown(&cache, Some(NOBODY), Some(NOBODY)).unwrap();
        // Where it was built may be closed to others.
        let program = dir.path().join("larder");
        fs::copy(larder.get_program(), &program).unwrap();
        larder = instead(&[program.as_os_str()], &larder);
        larder.uid(NOBODY).gid(NOBODY);
    }
    let larder = Process::run(&mut larder);
    let incoming = cache.join("test/incoming");
    let set = move |mode| fs::set_permissions(&incoming, Permissions::from_mode(mode)).unwrap();
    let open = set.clone();
    Disk {
        what: "read-only",
        larder,
        refuse: Box::new(move || set(0o500)),
        relent: Box::new(move || open(0o700)),
        _dir: dir,
    }
}

/// A directory that isn't there, as when a disk was taken away.
fn gone(town: &Town) -> Disk {
    let dir = tempfile::tempdir().unwrap();
    let larder = Process::start(&town.gitlab.url(), dir.path());
    let (there, away): (PathBuf, PathBuf) = (dir.path().join("test/incoming"), dir.path().join("away"));
    let (from, to) = (there.clone(), away.clone());
    Disk {
        what: "gone",
        larder,
        refuse: Box::new(move || fs::rename(&from, &to).unwrap()),
        relent: Box::new(move || fs::rename(&away, &there).unwrap()),
        _dir: dir,
    }
}

/// Lines of a log at a level that say this.
fn count(log: &[serde_json::Value], level: &str, says: &str) -> usize {
    let says = |line: &&serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains(says));
    log.iter().filter(|line| line["level"] == level).filter(says).count()
}

/// Everything that must hold of a larder on such a disk.
fn holds(town: &Town, disk: Disk) {
    let Disk { what, larder, refuse, relent, _dir } = disk;
    let [(held, one), (cold, other)] = [&town.jobs[0], &town.jobs[1]];
    assert_eq!(town.check(&larder, *held, one), STORED, "{what}");
    while larder.metric("larder_fills_total{result=\"stored\"}").as_deref() != Some("1") {}
    assert_eq!(larder.metric("larder_store_writable").as_deref(), Some("1"), "{what}");
    // The index is open by then.
    while larder.metric("larder_store_shards_unchecked").as_deref() != Some("0") {}

    refuse();
    let first = town.check(&larder, *cold, other);
    // One without a length finds out on its way.
    assert!([PASSED, STORED].contains(&&*first), "{what}: {first}");
    while larder.metric("larder_store_writable").as_deref() != Some("0") {}
    for _ in 0..20 {
        assert_eq!(town.check(&larder, *cold, other), PASSED, "{what}");
        assert_eq!(town.check(&larder, *held, one), "larder; hit", "{what}");
    }
    let unstored = larder.metric("larder_unstored_archives_total{reason=\"disk\"}").unwrap();
    assert_eq!(unstored, "21", "{what}");

    relent();
    let begun = Instant::now();
    while town.check(&larder, *cold, other) == PASSED {
        assert!(begun.elapsed() < TRIED, "{what}: it isn't tried again");
    }
    while larder.metric("larder_store_writable").as_deref() != Some("1") {}
    assert_eq!(town.check(&larder, *cold, other), "larder; hit", "{what}");
    let log = larder.finish();
    assert_eq!(count(&log, "WARN", "the disk takes no archives"), 1, "{what}");
    assert_eq!(count(&log, "INFO", "the disk takes archives again"), 1, "{what}");
    assert_eq!(count(&log, "WARN", ""), 1, "{what}: {log:#?}");
    assert_eq!(count(&log, "ERROR", ""), 0, "{what}: {log:#?}");
}

fn town() -> Town {
    Town::new(LOCAL, 2, SIZE)
}

/// Does something with a full disk, where one can be had.
fn on_a_full_one(town: &Town, act: impl FnOnce(Disk)) {
    match full(town) {
        Some(disk) => act(disk),
        None => {
            eprintln!("nothing can be mounted here: refusals without a full disk are tested all the same");
        }
    }
}

#[test]
fn a_disk_full_of_other_things_costs_one_line_and_no_answer_and_comes_back_by_itself() {
    // What is held is less than what the other one needs: nothing goes for it.
    let town = Town::of(LOCAL, &[SIZE / 3, SIZE]);
    on_a_full_one(&town, |disk| holds(&town, disk));
}

#[test]
fn a_full_disk_gives_up_what_was_used_least_recently_and_no_more_until_it_fits() {
    for chunked in [false, true] {
        let town = Town::of(LOCAL, &[SIZE / 2, SIZE / 2, SIZE / 3]);
        if chunked {
            let whole = |seen: &gitlab_standin::Seen| seen.header("range").is_none();
            town.gitlab.fault(Fault::new(Effect::Chunked).when(whole));
        }
        on_a_full_one(&town, |Disk { larder, refuse, _dir, .. }| {
            let [first, second, third] = &town.jobs[..] else { panic!() };
            for (held, (job, archive)) in [first, second].into_iter().enumerate() {
                assert_eq!(town.check(&larder, *job, archive), STORED);
                let stored = (held + 1).to_string();
                while larder.metric("larder_fills_total{result=\"stored\"}") != Some(stored.clone()) {}
            }
            while larder.metric("larder_store_shards_unchecked").as_deref() != Some("0") {}
            refuse();
            assert_eq!(town.check(&larder, third.0, &third.1), STORED, "chunked: {chunked}");
            while larder.metric("larder_fills_total{result=\"stored\"}").as_deref() != Some("3") {}
            for (job, archive) in [second, third] {
                assert_eq!(town.check(&larder, *job, archive), "larder; hit", "chunked: {chunked}");
            }
            assert_eq!(larder.metric("larder_evictions_total").as_deref(), Some("1"));
            assert_eq!(larder.metric("larder_store_writable").as_deref(), Some("1"));
            let log = larder.finish();
            assert_eq!(count(&log, "WARN", ""), 0, "{log:#?}");
        });
    }
}

#[test]
fn so_does_one_that_may_only_be_read() {
    let town = town();
    holds(&town, read_only(&town));
}

#[test]
fn and_so_does_one_that_is_gone() {
    let town = town();
    holds(&town, gone(&town));
}
