//! Signatures in the query, in the shape of AWS Signature Version 4 (parameters and life time; the digest is
//! simply an HMAC over method, path and dates).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use ring::hmac;

use super::Override;
use crate::archive::hex;
use crate::ask::Ask;
use crate::percent;

/// Why a URL opens nothing.
pub(super) enum Refused {
    Expired,
    Wrong,
}

/// What a signature is over.
pub(super) struct Signer<'a> {
    pub(super) key: &'a [u8],
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    /// What the URL sets on the answer: signed like all of the query.
    pub(super) over: Option<Override<'a>>,
}

impl Signer<'_> {
    /// The query that signs from `now` on.
    pub(super) fn query(&self, now: SystemTime, lifetime: Duration) -> String {
        let date = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (stamp, expires) = (stamp(date), lifetime.as_secs());
        let signature = self.signature(&stamp, expires);
        let day = stamp.get(..8).unwrap_or_default();
        let over = self.over.map_or_else(String::new, |over| {
            let (disposition, kind) = (component(over.disposition), component(over.content_type));
            format!("response-content-disposition={disposition}&response-content-type={kind}&")
        });
        format!(
            "{over}X-Amz-Expires={expires}&X-Amz-Date={stamp}&X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIASTANDIN%2F{day}%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-SignedHeaders=host\
             &X-Amz-Signature={signature}"
        )
    }

    /// Checks a request's signature and its age.
    pub(super) fn verify(&self, ask: &Ask, now: SystemTime) -> Result<(), Refused> {
        let stamp = ask.param("X-Amz-Date").ok_or(Refused::Wrong)?;
        let expires = ask.param("X-Amz-Expires").and_then(|text| text.parse().ok()).ok_or(Refused::Wrong)?;
        let expected = self.signature(stamp, expires);
        if ask.param("X-Amz-Signature") != Some(expected.as_str()) {
            return Err(Refused::Wrong);
        }
        let date = unix(stamp).ok_or(Refused::Wrong)?;
        let age = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().saturating_sub(date);
        if age < expires { Ok(()) } else { Err(Refused::Expired) }
    }

    fn signature(&self, stamp: &str, expires: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key);
        let (method, path) = (self.method, self.path);
        let over = self.over.map(|over| format!("\n{}\n{}", over.disposition, over.content_type));
        let text = format!("{method}\n{path}\n{stamp}\n{expires}{}", over.unwrap_or_default());
        hex(hmac::sign(&key, text.as_bytes()).as_ref())
    }
}

/// A value in a query: slashes are escaped as well.
fn component(text: &str) -> String {
    percent::encode(text).replace('/', "%2F")
}

/// `20240101T000000Z` (ISO 8601, basic format); days are counted as in Howard Hinnant's `civil_from_days`.
fn stamp(unix: u64) -> String {
    let (days, second) = (unix / 86_400 + 719_468, unix % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The inverse of [`stamp`] (`days_from_civil`).
fn unix(stamp: &str) -> Option<u64> {
    let part = |range| stamp.get(range).and_then(|text: &str| text.parse::<u64>().ok());
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(9..11)?, part(11..13)?, part(13..15)?);
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let months = if month > 2 { month - 3 } else { month + 9 };
    let in_year = (153 * months + 2) / 5 + day.checked_sub(1)?;
    let in_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + in_year;
    let days = (year / 400 * 146_097 + in_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_there_and_back() {
        for (seconds, text) in [(0, "19700101T000000Z"), (1_709_210_096, "20240229T123456Z")] {
            assert_eq!(stamp(seconds), text);
            assert_eq!(unix(text), Some(seconds));
        }
    }
}
