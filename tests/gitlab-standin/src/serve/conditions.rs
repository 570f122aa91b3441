//! Preconditions as Go checks them (`net/http/fs.go`, `checkPreconditions`; RFC 9110, section 13).

use std::time::{Duration, SystemTime};

use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, Method};

/// What the conditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    NotModified,
    Failed,
}

pub(super) fn check(
    method: &Method,
    headers: &HeaderMap,
    etag: Option<&str>,
    modified: SystemTime,
) -> Verdict {
    let reads = method == Method::GET || method == Method::HEAD;
    let allowed = match text(headers, &IF_MATCH) {
        Some(list) => matches(list, etag, strong_match),
        None => date(headers, &IF_UNMODIFIED_SINCE).is_none_or(|date| seconds(modified) <= seconds(date)),
    };
    if !allowed {
        return Verdict::Failed;
    }
    let known = match text(headers, &IF_NONE_MATCH) {
        Some(list) => matches(list, etag, weak_match),
        None => {
            reads && date(headers, &IF_MODIFIED_SINCE).is_some_and(|date| seconds(modified) <= seconds(date))
        }
    };
    match (known, reads) {
        (false, _) => Verdict::Go,
        (true, true) => Verdict::NotModified,
        (true, false) => Verdict::Failed,
    }
}

/// Whether `If-Range` lets the range through: the same strong tag or the same date.
pub(super) fn range_applies(headers: &HeaderMap, etag: Option<&str>, modified: SystemTime) -> bool {
    let Some(value) = text(headers, &IF_RANGE) else {
        return true;
    };
    match scan(value) {
        Some((tag, _)) => etag.is_some_and(|etag| strong_match(tag, etag)),
        None => httpdate::parse_http_date(value).is_ok_and(|date| seconds(date) == seconds(modified)),
    }
}

/// Whether a list of tags (or `*`) names `etag`.
fn matches(list: &str, etag: Option<&str>, same: fn(&str, &str) -> bool) -> bool {
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.starts_with('*') {
            return true;
        }
        let Some((tag, after)) = scan(rest) else {
            return false;
        };
        if etag.is_some_and(|etag| same(tag, etag)) {
            return true;
        }
        rest = after;
    }
}

/// The tag that `text` starts with, and what follows it.
fn scan(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let quote = if text.starts_with("W/") { 2 } else { 0 };
    let inside = text.get(quote..)?.strip_prefix('"')?;
    let end = quote + 1 + inside.find('"')? + 1;
    Some((text.get(..end)?, text.get(end..)?))
}

fn strong_match(one: &str, other: &str) -> bool {
    one == other && one.starts_with('"')
}

fn weak_match(one: &str, other: &str) -> bool {
    one.trim_start_matches("W/") == other.trim_start_matches("W/")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, name)?).ok()
}

/// HTTP dates have no fractions.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

    type Fields = &'static [(&'static str, &'static str)];

    fn verdict(fields: Fields, etag: Option<&str>) -> Verdict {
        let pairs =
            fields.iter().map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let headers = pairs.collect();
        check(&Method::GET, &headers, etag, httpdate::parse_http_date(MODIFIED).unwrap())
    }

    #[test]
    fn conditions_in_go_s_order() {
        const LATER: &str = "Tue, 02 Jan 2024 00:00:00 GMT";
        const EARLIER: &str = "Sun, 31 Dec 2023 00:00:00 GMT";
        let (strong, weak) = (Some("\"a\""), Some("W/\"a\""));
        let cases: [(Fields, _, _); 13] = [
            (&[("if-none-match", "\"a\"")], strong, Verdict::NotModified),
            (&[("if-none-match", "\"x\", W/\"a\"")], strong, Verdict::NotModified),
            (&[("if-none-match", "\"x\", \"a\"")], weak, Verdict::NotModified),
            (&[("if-none-match", "*")], None, Verdict::NotModified),
            (&[("if-none-match", "\"b\"")], strong, Verdict::Go),
            (&[("if-none-match", "\"b\""), ("if-modified-since", LATER)], strong, Verdict::Go),
            (&[("if-modified-since", MODIFIED)], None, Verdict::NotModified),
            (&[("if-modified-since", EARLIER)], None, Verdict::Go),
            (&[("if-match", "\"a\"")], strong, Verdict::Go),
            (&[("if-match", "\"a\"")], weak, Verdict::Failed),
            (&[("if-match", "W/\"a\"")], weak, Verdict::Failed),
            (&[("if-unmodified-since", EARLIER)], None, Verdict::Failed),
            (&[("if-match", "*"), ("if-unmodified-since", EARLIER)], strong, Verdict::Go),
        ];
        for (fields, etag, expected) in cases {
            assert_eq!(verdict(fields, etag), expected, "{fields:?}");
        }
    }
}
