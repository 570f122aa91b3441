//! Archives of which only some chunks are here, whatever is done to them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::store::lru::StoredMeta;
use crate::store::record::CHUNK;

const ROOM: u64 = 100 << 20;

/// Jobs that have archives.
const JOBS: u64 = 3;

/// Chunks of each but its last, which is short: what is read and written is small and the chunks are still several.
const WHOLE: u64 = 2;

fn length(job: u64) -> u64 {
    WHOLE * CHUNK + 100 * job
}

/// The bytes of an archive: no two, and no two chunks of one, are alike.
fn chunk(archive: u64, chunk: u64, length: u64) -> Vec<u8> {
    let size = (length - chunk * CHUNK).min(CHUNK);
    let mut bytes = vec![u8::try_from(archive % 251).unwrap(); usize::try_from(size).unwrap()];
    bytes[..8].copy_from_slice(&(archive << 8 | chunk).to_le_bytes());
    bytes
}

/// What is known of an archive: whose bytes it has, which chunks are here, and which were here when that was last written
/// down; `None` if it is whole.
#[derive(Debug, Clone)]
struct Known {
    seed: u64,
    here: BTreeSet<u64>,
    noted: BTreeSet<u64>,
    whole: bool,
}

/// One of the things done to the archive of a job.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Begin,
    /// Claims a range; puts so many chunks in, and lets go of the rest.
    Fetch(u64, u64, usize),
    Note,
    Promote,
    Remove,
    Reopen,
}

fn deed() -> impl Strategy<Value = (u64, Deed)> {
    let deeds = prop_oneof![
        3 => Just(Deed::Begin),
        6 => (0..=WHOLE, 1..=WHOLE + 1, 0..4_usize).prop_map(|(from, chunks, put)| Deed::Fetch(from, chunks, put)),
        2 => Just(Deed::Note),
        3 => Just(Deed::Promote),
        1 => Just(Deed::Remove),
        1 => Just(Deed::Reopen),
    ];
    (1..=JOBS, deeds)
}

/// Ends as a kill does, as far as files go: nothing is written down that wasn't.
fn reopen(bench: Bench, dir: &std::path::Path) -> Bench {
    bench.store.close();
    drop(bench);
    Bench::new(dir, ROOM)
}

