//! How a store ends, and what the next one must find.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::super::key;
use super::compare::RECORDS;
use super::dice::Dice;
use super::disk::{Disk, Fault};
use super::model::{Job, Made, Model, Parts};
use super::read::length;
use super::shadow::Bytes;
use super::step::{How, JOBS};
use super::world::{Done, World};
use super::{Check, ensure};
use crate::base::key::ArchiveId;
use crate::store::disk::files::Files;
use crate::store::disk::layout::{self, Extension};
use crate::store::{Archive, Store};

/// More steps than any start needs.
const STEPS: usize = 10_000;

/// What may be found of each job.
type Findable = BTreeMap<u64, BTreeSet<Option<ArchiveId>>>;

impl World {
    /// A store, where there was none.
    pub(super) async fn begin_life(&mut self, dice: &mut Dice) -> Check {
        let findable = JOBS.map(|job| (job, BTreeSet::from([None]))).into();
        self.come_back(How::Closed, findable, None, dice).await
    }

    /// Ends the store between two deeds and opens the next one.
    pub(super) async fn restart(&mut self, how: How, fault: Option<(u64, Fault)>, dice: &mut Dice) -> Check {
        let findable = match how {
            How::PowerCut => JOBS.map(|job| (job, self.model.after_a_cut(job))).into(),
            How::Closed | How::Killed => JOBS.map(|job| (job, self.model.after_an_end(job))).into(),
        };
        self.end(how);
        self.come_back(how, findable, fault, dice).await
    }

    /// Ends the store in the midst of a deed, and opens the next one.
    pub(super) async fn crash(&mut self, job: u64, done: &Done, dice: &mut Dice) -> Check {
        let how = dice.pick(&[How::Killed, How::PowerCut]);
        self.trace.push(format!("  which ends it: {how:?}"));
        let sparse = done.fresh.filter(|id| self.model.made[id].parts.is_some());
        let finishing = done.fresh.filter(|id| self.before[&job] == Some(*id));
        self.model.job(job).perhaps.extend(sparse);
        let findable = JOBS.map(|other| {
            if how == How::PowerCut {
                return (other, self.model.after_a_cut(other));
            }
            let mut findable = self.model.after_an_end(other);
            findable.insert(self.before[&other]);
            if other == job {
                findable.extend(sparse.map(Some));
                findable.extend(finishing.map(|_| None));
            }
            (other, findable)
        });
        self.end(how);
        self.come_back(how, findable.into(), None, dice).await
    }

    fn end(&mut self, how: How) {
        if how != How::Closed {
            self.disk.stop();
        }
        self.readers.clear();
        let store = self.store.take().unwrap();
        store.close();
        drop(Arc::into_inner(store).expect("nobody has the store any more"));
        if how == How::Closed {
            let _ = fs::remove_dir_all(self.dir.path().join("older"));
            let _ = copy(&self.instance().join("index"), &self.dir.path().join("older"));
        }
    }

    async fn come_back(
        &mut self,
        how: How,
        mut findable: Findable,
        fault: Option<(u64, Fault)>,
        dice: &mut Dice,
    ) -> Check {
        if self.disk.is_refusing() == Some(Errno::ROFS) {
            self.disk.refuse(None);
        }
        self.disk.start();
        self.end_of_power(how, dice);
        self.lose_index(how, dice);
        if dice.once_in(4) {
            self.decay(&mut findable, dice);
        }
        self.without_what_has_nothing(how, &mut findable);
        (self.strays, self.evicted) = (false, false);
        let mut plan = fault;
        while !self.open(plan.take(), &findable, dice).await? {
            self.disk.start();
            self.end_of_power(how, dice);
        }
        self.trace.push(format!("  found of {findable:?}; {}", self.disk.changes().join(", ")));
        for job in JOBS {
            self.recognise(job, how, &findable[&job]).await?;
        }
        self.compare()
    }

    fn end_of_power(&mut self, how: How, dice: &mut Dice) {
        if how != How::PowerCut {
            return;
        }
        self.disk.cut(dice);
        let made = self.model.made.values_mut();
        made.filter(|made| made.parts.is_some()).for_each(|made| made.doubtful = made.all());
    }

    /// Of what was written down as having no chunk nothing is kept.
    fn without_what_has_nothing(&self, how: How, findable: &mut Findable) {
        if how == How::PowerCut {
            return;
        }
        for found in findable.values_mut() {
            let parts = |id: &ArchiveId| self.model.made[id].parts.as_ref();
            let ids = found.iter().copied().flatten();
            let empty: Vec<_> =
                ids.filter(|id| parts(id).is_some_and(|parts| parts.noted.is_empty())).collect();
            for id in empty {
                found.insert(None);
                if parts(&id).is_some_and(|parts| parts.perhaps.is_none()) {
                    found.remove(&Some(id));
                }
            }
        }
    }

    /// Opens the store and lets it look at its files. `false`: that was broken off.
    async fn open(
        &mut self,
        plan: Option<(u64, Fault)>,
        findable: &Findable,
        dice: &mut Dice,
    ) -> Check<bool> {
        self.disk.plan(plan);
        let files: Arc<dyn Files> = Arc::<Disk>::clone(&self.disk);
        let store = match Store::open_by(|_| files, &self.settings, "test", self.clock.clone()) {
            Ok(store) => Arc::new(store),
            Err(error) => {
                ensure!(self.disk.has_struck(), "it doesn't open: {error}");
                self.disk.plan(None);
                return Ok(false);
            }
        };
        self.store = Some(Arc::clone(&store));
        for job in JOBS {
            if dice.once_in(3) && !self.disk.is_stopped() {
                let found = store.find(key(job)).await.map(|archive| archive.id());
                // A sparse one that was replaced is found until its shard has been looked at.
                let replaced = found.is_some_and(|id| self.model.jobs[&job].perhaps.contains(&id));
                let right = found.is_none() || replaced || findable[&job].contains(&found);
                ensure!(right, "{found:?} is found of job {job} before all was looked at");
            }
        }
        ensure!((0..STEPS).any(|_| !store.check_some()), "the files are looked at without end");
        self.evicted |= store.totals().evicted > 0;
        drop(store);
        self.disk.plan(None);
        self.strays |= self.disk.has_struck();
        if self.disk.is_stopped() {
            self.end(How::Killed);
            return Ok(false);
        }
        Ok(true)
    }

