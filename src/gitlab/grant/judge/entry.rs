//! What GitLab's answer to a question about one entry means.

use http::StatusCode;
use http::header;

use super::{Answer, Verdict, Yes, content_length, is_encoded};
use crate::gitlab::grant::Grant;
use crate::gitlab::grant::facts::Facts;
use crate::http::{Etag, Sha256};

/// The entity tag that GitLab gives to everything that Workhorse sends, before it knew digests: of the JSON text `""`
/// (issue 371991). A 304 to it comes after all authorisation, and says nothing of content.
pub(crate) const CONSTANT: &str = "W/\"12ae32cb1ec02d01eda3581b127c1fee\"";

/// The one validator that a probe about an entry carries: Rack compares the field as one string.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Validator {
    /// The entry's own tag, which holds the archive's digest.
    Own(Etag),
    /// The tag that older GitLab gives to everything.
    Constant,
}

impl Validator {
    /// The value of `If-None-Match`.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Own(tag) => tag.as_str(),
            Self::Constant => CONSTANT,
        }
    }
}

/// A probe about an entry: the condition it carries, and by what its answer is recognised. GitLab ignores ranges here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EntryCondition {
    /// The validator asked with; `None`: the answer shall be the entry itself.
    pub validator: Option<Validator>,
    /// The entry's tag, computed from the digest of what is held.
    pub tag: Option<Etag>,
    /// The entry's length, by the directory of what is held.
    pub size: u64,
}

impl EntryCondition {
    /// About an entry of an archive with this digest. `digests`: whether GitLab knows digests, as far as it showed.
    pub(crate) fn about(name: &str, size: u64, digest: Option<Sha256>, digests: bool) -> Self {
        let tag = digest.and_then(|digest| digest.entry_tag(name));
        let validator = tag.clone().filter(|_| digests).map_or(Validator::Constant, Validator::Own);
        Self { validator: Some(validator), tag, size }
    }

    /// The same without a validator: the answer shall describe the entry, which a 304 doesn't.
    #[must_use]
    pub(crate) fn without_validator(self) -> Self {
        Self { validator: None, ..self }
    }
}

/// What an answer about an entry says of the archive that is held.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// This caller may have entries of the very archive that is held.
    Held(Yes),
    /// This caller may have entries of what GitLab has; whether that is what is held must be asked on the route for
    /// the whole archive.
    Unnamed(UnnamedYes),
    /// GitLab has another archive.
    Different,
    /// GitLab refuses; the answer is the caller's.
    Refused,
    /// Not an answer to our question.
    NotOurs,
}

/// A yes to entries of an archive that it doesn't name. Only with a yes that names one does it become a [`Yes`].
#[derive(Debug, Clone)]
pub(crate) struct UnnamedYes(());

impl UnnamedYes {
    /// A yes on the entry's route, where the same caller was let in to the archive, with these facts, on the route next to it
    /// a moment ago.
    pub(crate) fn granted(self, _grant: &Grant, facts: Facts) -> Verdict {
        let Self(()) = self;
        Verdict::Yes(Yes(()), facts)
    }

    /// A yes on the entry's route, and a verdict about the archive by the same caller on the route next to it.
    pub(crate) fn to(self, archive: Verdict) -> Verdict {
        let Self(()) = self;
        match archive {
            // Whoever may have an entry and not the archive gets it from GitLab itself.
            Verdict::Refused => Verdict::NotOurs,
            other => other,
        }
    }
}

