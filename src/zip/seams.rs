//! Whether an archive that came in several transfers fits together.
//!
//! Where two halves meet, the entry that lies across has a checksum over both. Of halves that meet between entries, or
//! where two archives are alike, the directory tells, which is of one of them: it has the checksum of each entry in the
//! other. No byte is read for two entries, and what is unpacked has a bound by the archive's length: a proof that would
//! cost more is none.

use super::directory::is_complete;
use super::{BadEntry, Entry, Located, NotWhole, ReadAt, places, verify};

/// What the entries that are checked may unpack to, for each byte of the archive, and what any archive's may. Artifacts
/// are some 3 to 20 times as long unpacked, logs 60 times; deflate can do a thousand, which is what bombs are made of.
const UNPACKED: u64 = 64;
const UNPACKED_ANYHOW: u64 = 16 << 20;

/// Checks the entries that lie across one of `seams`, places in an archive of `length` bytes. Blocks.
pub(crate) fn check_seams(source: &impl ReadAt, length: u64, seams: &[u64]) -> Result<(), NotWhole> {
    if seams.is_empty() {
        return Ok(());
    }
    let mut seams = seams.to_vec();
    seams.sort_unstable();
    check_those(source, length, |entry, directory| {
        let reach = entry.reach(directory);
        let next = seams.partition_point(|seam| *seam <= reach.start);
        seams.get(next).is_some_and(|seam| *seam < reach.end)
    })
}

/// Checks all entries of an archive of `length` bytes. Blocks, for as long as it takes to inflate them.
pub(crate) fn check_entries(source: &impl ReadAt, length: u64) -> Result<(), NotWhole> {
    check_those(source, length, |_, _| true)
}

/// Whether [`check_entries`] would begin to unpack anything: the entries lie apart, and would unpack to no more than is
/// worth it. Reads the directory only. Blocks.
pub(crate) fn check_cost(source: &impl ReadAt, length: u64) -> Result<(), NotWhole> {
    let mut budget = Effort::of(length);
    walk(source, length, |entry, _| budget.spend(&entry))
}

fn check_those(
    source: &impl ReadAt,
    length: u64,
    is_meant: impl Fn(&Entry, u64) -> bool,
) -> Result<(), NotWhole> {
    places::check(source, length)?;
    let mut budget = Effort::of(length);
    // What costs too much is found out before any of it is spent.
    walk(
        source,
        length,
        |entry, directory| {
            if is_meant(&entry, directory) { budget.spend(&entry) } else { Ok(()) }
        },
    )?;
    walk(source, length, |entry, directory| {
        if is_meant(&entry, directory) { check_one(source, entry, directory) } else { Ok(()) }
    })
}

fn check_one(source: &impl ReadAt, entry: Entry, directory: u64) -> Result<(), NotWhole> {
    // What can't be read whatever it holds says nothing.
    let Ok(data) = entry.locate(source, directory) else {
        return Ok(());
    };
    match verify(source, entry, data) {
        Ok(()) => Ok(()),
        Err(BadEntry::Read(error)) => Err(NotWhole::Directory(rawzip::Error::from(error))),
        Err(reason) => Err(NotWhole::Seam(reason)),
    }
}

/// Hands each entry to `each`, and where the directory begins.
fn walk(
    source: &impl ReadAt,
    length: u64,
    mut each: impl FnMut(Entry, u64) -> Result<(), NotWhole>,
) -> Result<(), NotWhole> {
    let located = Located::find(source, length)?;
    let directory = located.begins_at();
    located.walk(|record| {
        if is_complete(record) { each(Entry::new(record), directory) } else { Err(NotWhole::Zip64) }
    })?;
    Ok(())
}

/// What may still be read and unpacked.
struct Effort {
    reads: u64,
    unpacks: u64,
    most: u64,
}

impl Effort {
    fn of(length: u64) -> Self {
        let most = length.saturating_mul(UNPACKED).max(UNPACKED_ANYHOW);
        Self { reads: length, unpacks: most, most }
    }

    /// Takes what an entry says that it costs: it is left at its first byte too many. Where a local header says that its
    /// data begin behind other entries, the directory doesn't show that they share them; their lengths do.
    fn spend(&mut self, entry: &Entry) -> Result<(), NotWhole> {
        self.reads = self.reads.checked_sub(entry.compressed).ok_or(NotWhole::Overlap)?;
        self.unpacks = self.unpacks.checked_sub(entry.size).ok_or(NotWhole::Costly(self.most))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use super::*;
    use crate::base::num::to_u64;
    use crate::zip::tests::Slice;
    use crate::zip::tests::writer::{File, Zip};

    /// Counts what is unpacked.
    struct Counting<'a>(Slice<'a>, Cell<u64>);

