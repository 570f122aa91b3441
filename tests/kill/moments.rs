//! kill -9 at any moment under load: whatever larder says when it is back is GitLab's, and it leaves no litter.
//!
//! Clients download archives of all kinds, whole and in parts, and delete some; the one who has seen as much as the dice
//! say kills larder. The next one on the directory is asked for everything, and then its turn comes.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use gitlab_standin::{Etag, JobId, Storage};

use crate::dice::{self, Dice};
use crate::load::{ANSWER, Answer, Ask, Meter};
use crate::pool::{self, Kind, Made};
use crate::process::{Process, Town, command};

/// Kills in each storage mode of a test.
const KILLS: u32 = 50;

/// Clients at once.
const CLIENTS: usize = 3;

/// A store that holds some of the archives alone.
const TIGHT: u64 = 64 << 20;

/// Longest that files may take to be put in order, far more than they do.
const IN_TIME: Duration = Duration::from_secs(20);

const HIT: &str = "larder; hit";
const NO_ROOM: &str = "larder; fwd=bypass; detail=no-room";

#[test]
fn killed_at_any_moment_it_comes_back_with_what_gitlab_has_in_its_files() {
    rounds(&[Etag::Sha256, Etag::Weak].map(|etag| Storage::Local { etag }));
}

#[test]
fn killed_at_any_moment_it_comes_back_with_what_gitlab_has_in_an_object_store() {
    rounds(&[Storage::Redirect { job_id_in_path: false }, Storage::Proxied { etag: Etag::Weak }]);
}

fn rounds(modes: &[Storage]) {
    let mut dice = Dice::new(dice::seed());
    for storage in modes {
        let mut scene = Scene::new(*storage);
        for round in 0..KILLS {
            println!("{storage:?}, round {round}");
            scene.round(&mut dice);
        }
        assert!(scene.hits > 5 * u64::from(KILLS), "{} archives outlived a kill", scene.hits);
    }
}

/// A job that has an archive.
#[derive(Clone)]
struct Job {
    id: JobId,
    made: usize,
    /// Somebody is about to delete it.
    doomed: bool,
    /// It is in the store for good.
    held: bool,
}

impl Job {
    fn made(&self) -> &'static Made {
        &pool::ALL[self.made]
    }
}

/// One of the things that clients do.
enum Deed {
    Whole,
    Part(std::ops::Range<u64>),
    File(usize),
    Delete,
}

struct Scene {
    town: Town,
    dir: tempfile::TempDir,
    jobs: Vec<Job>,
    /// Whose archives were deleted last.
    gone: VecDeque<JobId>,
    /// Archives that were in the store before a kill and after it.
    hits: u64,
}

impl Scene {
    fn new(storage: Storage) -> Self {
        let (town, dir) = (Town::new(storage, 0, 0), tempfile::tempdir().unwrap());
        Self { town, dir, jobs: Vec::new(), gone: VecDeque::new(), hits: 0 }
    }

    /// Starts, compares, loads and kills.
    fn round(&mut self, dice: &mut Dice) {
        let tight = dice.once_in(8);
        let larder = self.start(tight);
        // What is beyond the budget may be on its way out.
        self.tidy(&["incoming", "partial"]);
        let checked_first = dice.once_in(2);
        if checked_first {
            checked(&larder);
            self.tidy(&["archives"]);
        }
        if tight {
            self.jobs.iter_mut().for_each(|job| job.held = false);
        }
        self.compare(&larder, dice, tight);
        checked(&larder);
        self.settle(tight);
        self.prepare(dice);
        self.load(larder, dice, tight);
        self.meddle(dice);
    }

    fn start(&self, tight: bool) -> Process {
        let mut command = command(&self.town.gitlab.url(), self.dir.path());
        // Each answer is GitLab's of now.
        command.env("LARDER__ACCESS__TTL", "0s");
        if tight {
            command.env("LARDER__CACHE__MAX_SIZE", TIGHT.to_string());
        }
        Process::run(&mut command)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("test")
    }

