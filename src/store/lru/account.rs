//! The bytes of the budget that are taken: of archives, of reservations, and of unlinked files that are still read.
//!
//! Pure: no files, no clock, no locks. Knows no archive, so that what an archive took can be given back wherever its last
//! reader leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sum of all bytes taken. It saturates.
///
/// Relaxed throughout: it is a count, and nobody reads other memory because of what it says. Whoever decides by it, the
/// [shelf](crate::store::lru::SizedLru), takes bytes under the store's lock, which puts those decisions in order; bytes that are
/// given back without the lock may be seen a moment late, which evicts too much rather than too little.
#[derive(Debug, Default)]
pub(in crate::store) struct Account {
    taken: AtomicU64,
}

impl Account {
    /// Takes bytes, without asking whether there is room.
    pub(in crate::store) fn take(&self, bytes: u64) {
        add(&self.taken, bytes);
    }

    /// Gives bytes back: of a reservation that came to nothing, or of a file that is gone.
    pub(in crate::store) fn release(&self, bytes: u64) {
        let less = |taken: u64| Some(taken.saturating_sub(bytes));
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        debug_assert!(taken.is_ok_and(|taken| bytes <= taken), "{bytes} of {taken:?} bytes released");
    }

    /// Bytes taken.
    pub(in crate::store) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Bytes that somebody answers for; dropping it gives them back.
#[derive(Debug)]
pub(in crate::store) struct BytesLease {
    account: Arc<Account>,
    /// Relaxed as the account is: whoever drops it has it alone.
    bytes: AtomicU64,
}

impl BytesLease {
    /// Answers for bytes that are taken already.
    pub(in crate::store) fn of_taken(account: &Arc<Account>, bytes: u64) -> Self {
        Self { account: Arc::clone(account), bytes: AtomicU64::new(bytes) }
    }

    /// Answers for more bytes that are taken already.
    pub(in crate::store) fn add(&self, bytes: u64) {
        add(&self.bytes, bytes);
    }

    /// Bytes that it answers for.
    pub(in crate::store) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Leaves exactly `bytes` taken, for somebody else to answer for: gives back what it has beyond, or takes what it
    /// lacks.
    pub(in crate::store) fn hand_over(&self, bytes: u64) {
        let held = self.bytes.swap(0, Ordering::Relaxed);
        match held.checked_sub(bytes) {
            Some(extra) => self.account.release(extra),
            None => self.account.take(bytes - held),
        }
    }
}

impl Drop for BytesLease {
    fn drop(&mut self) {
        self.account.release(*self.bytes.get_mut());
    }
}

fn add(sum: &AtomicU64, bytes: u64) {
    let more = |sum: u64| Some(sum.saturating_add(bytes));
    // It never refuses.
    let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_lease_gives_back_all_that_it_answers_for() {
        let account = Arc::new(Account::default());
        account.take(30);
        let lease = BytesLease::of_taken(&account, 10);
        lease.add(5);
        assert_eq!((lease.bytes(), account.taken()), (15, 30));
        drop(lease);
        assert_eq!(account.taken(), 15);
    }

    #[test]
    fn what_is_handed_over_stays_taken_and_nothing_else() {
        for (held, kept) in [(10, 7), (10, 10), (10, 12), (0, 3)] {
            let account = Arc::new(Account::default());
            account.take(held);
            let lease = BytesLease::of_taken(&account, held);
            lease.hand_over(kept);
            assert_eq!((lease.bytes(), account.taken()), (0, kept));
            drop(lease);
            assert_eq!(account.taken(), kept);
        }
    }

    #[test]
    fn sums_beyond_all_bounds_stay_at_the_bound() {
        let account = Account::default();
        account.take(u64::MAX);
        account.take(1);
        assert_eq!(account.taken(), u64::MAX);
    }

    #[test]
    fn bytes_given_back_by_many_at_once_add_up() {
        let account = Arc::new(Account::default());
        account.take(4 * 1_000);
        let leases: Vec<_> = (0..4).map(|_| BytesLease::of_taken(&account, 1_000)).collect();
        thread::scope(|scope| {
            for lease in leases {
                scope.spawn(|| {
                    account.take(1);
                    lease.add(1);
                    drop(lease);
                });
            }
        });
        assert_eq!(account.taken(), 0);
    }
}
