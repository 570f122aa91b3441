//! What is known about an archive from GitLab's answers, and whether two sets of facts mean the same bytes.

use bytes::Bytes;
use http::header::{self, HeaderMap};
use serde::{Deserialize, Serialize};

use super::storage::ObjectPath;
use crate::base::num::to_usize;
use crate::http::{Etag, Sha256};

/// How much of an archive's end is remembered and asked for: the end record and some of the directory before it, with
/// the checksums of the members there.
pub(crate) const TAIL: u64 = 1024;

/// What GitLab and its object store said about an archive. `None`: not said yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// GitLab's strong entity tag; newest versions give the archive's SHA-256.
    pub etag: Option<Etag>,
    /// Host and path in the object store; fixed for one artifact, unlike the signature.
    pub object: Option<ObjectPath>,
    /// Total length, bytes.
    pub length: Option<u64>,
    /// `Last-Modified`, seconds since the Unix epoch.
    pub modified: Option<u64>,
    /// The last bytes: [`TAIL`] of them or all if there are fewer; more where that is too little to tell.
    #[serde(with = "tail")]
    pub tail: Option<Bytes>,
    /// What larder computed over all bytes that it holds; GitLab's word about it is an [`Etag::digest`].
    pub sha256: Option<Sha256>,
}

/// What comparing facts proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same bytes.
    Same,
    /// Other bytes: one fact of a kind that both have differs.
    Different,
    /// Nothing differs, and nothing that both have is enough.
    Unproven,
}

impl Facts {
    /// What the fields of a whole (200) or part (206) answer say, but for its length.
    pub(crate) fn of_fields(fields: &HeaderMap) -> Self {
        let text = |name| fields.get(name).and_then(|value| value.to_str().ok());
        Self {
            etag: text(header::ETAG).and_then(Etag::strong),
            modified: text(header::LAST_MODIFIED).and_then(modified),
            ..Self::default()
        }
    }

    /// Compares what is held under one key with what GitLab says now. Held facts without a tail are those of an
    /// archive that is still arriving; there its date has to do.
    ///
    /// Length, date and tail may say "unchanged" for one key. They prove nothing between two.
    pub(crate) fn relate(&self, seen: &Self) -> Relation {
        let etag = agree(self.etag.as_ref(), seen.etag.as_ref());
        let object = agree(self.object.as_ref(), seen.object.as_ref());
        let length = agree(self.length.as_ref(), seen.length.as_ref());
        let date = agree(self.modified.as_ref(), seen.modified.as_ref());
        let tail = agree(self.tail.as_ref(), seen.tail.as_ref());
        let end = if self.tail.is_some() { tail } else { date };
        if self.has_digest_of(seen) && object != Some(false) {
            Relation::Same
        } else if [etag, object, length, date, tail].contains(&Some(false)) {
            Relation::Different
        } else if etag == Some(true) || object == Some(true) || (length == Some(true) && end == Some(true)) {
            Relation::Same
        } else {
            Relation::Unproven
        }
    }
}

impl Facts {
    /// Whether it is proven that GitLab speaks of these very bytes, under whatever key they are held: by the digest of
    /// what is held, or by the object's place.
    pub(crate) fn proves(&self, seen: &Self) -> bool {
        let same_place = self.object.is_some() && self.object == seen.object;
        self.has_digest_of(seen) || (same_place && self.relate(seen) == Relation::Same)
    }

    fn has_digest_of(&self, seen: &Self) -> bool {
        let digest = seen.etag.as_ref().and_then(Etag::digest);
        digest.is_some() && digest == self.sha256
    }

    /// Two numbers to look for these bytes by, from what is held; 0 where there is nothing to look for.
    pub fn marks(&self) -> [u64; 2] {
        marks(self.sha256, self.object.as_ref())
    }

    /// The same, from what GitLab says.
    pub(crate) fn sought(&self) -> [u64; 2] {
        marks(self.etag.as_ref().and_then(Etag::digest), self.object.as_ref())
    }

    /// Whether a part of an archive could be told from one of another archive: by what identifies it, or by its date.
    pub(crate) const fn tell_parts(&self) -> bool {
        self.identifies() || self.modified.is_some()
    }

    /// Compares what is known of an archive with what came with a part of it, which doesn't show the archive's end.
    pub(crate) fn relate_part(&self, seen: &Self) -> Relation {
        Self { tail: None, ..self.clone() }.relate(seen)
    }

    /// Whether an answer that shows no end of it looks as if it were about what is held.
    pub(crate) fn looks_like(&self, seen: &Self) -> bool {
        let etag = agree(self.etag.as_ref(), seen.etag.as_ref());
        let object = agree(self.object.as_ref(), seen.object.as_ref());
        let length = agree(self.length.as_ref(), seen.length.as_ref());
        let date = agree(self.modified.as_ref(), seen.modified.as_ref());
        let named = etag == Some(true) || object == Some(true);
        let alike = named || (length == Some(true) && date == Some(true));
        alike && ![etag, object, length, date].contains(&Some(false))
    }

    /// Whether anything is known that tells an archive from every other one, rather than from what was under its key
    /// before.
    pub(crate) const fn identifies(&self) -> bool {
        self.etag.is_some() || self.object.is_some()
    }