    fn has_archive(&self, job: JobId) -> bool {
        self.town.gitlab.archive_of(job).is_some()
    }

    fn target(&self, job: JobId, file: Option<usize>) -> String {
        let file = file.map(|file| format!("/file-{file}")).unwrap_or_default();
        format!("/api/v4/projects/{}/jobs/{job}/artifacts{file}", self.town.project)
    }

    /// What is asked to do something, and what comes of it if all is well.
    fn ask(&self, job: &Job, deed: &Deed) -> (&'static str, String, Option<String>, Expected) {
        let made = job.made();
        let (mut file, mut range) = (None, None);
        let (method, status, body) = match deed {
            Deed::Whole => ("GET", 200, made.bytes.clone()),
            Deed::Part(part) => {
                range = Some(format!("bytes={}-{}", part.start, part.end - 1));
                let part = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
                ("GET", 206, made.bytes.slice(part))
            }
            Deed::File(number) => {
                file = Some(*number);
                ("GET", 200, made.files[*number].1.clone())
            }
            Deed::Delete => ("DELETE", 204, bytes::Bytes::new()),
        };
        (method, self.target(job.id, file), range, Expected { status, body })
    }

    /// Asks for everything, by two clients.
    fn compare(&mut self, larder: &Process, dice: &mut Dice, tight: bool) {
        let plans: Vec<_> = self.jobs.iter().map(|job| wanted(job, dice)).collect();
        let hits = Mutex::new(0);
        let work = Mutex::new(self.jobs.iter().zip(plans));
        let scene = &*self;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let next = work.lock().unwrap().next();
                        let Some((job, deeds)) = next else { break };
                        for deed in deeds {
                            *hits.lock().unwrap() += u64::from(scene.compare_one(larder, job, &deed, tight));
                        }
                    }
                });
            }
        });
        drop(work);
        self.hits += hits.into_inner().unwrap();
        for job in &self.gone {
            let target = self.target(*job, None);
            let ask = Ask { method: "GET", target: &target, token: &self.town.token, range: None };
            assert_eq!(ask.of(larder).status, 404, "job {job}'s archive was deleted");
        }
        let (live, gone): (Vec<_>, Vec<_>) = self.jobs.drain(..).partition(|job| {
            // Whoever was to delete it didn't get to it, or GitLab didn't hear of it.
            self.town.gitlab.archive_of(job.id).is_some()
        });
        self.jobs = live;
        self.jobs.iter_mut().for_each(|job| job.doomed = false);
        self.gone.extend(gone.into_iter().map(|job| job.id));
        let old = self.gone.len().saturating_sub(8);
        self.gone.drain(..old);
    }

    /// Whether it was a hit.
    fn compare_one(&self, larder: &Process, job: &Job, deed: &Deed, tight: bool) -> bool {
        let before = self.has_archive(job.id);
        let (method, target, range, expected) = self.ask(job, deed);
        let answer = Ask { method, target: &target, token: &self.town.token, range }.of(larder);
        if answer.status == 404 {
            assert!(!self.has_archive(job.id), "job {} has an archive: {}", job.id, answer.cache);
            return false;
        }
        assert!(before, "what was deleted is served: job {}, {}", job.id, answer.cache);
        if tight && expected.is_sent_elsewhere(&answer) {
            return false;
        }
        let may_break_off = tight && job.made().kind == Kind::Huge;
        assert!(
            answer.whole || may_break_off,
            "job {} breaks off: {} (tight: {tight})",
            job.id,
            answer.cache
        );
        expected.compare(job, &answer);
        let hit = answer.cache == HIT;
        assert!(hit || !job.held || tight, "job {} was stored and is {}", job.id, answer.cache);
        hit
    }

    /// Waits until the files are in order, and notes whose archives are in the store.
    fn settle(&mut self, tight: bool) {
        self.tidy(&["incoming", "partial", "archives"]);
        let zips = names(&self.root().join("archives"));
        let is_of = |zip: &PathBuf, job: &Job| {
            let name = zip.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let length = fs::metadata(zip).map_or(0, |zip| zip.len());
            // No two are of one length: one that was replaced at GitLab isn't this one.
            name.starts_with(&format!("{}-", job.id)) && length == job.made().archive.len()
        };
        for job in &mut self.jobs {
            job.held = !tight && zips.iter().any(|zip| is_of(zip, job));
        }
    }

    /// Waits until no stray is left.
    fn tidy(&self, folders: &[&str]) {
        let deadline = Instant::now() + IN_TIME;
        let mut left = strays(&self.root(), folders);
        while !left.is_empty() {
            assert!(Instant::now() < deadline, "{left:?} stay");
            left = strays(&self.root(), folders);
        }
    }

    /// Gives out new archives, and says which are to go.
    fn prepare(&mut self, dice: &mut Dice) {
        for job in &mut self.jobs {
            job.doomed = dice.once_in(4);
            job.held &= !job.doomed;
        }
        for kind in Kind::ALL {
            let stay = self.jobs.iter().filter(|job| !job.doomed && job.made().kind == kind).count();
            for _ in stay..kind.jobs() {
                let used: Vec<usize> = self.jobs.iter().map(|job| job.made).collect();
                if let Some(made) = pool::spare(kind, &used, dice) {
                    let (id, _) = self.town.add(pool::ALL[made].archive.clone());
                    self.jobs.push(Job { id, made, doomed: false, held: false });
                }
            }
        }
    }

    /// Lets clients ask until they have seen enough.
    fn load(&self, larder: Process, dice: &mut Dice, tight: bool) {
        let plans: Vec<Vec<(&Job, Deed)>> = (0..CLIENTS).map(|client| self.plan(client, dice)).collect();
        let all: u64 = plans.iter().flatten().map(|(job, deed)| self.worth(job, deed)).sum();
        let (address, kill_after) = (larder.address, 1 + dice.below(all));
        let meter = Meter::new(larder, kill_after);
        std::thread::scope(|scope| {
            for plan in plans {
                let (scene, meter) = (self, &meter);
                scope.spawn(move || {
                    for (job, deed) in plan {
                        if meter.is_over() {
                            break;
                        }
                        let (method, target, range, expected) = scene.ask(job, &deed);
                        let ask = Ask { method, target: &target, token: &scene.town.token, range };
                        let Some(answer) = ask.under(meter, address) else { break };
                        if tight && expected.is_sent_elsewhere(&answer) {
                            continue;
                        }
                        assert!(answer.status != 404 || job.doomed, "job {} has an archive", job.id);
                        if answer.status != 404 {
                            expected.compare(job, &answer);
                            let too_much = tight && job.made().kind == Kind::Huge;
                            let may_break_off = job.doomed || too_much || meter.is_over();
                            let (id, length) = (job.id, answer.body.len());
                            assert!(
                                answer.whole || may_break_off,
                                "job {id} breaks off after {length}, {} (tight: {tight})",
                                answer.cache,
                            );
                        }
                    }
                });
            }
        });
        meter.kill();
    }

    /// What one of the clients does, who delete what is doomed in turn.
    fn plan(&self, client: usize, dice: &mut Dice) -> Vec<(&Job, Deed)> {
        let mut plan: Vec<_> = (0..4)
            .map(|_| {
                let job = &self.jobs[dice.place(self.jobs.len())];
                let made = job.made();
                let part = |dice: &mut Dice| Deed::Part(dice.part(job.made().archive.len(), 3 << 20));
                let deed = match dice.below(8) {
                    0..3 if !made.files.is_empty() => Deed::File(dice.place(made.files.len())),
                    3..7 if !made.files.is_empty() => part(dice),
                    0 => part(dice),
                    _ => Deed::Whole,
                };
                (job, deed)
            })
            .collect();
        for job in self.jobs.iter().filter(|job| job.doomed).skip(client).step_by(CLIENTS) {
            let at = dice.place(plan.len() + 1);
            plan.insert(at, (job, Deed::Delete));
        }
        plan
    }

    /// As much as is seen of it.
    fn worth(&self, job: &Job, deed: &Deed) -> u64 {
        u64::try_from(self.ask(job, deed).3.body.len()).unwrap() + ANSWER
    }

    /// What happens at GitLab while larder is down: archives are replaced or go.
    fn meddle(&mut self, dice: &mut Dice) {
        let used: Vec<usize> = self.jobs.iter().map(|job| job.made).collect();
        let at = dice.place(self.jobs.len());
        let job = &mut self.jobs[at];
        if self.town.gitlab.archive_of(job.id).is_none() {
            return;
        }
        match dice.below(4) {
            0 => self.town.gitlab.delete_archive(job.id),
            1 => {
                if let Some(made) = pool::spare(job.made().kind, &used, dice) {
                    (job.made, job.held) = (made, false);
                    self.town.gitlab.put_archive(job.id, job.made().archive.clone());
                }
            }
            _ => {}
        }
    }
}

