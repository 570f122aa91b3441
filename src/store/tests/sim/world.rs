//! A store on its disk, and what is done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{grant, key, prove, settings, still};
use super::dice::Dice;
use super::disk::Disk;
use super::model::{Made, Model, Parts, body};
use super::read::Reader;
use super::step::{Deed, End, JOBS, Run, Step};
use super::{Check, ensure};
use crate::base::clock::Clock;
use crate::base::key::ArchiveId;
use crate::store::error::NoRoom;
use crate::store::record::CHUNK;
use crate::store::{Archive, Error, Record, Scrub, Settings, Store, TimeShare, record};

/// Bytes that a fill's writer is given at a time.
const PIECE: usize = 30_000;

/// What a deed may have changed.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent, and named where they are set")]
pub(super) struct Done {
    /// The archive it brought.
    pub(super) fresh: Option<ArchiveId>,
    /// Whether that is the job's now, whether on the disk for sure, if nothing went wrong.
    pub(super) placed: bool,
    pub(super) synced: bool,
    /// Whether the job has none now.
    pub(super) removed: bool,
    /// Whether others may have been evicted.
    pub(super) evicts: bool,
    /// What went wrong.
    pub(super) error: Option<Error>,
}

/// Sees to it that sled can't have its directory, nor move away what is there: opening it is most of a start.
fn forbid_index(instance: &Path) {
    fs::create_dir(instance).unwrap();
    for name in ["index", "index.broken"] {
        fs::write(instance.join(name), "not a directory").unwrap();
    }
}

/// The store, its disk, and what it should hold.
#[derive(Debug)]
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) disk: Arc<Disk>,
    pub(super) store: Option<Arc<Store>>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) budget: u64,
    pub(super) model: Model,
    pub(super) readers: Vec<Reader>,
    /// The archives that jobs had before the present step.
    pub(super) before: BTreeMap<u64, Option<ArchiveId>>,
    /// Whether something may lie about, as it couldn't be removed.
    pub(super) strays: bool,
    pub(super) evicted: bool,
    pub(super) trace: Vec<String>,
    pub(super) indexed: bool,
    seeds: u64,
}

