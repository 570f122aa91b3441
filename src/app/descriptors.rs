//! How many files and sockets this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::num::to_u64;

/// Open archives, fills, the index, listeners, log and whatever a library opens.
const BESIDES: u64 = 2048;

/// Raises the soft limit to the hard one, and says if that is too low: without descriptors nobody gets in, and the store
/// can't open its files.
pub(super) fn raise(max_connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit on open descriptors can't be raised");
        }
    }
    let (has, needs) = (getrlimit(Resource::Nofile).current, needed(max_connections));
    if let Some(has) = has.filter(|has| *has < needs) {
        tracing::warn!(
            has,
            needs,
            "the limit on open descriptors is too low for server.max_connections; raise it (LimitNOFILE=, ulimit -n) or lower that"
        );
    }
}

/// Each client may want one to GitLab.
fn needed(max_connections: usize) -> u64 {
    to_u64(max_connections).saturating_mul(2).saturating_add(BESIDES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(needed(10_000), 22_048);
    }
}