    /// The same without an end that is longer than any that is remembered: a directory that was compared as a whole.
    #[must_use]
    pub(crate) fn without_long_tail(self) -> Self {
        let tail = self.tail.filter(|tail| tail.len() <= to_usize(TAIL));
        Self { tail, ..self }
    }

    /// What is known of an archive that is still arriving, for those who came by a ref: two jobs of one ref may have
    /// archives of one length, date and last KiB, so that these prove nothing.
    #[must_use]
    pub(crate) fn by_ref(&self) -> Self {
        Self { modified: None, tail: None, ..self.clone() }
    }
}

/// An archive's end as it stands in records: a list of bytes.
mod tail {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands it over like this")]
    pub(super) fn serialize<S: Serializer>(tail: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        tail.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Vec<u8>>::deserialize(from)?.map(Bytes::from))
    }
}

fn marks(digest: Option<Sha256>, object: Option<&ObjectPath>) -> [u64; 2] {
    let place = |object: &ObjectPath| {
        let digest = ring::digest::digest(&ring::digest::SHA256, object.as_str().as_bytes());
        digest.as_ref().first_chunk().copied().map(u64::from_be_bytes)
    };
    [digest.map(Sha256::prefix), object.and_then(place)].map(Option::unwrap_or_default)
}

/// Whether two facts of one kind agree; `None` if either is missing.
fn agree<T: PartialEq>(held: Option<&T>, seen: Option<&T>) -> Option<bool> {
    Some(held? == seen?)
}

/// A date; the `0` that Rails sends without one isn't.
fn modified(value: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(value).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|age| age.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::hex;

    #[test]
    fn only_strong_tags_are_tags() {
        for good in ["\"\"", "\"a\"", "\"9f86d081\"", "\"a,b\""] {
            assert_eq!(Etag::strong(good).map(|e| e.as_str().to_owned()).as_deref(), Some(good));
        }
        for bad in
            ["", "a", "\"a", "W/\"12ae32cb1ec02d01eda3581b127c1fee\"", "\"a\"b\"", "\"a b\"", "\"", "*"]
        {
            assert_eq!(Etag::strong(bad), None, "{bad}");
        }
    }

    fn facts(etag: &str, object: &str, length: u64, modified: u64, tail: &str) -> Facts {
        Facts {
            etag: Etag::quoting(etag).filter(|_| !etag.is_empty()),
            object: (!object.is_empty()).then(|| ObjectPath::for_test(object)),
            length: (length > 0).then_some(length),
            modified: (modified > 0).then_some(modified),
            tail: (!tail.is_empty()).then(|| Bytes::copy_from_slice(tail.as_bytes())),
            sha256: None,
        }
    }

    #[test]
    fn one_differing_fact_is_another_archive_and_proof_needs_a_strong_one() {
        use Relation::{Different, Same, Unproven};
        let held = facts("e", "o", 9, 7, "t");
        for (seen, relation) in [
            (facts("e", "", 0, 0, ""), Same),
            (facts("", "o", 0, 0, ""), Same),
            (facts("", "", 9, 7, "t"), Same),
            (facts("", "", 9, 0, "t"), Same),
            (facts("", "", 9, 7, ""), Unproven),
            (facts("", "", 0, 7, "t"), Unproven),
            (facts("", "", 0, 0, ""), Unproven),
            (facts("x", "o", 9, 7, "t"), Different),
            (facts("e", "x", 9, 7, "t"), Different),
            (facts("e", "o", 8, 7, "t"), Different),
            (facts("e", "o", 9, 6, "t"), Different),
            (facts("e", "o", 9, 7, "x"), Different),
        ] {
            assert_eq!(held.relate(&seen), relation, "{seen:?}");
        }
        assert_eq!(
            facts("", "", 9, 7, "t").relate(&facts("e", "", 0, 0, "")),
            Unproven,
            "a kind that we don't have"
        );
        assert_eq!(
            facts("", "", 9, 7, "").relate(&facts("", "", 9, 7, "t")),
            Same,
            "still arriving: the date has to do"
        );
        assert_eq!(
            facts("", "", 9, 0, "").relate(&facts("", "", 9, 0, "t")),
            Unproven,
            "still arriving, no date"
        );
    }

    #[test]
    fn the_digest_of_what_is_held_proves_it_whatever_else_changed() {
        let tag = |byte: u8| Etag::quoting(&hex(&[byte; 32]));
        let digest = Sha256::new([0xab; 32]);
        let held = Facts { sha256: Some(digest), ..facts("storage", "", 9, 7, "t") };
        let moved = |etag: Option<Etag>| Facts { etag, ..facts("", "", 9, 8, "t") };
        // The entity tag that GitLab gives to the archive with this digest.
        assert_eq!(held.relate(&moved(tag(0xab))), Relation::Same);
        assert_eq!(held.relate(&moved(tag(0xac))), Relation::Different);
        assert!(held.proves(&moved(tag(0xab))) && !held.proves(&moved(None)));
        assert_eq!(tag(0xab).and_then(|tag| tag.digest()), Some(digest));
        for none in ["ab", &"AB".repeat(32), &"+b".repeat(32), &"ab".repeat(33)] {
            assert_eq!(Etag::quoting(none).and_then(|tag| tag.digest()), None, "{none}");
        }
    }

    #[test]
    fn rails_zero_is_not_a_date() {
        assert_eq!(modified("0"), None);
        assert_eq!(modified("Thu, 01 Jan 1970 00:01:00 GMT"), Some(60));
    }
}