impl World {
    pub(super) fn new(run: &Run) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let disk = Arc::new(Disk::new(dir.path(), run.seed));
        if !run.indexed {
            forbid_index(&dir.path().join("test"));
        }
        Self {
            settings: settings(dir.path(), run.budget),
            budget: run.budget,
            dir,
            disk,
            store: None,
            clock: Clock::manual(1_000_000),
            model: Model::new(),
            readers: Vec::new(),
            before: BTreeMap::new(),
            strays: false,
            evicted: false,
            trace: Vec::new(),
            indexed: run.indexed,
            seeds: 0,
        }
    }

    pub(super) fn store(&self) -> Arc<Store> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    pub(super) fn instance(&self) -> PathBuf {
        self.dir.path().join("test")
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now().unix_seconds()
    }

    /// Whether an archive is too old to be found.
    pub(super) fn is_expired(&self, made: &Made) -> bool {
        self.now().saturating_sub(made.filled_at) >= self.settings.max_age.as_secs()
    }

    /// One step, and whether all is as it should be afterwards.
    pub(super) async fn step(&mut self, step: Step) -> Check {
        let mut dice = Dice::new(step.seed);
        if let Deed::Restart(how) = step.deed {
            return self.restart(how, step.fault, &mut dice).await;
        }
        self.before = self.model.jobs.iter().map(|(job, known)| (*job, known.live)).collect();
        self.disk.plan(step.fault);
        let done = self.act(step, &mut dice).await;
        self.disk.plan(None);
        let struck = self.disk.has_struck();
        self.strays |= struck;
        let done = done?;
        self.trace.push(format!("  {:?}; {}", done.error, self.disk.changes().join(", ")));
        self.settle(step.job, &done, struck)?;
        if self.disk.is_stopped() {
            return self.crash(step.job, &done, &mut dice).await;
        }
        self.compare()
    }

    async fn act(&mut self, Step { job, deed, .. }: Step, dice: &mut Dice) -> Check<Done> {
        match deed {
            Deed::Fill { length, told, end } => self.fill(job, length, told, end).await,
            Deed::Begin { length, overtaken } => Ok(self.begin(job, length, overtaken)),
            Deed::Put { from, to, put, reserve } => self.put(job, from..to, put, reserve).await,
            Deed::Note => self.note(job).await,
            Deed::Finish { fetch } => {
                let fetched =
                    if fetch { self.put(job, 0..CHUNK, u64::MAX, true).await? } else { Done::default() };
                if fetched.error.is_some() || fetched.removed {
                    Ok(fetched)
                } else {
                    self.finish(job, fetched).await
                }
            }
            Deed::Read { part, mapped } => self.read(job, part, mapped, dice).await,
            Deed::Hold => self.hold(job).await,
            Deed::Release => self.release().await,
            Deed::Remove => {
                self.store().remove(key(job), None).await;
                Ok(Done { removed: true, ..Done::default() })
            }
            Deed::Wait(seconds) => {
                self.clock.advance(std::time::Duration::from_secs(seconds));
                Ok(Done::default())
            }
            Deed::SetClock(by) => {
                self.clock.set_wall(self.now().saturating_add_signed(by));
                Ok(Done::default())
            }
            Deed::Refuse(errno) => {
                self.disk.refuse(errno);
                Ok(Done::default())
            }
            Deed::Sweep => {
                self.store().sweep();
                Ok(Done::default())
            }
            Deed::Scrub(steps) => {
                let mut scrub = Scrub::new(self.store(), Arc::default(), TimeShare::percent(100).unwrap());
                for _ in 0..steps {
                    scrub.step();
                }
                Ok(Done::default())
            }
            Deed::Restart(_) => unreachable!(),
        }
    }

    fn make(&mut self, job: u64, length: u64) -> Made {
        self.seeds += 1;
        let (seed, filled_at) = (self.seeds, self.now());
        Made { job, seed, length, filled_at, parts: None, doubtful: BTreeSet::new(), spoilt: false }
    }

    fn record(made: &Made) -> Record {
        let Made { job, length, filled_at, .. } = *made;
        Record { length, filled_at, ..record::tests::record(job, 0, 0) }
    }

    async fn fill(&mut self, job: u64, length: u64, told: bool, end: End) -> Check<Done> {
        let made = self.make(job, length);
        let store = self.store();
        let mut done = Done { evicts: true, ..Done::default() };
        let begun = store.begin(Self::record(&made), told.then_some(length)).await;
        let (archive, mut claim) = match begun {
            Ok(begun) => begun,
            Err(error) => return Ok(Done { error: Some(error), ..done }),
        };
        done.fresh = Some(archive.id());
        self.model.made.insert(archive.id(), made.clone());
        for piece in made.body().chunks(PIECE) {
            if end == End::Rest && claim.written() > CHUNK {
                break;
            }
            if let Err(error) = claim.write(piece) {
                return Ok(Done { error: Some(error), ..done });
            }
        }
        match end {
            End::Broken => {}
            End::Rest => {
                drop(claim);
                let present = archive.present();
                let here: BTreeSet<u64> = (0..made.chunks()).filter(|chunk| present.has(*chunk)).collect();
                let parts = Parts { noted: here.clone(), here, perhaps: None };
                self.model.made.get_mut(&archive.id()).unwrap().parts = Some(parts);
                if told && present.count() > 0 {
                    done.error = store.place(&archive, still).err();
                    done.placed = true;
                }
            }
            End::Commit | End::Overtaken => {
                let written = claim.written();
                ensure!(written == length, "{written} bytes were written of {length}");
                claim.finish().map_err(|error| error.to_string())?;
                prove(&archive);
                let still = || (end == End::Commit).then_some(());
                done.error = store.commit(&archive, still).err();
                (done.placed, done.synced) = (end == End::Commit, true);
            }
        }
        Ok(done)
    }

    fn begin(&mut self, job: u64, length: u64, overtaken: bool) -> Done {
        let made = Made { parts: Some(Parts::default()), ..self.make(job, length) };
        let mut done = Done { evicts: true, ..Done::default() };
        let archive = match self.store().begin_in_parts(Self::record(&made)) {
            Ok(archive) => archive,
            Err(error) => return Done { error: Some(error), ..done },
        };
        done.fresh = Some(archive.id());
        self.model.made.insert(archive.id(), made);
        done.error = self.store().place(&archive, || (!overtaken).then_some(())).err();
        done.placed = !overtaken;
        done
    }

    /// The job's archive, if it is there and sparse; only one that has expired or is spoilt may be gone.
    async fn sparse(&mut self, job: u64, done: &mut Done) -> Check<Option<Arc<Archive>>> {
        let found = self.find(job, done).await?;
        Ok(found.filter(|archive| self.model.made[&archive.id()].parts.is_some()))
    }

    async fn put(&mut self, job: u64, chunks: std::ops::Range<u64>, put: u64, reserve: bool) -> Check<Done> {
        let mut done = Done::default();
        let Some(archive) = self.sparse(job, &mut done).await? else { return Ok(done) };
        done.evicts = true;
        let made = self.model.made[&archive.id()].clone();
        let body = body(made.seed, made.length);
        let bytes = (chunks.start.saturating_mul(CHUNK)).min(made.length)
            ..(chunks.end.saturating_mul(CHUNK)).min(made.length);
        let Some(mut claim) = self.store().claim(&archive, &bytes) else { return Ok(done) };
        let missing = chunks.clone().find(|chunk| !made.parts.as_ref().unwrap().here.contains(chunk));
        ensure!(
            missing.map(|chunk| chunk * CHUNK) == Some(claim.left().start),
            "{:?} was claimed and chunk {missing:?} is missing",
            claim.left()
        );
        if reserve && let Err(error) = claim.reserve() {
            return Ok(Done { error: Some(error), ..done });
        }
        for _ in 0..put {
            let start = claim.left().start;
            let chunk = start..(start + CHUNK).min(claim.left().end);
            if chunk.is_empty() {
                break;
            }
            let [from, to] = [chunk.start, chunk.end].map(crate::base::num::to_usize);
            if let Err(error) = claim.write(&body[from..to]) {
                return Ok(Done { error: Some(error), ..done });
            }
            let made = self.model.made.get_mut(&archive.id()).unwrap();
            made.doubtful.remove(&(start / CHUNK));
            made.parts.as_mut().unwrap().here.insert(start / CHUNK);
        }
        Ok(done)
    }

    async fn note(&mut self, job: u64) -> Check<Done> {
        let mut done = Done::default();
        let Some(archive) = self.sparse(job, &mut done).await? else { return Ok(done) };
        done.error = self.store().note(&archive).err();
        let parts = self.model.parts(archive.id()).unwrap();
        if done.error.is_none() {
            (parts.noted, parts.perhaps) = (parts.here.clone(), None);
        }
        Ok(done)
    }

    /// Compares all chunks and makes it whole, as those do who fill.
    async fn finish(&mut self, job: u64, mut done: Done) -> Check<Done> {
        let Some(archive) = self.sparse(job, &mut done).await? else { return Ok(done) };
        let made = self.model.made[&archive.id()].clone();
        let all = made.parts.as_ref().unwrap().here == made.all();
        ensure!(archive.begin_to_prove() == all, "it is finished with {:?} of it", made.parts);
        if !all {
            return Ok(done);
        }
        let Ok(sha256) = archive.sha256() else {
            archive.prove_later();
            let lost = archive.present();
            let lost: Vec<u64> = (0..made.chunks()).filter(|chunk| !lost.has(*chunk)).collect();
            ensure!(
                lost.iter().all(|chunk| made.doubtful.contains(chunk)),
                "sound chunks {lost:?} were lost"
            );
            let here = &mut self.model.parts(archive.id()).unwrap().here;
            here.retain(|chunk| !lost.contains(chunk));
            return Ok(done);
        };
        archive.complete(sha256).map_err(|error| error.to_string())?;
        done.error = self.store().commit(&archive, still).err();
        let made = self.model.made.get_mut(&archive.id()).unwrap();
        if archive.is_partial() {
            archive.prove_later();
            made.parts.as_mut().unwrap().perhaps = Some(made.all());
        } else {
            made.parts = None;
            self.model.job(job).perhaps.insert(archive.id());
        }
        let made = self.model.made.get_mut(&archive.id()).unwrap();
        // What an `fsync` that failed should have brought to the disk may never get there.
        made.doubtful = if done.error.is_some() { made.all() } else { BTreeSet::new() };
        (done.fresh, done.placed, done.synced) = (Some(archive.id()), true, true);
        Ok(done)
    }

    /// What a deed has changed is what it should have, and what went wrong had a reason.
    fn settle(&mut self, job: u64, done: &Done, struck: bool) -> Check {
        let stopped = self.disk.is_stopped();
        match &done.error {
            None => {}
            Some(Error::Io { .. }) => ensure!(struck, "{:?} without a reason", done.error),
            Some(Error::NoRoom(NoRoom::Budget { wanted, budget })) => {
                let kept: u64 =
                    self.readers.iter().map(|reader| reader.archive().stored_length() + CHUNK).sum();
                let sparse = self.model.live(job).filter(|(_, made)| made.parts.is_some());
                let own = sparse.map_or(0, |(_, made)| made.length + CHUNK);
                // One whose length is unknown takes room step by step.
                let all = wanted + kept + own + done.fresh.map_or(0, |id| self.model.made[&id].length);
                ensure!(all > *budget, "no room for {wanted} of {budget} beside {kept}");
            }
            Some(error) => return Err(format!("{error} isn't to be expected")),
        }
        for other in JOBS {
            let (before, now) = (self.model.jobs[&other].live, self.store().holds(key(other)));
            if before != now {
                let own = other == job && (now == done.fresh || now.is_none() && done.removed);
                ensure!(
                    own || now.is_none() && (done.evicts || struck),
                    "job {other} has {now:?} after {before:?}"
                );
                if struck {
                    self.model.job(other).left.extend(before);
                }
                self.model.moves(other, now);
            }
        }
        let ok = done.error.is_none() && !stopped;
        let live = self.model.jobs[&job].live;
        ensure!(!(ok && done.placed) || live == done.fresh, "{:?} isn't there, but {live:?}", done.fresh);
        ensure!(!done.removed || stopped || live.is_none(), "{live:?} is still there");
        if let Some(fresh) = done.fresh.filter(|_| ok && done.placed && done.synced && !struck) {
            self.model.is_sure(job, fresh);
        }
        Ok(())
    }

    pub(super) fn grant(&self, id: ArchiveId) -> crate::gitlab::grant::Grant {
        grant(id, self.clock.now())
    }
}