/// Judges the answer to a probe about an entry that carried `asked`.
pub(crate) fn judge_entry(asked: &EntryCondition, answer: Answer<'_>) -> Proof {
    let tag = asked.tag.as_ref();
    let given = answer.fields.get(header::ETAG).and_then(|value| value.to_str().ok());
    match answer.status {
        StatusCode::NOT_MODIFIED => match &asked.validator {
            Some(sent) if given.is_some_and(|given| given != sent.as_str()) => Proof::NotOurs,
            Some(Validator::Own(own)) if tag == Some(own) => Proof::Held(Yes(())),
            Some(Validator::Own(_)) | None => Proof::NotOurs,
            Some(Validator::Constant) => Proof::Unnamed(UnnamedYes(())),
        },
        StatusCode::OK if !is_encoded(answer.fields) => {
            let own = given.and_then(Etag::strong).filter(|own| own.digest().is_some());
            let alike = content_length(answer.fields) == Some(asked.size)
                && answer.fields.contains_key(header::CONTENT_DISPOSITION);
            match (own, tag) {
                (Some(own), Some(tag)) if own == *tag => Proof::Held(Yes(())),
                (Some(_), Some(_)) => Proof::Different,
                // A page that somebody put in GitLab's place is no file of an archive.
                _ if alike => Proof::Unnamed(UnnamedYes(())),
                _ => Proof::NotOurs,
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => Proof::NotOurs,
        status if status.is_client_error() || status.is_server_error() => Proof::Refused,
        _ => Proof::NotOurs,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn said(
        status: u16,
        pairs: &[(&'static str, &str)],
        validator: &Validator,
        tag: Option<&Etag>,
    ) -> &'static str {
        let fields: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let answer =
            Answer { status: StatusCode::from_u16(status).unwrap(), fields: &fields, body: Some(b"") };
        let asked = EntryCondition { validator: Some(validator.clone()), tag: tag.cloned(), size: 5 };
        match judge_entry(&asked, answer) {
            Proof::Held(_) => "held",
            Proof::Unnamed(_) => "unnamed",
            Proof::Different => "different",
            Proof::Refused => "refused",
            Proof::NotOurs => "not ours",
        }
    }

    #[test]
    fn every_status_by_what_was_sent_and_what_is_held() {
        let tag = Sha256::new([1; 32]).entry_tag("a").unwrap();
        let other = Sha256::new([2; 32]).entry_tag("a").unwrap();
        let (own, constant) = (Validator::Own(tag.clone()), Validator::Constant);
        let file = ("content-disposition", "attachment; filename=\"a\"");
        let known = Some(&tag);
        for (status, pairs, sent, held, expected) in [
            (304, vec![], &own, known, "held"),
            (304, vec![("etag", tag.as_str())], &own, known, "held"),
            (304, vec![("etag", other.as_str())], &own, known, "not ours"),
            (304, vec![("etag", CONSTANT)], &own, known, "not ours"),
            (304, vec![], &own, None, "not ours"),
            (304, vec![], &constant, known, "unnamed"),
            (304, vec![("etag", CONSTANT)], &constant, None, "unnamed"),
            (304, vec![("etag", tag.as_str())], &constant, known, "not ours"),
            (200, vec![("etag", tag.as_str())], &constant, known, "held"),
            (200, vec![("etag", other.as_str())], &own, known, "different"),
            (200, vec![("etag", CONSTANT), ("content-length", "5"), file], &own, known, "unnamed"),
            (200, vec![("etag", other.as_str()), ("content-length", "5"), file], &own, None, "unnamed"),
            (200, vec![("etag", CONSTANT), ("content-length", "6"), file], &own, known, "not ours"),
            (200, vec![("content-type", "text/html"), ("content-length", "5")], &own, known, "not ours"),
            (200, vec![("content-encoding", "gzip"), ("content-length", "5"), file], &own, known, "not ours"),
            (206, vec![("etag", tag.as_str())], &own, known, "not ours"),
            (302, vec![("location", "https://store.example.com/a")], &own, known, "not ours"),
            (401, vec![], &own, known, "refused"),
            (404, vec![], &constant, known, "refused"),
            (412, vec![], &own, known, "not ours"),
            (416, vec![], &own, known, "not ours"),
            (500, vec![], &own, known, "refused"),
        ] {
            assert_eq!(said(status, &pairs, sent, held), expected, "{status} {pairs:?} {sent:?}");
        }
    }
}