    /// What is there of a job is one of those that may be; it is the job's from now on.
    async fn recognise(&mut self, job: u64, how: How, findable: &BTreeSet<Option<ArchiveId>>) -> Check {
        let now = self.store().holds(key(job));
        let may_be_gone =
            |id: &ArchiveId| self.model.made[id].spoilt || self.is_expired(&self.model.made[id]);
        // What a power cut has brought back counts as well, and something may have to go for it.
        let known = self.model.jobs.values().flat_map(|job| job.perhaps.iter().chain(&job.sure));
        let most = known.map(|id| self.model.made[id].length + RECORDS).sum::<u64>();
        let evicted = self.evicted && most > self.budget;
        let gone = |id: &ArchiveId| may_be_gone(id) || evicted;
        let gone = now.is_none() && findable.iter().flatten().any(gone);
        ensure!(gone || findable.contains(&now), "job {job} has {now:?} and may have {findable:?}");
        let strays = self.strays;
        let Job { sure, perhaps, live, left } = self.model.job(job);
        if !strays {
            left.clear();
        }
        if how == How::PowerCut || now != *sure {
            perhaps.extend(sure.take());
        }
        perhaps.extend(findable.iter().flatten());
        *live = now;
        let Some(id) = now else { return Ok(()) };
        let mut done = Done::default();
        let Some(archive) = self.find(job, &mut done).await? else {
            self.model.moves(job, None);
            return Ok(());
        };
        let made = self.model.made.get_mut(&id).unwrap();
        here(made, &archive, how)?;
        if how == How::PowerCut && made.parts.is_none() {
            self.model.is_sure_again(job, id);
        }
        Ok(())
    }

    /// What becomes of sled's files, which are none of ours.
    fn lose_index(&self, how: How, dice: &mut Dice) {
        if !self.indexed {
            return;
        }
        let index = self.instance().join("index");
        let older = self.dir.path().join("older");
        match dice.below(if how == How::Closed { 12 } else { 4 }) {
            0 => drop(fs::remove_dir_all(&index)),
            1 if index.is_dir() => fs::write(index.join("db"), [0xa5; 10_000]).unwrap(),
            2 if older.is_dir() && self.instance().is_dir() => {
                let _ = fs::remove_dir_all(&index);
                copy(&older, &index).unwrap();
            }
            _ => {}
        }
    }

    /// A bit flips, or a file loses its end, where it lies.
    fn decay(&mut self, findable: &mut Findable, dice: &mut Dice) {
        let files: Vec<PathBuf> = self.files().into_keys().collect();
        let Some(path) = (!files.is_empty()).then(|| &files[dice.index(files.len())]) else { return };
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some((_, id, extension)) = layout::parse(name) else { return };
        let (length, cut) = (length(path), extension == Extension::Zip && dice.once_in(4));
        // Another version's record is left alone, and its archive with it.
        let from = if extension == Extension::Rec { 12 } else { 0 };
        if length <= from || !self.model.made.contains_key(&id) {
            return;
        }
        let at = from + dice.below(length - from);
        let old = fs::read(path).unwrap()[crate::base::num::to_usize(at)];
        let change = if cut { Bytes::Length(at) } else { Bytes::Write(at, vec![old ^ 4]) };
        if !self.disk.decay(path, &change) {
            return;
        }
        self.trace.push(format!("  {name} decays at {at}"));
        let made = self.model.made.get_mut(&id).unwrap();
        made.doubtful.insert(at / crate::store::record::CHUNK);
        if cut || extension == Extension::Rec {
            made.spoilt = true;
            // In its place may be found what it had replaced.
            let Job { perhaps, left, .. } = &self.model.jobs[&made.job];
            let others = perhaps.iter().chain(left).copied().map(Some);
            findable.get_mut(&made.job).unwrap().extend(others.chain([None]));
        }
    }
}

impl Model {
    /// What was found after a power cut is on the disk; and what isn't any more may be there too.
    fn is_sure_again(&mut self, job: u64, id: ArchiveId) {
        let job = self.job(job);
        job.sure = Some(id);
        job.perhaps.remove(&id);
    }
}

/// Which chunks of an archive are here: those that were written down.
fn here(made: &mut Made, archive: &Archive, how: How) -> Check {
    let Some(present) = archive.is_partial().then(|| archive.present()) else {
        made.parts = None;
        return Ok(());
    };
    let here: BTreeSet<u64> = (0..made.chunks()).filter(|chunk| present.has(*chunk)).collect();
    if how != How::PowerCut {
        let parts = made.parts.as_ref().ok_or("a whole archive has become sparse")?;
        let right = here == parts.noted || parts.perhaps.as_ref() == Some(&here) || here == parts.here;
        ensure!(right, "{here:?} is here, of {parts:?}");
    }
    made.parts = Some(Parts { noted: here.clone(), here, perhaps: None });
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() { copy(&path, &target)? } else { fs::copy(&path, target).map(|_| ())? }
    }
    Ok(())
}
