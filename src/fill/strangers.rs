//! Archives that somebody wanted to fetch lately whom GitLab didn't let in.

use std::time::Duration;

use moka::sync::Cache;

use crate::base::clock::Moment;
use crate::base::key::Key;

/// Archives that are remembered. One that is forgotten may be led by a stranger once more.
const REMEMBERED: u64 = 4096;

/// For how long: a question more is all that it costs whoever comes meanwhile.
const FOR: Duration = Duration::from_secs(60);

/// Archives whose fill was begun by a stranger lately.
#[derive(Debug)]
pub(crate) struct Strangers(Cache<Key, Moment>);

impl Default for Strangers {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Strangers {
    /// One has led just now.
    pub(crate) fn came(&self, key: Key, now: Moment) {
        self.0.insert(key, now);
    }

    /// Whether one has led lately.
    pub(crate) fn came_lately(&self, key: Key, now: Moment) -> bool {
        self.0.get(&key).is_some_and(|at| now.since(at) < FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::base::key::JobId;

    #[test]
    fn a_stranger_is_remembered_for_a_while_and_for_its_archive_alone() {
        let key = |job: &str| Key::Job(JobId::parse(job).unwrap());
        let (clock, strangers) = (Clock::manual(0), Strangers::default());
        strangers.came(key("1"), clock.now());
        assert!(strangers.came_lately(key("1"), clock.now()));
        assert!(!strangers.came_lately(key("2"), clock.now()));
        clock.advance(FOR);
        assert!(!strangers.came_lately(key("1"), clock.now()));
    }
}
