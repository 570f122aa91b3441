//! A disk that refuses and breaks off when it is told to.
//!
//! Each change is made in a real directory, where the store reads it again, and in its [`Shadow`].

use std::fs::File;
use std::io;
use std::path::Path;

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;

use super::dice::Dice;
use super::shadow::{Bytes, Shadow, inode};
use crate::base::key::ArchiveId;
use crate::store::disk::files::{Files, Plain};
use crate::store::disk::reach::Reach;

/// What happens to a change instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, once.
    Refuse(Errno),
    /// It isn't made, nor is any after it: the process ends here.
    Stop,
}

/// How much a change asks of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Space,
    Change,
    Sync,
}

#[derive(Debug)]
struct State {
    shadow: Shadow,
    dice: Dice,
    /// Which change of those to come has which fault.
    plan: Option<(u64, Fault)>,
    /// What the disk says to whatever takes space, or to all changes if it is read-only.
    refusing: Option<Errno>,
    stopped: bool,
    /// Whether a fault has happened since that was last asked.
    struck: bool,
    changes: Vec<String>,
}

/// The disk.
#[derive(Debug)]
pub(super) struct Disk(Mutex<State>, Plain);

impl Disk {
    pub(super) fn new(root: &Path, seed: u64) -> Self {
        let (shadow, dice, changes) = (Shadow::new(root), Dice::new(seed), Vec::new());
        let (plan, refusing) = (None, None);
        let state = State { shadow, dice, plan, refusing, stopped: false, struck: false, changes };
        Self(Mutex::new(state), Plain(Reach::into(root).unwrap()))
    }

    /// Plans a fault, or none.
    pub(super) fn plan(&self, plan: Option<(u64, Fault)>) {
        self.0.lock().plan = plan;
    }

    /// From now on this is said to whatever takes space, or nothing.
    pub(super) fn refuse(&self, errno: Option<Errno>) {
        self.0.lock().refusing = errno;
    }

    pub(super) fn is_refusing(&self) -> Option<Errno> {
        self.0.lock().refusing
    }

    /// Nothing is changed any more.
    pub(super) fn stop(&self) {
        self.0.lock().stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.lock().stopped
    }

    /// It works again.
    pub(super) fn start(&self) {
        let mut state = self.0.lock();
        (state.stopped, state.plan) = (false, None);
    }

    /// Whether a fault has happened since this was asked.
    pub(super) fn has_struck(&self) -> bool {
        std::mem::take(&mut self.0.lock().struck)
    }

    /// The changes that were tried since this was asked.
    pub(super) fn changes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().changes)
    }

    /// The power fails while nobody has a file open.
    pub(super) fn cut(&self, dice: &mut Dice) {
        self.0.lock().shadow.cut(dice);
    }

    /// Changes bytes that have reached the disk, behind everybody's back; `false` if they haven't.
    pub(super) fn decay(&self, path: &Path, change: &Bytes) -> bool {
        let decayed = self.0.lock().shadow.decay(path, change);
        if decayed {
            let file = File::options().write(true).open(path).unwrap();
            match change {
                Bytes::Write(at, bytes) => self.1.write_at(&file, bytes, *at).unwrap(),
                Bytes::Length(length) => file.set_len(*length).unwrap(),
                Bytes::AtLeast(_) | Bytes::Zero(_) => panic!("{change:?} is no decay"),
            }
        }
        decayed
    }

    /// Looks at a change before it is made.
    fn admit(&self, what: &str, path: &Path, asks: Asks) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.0.lock();
        let planned = match &mut state.plan {
            Some((0, fault)) => Some(*fault),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        let refused = match (state.refusing, asks) {
            (Some(Errno::ROFS), Asks::Space | Asks::Change) | (Some(_), Asks::Space) => state.refusing,
            _ => None,
        };
        let error = match planned {
            _ if state.stopped => Some(Errno::IO),
            Some(Fault::Stop) => {
                state.stopped = true;
                Some(Errno::IO)
            }
            Some(Fault::Refuse(errno)) => Some(errno),
            None => refused,
        };
        if planned.is_some() {
            state.plan = None;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let said = error.map_or(String::new(), |error| format!(": {error}"));
        let change = format!("{what} {name}{said}");
        if state.changes.last() != Some(&change) {
            state.changes.push(change);
        }
        state.struck |= error.is_some();
        error.map_or(Ok(state), |error| Err(error.into()))
    }

    fn admit_file(&self, what: &str, file: &File, asks: Asks) -> io::Result<(MutexGuard<'_, State>, u64)> {
        let inode = inode(&file.metadata()?);
        let name = self.0.lock().shadow.name_of(inode);
        Ok((self.admit(what, &name, asks)?, inode))
    }
}

