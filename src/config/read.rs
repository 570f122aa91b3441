//! What is written becomes what is meant: one pure reader a type.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;
use http::HeaderName;
use ipnet::IpNet;

use super::spec::Shape;
use super::text::shown;
use crate::gitlab::urls::Origin;
use crate::http::hop::may_be_ignored;
use crate::server::ListenAddress;
use crate::store::{Budget, TimeShare};

/// A value as it was written, in whichever layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    Text(String),
    List(Vec<String>),
}

/// What was found instead, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) String);

impl Wrong {
    fn text(text: &str) -> Self {
        Self(shown(text))
    }
}

impl Written {
    /// Accepts any scalar where one is expected: `ttl = 0` means what it says.
    pub(super) fn from_value(shape: Shape, value: &Value) -> Result<Self, Wrong> {
        let wrong = || Wrong(kind(value).to_owned());
        match (shape, value) {
            (Shape::List | Shape::OneOrMore, Value::Array(_, items)) => {
                let items: Option<Vec<String>> = items.iter().map(scalar).collect();
                items
                    .map(Self::List)
                    .ok_or_else(|| Wrong("a list that doesn't hold strings alone".to_owned()))
            }
            (Shape::List, _) => Err(wrong()),
            (Shape::OneOrMore, value) => scalar(value).map(|text| Self::List(vec![text])).ok_or_else(wrong),
            (Shape::Text | Shape::Number, value) => scalar(value).map(Self::Text).ok_or_else(wrong),
        }
    }

    fn as_text(&self) -> Result<&str, Wrong> {
        match self {
            Self::Text(text) => Ok(text),
            Self::List(_) => Err(Wrong("a list".to_owned())),
        }
    }

    fn as_list(&self) -> Result<&[String], Wrong> {
        match self {
            Self::List(items) => Ok(items),
            Self::Text(text) => Err(Wrong::text(text)),
        }
    }

    fn parsed<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Wrong> {
        let text = self.as_text()?;
        parse(text).ok_or_else(|| Wrong::text(text))
    }

    /// Each of a list that isn't empty.
    fn some<T>(&self, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Wrong> {
        if self.as_list()?.is_empty() { Err(Wrong("an empty list".to_owned())) } else { self.each(parse) }
    }

    fn each<T>(&self, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Wrong> {
        self.as_list()?.iter().map(|item| parse(item).ok_or_else(|| Wrong::text(item))).collect()
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, c) => Some(c.to_string()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => match number.to_i128() {
            Some(whole) => Some(whole.to_string()),
            None => {
                number.to_u128().map(|n| n.to_string()).or_else(|| number.to_f64().map(|n| n.to_string()))
            }
        },
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

/// The kind of a value, without the value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a string",
        Value::Bool(..) => "a boolean",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table or a date",
        Value::Array(..) => "a list",
    }
}

pub(super) fn address(raw: &Written) -> Result<SocketAddr, Wrong> {
    raw.parsed(|text| text.parse().ok())
}

pub(super) fn listeners(raw: &Written) -> Result<Vec<ListenAddress>, Wrong> {
    raw.some(|item| item.parse().ok())
}

pub(super) fn networks(raw: &Written) -> Result<Vec<IpNet>, Wrong> {
    raw.each(|item| item.parse().ok().or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from)))
}

pub(super) fn count(raw: &Written, bounds: RangeInclusive<usize>) -> Result<usize, Wrong> {
    raw.parsed(|text| text.parse().ok().filter(|count| bounds.contains(count)))
}

pub(super) fn duration(raw: &Written, bounds: RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    raw.parsed(|text| humantime::parse_duration(text).ok().filter(|duration| bounds.contains(duration)))
}

pub(super) fn size(raw: &Written, bounds: RangeInclusive<u64>) -> Result<u64, Wrong> {
    raw.parsed(|text| super::size::parse(text).filter(|size| bounds.contains(size)))
}

/// A size, or `80%`.
pub(super) fn budget(raw: &Written, bounds: RangeInclusive<u64>) -> Result<Budget, Wrong> {
    if let Some(percent) = raw.as_text()?.strip_suffix('%') {
        return raw.parsed(|_| whole(percent.trim_end_matches(' ')).and_then(Budget::percent));
    }
    size(raw, bounds).map(Budget::Bytes)
}

