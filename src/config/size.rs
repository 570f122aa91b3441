//! Sizes in bytes as people write them. Whole numbers throughout: what is read is what was meant, to the byte.

/// Units and their bytes; names are compared without regard to case, so no unit may differ from another in case alone.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Enough for a byte of a TiB; keeps the arithmetic within `u128`.
const MAX_FRACTION_DIGITS: u32 = 15;

/// Reads `1024`, `50GiB`, `1.5 GiB` or `50GB`; a fraction of a byte is cut off. `50G` is refused: it means two things.
pub(super) fn parse(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.trim_start_matches(' ');
    let (_, bytes) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, fraction_of(fraction, *bytes)?),
        None => (number, 0),
    };
    // No leading sign can be left here, so `parse` accepts digits only.
    whole.parse::<u64>().ok()?.checked_mul(*bytes)?.checked_add(fraction)
}

fn fraction_of(digits: &str, bytes: u64) -> Option<u64> {
    let scale = u32::try_from(digits.len()).ok().filter(|n| (1..=MAX_FRACTION_DIGITS).contains(n))?;
    let part = u128::from(digits.parse::<u64>().ok()?).checked_mul(u128::from(bytes))?;
    u64::try_from(part / 10_u128.pow(scale)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes `bytes` in the largest binary unit that divides it, so that [`parse`] reads the same number again.
    fn show(bytes: u64) -> String {
        let exact = |unit: u64| bytes != 0 && bytes.is_multiple_of(unit);
        UNITS
            .iter()
            .filter(|(name, unit)| name.ends_with("iB") && exact(*unit))
            .max_by_key(|(_, unit)| *unit)
            .map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
    }

    #[test]
    fn sizes_are_read_to_the_byte() {
        let cases = [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("1B", Some(1)),
            ("50GiB", Some(50 << 30)),
            ("50 GiB", Some(50 << 30)),
            ("50gib", Some(50 << 30)),
            ("1.5GiB", Some(3 << 29)),
            ("0.1KiB", Some(102)),
            ("50GB", Some(50_000_000_000)),
            ("1kb", Some(1000)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("16777216TiB", None),
            ("16777215.999999999999999TiB", Some(u64::MAX)),
            ("", None),
            ("GiB", None),
            (".5GiB", None),
            ("1.GiB", None),
            ("1.2.3GiB", None),
            ("1.0000000000000000GiB", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1 ", Some(1)),
            ("1e9", None),
            ("50G", None),
            ("50GiBs", None),
            ("５0", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_written_in_the_largest_exact_unit() {
        let cases =
            [(0, "0"), (1, "1"), (1024, "1KiB"), (1025, "1025"), (64 << 20, "64MiB"), (3 << 29, "1536MiB")];
        for (bytes, text) in cases {
            assert_eq!(show(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_to_the_same_number(bytes: u64, shift in 0_u32..64) {
            for bytes in [bytes, bytes >> shift, bytes << shift] {
                prop_assert_eq!(parse(&show(bytes)), Some(bytes));
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
