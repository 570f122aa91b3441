//! Who counts as one client.
//!
//! Owns which addresses are one host's. Pure. Whatever is handed out by address is counted by this, so that nobody has a
//! second share for the asking.

use std::net::{IpAddr, Ipv6Addr};

/// The addresses that count as one: of IPv6 those with the same first 64 bits, of which each host has as many as it likes
/// (RFC 4291, 2.5.4). One of IPv4 in IPv6's clothes is what it would be without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Household(IpAddr);

impl Household {
    /// The one that an address belongs to.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_counts_by_its_first_half_and_ipv4_by_itself_however_it_is_written() {
        let of = |address: &str| Household::of(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("::ffff:192.0.2.1"), of("::ffff:192.0.2.2"));
    }
}