/// All of an archive; of a long one now and then, and mostly parts and files.
fn wanted(job: &Job, dice: &mut Dice) -> Vec<Deed> {
    let made = job.made();
    let whole = match made.kind {
        Kind::Short | Kind::Middling => 1,
        Kind::Long => 3,
        Kind::Huge => 24,
    };
    if dice.once_in(whole) {
        return vec![Deed::Whole];
    }
    let (length, files) = (made.archive.len(), made.files.len());
    let mut wanted: Vec<_> = (0..2).map(|_| Deed::Part(dice.part(length, 2 << 20))).collect();
    if files > 0 {
        wanted.push(Deed::File(dice.place(files)));
    }
    wanted
}

/// What GitLab has.
struct Expected {
    status: u16,
    body: bytes::Bytes,
}

impl Expected {
    /// What there is of an answer must be right.
    fn compare(&self, job: &Job, answer: &Answer) {
        let context = format!("job {}: {} bytes, {}", job.id, answer.body.len(), answer.cache);
        // Where the store has no room, whoever asked for a part may get all.
        let all = Self { status: 200, body: job.made().bytes.clone() };
        let is_all = self.status == 206 && answer.status == 200 && answer.cache == NO_ROOM;
        let expected = if is_all { &all } else { self };
        assert_eq!(answer.status, expected.status, "{context}");
        assert!(expected.body.starts_with(&answer.body), "other bytes than GitLab's: {context}");
        assert!(!answer.whole || answer.body.len() == expected.body.len(), "{context}");
    }