impl Files for Disk {
    fn reach(&self) -> &Reach {
        self.1.reach()
    }

    fn new_name(&self) -> io::Result<ArchiveId> {
        Ok(ArchiveId::new(self.0.lock().dice.roll()))
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        let mut state = self.admit("create", path, Asks::Space)?;
        let file = self.1.create_new(path)?;
        state.shadow.create(path, inode(&file.metadata()?));
        Ok(file)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut state = self.admit("create", path, Asks::Space)?;
        let file = self.1.create(path)?;
        state.shadow.create(path, inode(&file.metadata()?));
        Ok(file)
    }

    /// What doesn't fit is written in part.
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let stopped = self.is_stopped();
        let admitted = self.admit_file("write", file, Asks::Space);
        let written = match &admitted {
            Ok(_) => bytes.len(),
            Err(error) if stopped || error.raw_os_error() == Some(Errno::ROFS.raw_os_error()) => 0,
            Err(_) => self.0.lock().dice.index(bytes.len() + 1),
        };
        let (mut state, error) = match admitted {
            Ok((state, _)) => (state, None),
            Err(error) => (self.0.lock(), Some(error)),
        };
        if written > 0 {
            self.1.write_at(file, &bytes[..written], at)?;
            let change = Bytes::Write(at, bytes[..written].to_vec());
            state.shadow.change(inode(&file.metadata()?), change);
        }
        error.map_or(Ok(()), Err)
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        let (mut state, inode) = self.admit_file("set the length of", file, Asks::Change)?;
        self.1.set_length(file, length)?;
        state.shadow.change(inode, Bytes::Length(length));
        Ok(())
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        let (mut state, inode) = self.admit_file("allocate", file, Asks::Space)?;
        // Without taking the memory of this machine.
        self.1.set_length(file, length.max(file.metadata()?.len()))?;
        state.shadow.change(inode, Bytes::AtLeast(length));
        Ok(())
    }

    fn punch(&self, file: &File, hole: std::ops::Range<u64>) -> io::Result<()> {
        let (mut state, inode) = self.admit_file("punch", file, Asks::Change)?;
        self.1.punch(file, hole.clone())?;
        state.shadow.change(inode, Bytes::Zero(hole));
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let synced = self.admit_file("sync", file, Asks::Sync);
        let Ok((mut state, inode)) = synced else {
            self.0.lock().shadow.sync_failed(inode(&file.metadata()?));
            return synced.map(drop);
        };
        state.shadow.sync(inode);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.admit("rename", from, Asks::Change)?;
        self.1.rename(from, to)?;
        state.shadow.rename(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.admit("remove", path, Asks::Change)?;
        self.1.remove(path)?;
        state.shadow.remove(path);
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let mut state = self.admit("make directory", path, Asks::Space)?;
        self.1.make_directory(path)?;
        state.shadow.make_directory(path);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.admit("sync directory", path, Asks::Sync)?;
        // That it is there must be seen; the rest is the shadow's.
        std::fs::read_dir(path)?;
        state.shadow.sync_directory(path);
        Ok(())
    }
}
