//! Whether a cache directory could be used, without using it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use crate::store::Budget;

/// What keeps larder from using `dir`, and below it the directories of an instance: with each, where that shows. Makes
/// nothing that stays; another larder may be using it. Blocks.
pub(super) fn attempt(dir: &Path, instance: Option<&str>) -> Vec<(PathBuf, io::Error)> {
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere is there, and can't be made a directory.
            let lost = fs::symlink_metadata(dir).is_ok().then_some(error);
            let above = lost.map_or_else(|| makeable(dir), Err);
            above.err().map(|error| (dir.to_owned(), error)).into_iter().collect()
        }
        Err(error) => vec![(dir.to_owned(), error)],
        Ok(found) if !found.is_dir() => {
            vec![(dir.to_owned(), io::Error::new(io::ErrorKind::NotADirectory, "it is no directory"))]
        }
        Ok(_) => inside(dir, instance),
    }
}

/// Whether a directory could be made there: the nearest one above it that there is takes names.
fn makeable(dir: &Path) -> io::Result<()> {
    let here = Path::new(".");
    for above in dir.ancestors().skip(1).map(|above| if above.as_os_str().is_empty() { here } else { above })
    {
        match fs::metadata(above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if !found.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => return makes_directories(above),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn inside(dir: &Path, instance: Option<&str>) -> Vec<(PathBuf, io::Error)> {
    let mut looked = vec![(dir.to_owned(), makes_files(dir)), (dir.join("lock"), opens(&dir.join("lock")))];
    for name in instance.iter().flat_map(|_| ["", "incoming", "partial", "archives"]) {
        let path: PathBuf = dir.join(instance.unwrap_or_default()).join(name).components().collect();
        let is = is_directory(&path).and_then(|()| takes_names(&path));
        looked.push((path, is));
    }
    let wrong = looked.into_iter().filter_map(|(path, looked)| Some((path, looked.err()?)));
    // What isn't there will be made, and a full disk is the store's affair.
    wrong
        .filter(|(_, error)| !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StorageFull))
        .collect()
}

/// Makes a file, and takes its name at once.
fn makes_files(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)
}

/// Makes a directory, and takes it away at once.
fn makes_directories(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".larder-check-{}", std::process::id()));
    match fs::create_dir(&path) {
        Ok(()) => fs::remove_dir(&path),
        // That is for the store to see to.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        Err(error) => Err(error),
    }
}

fn takes_names(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Whether it is a directory itself: in the cache directory no link is followed.
fn is_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)? {
        found if found.is_dir() => Ok(()),
        found if found.is_symlink() => {
            Err(io::Error::other("it is a link, and nothing in the cache directory is reached through one"))
        }
        _ => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no directory")),
    }
}

/// Whether a file can be written to, if it is there.
fn opens(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_file() {
        OpenOptions::new().write(true).open(path).map(drop)
    } else {
        Err(io::Error::other("it is no plain file"))
    }
}

/// Bytes of the file system that a directory is on, or would be; `None` where it doesn't say.
fn file_system(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let disk = there.into_iter().find_map(|dir| rustix::fs::statvfs(dir).ok())?;
    Some(disk.f_blocks.saturating_mul(disk.f_frsize)).filter(|total| *total > 0)
}

/// What is to be said of a budget that the file system of `dir` can't hold.
pub(crate) fn beyond(budget: Budget, dir: &Path) -> Option<String> {
    budget.beyond(file_system(dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(dir: &Path) -> Vec<PathBuf> {
        attempt(dir, Some("gitlab")).into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn nothing_is_made_where_there_is_nothing_and_nothing_left_where_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("a/b");
        assert!(wrong(&missing).is_empty());
        assert!(wrong(dir.path()).is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_directory_or_a_link_inside_is_found_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(wrong(&file), std::slice::from_ref(&file));
        assert_eq!(wrong(&file.join("below")), [file.join("below")]);
        let lost = dir.path().join("lost");
        std::os::unix::fs::symlink("/nonexistent", &lost).unwrap();
        assert_eq!(wrong(&lost), std::slice::from_ref(&lost));
        let instance = dir.path().join("gitlab");
        fs::create_dir(&instance).unwrap();
        let links = ["incoming", "partial"].map(|name| instance.join(name));
        for link in &links {
            std::os::unix::fs::symlink("/tmp", link).unwrap();
        }
        assert_eq!(wrong(dir.path()), links);
    }

    #[test]
    fn a_budget_beyond_the_file_system_is_said() {
        assert!(
            beyond(Budget::Bytes(1 << 60), Path::new("/nonexistent/a")).unwrap().contains("cache.max_size")
        );
        assert_eq!(beyond(Budget::Percent(100), Path::new("relative")), None);
    }
}
