//! Who was let in to an archive last.

use parking_lot::Mutex;

use crate::base::secret::Fingerprint;

/// How many callers an archive remembers: enough that one of a pipeline's jobs is among them, 1 KiB an open archive.
const REMEMBERED: usize = 64;

/// Fingerprints of the callers admitted last, newest at the back.
///
/// When GitLab answers 404 to one of them, what they were let in to is gone.
#[derive(Debug, Default)]
pub(crate) struct RecentCallers(Mutex<Vec<Fingerprint>>);

impl RecentCallers {
    /// Remembers `caller`; the oldest makes room.
    pub(crate) fn admit(&self, caller: Fingerprint) {
        let mut callers = self.0.lock();
        if callers.last() == Some(&caller) {
            return;
        }
        callers.retain(|earlier| *earlier != caller);
        if callers.len() == REMEMBERED {
            callers.remove(0);
        }
        callers.push(caller);
    }

    /// Whether `caller` is among those remembered.
    pub(crate) fn knows(&self, caller: Fingerprint) -> bool {
        self.0.lock().contains(&caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Fingerprinter;

    #[test]
    fn the_last_callers_are_remembered_once_each() {
        let key = Fingerprinter::random().unwrap();
        let caller = |n: usize| key.of([n.to_le_bytes().as_slice()]);
        let visitors = RecentCallers::default();
        for n in 0..=REMEMBERED {
            visitors.admit(caller(n));
            visitors.admit(caller(1));
        }
        assert!(!visitors.knows(caller(0)), "the oldest made room");
        assert!((1..=REMEMBERED).all(|n| visitors.knows(caller(n))));
        assert!(visitors.0.lock().len() == REMEMBERED);
    }
}
