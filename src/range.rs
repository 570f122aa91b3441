//! Byte ranges (RFC 9110, 14).
//!
//! Owns the reading of `Range` over hostile bytes. Pure.

use std::ops::Range;

/// What a `Range` field asks of a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of it: no field, another unit, a malformed one, or several ranges, each of which a server may ignore.
    Whole,
    /// These bytes; not empty, and inside.
    Part(Range<u64>),
    /// Bytes that aren't there.
    Nothing,
}

/// Reads a `Range` field's value against a length.
pub fn read(value: &str, length: u64) -> Asked {
    let Some((unit, set)) = value.split_once('=') else {
        return Asked::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Asked::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return Asked::Whole;
    };
    match (number(first), number(last)) {
        (Number::Is(first), Number::Is(last)) if first > last => Asked::Whole,
        (Number::Is(first), Number::Is(last)) => part(first..last.saturating_add(1).min(length)),
        (Number::Is(first), Number::Absent) => part(first..length),
        (Number::Absent, Number::Is(suffix)) => part(length.saturating_sub(suffix)..length),
        _ => Asked::Whole,
    }
}

fn part(range: Range<u64>) -> Asked {
    if range.start < range.end { Asked::Part(range) } else { Asked::Nothing }
}

enum Number {
    Absent,
    Is(u64),
    Malformed,
}

/// A position; one too large to be told is as good as the largest.
fn number(text: &str) -> Number {
    if text.is_empty() {
        Number::Absent
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Number::Is(text.parse().unwrap_or(u64::MAX))
    } else {
        Number::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_are_read_as_the_rfc_says() {
        for (value, asked) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=0-99", Asked::Part(0..10)),
            ("bytes=3-5", Asked::Part(3..6)),
            ("BYTES = 3-5 ", Asked::Part(3..6)),
            ("bytes=3-", Asked::Part(3..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=9-18446744073709551616", Asked::Part(9..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=99999999999999999999-", Asked::Nothing),
            ("bytes=5-3", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("bytes", Asked::Whole),
            ("", Asked::Whole),
        ] {
            assert_eq!(read(value, 10), asked, "{value}");
        }
        assert_eq!(read("bytes=0-", 0), Asked::Nothing);
    }

    proptest::proptest! {
        #[test]
        fn a_part_is_never_empty_nor_outside(value in "bytes=[0-9-]{0,24}", length: u64) {
            if let Asked::Part(range) = read(&value, length) {
                proptest::prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
