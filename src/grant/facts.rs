//! What is known about an archive from GitLab's answers, and whether two sets of facts mean the same bytes.

use http::header::{self, HeaderMap};
use serde::{Deserialize, Serialize};

use super::storage::ObjectPath;

/// How much of an archive's end is remembered and asked for: the end record and some of the directory before it, with
/// the checksums of the members there.
pub const TAIL: u64 = 1024;

/// A strong entity tag, quotes included (RFC 9110, 8.8.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Etag(String);

impl Etag {
    /// A strong tag from a field value. Weak ones are ignored: older GitLab sends one constant for all artifacts.
    pub fn strong(value: &str) -> Option<Self> {
        let opaque = value.strip_prefix('"')?.strip_suffix('"')?;
        let allowed = opaque.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b));
        allowed.then(|| Self(value.to_owned()))
    }

    /// A strong tag around text that needs no escaping.
    pub fn quoting(opaque: &str) -> Option<Self> {
        Self::strong(&format!("\"{opaque}\""))
    }

    /// The tag as a field value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

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
    /// The last bytes, [`TAIL`] of them or all if there are fewer.
    pub tail: Option<Vec<u8>>,
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
    pub fn of_fields(fields: &HeaderMap) -> Self {
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
    pub fn relate(&self, seen: &Self) -> Relation {
        let etag = agree(self.etag.as_ref(), seen.etag.as_ref());
        let object = agree(self.object.as_ref(), seen.object.as_ref());
        let length = agree(self.length.as_ref(), seen.length.as_ref());
        let date = agree(self.modified.as_ref(), seen.modified.as_ref());
        let tail = agree(self.tail.as_ref(), seen.tail.as_ref());
        let end = if self.tail.is_some() { tail } else { date };
        if [etag, object, length, date, tail].contains(&Some(false)) {
            Relation::Different
        } else if etag == Some(true) || object == Some(true) || (length == Some(true) && end == Some(true)) {
            Relation::Same
        } else {
            Relation::Unproven
        }
    }
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
            tail: (!tail.is_empty()).then(|| tail.as_bytes().to_vec()),
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
    fn rails_zero_is_not_a_date() {
        assert_eq!(modified("0"), None);
        assert_eq!(modified("Thu, 01 Jan 1970 00:01:00 GMT"), Some(60));
    }
}
