//! Conditional requests (RFC 9110, 13).
//!
//! Owns the order in which preconditions are looked at. Pure.

use http::header::{self, HeaderMap, HeaderName};

use crate::http::Etag;

/// What a client compares its copy with.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    /// The strong entity tag.
    pub etag: Option<&'a Etag>,
    /// `Last-Modified`, seconds since the Unix epoch.
    pub modified: Option<u64>,
}

/// What the preconditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it; a `Range` counts.
    Send,
    /// Send all of it: `If-Range` names another one.
    SendWhole,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110, 13.2.2.
pub fn decide(fields: &HeaderMap, now: Validators<'_>) -> Decision {
    if let Some(list) = joined(fields, &header::IF_MATCH) {
        if !any_match(&list, now.etag, false) {
            return Decision::Failed;
        }
    } else if let (Some(since), Some(modified)) = (date(fields, &header::IF_UNMODIFIED_SINCE), now.modified)
        && modified > since
    {
        return Decision::Failed;
    }
    if let Some(list) = joined(fields, &header::IF_NONE_MATCH) {
        if any_match(&list, now.etag, true) {
            return Decision::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (date(fields, &header::IF_MODIFIED_SINCE), now.modified)
        && modified <= since
    {
        return Decision::NotModified;
    }
    match fields.get(header::IF_RANGE).map(|value| value.to_str().unwrap_or_default()) {
        Some(value) if !if_range(value, now) => Decision::SendWhole,
        _ => Decision::Send,
    }
}

/// `If-Range` compares strongly: a tag as it is, or the exact date.
fn if_range(value: &str, now: Validators<'_>) -> bool {
    match Etag::strong(value) {
        Some(tag) => now.etag == Some(&tag),
        None => parse(value).is_some_and(|date| now.modified == Some(date)),
    }
}

fn any_match(list: &str, etag: Option<&Etag>, weak: bool) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let Some(etag) = etag else { return false };
    tags(list).any(|tag| match tag.strip_prefix("W/") {
        Some(opaque) => weak && opaque == etag.as_str(),
        None => tag == etag.as_str(),
    })
}

/// The entity tags of a list; commas inside of quotes belong to a tag. What is malformed ends it.
fn tags(mut list: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        list = list.trim_start_matches([' ', '\t', ',']);
        let open = list.find('"').filter(|open| *open == 0 || list.starts_with("W/\""))?;
        let close = list.get(open + 1..)?.find('"')?;
        let (tag, rest) = list.split_at_checked(open + close + 2)?;
        list = rest;
        Some(tag)
    })
}

/// All values of a field, as one list.
fn joined(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> =
        fields.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn date(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    parse(fields.get(name)?.to_str().ok()?)
}

fn parse(value: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(value).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|age| age.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Thu, 01 Jan 1970 00:01:39 GMT";
    const AT: &str = "Thu, 01 Jan 1970 00:01:40 GMT";

    fn decide(pairs: &[(&'static str, &'static str)]) -> Decision {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(*name, value.parse().unwrap());
        }
        super::decide(&fields, Validators { etag: Etag::quoting("e").as_ref(), modified: Some(100) })
    }

    #[test]
    fn preconditions_are_looked_at_in_the_rfcs_order() {
        use Decision::{Failed, NotModified, Send, SendWhole};
        for (pairs, decision) in [
            (vec![], Send),
            (vec![("if-match", "\"e\"")], Send),
            (vec![("if-match", "\"x\", \"e\"")], Send),
            (vec![("if-match", "*")], Send),
            (vec![("if-match", "W/\"e\"")], Failed),
            (vec![("if-match", "\"x\"")], Failed),
            (vec![("if-match", "\"e\""), ("if-unmodified-since", BEFORE)], Send),
            (vec![("if-unmodified-since", BEFORE)], Failed),
            (vec![("if-unmodified-since", AT)], Send),
            (vec![("if-unmodified-since", "never")], Send),
            (vec![("if-none-match", "\"e\"")], NotModified),
            (vec![("if-none-match", "W/\"e\"")], NotModified),
            (vec![("if-none-match", "\"x\""), ("if-none-match", "\"e\"")], NotModified),
            (vec![("if-none-match", "\"a,\"\"e\"")], NotModified),
            (vec![("if-none-match", "*")], NotModified),
            (vec![("if-none-match", "\"x\""), ("if-modified-since", AT)], Send),
            (vec![("if-modified-since", AT)], NotModified),
            (vec![("if-modified-since", BEFORE)], Send),
            (vec![("if-none-match", "e")], Send),
            (vec![("if-range", "\"e\"")], Send),
            (vec![("if-range", "\"x\"")], SendWhole),
            (vec![("if-range", "W/\"e\"")], SendWhole),
            (vec![("if-range", AT)], Send),
            (vec![("if-range", BEFORE)], SendWhole),
            (vec![("if-match", "\"x\""), ("if-none-match", "\"e\"")], Failed),
        ] {
            assert_eq!(decide(&pairs), decision, "{pairs:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_list_makes_it_hang_or_panic(list in "[\"W/, ae*\\\\]{0,24}") {
            let _ = tags(&list).count();
        }
    }
}