    impl ReadAt for Counting<'_> {
        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
            self.0.read_at(buffer, at)
        }

        fn unpacked(&self, bytes: u64) {
            self.1.set(self.1.get() + bytes);
        }
    }

    /// What comes of a check of all entries, and how much was unpacked for it.
    fn check_all(zip: &Zip) -> (Result<(), NotWhole>, u64) {
        let bytes = zip.bytes();
        let source = Counting(Slice(&bytes, usize::MAX), Cell::new(0));
        let all: Vec<u64> = (0..to_u64(bytes.len())).collect();
        let by_seams = check_seams(&source, to_u64(bytes.len()), &all);
        let seams = source.1.take();
        let verdict = check_entries(&source, to_u64(bytes.len()));
        let worth_it = check_cost(&source, to_u64(bytes.len()));
        assert_eq!(by_seams.is_ok(), verdict.is_ok());
        assert!(worth_it.is_ok() || verdict.is_err(), "{worth_it:?}");
        assert!(worth_it.is_err() || !matches!(verdict, Err(NotWhole::Costly(_))), "{verdict:?}");
        assert_eq!(seams, source.1.get(), "a seam everywhere is a check of all");
        (verdict, seams)
    }

    #[test]
    fn halves_of_two_archives_do_not_fit_where_an_entry_lies_across() {
        let zip =
            |fill: u8| Zip::of([File::stored("a", &[1; 100]), File::stored("b", &[fill; 1000])]).bytes();
        let (one, other) = (zip(2), zip(3));
        let length = u64::try_from(one.len()).unwrap();
        for seam in [0, 50, 131, 200, 700, 1190] {
            let at = usize::try_from(seam).unwrap();
            let mixed = [&one[..at], &other[at..]].concat();
            let fits =
                |bytes: &[u8], seams: &[u64]| check_seams(&Slice(bytes, usize::MAX), length, seams).is_ok();
            let across = (162..1162).contains(&seam);
            assert_eq!(fits(&mixed, &[seam]), !across, "{seam}");
            assert_eq!(fits(&mixed, &[1199, seam, 10]), !across, "{seam}");
            assert!(fits(&one, &[seam]) && fits(&other, &[seam]), "{seam}");
            assert!(fits(&mixed, &[]), "nobody looks where nothing was joined");
            let all = |bytes: &[u8]| check_entries(&Slice(bytes, usize::MAX), length).is_ok();
            assert!(all(&one) && all(&other), "{seam}");
            assert_eq!(all(&mixed), mixed == one || mixed == other, "{seam}");
        }
    }

    #[test]
    fn each_stretch_is_unpacked_once() {
        let files = (0..40_usize).map(|at| File::deflated(format!("{at}"), &vec![1; at * 100]));
        let zip = Zip::of(files.chain([File::stored("stored", &[2; 500])]));
        let (verdict, unpacked) = check_all(&zip);
        verdict.unwrap();
        assert_eq!(unpacked, zip.files.iter().map(|file| file.size).sum::<u64>());
    }

    #[test]
    fn entries_that_share_a_stream_are_not_unpacked() {
        let bomb = File::deflated("a", &vec![0; 1 << 20]);
        let shared = (1..3000_u32).map(|n| File {
            name: n.to_be_bytes().to_vec(),
            at: Some(0),
            written: false,
            ..bomb.clone()
        });
        let (verdict, unpacked) = check_all(&Zip::of([bomb.clone()].into_iter().chain(shared)));
        assert!(matches!(verdict, Err(NotWhole::Overlap)), "{verdict:?}");
        assert_eq!(unpacked, 0);
    }

    /// Local headers one behind the other, each with an extra field that reaches over those that follow, to one stream.
    #[test]
    fn local_headers_that_lead_to_one_stream_cost_no_more_than_the_archives_length() {
        let kernel = File::deflated("kernel", &vec![0; 100_000]);
        let spacing = 31 + usize::try_from(kernel.compressed).unwrap();
        let count = 60_000 / spacing;
        let mut files: Vec<File> = (0..count)
            .map(|n| {
                let behind = (count - n) * spacing - 31;
                let filler = vec![0; spacing - 31];
                File {
                    claims: Some(behind + 36),
                    local: filler,
                    data: Vec::new(),
                    name: vec![b'a'],
                    ..kernel.clone()
                }
            })
            .collect();
        files.push(kernel);
        let zip = Zip::of(files);
        let length = to_u64(zip.bytes().len());
        let (verdict, unpacked) = check_all(&zip);
        assert!(unpacked <= length * UNPACKED + UNPACKED_ANYHOW, "{verdict:?}: {unpacked} of {length}");
    }

    #[test]
    fn a_bomb_is_no_proof_and_costs_nothing() {
        let zeros = vec![0; 64 << 20];
        let (verdict, unpacked) = check_all(&Zip::of([File::deflated("a", &zeros)]));
        assert!(matches!(verdict, Err(NotWhole::Costly(_))), "{verdict:?}");
        assert_eq!(unpacked, 0);
    }

    #[test]
    fn a_bomb_that_says_that_it_is_none_is_left_where_it_shows() {
        let bomb = File { size: 1000, ..File::deflated("a", &vec![0; 64 << 20]) };
        let (verdict, unpacked) = check_all(&Zip::of([bomb]));
        assert!(matches!(verdict, Err(NotWhole::Seam(BadEntry::Long(1000)))), "{verdict:?}");
        assert_eq!(unpacked, 1001);
    }
}
