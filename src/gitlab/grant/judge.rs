//! What GitLab's answer to a question means.
//!
//! The list of what is a yes is closed. Whatever isn't on it is GitLab's own answer: relayed, and changing nothing.

mod entry;
mod part;

pub(crate) use entry::{CONSTANT, EntryCondition, Proof, UnnamedYes, Validator, judge_entry};
pub(crate) use part::{Parted, Span, object_part, open_part, validator};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};

use super::facts::{Facts, Relation, TAIL};
use super::storage::{AskedPath, Location, StorageRules};
use crate::base::num::{to_u64, to_usize};
use crate::http::Etag;

/// Proof that GitLab said yes; only this module makes one.
#[derive(Debug, Clone)]
pub struct Yes(());

#[cfg(test)]
impl Yes {
    /// A yes that nobody said, for tests of what a yes opens.
    pub(crate) const fn for_test() -> Self {
        Self(())
    }
}

/// GitLab's answer to a probe.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// Its body, if that was short enough to be read to the end.
    pub body: Option<&'a [u8]>,
}

/// The conditions that a probe about an archive carries: what tells whether the archive is the one held, at the least cost to GitLab.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Condition {
    /// First and last byte asked for.
    pub range: (u64, u64),
    /// The validator asked with.
    pub validator: Option<Etag>,
}

impl Condition {
    /// Of a probe about an archive with these facts: its last KiB by absolute range, as not every store knows suffix
    /// ranges, or its first byte where no length is known.
    pub fn about(held: Option<&Facts>) -> Self {
        let tail = held.and_then(|held| held.tail.as_ref()).map_or(TAIL, |tail| to_u64(tail.len()).max(TAIL));
        let range = match held.and_then(|held| held.length) {
            Some(length) if length > 0 => (length.saturating_sub(tail), length - 1),
            _ => (0, 0),
        };
        Self { range, validator: held.and_then(|held| held.etag.clone()) }
    }

    /// The same without a validator: the answer shall describe the archive, which a 304 doesn't.
    #[must_use]
    pub(crate) fn without_validator(self) -> Self {
        Self { validator: None, ..self }
    }

    /// The longest body of an answer that keeps to it.
    pub(crate) const fn longest(&self) -> u64 {
        self.range.1 - self.range.0 + 1
    }

    /// The value of `Range`.
    pub(crate) fn range_value(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("bytes={}-{}", self.range.0, self.range.1)).ok()
    }
}

/// What a probe's answer means.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// This caller may have the very archive that is held; these are all the facts now known of it.
    Yes(Yes, Facts),
    /// This caller may have what GitLab has now, which is different from what is held or not proven to be the same;
    /// its facts, and if it is elsewhere the yes to what lies there.
    Other(Relation, Facts, Option<(Yes, Location)>),
    /// GitLab refuses; the answer is the caller's.
    Refused,
    /// Not an answer to our question (a redirect of GitLab's own, a condition nobody sent): the caller's own request
    /// must be passed on as it is.
    NotOurs,
}

/// Judges the answer to a probe about what is held that carried `asked`, and was `sent` so.
pub fn judge(
    held: Option<&Facts>,
    asked: &Condition,
    answer: Answer<'_>,
    rules: &StorageRules,
    sent: AskedPath<'_>,
) -> Verdict {
    match answer.status {
        StatusCode::NOT_MODIFIED => not_modified(held, asked, answer.fields),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT if is_encoded(answer.fields) => Verdict::NotOurs,
        StatusCode::OK => compare(held, whole(answer, asked.longest()), None),
        StatusCode::PARTIAL_CONTENT => {
            part(answer, asked.range).map_or(Verdict::NotOurs, |f| compare(held, f, None))
        }
        // Our own range lies beyond the end of what is there now: another archive, about which nothing was said.
        StatusCode::RANGE_NOT_SATISFIABLE if held.is_some() => {
            Verdict::Other(Relation::Different, Facts::default(), None)
        }
        status if is_storage_redirect(status) => match rules.location(answer.fields, sent) {
            Some(location) => {
                let facts = Facts { object: Some(location.object()), ..Facts::default() };
                compare(held, facts, Some(location))
            }
            None => Verdict::NotOurs,
        },
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => Verdict::NotOurs,
        status if status.is_client_error() || status.is_server_error() => Verdict::Refused,
        _ => Verdict::NotOurs,
    }
}

/// How an answer to the leader's own GET, without range or condition, begins.
#[derive(Debug)]
pub enum Opening {
    /// A body that may be the archive; its facts, length included if it was declared.
    Body(Yes, Facts),
    /// The body is in an object store.
    Elsewhere(Yes, Location),
    /// GitLab's own answer: the leader's alone.
    Relay,
}

/// Judges the answer to a leader's own GET, which was `sent` so.
pub fn open(status: StatusCode, fields: &HeaderMap, rules: &StorageRules, sent: AskedPath<'_>) -> Opening {
    match status {
        StatusCode::OK if !is_encoded(fields) => {
            Opening::Body(Yes(()), Facts { length: content_length(fields), ..Facts::of_fields(fields) })
        }
        status if is_storage_redirect(status) => match rules.location(fields, sent) {
            Some(location) => Opening::Elsewhere(Yes(()), location),
            None => Opening::Relay,
        },
        _ => Opening::Relay,
    }
}