    /// Whether the client is to fetch it himself: the store has no room.
    fn is_sent_elsewhere(&self, answer: &Answer) -> bool {
        answer.status == 302 && self.status != 204
    }
}

/// Waits until larder has looked at all of its files.
fn checked(larder: &Process) {
    let deadline = Instant::now() + IN_TIME;
    let mut metrics = larder.metrics();
    while !metrics.lines().any(|line| line == "larder_store_shards_unchecked 0") {
        assert!(Instant::now() < deadline, "its files aren't looked at");
        metrics = larder.metrics();
    }
}

/// All files below a directory.
fn names(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { names(&path) } else { vec![path] }).collect()
}

/// Files that have no business where they are: what is arriving, and archives and records without one another.
fn strays(root: &Path, folders: &[&str]) -> Vec<PathBuf> {
    let names: BTreeSet<PathBuf> = folders.iter().flat_map(|folder| names(&root.join(folder))).collect();
    let is_stray = |path: &&PathBuf| {
        let partner = match path.extension().and_then(OsStr::to_str) {
            Some("zip") => path.with_extension("rec"),
            Some("rec") => path.with_extension("zip"),
            _ => return true,
        };
        path.starts_with(root.join("incoming")) || !names.contains(&partner)
    };
    names.iter().filter(is_stray).cloned().collect()
}