struct Case {
    dir: tempfile::TempDir,
    bench: Option<Bench>,
    model: BTreeMap<u64, Known>,
    seeds: u64,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Some(Bench::new(dir.path(), ROOM));
        Self { dir, bench, model: BTreeMap::new(), seeds: 0 }
    }

    fn bench(&self) -> &Bench {
        self.bench.as_ref().unwrap()
    }

    fn store(&self) -> &Store {
        &self.bench().store
    }

    async fn act(&mut self, job: u64, deed: Deed) {
        match deed {
            Deed::Begin => self.begin(job),
            Deed::Fetch(from, chunks, put) => self.fetch(job, from, chunks, put).await,
            Deed::Note => self.note(job).await,
            Deed::Promote => self.promote(job).await,
            Deed::Remove => {
                self.store().remove(key(job), None).await;
                self.model.remove(&job);
            }
            Deed::Reopen => {
                self.bench = self.bench.take().map(|bench| reopen(bench, self.dir.path()));
                // An archive that has nothing isn't worth its name.
                self.model.retain(|_, known| known.whole || !known.noted.is_empty());
                self.model.values_mut().for_each(|known| known.here.clone_from(&known.noted));
            }
        }
    }

    fn begin(&mut self, job: u64) {
        let record =
            Record { filled_at: 1_000_000 + self.seeds, ..record::tests::record(job, 0, length(job)) };
        let archive = self.store().begin_in_parts(record).unwrap();
        assert!(self.store().place(&archive, still).unwrap());
        self.seeds += 1;
        let none = BTreeSet::new();
        let known = Known { seed: self.seeds, here: none.clone(), noted: none, whole: false };
        self.model.insert(job, known);
    }

    async fn fetch(&mut self, job: u64, from: u64, chunks: u64, put: usize) {
        let Some(archive) = self.store().find(key(job)).await else { return };
        let known = self.model.get_mut(&job).unwrap();
        let all = WHOLE + 1;
        let range = from * CHUNK..((from + chunks) * CHUNK).min(length(job));
        let missing: Vec<u64> = (from..(from + chunks).min(all))
            .filter(|chunk| !known.whole && !known.here.contains(chunk))
            .collect();
        let mut claims = Vec::new();
        while let Some(claim) = self.bench.as_ref().unwrap().store.claim(&archive, &range) {
            claims.push(claim);
        }
        let size = |chunk: &u64| (length(job) - chunk * CHUNK).min(CHUNK);
        let claimed: u64 = claims.iter().map(|claim| claim.left().end - claim.left().start).sum();
        assert_eq!(claimed, missing.iter().map(size).sum::<u64>());
        for number in missing.into_iter().take(put) {
            let claim = claims.iter_mut().find(|claim| claim.left().start == number * CHUNK).unwrap();
            let (right, left) = (chunk(known.seed, number, length(job)), claim.left());
            let beyond = vec![0; usize::try_from(left.end - left.start + 1).unwrap()];
            assert!(matches!(claim.write(&beyond), Err(Error::TooLong)));
            claim.write(&right[..10]).unwrap();
            claim.write(&right[10..]).unwrap();
            known.here.insert(number);
        }
    }

    async fn note(&mut self, job: u64) {
        let Some(archive) = self.store().find(key(job)).await else { return };
        self.store().note(&archive).unwrap();
        let known = self.model.get_mut(&job).unwrap();
        known.noted.clone_from(&known.here);
    }

    async fn promote(&mut self, job: u64) {
        let Some(archive) = self.store().find(key(job)).await else { return };
        let known = self.model.get_mut(&job).unwrap();
        let all: BTreeSet<_> = (0..=WHOLE).collect();
        let begins = archive.begin_to_prove();
        assert_eq!(begins, !known.whole && known.here == all);
        if begins {
            archive.complete(archive.sha256().unwrap()).unwrap();
            assert!(self.bench.as_ref().unwrap().store.commit(&archive, still).unwrap());
        }
        if archive.is_whole() {
            // Whoever had the archive before and writes it down late changes nothing.
            self.bench.as_ref().unwrap().store.note(&archive).unwrap();
            (known.whole, known.noted) = (true, all);
        }
    }

    /// What is there is what the model says, byte for byte, and nothing else is taken or lies about.
    async fn compare(&self) {
        let mut files = BTreeSet::new();
        let layout = self.bench().shared_layout();
        for job in 1..=JOBS {
            let archive = self.store().find(key(job)).await;
            assert_eq!(archive.is_some(), self.model.contains_key(&job), "job {job}");
            let (Some(archive), Some(known)) = (archive, self.model.get(&job)) else { continue };
            assert_eq!(archive.is_partial(), !known.whole);
            for number in 0..=WHOLE {
                let right = chunk(known.seed, number, length(job));
                let mut read = vec![0; right.len()];
                let is_read = archive.read_at(&mut read, number * CHUNK).is_ok();
                assert_eq!(is_read, known.whole || known.here.contains(&number), "job {job}, {number}");
                assert!(!is_read || (read == right && archive.sound(number).unwrap() == right));
            }
            let (zip, rec) = if known.whole {
                (layout.zip(key(job), archive.id()), layout.rec(key(job), archive.id()))
            } else {
                (layout.partial_zip(key(job), archive.id()), layout.partial_rec(key(job), archive.id()))
            };
            files.extend([zip, rec]);
        }
        let locked = &self.store().inner.shelf;
        let slots: Vec<(Key, StoredMeta)> = locked.lock().shelf.iter().collect();
        let bytes = slots.iter().map(|(_, slot)| slot.bytes).sum::<u64>();
        assert_eq!(self.files(), files);
        assert_eq!(self.store().totals().bytes, bytes);
    }

    /// The files of all archives.
    fn files(&self) -> BTreeSet<PathBuf> {
        let root = self.dir.path().join("test");
        let shards = fs::read_dir(root.join("archives")).unwrap().map(|shard| shard.unwrap().path());
        let folders = shards.chain([root.join("partial"), root.join("incoming")]);
        folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is begun, fetched, written down, made whole, removed and found again, each archive has the chunks that it
    /// should, each chunk its own bytes, and the budget and the directory hold no more.
    #[test]
    fn sparse_archives_are_what_a_model_says(deeds in prop::collection::vec(deed(), 0..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut case = Case::new();
            for (job, deed) in deeds {
                case.act(job, deed).await;
                case.compare().await;
            }
            case.act(1, Deed::Reopen).await;
            case.compare().await;
        });
    }
}

#[tokio::test]
async fn a_record_that_was_being_written_when_larder_was_killed_is_removed() {
    let mut case = Case::new();
    case.begin(1);
    case.fetch(1, 0, 1, 1).await;
    case.note(1).await;
    let archive = case.store().find(key(1)).await.unwrap();
    let layout = case.bench().shared_layout();
    for id in [archive.id(), ArchiveId::new(1)] {
        fs::write(layout.partial_rec(key(1), id).with_extension("new"), "half").unwrap();
    }
    drop(archive);
    case.act(1, Deed::Reopen).await;
    case.compare().await;
}

