//! Whether an archive that came in several transfers fits together.
//!
//! Where two halves meet, the entry that lies across has a checksum over both. Of halves that meet between entries, or
//! where two archives are alike, the directory tells, which is of one of them: it has the checksum of each entry in the
//! other.

use super::{BadEntry, Directory, Entry, NotWhole, ReadAt, verify};

/// Checks the entries that lie across one of `seams`, places in an archive of `length` bytes. Blocks.
pub fn check_seams(source: &impl ReadAt, length: u64, seams: &[u64]) -> Result<(), NotWhole> {
    if seams.is_empty() {
        return Ok(());
    }
    check_those(source, length, |entry, directory| {
        seams.iter().any(|seam| entry.reaches_over(*seam, directory))
    })
}

/// Checks all entries of an archive of `length` bytes. Blocks, for as long as it takes to inflate them.
pub fn check_entries(source: &impl ReadAt, length: u64) -> Result<(), NotWhole> {
    check_those(source, length, |_, _| true)
}

fn check_those(
    source: &impl ReadAt,
    length: u64,
    is_meant: impl Fn(&Entry, &Directory) -> bool,
) -> Result<(), NotWhole> {
    let directory = Directory::read(source, length)?;
    for (_, entry) in directory.entries() {
        // What can't be read whatever it holds says nothing.
        let data = if is_meant(&entry, &directory) { entry.locate(source, &directory).ok() } else { None };
        match data.map(|data| verify(source, entry, data)) {
            Some(Err(BadEntry::Read(error))) => return Err(NotWhole::Directory(rawzip::Error::from(error))),
            Some(Err(reason)) => return Err(NotWhole::Seam(reason)),
            Some(Ok(())) | None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::Slice;
    use crate::archive::tests::writer::{File, Zip};

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
            assert!(fits(&one, &[seam]) && fits(&other, &[seam]), "{seam}");
            assert!(fits(&mixed, &[]), "nobody looks where nothing was joined");
            let all = |bytes: &[u8]| check_entries(&Slice(bytes, usize::MAX), length).is_ok();
            assert!(all(&one) && all(&other), "{seam}");
            assert_eq!(all(&mixed), mixed == one || mixed == other, "{seam}");
        }
    }
}
