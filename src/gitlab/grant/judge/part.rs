//! What GitLab's answer to a question for a part of an archive means.

use std::ops::Range;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::{Yes, content_length, content_range, is_encoded, is_storage_redirect};
use crate::gitlab::grant::facts::Facts;
use crate::gitlab::grant::storage::{AskedPath, Location, StorageRules};
use crate::http::Etag;

/// Which bytes of an archive are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// From this byte to the end.
    From(u64),
    /// From the first to before the second.
    Between(u64, u64),
    /// So many at the end. Not every object store knows this one.
    Last(u64),
}

impl Span {
    /// The value of `Range` (RFC 9110, 14.2); `None` where there is nothing to ask for.
    pub(crate) fn range_value(self) -> Option<HeaderValue> {
        let text = match self {
            Self::From(first) => format!("bytes={first}-"),
            Self::Between(first, end) if first < end => format!("bytes={first}-{}", end - 1),
            Self::Last(count) if count > 0 => format!("bytes=-{count}"),
            Self::Between(..) | Self::Last(_) => return None,
        };
        HeaderValue::try_from(text).ok()
    }

    /// Whether `given` bytes of an archive of `length` answer to it: these very ones, as far as they exist, or all.
    pub(crate) fn is_met_by(self, given: &Range<u64>, length: u64) -> bool {
        let asked = match self {
            Self::From(first) => first..length,
            Self::Between(first, end) => first..end.min(length),
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        *given == asked || *given == (0..length)
    }
}

/// How an answer to a question for a part begins.
#[derive(Debug)]
pub(crate) enum Parted {
    /// A body: these bytes of an archive with these facts, its whole length among them.
    Body(Yes, Facts, Range<u64>),
    /// The bytes are in an object store.
    Elsewhere(Yes, Location),
    /// Neither.
    Neither,
}

/// Judges the answer to a question for a part of an archive.
pub(crate) fn open_part(
    status: StatusCode,
    fields: &HeaderMap,
    rules: &StorageRules,
    sent: AskedPath<'_>,
) -> Parted {
    if is_storage_redirect(status) {
        let location = rules.location(fields, sent);
        return location.map_or(Parted::Neither, |location| Parted::Elsewhere(Yes(()), location));
    }
    match given(status, fields) {
        Some((facts, range)) => Parted::Body(Yes(()), facts, range),
        None => Parted::Neither,
    }
}

/// What an object store gives of the object at `location`: its facts and these of its bytes. The store's own tag isn't
/// GitLab's word; its place is.
pub(crate) fn object_part(
    status: StatusCode,
    fields: &HeaderMap,
    location: &Location,
) -> Option<(Facts, Range<u64>)> {
    let (facts, range) = given(status, fields)?;
    Some((Facts { etag: None, object: Some(location.object()), ..facts }, range))
}

/// What a later question for more of the same bytes can be made conditional on (`If-Range`; RFC 9110, 13.1.5): a strong
/// tag, whoever gave it, else a date.
pub(crate) fn validator(fields: &HeaderMap) -> Option<HeaderValue> {
    let strong = |value: &&HeaderValue| value.to_str().is_ok_and(|tag| Etag::strong(tag).is_some());
    let date =
        |value: &&HeaderValue| value.to_str().is_ok_and(|date| httpdate::parse_http_date(date).is_ok());
    let tag = fields.get(header::ETAG).filter(strong);
    tag.or_else(|| fields.get(header::LAST_MODIFIED).filter(date)).cloned()
}

/// The facts and the bytes of a whole or a part, as far as both are plainly declared.
fn given(status: StatusCode, fields: &HeaderMap) -> Option<(Facts, Range<u64>)> {
    if is_encoded(fields) {
        return None;
    }
    let (range, length) = match status {
        StatusCode::OK => content_length(fields).map(|length| (0..length, length))?,
        StatusCode::PARTIAL_CONTENT => {
            let (first, last, total) = content_range(fields)?;
            let declared = content_length(fields);
            let fits = declared.is_none_or(|declared| declared == last - first + 1);
            Some((first..last + 1, total)).filter(|_| fits)?
        }
        _ => return None,
    };
    Some((Facts { length: Some(length), ..Facts::of_fields(fields) }, range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::grant::storage::ObjectPath;

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_span_is_met_by_its_own_bytes_or_by_all() {
        for (span, value, met, unmet) in [
            (Span::From(4), Some("bytes=4-"), [(4, 10), (0, 10)], [(3, 10), (5, 10)]),
            (Span::Between(2, 5), Some("bytes=2-4"), [(2, 5), (0, 10)], [(2, 6), (1, 5)]),
            (Span::Between(8, 50), Some("bytes=8-49"), [(8, 10), (0, 10)], [(8, 9), (7, 10)]),
            (Span::Last(3), Some("bytes=-3"), [(7, 10), (0, 10)], [(0, 3), (6, 10)]),
            (Span::Last(30), Some("bytes=-30"), [(0, 10), (0, 10)], [(1, 10), (0, 9)]),
            (Span::Last(0), None, [(10, 10), (0, 10)], [(9, 10), (0, 9)]),
            (Span::Between(5, 5), None, [(5, 5), (0, 10)], [(4, 5), (5, 6)]),
        ] {
            assert_eq!(span.range_value(), value.map(|value| value.parse().unwrap()), "{span:?}");
            let is_met = |(from, to): (u64, u64)| span.is_met_by(&(from..to), 10);
            assert!(met.into_iter().all(is_met), "{span:?}");
            assert!(!unmet.into_iter().any(is_met), "{span:?}");
        }
    }

    #[test]
    fn a_part_is_what_its_content_range_says_plainly() {
        let part = |range: &str, length: &str| {
            let fields = fields(&[("content-range", range), ("content-length", length)]);
            given(StatusCode::PARTIAL_CONTENT, &fields).map(|(facts, range)| (range, facts.length.unwrap()))
        };
        assert_eq!(part("bytes 2-4/10", "3"), Some((2..5, 10)));
        for (range, length) in [
            ("bytes 2-4/10", "4"),
            ("bytes 2-4/*", "3"),
            ("bytes 4-2/10", "3"),
            ("bytes 2-10/10", "9"),
            ("bytes */10", "0"),
            ("2-4/10", "3"),
            ("bytes 2-4/+10", "3"),
            ("bytes 0-18446744073709551615/18446744073709551615", "0"),
        ] {
            assert_eq!(part(range, length), None, "{range} {length}");
        }
        let whole = given(StatusCode::OK, &fields(&[("content-length", "10")]));
        assert_eq!(whole.map(|(facts, range)| (range, facts.length)), Some((0..10, Some(10))));
        assert!(given(StatusCode::OK, &fields(&[])).is_none(), "nobody knows where it ends");
        assert!(
            given(StatusCode::OK, &fields(&[("content-length", "10"), ("content-encoding", "gzip")]))
                .is_none()
        );
        assert!(
            given(StatusCode::RANGE_NOT_SATISFIABLE, &fields(&[("content-range", "bytes */10")])).is_none()
        );
    }

    #[test]
    fn strong_tags_come_before_dates_and_weak_ones_never() {
        let date = "Tue, 24 Nov 2026 20:00:00 GMT";
        let of = |pairs: &[(&str, &str)]| {
            validator(&fields(pairs)).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of(&[("etag", "\"a\""), ("last-modified", date)]).as_deref(), Some("\"a\""));
        assert_eq!(of(&[("etag", "W/\"a\""), ("last-modified", date)]).as_deref(), Some(date));
        assert_eq!(of(&[("etag", "W/\"a\""), ("last-modified", "0")]), None);
    }

    #[test]
    fn an_object_is_known_by_its_place_and_not_by_its_stores_tag() {
        let rules = StorageRules { gitlab: "http://gitlab".parse().unwrap(), external: None, hosts: None };
        let redirect = fields(&[("location", "http://store/a?sv=1&sig=1")]);
        let Parted::Elsewhere(_, location) =
            open_part(StatusCode::FOUND, &redirect, &rules, AskedPath::default())
        else {
            panic!("a redirect to a store");
        };
        let answer = fields(&[("content-length", "10"), ("etag", "\"of-the-store\"")]);
        let (facts, range) = object_part(StatusCode::OK, &answer, &location).unwrap();
        assert_eq!((range, facts.etag), (0..10, None));
        assert_eq!(facts.object, Some(ObjectPath::for_test("http://store/a")));
    }
}
