//! `Range` as Go parses it (`net/http/fs.go`, `parseRange`).

/// One range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Span {
    /// `Content-Range`. An empty span (from `bytes=-0`) ends before it starts, as Go prints it.
    pub(crate) fn content_range(self, total: u64) -> String {
        let end = (self.start + self.len).saturating_sub(1);
        format!("bytes {}-{end}/{total}", self.start)
    }
}

/// A field that isn't a list of byte ranges.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unparsable;

/// What the field asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ranges {
    Some(Vec<Span>),
    NoOverlap,
}

pub(super) fn parse(field: &str, size: u64) -> Result<Ranges, Unparsable> {
    let list = field.strip_prefix("bytes=").ok_or(Unparsable)?;
    let mut spans = Vec::new();
    let mut missed = false;
    for item in list.split(',').map(trim).filter(|item| !item.is_empty()) {
        match one(item, size)? {
            Some(span) => spans.push(span),
            None => missed = true,
        }
    }
    if missed && spans.is_empty() { Ok(Ranges::NoOverlap) } else { Ok(Ranges::Some(spans)) }
}

fn one(item: &str, size: u64) -> Result<Option<Span>, Unparsable> {
    let (start, end) = item.split_once('-').ok_or(Unparsable)?;
    let (start, end) = (trim(start), trim(end));
    if start.is_empty() {
        let len = number(end)?.min(size);
        return Ok(Some(Span { start: size - len, len }));
    }
    let start = number(start)?;
    if start >= size {
        return Ok(None);
    }
    let last = if end.is_empty() { size - 1 } else { number(end)? };
    if start > last {
        return Err(Unparsable);
    }
    Ok(Some(Span { start, len: last.min(size - 1) - start + 1 }))
}

fn number(text: &str) -> Result<u64, Unparsable> {
    let number: i64 = text.parse().map_err(|_| Unparsable)?;
    u64::try_from(number).map_err(|_| Unparsable)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_as_go_does() {
        let some = |spans: &[(u64, u64)]| {
            Ok(Ranges::Some(spans.iter().map(|&(start, len)| Span { start, len }).collect()))
        };
        let cases = [
            ("bytes=0-4", some(&[(0, 5)])),
            ("bytes=2-", some(&[(2, 8)])),
            ("bytes=-5", some(&[(5, 5)])),
            ("bytes=-50", some(&[(0, 10)])),
            ("bytes=-0", some(&[(10, 0)])),
            ("bytes=0-99", some(&[(0, 10)])),
            ("bytes= 1 - 2 , 4-4", some(&[(1, 2), (4, 1)])),
            ("bytes=", some(&[])),
            ("bytes=10-", Ok(Ranges::NoOverlap)),
            ("bytes=10-11,0-0", some(&[(0, 1)])),
            ("bytes=5-4", Err(Unparsable)),
            ("bytes=x-4", Err(Unparsable)),
            ("bytes=--4", Err(Unparsable)),
            ("bytes=-", Err(Unparsable)),
            ("bytes=4", Err(Unparsable)),
            ("items=0-1", Err(Unparsable)),
        ];
        for (field, expected) in cases {
            assert_eq!(parse(field, 10), expected, "{field}");
        }
    }
}
