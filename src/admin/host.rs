//! Whether a request was meant for this listener: pure checks of Host and Origin against DNS rebinding and foreign
//! pages.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName};

/// Why a request isn't for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    /// Not one well-formed Host.
    Malformed,
    /// Somebody else's name.
    Foreign,
    /// A page from elsewhere asks.
    Origin,
}

/// Checks the Host field, a target in absolute form and the Origin field.
pub(super) fn check(headers: &HeaderMap, target: Option<&Authority>, hosts: &[String]) -> Result<(), Stray> {
    let Field::Once(host) = single(headers, &HOST) else {
        return Err(Stray::Malformed);
    };
    // The target would win over Host (RFC 9112 3.2.2); no honest client lets them differ.
    if target.is_some_and(|target| !target.as_str().eq_ignore_ascii_case(host)) {
        return Err(Stray::Malformed);
    }
    if !is_ours(name(host).ok_or(Stray::Malformed)?, hosts) {
        return Err(Stray::Foreign);
    }
    match single(headers, &ORIGIN) {
        Field::Absent => Ok(()),
        Field::Once(origin) if is_same(origin, host) => Ok(()),
        Field::Once(_) | Field::Unusable => Err(Stray::Origin),
    }
}

/// A field of which there may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Absent,
    Once(&'a str),
    /// There twice, or no text.
    Unusable,
}

pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Field<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Field::Absent,
        (Some(value), None) => value.to_str().map_or(Field::Unusable, Field::Once),
        (Some(_), Some(_)) => Field::Unusable,
    }
}

/// `host` without its port; `None` if the port is none or a bracket is missing.
fn name(host: &str) -> Option<&str> {
    let (name, port) = match host.rfind(']') {
        Some(end) => host.split_at_checked(end + 1)?,
        None => host.split_at_checked(host.find(':').unwrap_or(host.len()))?,
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (fits && !name.is_empty()).then_some(name)
}

/// A name an attacker controls can be pointed at us; an address can't, nor can a listed name.
fn is_ours(name: &str, hosts: &[String]) -> bool {
    let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    v6.is_some_and(|name| name.parse::<Ipv6Addr>().is_ok())
        || name.parse::<Ipv4Addr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

fn is_same(origin: &str, host: &str) -> bool {
    origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}
