//! A cache directory that larder was given, and may write to, but doesn't own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use gitlab_standin::{Etag, Storage};

use crate::process::{Process, Town, command};
use crate::refused::{NOBODY, instead, is_root};

/// A group that nobody else is in.
const GROUP: u32 = 54_321;

/// All that is below a directory, with its mode.
fn modes(dir: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let each = entries.flat_map(|path| {
        let found = fs::symlink_metadata(&path).unwrap();
        let below = if found.is_dir() { modes(&path) } else { Vec::new() };
        [(path.display().to_string(), found.mode() & 0o7777)].into_iter().chain(below)
    });
    each.collect()
}

#[test]
fn a_volume_of_somebody_elses_serves_stays_as_it_is_and_holds_nothing_that_others_can_read() {
    if !is_root() {
        eprintln!("only root can give a directory away: not tested here");
        return;
    }
    // Kubernetes' emptyDir, the same with the sticky bit, and a volume of an fsGroup.
    for (mode, group, gid) in
        [(0o777, 0, NOBODY), (0o1777, 0, NOBODY), (0o2775, GROUP, GROUP), (0o2770, GROUP, GROUP)]
    {
        let town = Town::new(Storage::Local { etag: Etag::Sha256 }, 1, 3 << 20);
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let (cache, program) = (dir.path().join("cache"), dir.path().join("larder"));
        fs::create_dir(&cache).unwrap();
        chown(&cache, Some(0), Some(group)).unwrap();
        fs::set_permissions(&cache, Permissions::from_mode(mode)).unwrap();
        let larder = command(&town.gitlab.url(), &cache);
        // Where it was built may be closed to others.
        fs::copy(larder.get_program(), &program).unwrap();
        let mut larder = instead(&[program.as_os_str()], &larder);
        let larder = Process::run(larder.uid(NOBODY).gid(gid));
        let (job, archive) = &town.jobs[0];
        town.check(&larder, *job, archive);
        while larder.metric("larder_fills_total{result=\"stored\"}").as_deref() != Some("1") {}
        while larder.metric("larder_store_shards_unchecked").as_deref() != Some("0") {}
        assert_eq!(town.check(&larder, *job, archive), "larder; hit", "{mode:o}");
        let began = larder.began.clone();
        let log = [began, larder.finish()].concat();
        let warnings: Vec<_> = log
            .iter()
            .filter(|line| line["level"] == "WARN" && line["target"] != "larder::app::descriptors")
            .collect();
        assert_eq!(warnings.len(), 1, "{mode:o}: {warnings:#?}");
        assert!(warnings[0]["message"].as_str().unwrap().contains("belongs to another user"));
        let found = fs::metadata(&cache).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (0, group, mode));
        let made = modes(&cache);
        assert!(made.iter().any(|(path, _)| path.rsplit('.').next() == Some("zip")), "{made:#?}");
        let open: Vec<_> = made.iter().filter(|(_, mode)| ![0o700, 0o600].contains(mode)).collect();
        assert!(open.is_empty(), "{mode:o}: {open:#?}");
    }
}
