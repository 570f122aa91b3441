//! Which pages of a file are in memory, and letting go of those that weren't.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::base::num::to_usize;

/// What is looked at at a time: a look is a system call, and pages come and go in larger groups than one.
const PIECE: u64 = 64 << 10;

/// Nothing is read beyond what is asked for: the next chunk would look as if somebody wanted it.
pub(super) fn read_no_more_than_asked(file: &File) {
    // A system that takes no advice reads ahead, and a few pages more stay in memory.
    let _ = fadvise(file, 0, None, Advice::Random);
}

/// The pieces of a range that aren't in memory.
pub(super) fn cold(file: &File, range: &Range<u64>) -> Vec<Range<u64>> {
    range
        .clone()
        .step_by(to_usize(PIECE))
        .map(|at| at..at.saturating_add(PIECE).min(range.end))
        .filter(|piece| is_cold(file, piece.start))
        .collect()
}

/// Lets pieces go that were read in.
pub(super) fn forget(file: &File, pieces: &[Range<u64>]) {
    for piece in pieces {
        // Pages that somebody has mapped meanwhile stay, and so does everything where no advice is taken.
        let _ = fadvise(file, piece.start, NonZeroU64::new(piece.end - piece.start), Advice::DontNeed);
    }
}

/// Where that can't be found out nothing is cold: what others use is not let go of by mistake.
fn is_cold(file: &File, at: u64) -> bool {
    let mut byte = [0_u8];
    let mut into = [io::IoSliceMut::new(&mut byte)];
    preadv2(file, &mut into, at, ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    const LENGTH: u64 = 16 * PIECE;

    /// A look loads the page that it looks at: another one of each piece is looked at each time.
    fn residence(file: &File, page: u64) -> Vec<bool> {
        (0..LENGTH).step_by(to_usize(PIECE)).map(|piece| is_cold(file, piece + page * 4096)).collect()
    }

    #[test]
    fn what_was_in_memory_stays_and_what_was_not_leaves() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; to_usize(LENGTH)]).unwrap();
        file.sync_all().unwrap();
        read_no_more_than_asked(&file);
        // On a disk of memory nothing leaves, and this test says less.
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let mut wanted = vec![0; to_usize(4 * PIECE)];
        file.read_exact_at(&mut wanted, 4 * PIECE).unwrap();
        let before = residence(&file, 3);
        let pieces = cold(&file, &(0..LENGTH));
        let mut all = vec![0; to_usize(LENGTH)];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(residence(&file, 5).iter().all(|cold| !cold));
        forget(&file, &pieces);
        let after = residence(&file, 8);
        assert!(before[4..8].iter().chain(&after[4..8]).all(|cold| !cold), "{before:?} {after:?}");
        // The kernel keeps pages that it is busy with.
        let count = |cold: &[bool]| cold.iter().filter(|cold| **cold).count();
        assert!(2 * count(&after) >= count(&before), "{before:?} {after:?}");
    }
}
