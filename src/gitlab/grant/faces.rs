//! One archive under several faces: what GitLab says of it may alternate between nodes or stores without its bytes being
//! others.
//!
//! A face is learnt in one way alone: two whole transfers of one key had the same SHA-256, as larder computed it. From then
//! on either face is that archive.

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::storage::ObjectPath;
use crate::http::Etag;

/// Faces of an archive that are remembered besides the one that it was filled by: nodes and stores that answer in turn are
/// few, and each costs one comparison a question.
const BESIDES: usize = 3;

/// What may differ between two answers about the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Face {
    etag: Option<Etag>,
    object: Option<ObjectPath>,
    modified: Option<u64>,
}

impl Face {
    /// Of an archive as it was filled.
    pub(crate) fn of(facts: &Facts) -> Self {
        Self { etag: facts.etag.clone(), object: facts.object.clone(), modified: facts.modified }
    }

    /// What is known of an archive, under this face. Only what is known of it under its own is another one.
    pub(crate) fn of_held(&self, held: &Facts) -> Facts {
        Facts {
            etag: held.etag.as_ref().and(self.etag.clone()),
            object: held.object.as_ref().and(self.object.clone()),
            modified: held.modified.and(self.modified),
            ..held.clone()
        }
    }

    /// The other faces of what has just been filled, where the same key's archive before it had these facts and faces: all
    /// that it had, if it has the same bytes.
    pub(crate) fn besides(now: &Facts, before: &Facts, others: &[Self]) -> Vec<Self> {
        if now.sha256.is_none() || now.sha256 != before.sha256 || now.length != before.length {
            return Vec::new();
        }
        let own = Self::of(now);
        let mut faces: Vec<Self> = Vec::new();
        for face in std::iter::once(&Self::of(before)).chain(others) {
            if *face != own && !faces.contains(face) && faces.len() < BESIDES {
                faces.push(face.clone());
            }
        }
        faces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::grant::Relation;
    use crate::http::Sha256;

    fn facts(object: &str, modified: u64, digest: u8) -> Facts {
        Facts {
            object: (!object.is_empty()).then(|| ObjectPath::for_test(object)),
            length: Some(9),
            modified: Some(modified),
            tail: Some(b"t".to_vec().into()),
            sha256: Some(Sha256::new([digest; 32])),
            ..Facts::default()
        }
    }

    #[test]
    fn the_same_bytes_have_all_the_faces_that_they_came_with_and_others_none() {
        let (one, two, three) = (facts("a", 1, 7), facts("b", 1, 7), facts("b", 2, 7));
        let faces = Face::besides(&two, &one, &[]);
        assert_eq!(faces, [Face::of(&one)]);
        assert_eq!(Face::besides(&three, &two, &faces), [Face::of(&two), Face::of(&one)]);
        assert_eq!(Face::besides(&one, &two, &faces), [Face::of(&two)], "once each");
        assert_eq!(Face::besides(&facts("b", 1, 8), &one, &faces), []);
        let mut before = one;
        let mut faces = Vec::new();
        for number in 0..20 {
            let now = facts("c", number, 7);
            faces = Face::besides(&now, &before, &faces);
            before = now;
        }
        assert_eq!(faces.len(), BESIDES);
        assert_eq!(faces.first(), Some(&Face::of(&facts("c", 18, 7))), "the last ones");
    }

    #[test]
    fn a_face_says_nothing_of_what_is_not_known_under_the_own_one() {
        let held = facts("", 1, 7);
        let under = Face::of(&facts("b", 2, 7)).of_held(&held);
        let seen = |modified| Facts { sha256: None, ..facts("", modified, 0) };
        assert_eq!((under.object.clone(), under.relate(&seen(2))), (None, Relation::Same));
        assert_eq!(under.relate(&seen(3)), Relation::Different);
        let unknown = Face::of(&facts("b", 2, 7)).of_held(&held.by_ref());
        assert_eq!((unknown.modified, unknown.tail), (None, None));
    }
}
