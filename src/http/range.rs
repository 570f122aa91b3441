//! Byte ranges (RFC 9110, 14).
//!
//! Owns the reading of `Range` over hostile bytes. Pure.

pub(crate) mod multipart;

use std::ops::Range;

/// Ranges that are looked at in one field. aria2 and download managers ask for one a connection, PDF readers for a
/// dozen; a field with more is somebody's attempt at making much work of little (RFC 9110, 14.2) and is ignored.
const MOST: usize = 32;

/// What a `Range` field asks of a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of it: no field, another unit, a malformed one, too many ranges, or ranges that come to more than all of it.
    Whole,
    /// These bytes; not empty, and inside.
    Part(Range<u64>),
    /// These parts, two at least, in the order in which they were asked for; none is empty, all are inside, and
    /// together they are no more than the whole.
    Parts(Vec<Range<u64>>),
    /// Bytes that aren't there.
    Nothing,
}

impl Asked {
    /// The same where parts can be had only one behind the other: all, where one begins before another ends.
    #[must_use]
    pub(crate) fn in_order(self) -> Self {
        match self {
            Self::Parts(parts) if !parts.is_sorted_by(|one, next| one.end <= next.start) => Self::Whole,
            asked => asked,
        }
    }
}

/// Reads a `Range` field's value against a length.
pub fn read(value: &str, length: u64) -> Asked {
    let Some((unit, set)) = value.split_once('=') else {
        return Asked::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let members: Vec<&str> = set
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
        .collect();
    if members.is_empty() || members.len() > MOST {
        return Asked::Whole;
    }
    let specs: Option<Vec<RangeSpec>> = members.into_iter().map(spec).collect();
    specs.map_or(Asked::Whole, |specs| asked(&specs, length))
}

fn asked(specs: &[RangeSpec], length: u64) -> Asked {
    let mut parts: Vec<Range<u64>> =
        specs.iter().map(|spec| spec.within(length)).filter(|part| !part.is_empty()).collect();
    // Go's ServeContent sends the whole as well where its parts would be more.
    let sum = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.end - part.start));
    match (parts.len(), parts.pop()) {
        (1, Some(part)) => Asked::Part(part),
        (_, None) => Asked::Nothing,
        _ if sum > length => Asked::Whole,
        (_, Some(last)) => {
            parts.push(last);
            Asked::Parts(parts)
        }
    }
}

/// One range as it was written.
#[derive(Clone, Copy)]
enum RangeSpec {
    /// From here to there, inclusive.
    FromTo(u64, u64),
    From(u64),
    Last(u64),
}

impl RangeSpec {
    /// The bytes it means; empty if there are none.
    fn within(self, length: u64) -> Range<u64> {
        match self {
            Self::FromTo(first, last) => first..last.saturating_add(1).min(length),
            Self::From(first) => first..length,
            Self::Last(suffix) => length.saturating_sub(suffix)..length,
        }
    }
}

/// Reads one range; `None` if it is malformed.
fn spec(member: &str) -> Option<RangeSpec> {
    let (first, last) = member.split_once('-')?;
    match (number(first), number(last)) {
        (Number::Is(first), Number::Is(last)) => (first <= last).then_some(RangeSpec::FromTo(first, last)),
        (Number::Is(first), Number::Absent) => Some(RangeSpec::From(first)),
        (Number::Absent, Number::Is(suffix)) => Some(RangeSpec::Last(suffix)),
        _ => None,
    }
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
            ("bytes=0-1,3-4", Asked::Parts(vec![0..2, 3..5])),
            ("bytes=8-, 0-0 ,-1", Asked::Parts(vec![8..10, 0..1, 9..10])),
            ("bytes=,,0-1,, 3-4 ,", Asked::Parts(vec![0..2, 3..5])),
            ("bytes=0-1,20-", Asked::Part(0..2)),
            ("bytes=20-,30-40", Asked::Nothing),
            ("bytes=0-1,x", Asked::Whole),
            ("bytes=0-1,5-3", Asked::Whole),
            ("bytes=0-6,4-9", Asked::Whole),
            ("bytes=0-,0-", Asked::Whole),
            ("bytes=,", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("bytes", Asked::Whole),
            ("", Asked::Whole),
        ] {
            assert_eq!(read(value, 10), asked, "{value}");
        }
        assert_eq!(read("bytes=0-", 0), Asked::Nothing);
    }

    #[test]
    fn parts_in_order_are_left_and_others_are_all() {
        for (value, in_order) in [
            ("bytes=0-1,2-4,9-9", true),
            ("bytes=0-1,1-4", false),
            ("bytes=4-5,0-1", false),
            ("bytes=0-1,4-5,2-2", false),
            ("bytes=0-0,0-0", false),
        ] {
            let asked = read(value, 10);
            assert!(matches!(asked, Asked::Parts(_)), "{value}");
            let expected = if in_order { asked.clone() } else { Asked::Whole };
            assert_eq!(asked.in_order(), expected, "{value}");
        }
        for asked in [Asked::Whole, Asked::Nothing, Asked::Part(3..4)] {
            assert_eq!(asked.clone().in_order(), asked);
        }
    }

    #[test]
    fn too_many_ranges_are_ignored() {
        let field = |n: u64| {
            let set: Vec<String> = (0..n).map(|at| format!("{}-{}", at * 2, at * 2)).collect();
            read(&format!("bytes={}", set.join(",")), 1000)
        };
        assert!(matches!(field(32), Asked::Parts(parts) if parts.len() == 32));
        assert_eq!(field(33), Asked::Whole);
    }

    proptest::proptest! {
        #[test]
        fn parts_are_those_that_were_asked_for(
            asked in proptest::collection::vec((0_u64..60, 0_u64..60), 1..6),
            length in 1_u64..50,
        ) {
            let set: Vec<String> = asked.iter().map(|(a, b)| format!("{a}-{b}")).collect();
            let read = read(&format!("bytes={}", set.join(",")), length);
            let there = |at: &u64| *at < length;
            let bytes: Vec<Vec<u64>> = asked.iter().map(|(a, b)| (*a..=*b).filter(there).collect()).collect();
            let wanted: Vec<&Vec<u64>> = bytes.iter().filter(|bytes| !bytes.is_empty()).collect();
            let sum = wanted.iter().map(|bytes| crate::base::num::to_u64(bytes.len())).sum::<u64>();
            let expected = if asked.iter().any(|(a, b)| a > b) {
                Asked::Whole
            } else {
                let range = |bytes: &Vec<u64>| bytes[0]..bytes[bytes.len() - 1] + 1;
                match wanted.as_slice() {
                    [] => Asked::Nothing,
                    [one] => Asked::Part(range(one)),
                    _ if sum > length => Asked::Whole,
                    several => Asked::Parts(several.iter().map(|bytes| range(bytes)).collect()),
                }
            };
            proptest::prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_part_is_never_empty_nor_outside(value in "bytes=[0-9-]{0,24}", length: u64) {
            if let Asked::Part(range) = read(&value, length) {
                proptest::prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
