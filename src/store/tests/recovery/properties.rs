//! What holds whatever a start finds, and whatever happens meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::key::RefId;
use crate::store::record::tests::record;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Missing,
    Damaged,
    OtherVersion,
    OtherLength,
}

/// An archive's files: whether there is a zip, and what its record is.
type Planted = (bool, Kind);

const KEYS: usize = 5;
const IDS: u64 = 3;

/// Keys of three shards, one of them a ref's.
fn keys() -> [Key; KEYS] {
    [key(1), key(257), key(2), Key::Ref(RefId::of([b"main".as_slice()])), key(513)]
}

fn planted() -> impl Strategy<Value = Option<Planted>> {
    let kind = prop_oneof![
        4 => Just(Kind::Good),
        1 => Just(Kind::Missing),
        1 => Just(Kind::Damaged),
        1 => Just(Kind::OtherVersion),
        1 => Just(Kind::OtherLength),
    ];
    prop::option::of((prop::bool::weighted(0.8), kind))
}

/// An archive as its record tells; no two were filled at once.
fn as_filled(at: usize, id: u64, order: u64) -> StoredMeta {
    let number = to_u64(at) * IDS + id;
    let filled_at = 1_000 + (number * 7 + order * 5) % 17;
    let (id, bytes) = (ArchiveId::new(id), 100 + number);
    StoredMeta { id, bytes, filled_at, used_at: filled_at, marks: [0; 2] }
}

fn plant(layout: &Layout, key: Key, slot: &mut StoredMeta, (zip, kind): Planted) {
    let length = slot.bytes;
    layout.make_shard(key).unwrap();
    if zip {
        fs::write(layout.zip(key, slot.id), pattern(usize::try_from(length).unwrap())).unwrap();
    }
    let length = if kind == Kind::OtherLength { length + 1 } else { length };
    let record = Record { key, filled_at: slot.filled_at, ..record(1, slot.id.get(), length) };
    let mut bytes = record.encode().unwrap();
    match kind {
        Kind::Damaged => bytes[30] ^= 1,
        Kind::OtherVersion => bytes[8] = 9,
        _ => {}
    }
    slot.bytes += to_u64(bytes.len());
    if kind != Kind::Missing {
        fs::write(layout.rec(key, slot.id), bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever files there are and whatever the index says, what is on the shelf afterwards is what the files say.
    #[test]
    fn the_shelf_is_what_the_files_say(
        archives in prop::collection::vec(planted(), KEYS * usize::try_from(IDS).unwrap()),
        rows in prop::collection::vec(prop::option::of(1..=IDS), KEYS),
        order in 0_u64..17,
        room in 1_u64..9,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create("test", Arc::new(Plain(Reach::into(dir.path()).unwrap()))).unwrap();
        let (mut expected, mut left_alone) = (BTreeMap::<Key, StoredMeta>::new(), BTreeSet::new());
        let index = index::Index::new(layout.reach().clone(), layout.index());
        drop(index.load(&false.into()));
        for (at, key) in keys().into_iter().enumerate() {
            for id in 1..=IDS {
                let mut slot = as_filled(at, id, order);
                let files = archives[at * 3 + usize::try_from(id).unwrap() - 1];
                if let Some(files) = files {
                    plant(&layout, key, &mut slot, files);
                }
                let listed = rows[at] == Some(id);
                if listed {
                    slot.used_at = 2_000 + slot.filled_at;
                    index.put(key, slot);
                }
                if !listed && files == Some((true, Kind::OtherVersion)) {
                    left_alone.extend([layout.zip(key, slot.id), layout.rec(key, slot.id)]);
                }
                let whole = files.is_some_and(|(zip, kind)| zip && kind != Kind::Missing);
                let good = whole && (listed || files.is_some_and(|(_, kind)| kind == Kind::Good));
                let newest = expected.get(&key).is_none_or(|other| other.filled_at < slot.filled_at);
                if good && newest {
                    expected.insert(key, slot);
                }
            }
        }
        index.close();
        let mut by_use: Vec<(Key, StoredMeta)> = expected.into_iter().collect();
        by_use.sort_by_key(|(_, slot)| slot.used_at);
        let budget = room * 200;
        while by_use.iter().map(|(_, slot)| slot.bytes).sum::<u64>() > budget {
            by_use.remove(0);
        }
        let bench = Bench::new(dir.path(), budget);
        let found: Vec<(Key, StoredMeta)> = bench.store.inner.shelf.lock().shelf.iter().collect();
        prop_assert_eq!(&found, &by_use);
        prop_assert_eq!(bench.store.totals().bytes, by_use.iter().map(|(_, slot)| slot.bytes).sum::<u64>());
        left_alone.extend(shelved(&bench));
        prop_assert_eq!(files(dir.path()), left_alone, "no other file is left");
    }

    /// However the steps of the pass and the store's use meet, an archive is there if it was stored or found and not
    /// removed since, with its own bytes; and no file is left of any other.
    #[test]
    fn use_and_pass_never_undo_each_other(
        found in prop::collection::vec(any::<bool>(), KEYS),
        index in any::<bool>(),
        steps in prop::collection::vec((0_u8..8, 0_usize..KEYS), 0..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let jobs = [256_u64, 512, 1, 257, 2];
            let mut model: BTreeMap<u64, usize> = BTreeMap::new();
            let present: Vec<u64> = jobs.into_iter().zip(&found).filter(|(_, is)| **is).map(|(job, _)| job).collect();
            let dir = filled(present.clone()).await;
            model.extend(present.into_iter().map(|job| (job, 1000)));
            if !index {
                lose_index(dir.path());
            }
            let bench = Bench::unchecked(dir.path(), ROOM);
            let mut leaving = Vec::new();
            for (length, (what, at)) in (2000..).zip(steps) {
                let job = jobs[at];
                match what {
                    0..=2 => drop(bench.store.check_some()),
                    3 => {
                        bench.fill(job, &pattern(length)).await.unwrap();
                        model.insert(job, length);
                    }
                    4 => {
                        leaving.extend(bench.store.take_out(key(job), None));
                        model.remove(&job);
                    }
                    5 => {
                        bench.store.remove(key(job), None).await;
                        model.remove(&job);
                    }
                    6 => if let Some(taken) = leaving.pop() { bench.store.unlink(taken).await; },
                    _ => prop_assert_eq!(bench.read(job).await.map(|bytes| bytes.len()), model.get(&job).copied()),
                }
            }
            bench.check();
            for taken in leaving {
                bench.store.unlink(taken).await;
            }
            for job in jobs {
                prop_assert_eq!(bench.read(job).await, model.get(&job).map(|length| pattern(*length)), "{}", job);
            }
            prop_assert_eq!(files(dir.path()), shelved(&bench));
            settled(&bench);
            Ok(())
        })?;
    }
}