#[tokio::test]
async fn a_whole_archive_stays_though_a_sparse_one_of_the_same_second_was_left() {
    // Names are random, and one of them is the greater.
    for _ in 0..10 {
        let mut case = Case::new();
        let layout = case.bench().shared_layout();
        case.begin(1);
        case.fetch(1, 0, 1, 1).await;
        case.note(1).await;
        let sparse = case.store().holds(key(1)).unwrap();
        let files = [layout.partial_zip(key(1), sparse), layout.partial_rec(key(1), sparse)];
        let left = files.each_ref().map(|file| fs::read(file).unwrap());
        let whole = case.bench().fill(1, &pattern(1000)).await.unwrap().id();
        // The power failed before their names were gone from the disk.
        for (file, left) in files.iter().zip(left) {
            fs::write(file, left).unwrap();
        }
        case.bench = case.bench.take().map(|bench| reopen(bench, case.dir.path()));
        assert_eq!(case.store().holds(key(1)), Some(whole));
        assert!(files.iter().all(|file| !file.exists()));
    }
}

#[tokio::test]
async fn a_beginning_that_is_kept_closes_the_archive_in_whose_place_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), ROOM);
    drop(bench.fill(1, &pattern(5_000_000)).await.unwrap());
    let (archive, mut writer) = bench.begin(1, Some(length(1))).await.unwrap();
    writer.write(&chunk(7, 0, length(1))).unwrap();
    drop(writer);
    assert!(bench.store.place(&archive, still).unwrap());
    drop(archive);
    assert!(bench.store.totals().bytes < 2 * CHUNK, "{} bytes are taken", bench.store.totals().bytes);
}

#[tokio::test]
async fn an_archive_that_has_left_isnt_written_down_any_more() {
    let mut case = Case::new();
    case.begin(1);
    case.fetch(1, 0, 1, 1).await;
    let archive = case.store().find(key(1)).await.unwrap();
    case.act(1, Deed::Remove).await;
    case.store().note(&archive).unwrap();
    drop(archive);
    case.compare().await;
}

#[tokio::test]
async fn a_sparse_archive_stays_though_an_older_whole_one_of_its_job_was_left() {
    let mut case = Case::new();
    let (dir, layout) = (tempfile::tempdir().unwrap(), case.bench().shared_layout());
    let older = case.bench().fill(1, &pattern(1000)).await.unwrap().id();
    let files = [layout.zip(key(1), older), layout.rec(key(1), older)];
    let copy = |file: &PathBuf| dir.path().join(file.file_name().unwrap());
    for file in &files {
        fs::copy(file, copy(file)).unwrap();
    }
    case.seeds = 10;
    case.begin(1);
    case.fetch(1, 0, 1, 1).await;
    case.note(1).await;
    // Killed before the older one's files were removed.
    for file in &files {
        fs::copy(copy(file), file).unwrap();
    }
    case.act(1, Deed::Reopen).await;
    case.compare().await;
}

#[tokio::test]
async fn a_look_at_every_byte_takes_what_a_sparse_archive_has_and_nothing_else() {
    let mut case = Case::new();
    case.begin(1);
    case.fetch(1, 1, 1, 1).await;
    case.note(1).await;
    let id = case.store().find(key(1)).await.unwrap().id();
    let (zip, settings) =
        (case.bench().shared_layout().partial_zip(key(1), id), settings(case.dir.path(), ROOM));
    let bench = case.bench.take().unwrap();
    bench.store.close();
    drop(bench);
    let flip = |at: u64| {
        let mut bytes = fs::read(&zip).unwrap();
        bytes[usize::try_from(at).unwrap()] ^= 4;
        fs::write(&zip, bytes).unwrap();
    };
    for (at, repair, sound, damaged) in [
        (CHUNK - 1, false, 1, 0),
        (2 * CHUNK, false, 1, 0),
        (CHUNK, false, 0, 1),
        (CHUNK - 1, true, 0, 1),
        (0, true, 0, 0),
    ] {
        if zip.exists() {
            flip(at);
        }
        let found = scan::verify::verify(&settings, "test", repair, |_| ()).unwrap();
        assert_eq!((found.sound, found.damaged.len(), found.bytes), (sound, damaged, sound * CHUNK), "{at}");
    }
    assert!(!zip.exists());
}
