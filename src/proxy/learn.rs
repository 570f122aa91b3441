//! What GitLab says of an archive besides yes.

use http::HeaderMap;

use crate::access::{Described, Said};
use crate::fields::Kept;
use crate::route::Class;
use crate::store::Archive;

/// Notes what GitLab said of an archive besides yes; returns what belongs to this answer alone.
pub(super) fn learn(archive: &Archive, class: Class, said: Said) -> HeaderMap {
    let kept = kept(said.described, class, &archive.kept(class));
    archive.learn(said.facts, class, kept);
    said.fresh
}

/// How GitLab describes an archive now, if it says so; `known` is how it did before.
pub(super) fn kept(described: Described, class: Class, known: &Kept) -> Option<Kept> {
    match described {
        Described::By(kept) if kept.describes_nothing() && !class.is_entry() => None,
        Described::Silent => None,
        Described::By(kept) => Some(kept),
        Described::Elsewhere(instead, protecting) => {
            Some(known.redirected(instead.disposition, instead.kind, &protecting))
        }
    }
}
