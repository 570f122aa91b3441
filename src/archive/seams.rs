//! Whether an archive that came in several transfers fits together.
//!
//! Where two halves meet, the entry that lies across has a checksum over both. Nothing tells of halves that meet between
//! entries; there the directory, which is of one half, lists what lies in the other, and each entry is checked again when
//! it is read.

use super::{BadEntry, Directory, NotWhole, ReadAt, verify};

/// Checks the entries that lie across one of `seams`, places in an archive of `length` bytes. Blocks.
pub fn check_seams(source: &impl ReadAt, length: u64, seams: &[u64]) -> Result<(), NotWhole> {
    if seams.is_empty() {
        return Ok(());
    }
    let directory = Directory::read(source, length)?;
    for (_, entry) in directory.entries() {
        let lies_across = seams.iter().any(|seam| entry.reaches_over(*seam, &directory));
        // What can't be read whatever it holds says nothing.
        let data = if lies_across { entry.locate(source, &directory).ok() } else { None };
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
        }
    }
}