/// Whether a 404 is GitLab's own rather than its object store's: a store answers in XML, Workhorse in plain text.
pub(crate) fn is_gitlabs_404(status: StatusCode, fields: &HeaderMap) -> bool {
    let json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    status == StatusCode::NOT_FOUND && fields.get(header::CONTENT_TYPE).is_some_and(json)
}

/// Whether a status says that GitLab, or something before it, is down, rather than what Rails thinks of a question.
pub(crate) fn is_outage(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Where an object store sends on to of itself, as it does for a bucket of another region: judged as GitLab's own redirect.
pub(crate) fn moved(
    status: StatusCode,
    fields: &HeaderMap,
    rules: &StorageRules,
    sent: AskedPath<'_>,
) -> Option<Location> {
    let moves = is_storage_redirect(status)
        || matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT);
    if moves { rules.location(fields, sent) } else { None }
}

fn is_storage_redirect(status: StatusCode) -> bool {
    matches!(status, StatusCode::FOUND | StatusCode::SEE_OTHER | StatusCode::TEMPORARY_REDIRECT)
}

/// 304 is a yes to the validator that we sent, and to nothing else. GitLab compares after it has authorised.
fn not_modified(held: Option<&Facts>, condition: &Condition, fields: &HeaderMap) -> Verdict {
    let (Some(held), Some(sent)) = (held, &condition.validator) else {
        return Verdict::NotOurs;
    };
    if held.etag.as_ref() != Some(sent) {
        return Verdict::NotOurs;
    }
    let ours = fields.get(header::ETAG).is_none_or(|etag| etag.as_bytes() == sent.as_str().as_bytes());
    if ours { Verdict::Yes(Yes(()), held.clone()) } else { Verdict::NotOurs }
}

fn compare(held: Option<&Facts>, seen: Facts, location: Option<Location>) -> Verdict {
    let elsewhere = location.map(|location| (Yes(()), location));
    match held.map(|held| (held, held.relate(&seen))) {
        Some((held, Relation::Same)) => Verdict::Yes(Yes(()), join(held, seen)),
        // Nobody asks further by an end that is longer than any that is remembered.
        Some((_, relation)) => Verdict::Other(relation, seen.without_long_tail(), elsewhere),
        None => Verdict::Other(Relation::Unproven, seen, elsewhere),
    }
}

/// All that is known after a yes: what was held, and what was new in the answer.
fn join(held: &Facts, seen: Facts) -> Facts {
    Facts {
        etag: held.etag.clone().or(seen.etag),
        object: held.object.clone().or(seen.object),
        length: held.length.or(seen.length),
        modified: held.modified.or(seen.modified),
        tail: held.tail.clone().or(seen.tail),
        sha256: held.sha256,
    }
}

/// The facts of an answer that ignored the range; its tail of `span` bytes is known only if it was short.
fn whole(answer: Answer<'_>, span: u64) -> Facts {
    let length = content_length(answer.fields);
    let complete = answer.body.filter(|body| length == Some(to_u64(body.len())));
    let span = to_usize(span.max(TAIL));
    let tail = complete
        .map(|body| Bytes::copy_from_slice(body.get(body.len().saturating_sub(span)..).unwrap_or_default()));
    Facts { length, tail, ..Facts::of_fields(answer.fields) }
}

/// The facts of a part; `None` if it isn't the part that was asked for, clipped to the end of what is there.
fn part(answer: Answer<'_>, asked: (u64, u64)) -> Option<Facts> {
    let (first, last, total) = content_range(answer.fields)?;
    if first != asked.0 || last != asked.1.min(total - 1) {
        return None;
    }
    let span = TAIL.max(asked.1 - asked.0 + 1);
    let reaches_end = last == total - 1 && first == total.saturating_sub(span);
    let complete = answer.body.filter(|body| to_u64(body.len()) == last - first + 1);
    let tail = complete.filter(|_| reaches_end).map(Bytes::copy_from_slice);
    Some(Facts { length: Some(total), tail, ..Facts::of_fields(answer.fields) })
}

/// First byte, last byte and whole length of a single part (RFC 9110, 14.4), where all three are plainly given and add up.
fn content_range(fields: &HeaderMap) -> Option<(u64, u64, u64)> {
    let text = fields.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last, total) = (digits(first)?, digits(last)?, digits(total)?);
    (first <= last && last < total).then_some((first, last, total))
}

/// A body in another coding than the one asked for (identity): its length and tail are not the archive's.
fn is_encoded(fields: &HeaderMap) -> bool {
    fields
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The declared length; repeated or odd declarations are none.
pub(crate) fn content_length(fields: &HeaderMap) -> Option<u64> {
    let mut values = fields.get_all(header::CONTENT_LENGTH).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    digits(value.to_str().ok()?)
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