/// Digits alone, without a sign.
fn whole(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `5%`; a bare number might as well mean a rate.
pub(super) fn share(raw: &Written) -> Result<TimeShare, Wrong> {
    raw.parsed(|text| text.strip_suffix('%').and_then(whole).and_then(TimeShare::percent))
}

pub(super) fn path(raw: &Written) -> Result<PathBuf, Wrong> {
    raw.parsed(a_path)
}

pub(super) fn paths(raw: &Written) -> Result<Vec<PathBuf>, Wrong> {
    raw.some(a_path)
}

fn a_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

/// User name and password are refused: they would end up in logs, and larder has no credentials of its own.
pub(super) fn origin(raw: &Written) -> Result<Origin, Wrong> {
    raw.parsed(|text| if text.contains(['@', '?', '#']) { None } else { text.parse().ok() })
}

/// A proxy is spoken to in the clear, and its credentials have a file.
pub(super) fn proxy(raw: &Written) -> Result<Origin, Wrong> {
    let origin = origin(raw)?;
    let plain = origin.scheme() == &http::uri::Scheme::HTTP && origin.root().is_empty();
    if plain { Ok(origin) } else { Err(Wrong::text(raw.as_text()?)) }
}

/// `*`, a network, an address, or a domain with or without a dot or an asterisk before it.
pub(super) fn exceptions(raw: &Written) -> Result<Vec<String>, Wrong> {
    raw.each(|item| {
        let domain = item.strip_prefix('*').unwrap_or(item);
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let fits =
            item == "*" || item.parse::<IpNet>().is_ok() || item.parse::<IpAddr>().is_ok() || is_name(domain);
        fits.then(|| item.strip_prefix("*.").unwrap_or(item).to_owned())
    })
}

pub(super) fn choice<T: Copy>(raw: &Written, names: &[(&str, T)]) -> Result<T, Wrong> {
    raw.parsed(|text| names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value))
}

/// It names a directory: no separators, and no dot first, which would hide it or lead elsewhere.
pub(super) fn instance(raw: &Written) -> Result<String, Wrong> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    raw.parsed(|text| {
        let valid = (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(fits);
        valid.then(|| text.to_owned())
    })
}

pub(super) fn names(raw: &Written) -> Result<Vec<String>, Wrong> {
    raw.each(|item| is_name(item).then(|| item.to_ascii_lowercase()))
}

pub(super) fn ignorable(raw: &Written) -> Result<Vec<HeaderName>, Wrong> {
    raw.each(|item| item.parse::<HeaderName>().ok().filter(may_be_ignored))
}

pub(super) fn storage_hosts(raw: &Written) -> Result<Vec<String>, Wrong> {
    raw.each(|item| is_host(item).then(|| item.to_ascii_lowercase()))
}

/// `host`, `host:port`, `192.0.2.1:80`, `[2001:db8::1]:80`.
fn is_host(text: &str) -> bool {
    let is_v6 =
        |text: &str| text.strip_prefix('[').is_some_and(|rest| rest.parse::<std::net::Ipv6Addr>().is_ok());
    match text.rsplit_once(']') {
        Some((address, port)) => {
            is_v6(address) && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        }
        None => match text.split_once(':') {
            Some((host, port)) => is_name(host) && is_port(port),
            None => is_name(text),
        },
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// A DNS name or an IPv4 address, with the underscore that internal names often have.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(fits);
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_hosts_are_hosts_with_or_without_a_port() {
        let cases = [
            ("storage.example.com", true),
            ("Storage_1:9000", true),
            ("192.0.2.7:9000", true),
            ("[2001:db8::1]", true),
            ("[2001:db8::1]:9000", true),
            ("2001:db8::1", false),
            ("[2001:db8::1]9000", false),
            ("[storage]", false),
            ("https://storage.example.com", false),
            ("storage.example.com/bucket", false),
            ("user@storage", false),
            ("storage:", false),
            ("storage:0", false),
            ("storage:+1", false),
            ("storage:65536", false),
            (".storage", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_host(text), expected, "{text}");
        }
    }
}
