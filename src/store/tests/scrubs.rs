//! Reading all archives again while the store is in use.

use std::io;

use std::os::unix::fs::FileExt;

use super::*;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Sizes;

const DAY: u64 = 24 * 3600;

/// More than a week: then the next pass is due.
const LATER: Duration = Duration::from_secs(8 * DAY);

/// A store with archives, and what is counted.
struct Scene {
    dir: tempfile::TempDir,
    bench: Bench,
    metrics: Arc<Metrics>,
    ids: Vec<ArchiveId>,
}

impl Scene {
    /// With archives of these lengths under the keys from 1, filled before anything reads them again.
    async fn new(lengths: &[usize]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { max_age: Duration::MAX, ..settings(dir.path(), 100 << 20) };
        let clock = Clock::manual(1_000_000);
        let store = Arc::new(Store::open(&settings, "test", clock.clone()).unwrap());
        let mut scene = Self { dir, bench: Bench { store, clock }, metrics: Arc::default(), ids: Vec::new() };
        for (job, length) in (1..).zip(lengths) {
            scene.ids.push(scene.bench.fill(job, &pattern(*length)).await.unwrap().id());
        }
        scene
    }

    /// What reads them again, here step by step.
    fn scrub(&self) -> Scrub {
        Scrub::new(Arc::clone(&self.bench.store), Arc::clone(&self.metrics), TimeShare::percent(50).unwrap())
    }

    fn zip(&self, job: u64) -> PathBuf {
        self.bench.shared_layout().zip(key(job), self.ids[usize::try_from(job).unwrap() - 1])
    }

    /// Flips a bit, as a disk does: nobody is told.
    fn flip(path: &std::path::Path, at: u64) {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    }

    fn count(&self, line: &str) -> u64 {
        let page = self.metrics.render(Sizes::default());
        page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')).unwrap().parse().unwrap()
    }

    fn bytes(&self) -> u64 {
        self.count("larder_scrubbed_bytes_total")
    }

    fn damaged(&self, result: &str) -> u64 {
        self.count(&format!("larder_damaged_chunks_total{{result=\"{result}\"}}"))
    }

    /// The first slice of an archive from `at`.
    async fn slice(&self, job: u64, at: u64) -> io::Result<bytes::Bytes> {
        let archive = self.bench.store.find(key(job)).await.unwrap();
        let grant = grant(archive.id(), self.bench.clock.now());
        let mut slices = archive.read(&grant, at..archive.stored_length()).unwrap();
        Ok(std::future::poll_fn(|cx| slices.poll_next(cx)).await.unwrap()?)
    }
}

/// As far as there is something to do.
fn pass(scrub: &mut Scrub) {
    while scrub.step() {}
}

#[tokio::test]
async fn a_pass_reads_every_byte_once_and_the_next_one_when_it_is_due() {
    let lengths = [10, 1 << 20, (3 << 20) + 7, 0];
    let scene = Scene::new(&lengths).await;
    let all = to_u64(lengths.iter().sum());
    let mut scrub = scene.scrub();
    pass(&mut scrub);
    assert_eq!(scene.bytes(), all);
    scene.bench.clock.advance(Duration::from_secs(6 * DAY));
    pass(&mut scrub);
    assert_eq!(scene.bytes(), all, "not yet");
    scene.bench.clock.advance(Duration::from_secs(2 * DAY));
    assert!(scrub.step());
    scene.bench.clock.advance(Duration::from_secs(1));
    drop(scene.bench.fill(9, &pattern(1000)).await.unwrap());
    pass(&mut scrub);
    assert_eq!(scene.bytes(), 2 * all, "what was filled now was compared as it came");
    assert_eq!((scene.damaged("found"), scene.damaged("lost")), (0, 0));
}

#[tokio::test]
async fn a_flipped_bit_is_found_also_in_an_archive_that_is_open_and_is_not_served_again() {
    let scene = Scene::new(&[3 << 20, 3 << 20, 3 << 20]).await;
    let at = (1 << 20) + 5;
    // One was compared when it was filled and is open; one isn't.
    assert!(scene.slice(1, at).await.is_ok());
    let open = scene.bench.store.inner.shelf.lock().open.close();
    drop(open);
    for job in [1, 2] {
        Scene::flip(&scene.zip(job), at);
    }
    pass(&mut scene.scrub());
    assert_eq!((scene.damaged("found"), scene.damaged("lost")), (2, 0));
    for job in [1, 2] {
        let refused = scene.slice(job, at).await.unwrap_err();
        assert!(refused.to_string().contains("damaged in its MiB 1"), "{refused}");
        let next = scene.slice(job, 2 << 20).await.unwrap();
        assert!(pattern(3 << 20)[2 << 20..].starts_with(&next), "the next MiB is sound");
        let archive = scene.bench.store.find(key(job)).await.unwrap();
        assert!(scene.bench.store.repair(&archive, 1, &pattern(3 << 20)[1 << 20..2 << 20]).unwrap());
        assert!(scene.slice(job, at).await.is_ok());
    }
    scene.bench.clock.advance(LATER);
    pass(&mut scene.scrub());
    assert_eq!(scene.damaged("found"), 2, "it was mended");
}

#[tokio::test]
async fn what_cannot_be_opened_any_more_leaves_the_store() {
    let scene = Scene::new(&[2000; 5]).await;
    let layout = scene.bench.shared_layout();
    let record = |job: usize| layout.rec(key(to_u64(job)), scene.ids[job - 1]);
    fs::File::options().write(true).open(scene.zip(1)).unwrap().set_len(1999).unwrap();
    Scene::flip(&record(2), 40);
    fs::remove_file(record(3)).unwrap();
    fs::remove_file(scene.zip(4)).unwrap();
    pass(&mut scene.scrub());
    assert_eq!((scene.damaged("found"), scene.damaged("lost")), (0, 4));
    assert_eq!(scene.bench.store.totals().archives, 1);
    assert_eq!(scene.bench.read(5).await, Some(pattern(2000)));
}

#[tokio::test]
async fn an_archive_that_leaves_while_it_is_read_is_let_go_of() {
    let scene = Scene::new(&[5 << 20]).await;
    let mut scrub = scene.scrub();
    while scene.bytes() == 0 {
        assert!(scrub.step());
    }
    Scene::flip(&scene.zip(1), 4 << 20);
    scene.bench.store.remove(key(1), None).await;
    pass(&mut scrub);
    assert_eq!((scene.bytes(), scene.damaged("found"), scene.damaged("lost")), (1 << 20, 0, 0));
}

#[tokio::test]
async fn a_restart_goes_on_where_it_stopped() {
    let scene = Scene::new(&[100_000; 20]).await;
    let mut scrub = scene.scrub();
    while scene.bytes() < 1_000_000 {
        assert!(scrub.step());
    }
    drop(scrub);
    pass(&mut scene.scrub());
    // At most the shard in which it stopped is read again; each of these archives has one of its own.
    assert!((2_000_000..=2_100_000).contains(&scene.bytes()), "{}", scene.bytes());
    pass(&mut scene.scrub());
    assert!(scene.bytes() <= 2_100_000, "that pass is over");
    fs::write(scene.dir.path().join("test/scrub"), "garbage").unwrap();
    pass(&mut scene.scrub());
    assert!(scene.bytes() >= 4_000_000, "nobody knows any more");
}

#[tokio::test]
async fn without_a_share_nothing_is_read() {
    let scene = Scene::new(&[1000]).await;
    Scrub::new(Arc::clone(&scene.bench.store), Arc::clone(&scene.metrics), TimeShare::NONE).run().await;
    assert_eq!(scene.bytes(), 0);
}
