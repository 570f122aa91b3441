//! The known name somebody probably meant.

/// The candidate closest to `name`, if it is close enough to be a slip.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .filter_map(|candidate| Some((distance(name, candidate)?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How far `name` is from `candidate`: the same last part in another section is nearest, then a part of it or more
/// than it, then a few edits. `None`: not a slip.
fn distance(name: &str, candidate: &str) -> Option<usize> {
    // Longer names are no slips of ours, and the effort is quadratic.
    if name.len() > 64 {
        return None;
    }
    let (written, known) = (last(name), last(candidate));
    if written == known {
        return Some(0);
    }
    if written.len() >= 4 && (known.contains(written) || written.contains(known)) {
        return Some(1);
    }
    Some(strsim::levenshtein(name, candidate)).filter(|edits| *edits <= (known.len() / 3).max(2))
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_key_and_strangers_none() {
        let keys = ["server.listen", "access.ttl", "cache.max_size", "admin.hosts"];
        let cases = [
            ("server.listne", Some("server.listen")),
            ("serve.listen", Some("server.listen")),
            ("listen", Some("server.listen")),
            ("cache.ttl", Some("access.ttl")),
            ("cache.maxsize", Some("cache.max_size")),
            ("cache.max-size", Some("cache.max_size")),
            ("cache.size", Some("cache.max_size")),
            ("access.tll", Some("access.ttl")),
            ("access.ttls", Some("access.ttl")),
            ("max", None),
            ("admin.port", None),
            ("tls.certificate", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, keys.into_iter()), expected, "{name}");
        }
    }
}
