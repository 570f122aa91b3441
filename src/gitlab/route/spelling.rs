//! The canonical spelling of a project and of a query, over hostile bytes.

/// The project segment as written, if it is a number or an encoded path that GitLab can read in one way only
/// (`lib/api/helpers.rb`, `find_project`; path characters as in `lib/gitlab/path_regex.rb`).
pub(super) fn project(segment: &str) -> Option<&str> {
    let numeric = crate::base::key::JobId::parse(segment).is_some();
    (numeric || is_encoded_path(segment)).then_some(segment)
}

/// At least two segments joined by an encoded slash, none empty, `.` or `..`.
fn is_encoded_path(segment: &str) -> bool {
    let Some(path) = decode(segment) else { return false };
    path.contains(&b'/') && path.split(|b| *b == b'/').all(is_plain_segment)
}

/// Whether a segment of a path is made of a path's characters (`lib/gitlab/path_regex.rb`), and leads nowhere else.
fn is_plain_segment(part: &[u8]) -> bool {
    !matches!(part, b"" | b"." | b"..")
        && part.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// A project's full path as it stands in the browser's routes: plain segments, at least two.
pub(super) fn web_project(path: &str) -> Option<&str> {
    let plain = path.contains('/') && path.as_bytes().split(|b| *b == b'/').all(is_plain_segment);
    plain.then_some(path)
}

/// The name of an entry or a ref, decoded; `None` if GitLab refuses it (bad UTF-8, NUL) or some server might read it
/// otherwise: empty and dot segments, control bytes, `;`. A segment that hides `raw` or `download` behind an encoded
/// slash might split the path elsewhere.
pub(super) fn name(raw: &str) -> Option<String> {
    let decoded = String::from_utf8(decode(raw)?).ok()?;
    let disputed = |c: char| c.is_control() || c == ';';
    let odd = decoded.contains(disputed) || decoded.split('/').any(|part| matches!(part, "" | "." | ".."));
    let hides = raw.split('/').filter_map(decode).any(|segment| {
        segment.contains(&b'/')
            && segment.split(|b| *b == b'/').any(|part| matches!(part, b"raw" | b"download"))
    });
    (!odd && !hides).then_some(decoded)
}

/// Percent-decoding; `None` for a `%` without two hexadecimal digits.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(if byte == b'%' { hex(rest.next()?)? << 4 | hex(rest.next()?)? } else { byte });
    }
    Some(decoded)
}

/// A value of a query as Rails reads it: `+` is a space there, and only there (Rack's `unescape`; URL Standard,
/// application/x-www-form-urlencoded). `None` as [`decode`].
pub(crate) fn decode_value(text: &str) -> Option<Vec<u8>> {
    decode(&text.replace('+', " "))
}

/// The decoded value of the first parameter of this name in a query or a form.
pub(crate) fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| decode_value(key).as_deref() == Some(name.as_bytes()))?;
    decode_value(value)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a' - 10),
        b'A'..=b'F' => digit.checked_sub(b'A' - 10),
        _ => None,
    }
}

/// The pairs of a query in order, if each key is allowed, unencoded and there once, and no value holds what servers
/// disagree about: `;`, brackets, broken encodings, control bytes.
pub(super) fn pairs(query: &str, allowed: impl Fn(&str) -> bool) -> Option<Vec<(&str, &str)>> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    if query.is_empty() {
        return Some(pairs);
    }
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=')?;
        let repeated = pairs.iter().any(|(earlier, _)| *earlier == key);
        if repeated || !allowed(key) || !is_plain(value) {
            return None;
        }
        pairs.push((key, value));
    }
    Some(pairs)
}

fn is_plain(value: &str) -> bool {
    let disputed = |b: u8| matches!(b, b';' | b'[' | b']') || !b.is_ascii_graphic();
    !value.bytes().any(disputed)
        && decode_value(value).is_some_and(|decoded| !decoded.iter().any(u8::is_ascii_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_refuses_what_is_cut() {
        assert_eq!(decode("a%2Fb%2e").as_deref(), Some(b"a/b.".as_slice()));
        for bad in ["%", "%2", "%2g", "%-1", "a%%41"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_plus_is_a_space_in_a_value_and_itself_elsewhere() {
        for (text, value, elsewhere) in
            [("a+b", "a b", "a+b"), ("a%20b", "a b", "a b"), ("a%2Bb", "a+b", "a+b"), ("%2b+", "+ ", "++")]
        {
            assert_eq!(decode_value(text).as_deref(), Some(value.as_bytes()), "{text}");
            assert_eq!(decode(text).as_deref(), Some(elsewhere.as_bytes()), "{text}");
        }
        assert_eq!(decode_value("+%2"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_accepted_project_is_plain(segment in "[a-z0-9%._-]{0,12}") {
            if project(&segment).is_some() {
                proptest::prop_assert!(!segment.is_empty());
                let decoded = decode(&segment).unwrap();
                proptest::prop_assert!(decoded.split(|b| *b == b'/').all(|part| !part.is_empty() && part != b".."));
            }
        }

        #[test]
        fn accepted_pairs_rebuild_the_query(query in "[a-c=&%0-9;]{0,16}") {
            if let Some(pairs) = pairs(&query, |_| true) {
                let rebuilt: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
                proptest::prop_assert_eq!(rebuilt.join("&"), query);
            }
        }
    }
}
