//! Whether a client takes gzip (RFC 9110, 12.5.3).

/// Reads all `Accept-Encoding` fields of a request. gzip is taken if it has a weight above zero, by name or by `*`,
/// that is no smaller than what is said of `identity`: who prefers the file as it is gets it so.
pub(crate) fn accepts_gzip<'a>(fields: impl Iterator<Item = &'a str>) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for member in fields.flat_map(|field| field.split(',')) {
        let (coding, weight) = member.split_once(';').unwrap_or((member, ""));
        let weight = if weight.is_empty() { Some(1000) } else { thousandths(weight) };
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = weight,
            "*" => any = weight,
            "identity" => identity = weight,
            _ => {}
        }
    }
    let weight = gzip.or(any).unwrap_or(0);
    weight > 0 && weight >= identity.unwrap_or(0)
}

/// A weight in thousandths; a malformed one is none.
fn thousandths(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction: u16 = format!("{fraction:0<3}").parse().ok().filter(|_| digits)?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_as_it_was_weighted() {
        for (fields, taken) in [
            (vec![], false),
            (vec![""], false),
            (vec!["gzip"], true),
            (vec!["GZip"], true),
            (vec!["x-gzip"], true),
            (vec!["gzip, deflate, br"], true),
            (vec!["br", "gzip"], true),
            (vec!["gzip;q=0"], false),
            (vec!["gzip;q=0.000"], false),
            (vec!["gzip; q=0.001"], true),
            (vec!["*"], true),
            (vec!["*;q=0"], false),
            (vec!["gzip;q=0, *"], false),
            (vec!["identity"], false),
            (vec!["identity;q=1, gzip;q=0.5"], false),
            (vec!["identity;q=0.5, gzip"], true),
            (vec!["gzip;q=1.5"], false),
            (vec!["gzip;q=x"], false),
            (vec!["gzip;v=1"], false),
            (vec!["deflate"], false),
            (vec!["gzipped"], false),
        ] {
            assert_eq!(accepts_gzip(fields.iter().copied()), taken, "{fields:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_field_makes_it_panic(field in "[gzip;q=0-9., *]{0,24}") {
            let _ = accepts_gzip([field.as_str()].into_iter());
        }
    }
}
