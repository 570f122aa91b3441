//! Keys whose archive is stored under another key.
//!
//! Kept in memory only: after a restart the next question proves it again.

use hashlink::LinkedHashMap;

use crate::base::key::{ArchiveId, Key};

/// Keys remembered, some 6 MiB; the one joined longest ago goes first, which costs one question more.
const REMEMBERED: usize = 65_536;

/// Which key's archive a key leads to.
#[derive(Debug, Default)]
pub(in crate::store) struct Aliases(LinkedHashMap<Key, (Key, ArchiveId)>);

impl Aliases {
    pub(in crate::store) fn get(&self, key: Key) -> Option<(Key, ArchiveId)> {
        self.0.get(&key).copied()
    }

    pub(in crate::store) fn insert(&mut self, key: Key, holder: Key, id: ArchiveId) {
        if key != holder {
            self.0.insert(key, (holder, id));
        }
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    pub(in crate::store) fn remove(&mut self, key: Key) {
        self.0.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::JobId;

    #[test]
    fn the_oldest_makes_room_and_nothing_is_joined_to_itself() {
        let key = |n: usize| Key::Job(JobId::parse(&n.to_string()).unwrap());
        let mut aliases = Aliases::default();
        aliases.insert(key(1), key(1), ArchiveId::new(1));
        assert_eq!(aliases.get(key(1)), None);
        for n in 2..=REMEMBERED + 2 {
            aliases.insert(key(n), key(1), ArchiveId::new(1));
        }
        assert_eq!((aliases.get(key(2)), aliases.0.len()), (None, REMEMBERED));
        aliases.remove(key(3));
        assert_eq!(aliases.get(key(3)), None);
    }
}
