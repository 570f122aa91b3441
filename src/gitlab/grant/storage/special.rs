//! Addresses at which no object store is, in whichever spelling.
//!
//! One table: IANA's special-purpose registries (<https://www.iana.org/assignments/iana-ipv4-special-registry>, and for
//! IPv6), and where clouds keep the secrets of their machines. Loopback and private addresses aren't in it: people have
//! stores there. An IPv6 address that stands for an IPv4 address is judged as that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: its address, and how many bits of it count.
type Network4 = (u32, u32);
type Network6 = (u128, u32);

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u32) -> Network4 {
    (Ipv4Addr::new(a, b, c, d).to_bits(), bits)
}

const fn v6(groups: [u16; 8], bits: u32) -> Network6 {
    let [g0, g1, g2, g3, g4, g5, g6, g7] = groups;
    (Ipv6Addr::new(g0, g1, g2, g3, g4, g5, g6, g7).to_bits(), bits)
}

/// IPv4: what isn't for a unicast service.
const SPECIAL4: [Network4; 15] = [
    v4(0, 0, 0, 0, 8),
    // Alibaba's metadata, within the carriers' range.
    v4(100, 100, 100, 200, 32),
    // Azure's host: metadata, DNS and the agent's secrets.
    v4(168, 63, 129, 16, 32),
    // Link-local: the metadata services of nearly all clouds.
    v4(169, 254, 0, 0, 16),
    // Protocol assignments; Oracle's metadata is 192.0.0.192.
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 52, 193, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 175, 48, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// IPv6: what is given out at all. The rest is link-local, multicast, discarded or not assigned.
const UNICAST6: [Network6; 3] = [
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
    v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
];

/// IPv6: what of that isn't for a service.
const SPECIAL6: [Network6; 8] = [
    // Protocol assignments, benchmarking, ORCHID.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
    // AWS: metadata is ::254, that of EKS pods ::23.
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32),
    // Google: metadata is ::254.
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 32),
    // Scaleway, Akamai (Linode).
    v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
    v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0], 48),
];

/// IPv6 whose last four bytes are an IPv4 address: compatible, mapped (RFC 4291), translated (RFC 2765), and through a
/// translator (RFC 6052).
const ENDS_IN_4: [Network6; 4] = [
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
];

/// Translators' own choice (RFC 8215): the IPv4 address lies where the length of the prefix says, which isn't known.
const TRANSLATED: Network6 = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
const SIX_TO_FOUR: Network6 = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
const TEREDO: Network6 = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

/// Names under which the clouds' metadata services are found, for where somebody else resolves names.
const NAMES: [&str; 8] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.platformequinix.com",
    "metadata.tencentyun.com",
    "rancher-metadata",
];

/// A host as resolvers and proxies read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address, in any spelling that `inet_aton` takes; one that is mapped into IPv6 is IPv4.
    Address(IpAddr),
    /// A name: lower case, without the dot that ends it.
    Name(String),
    /// A number that isn't plainly an address, or nothing: who knows what somebody takes it for.
    Unclear,
}

impl Host {
    /// Reads the host of a URL, brackets included.
    pub(crate) fn read(text: &str) -> Self {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if inner.contains(':') {
            // A zone may follow (RFC 6874).
            let address = inner.split('%').next().unwrap_or_default().parse::<Ipv6Addr>();
            return address
                .map_or(Self::Unclear, |address| Self::Address(IpAddr::V6(address).to_canonical()));
        }
        let decoded = crate::gitlab::route::decode(inner).and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(name) = decoded else { return Self::Unclear };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        // The last label decides (URL Standard, "ends in a number"): there is no domain that is one.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if last.is_empty() || !name.bytes().all(is_label) {
            return Self::Unclear;
        }
        let hexadecimal = last.strip_prefix("0x");
        let is_number = hexadecimal.map_or(last, |_| "").bytes().all(|byte| byte.is_ascii_digit())
            && hexadecimal.unwrap_or_default().bytes().all(|byte| byte.is_ascii_hexdigit());
        match aton(&name) {
            Some(address) => Self::Address(IpAddr::V4(address)),
            None if is_number => Self::Unclear,
            None => Self::Name(name),
        }
    }

    /// Whether no object store is there, as far as its spelling says; a name may still lead to such an address.
    pub(crate) fn is_special(&self) -> bool {
        match self {
            Self::Address(address) => is_special(*address),
            Self::Name(name) => NAMES.contains(&name.as_str()),
            Self::Unclear => true,
        }
    }
}

/// Whether no object store is at an address: link-local, multicast, reserved, documentation, or a cloud's own.
pub(crate) fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_special4(address),
        IpAddr::V6(address) => is_special6(address),
    }
}

fn is_special4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    SPECIAL4.iter().any(|(network, length)| (bits ^ network).leading_zeros() >= *length)
}

fn is_special6(address: Ipv6Addr) -> bool {
    if address.is_loopback() {
        return false;
    }
    let meant = embedded(address);
    let is_given_out = || UNICAST6.iter().any(|network| is_in(address, network));
    let itself = || !is_given_out() || SPECIAL6.iter().any(|network| is_in(address, network));
    (meant.is_empty() && itself()) || meant.into_iter().chain(within_site(address)).any(is_special4)
}

fn is_in(address: Ipv6Addr, (network, length): &Network6) -> bool {
    (address.to_bits() ^ network).leading_zeros() >= *length
}

/// The IPv4 addresses that an IPv6 address is translated into or carried by, each by another reading; none: it is itself.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let at = |places: [usize; 4]| {
        Ipv4Addr::from(places.map(|place| octets.get(place).copied().unwrap_or_default()))
    };
    let last = at([12, 13, 14, 15]);
    if ENDS_IN_4.iter().any(|network| is_in(address, network)) {
        return vec![last];
    }
    if is_in(address, &SIX_TO_FOUR) {
        return vec![at([2, 3, 4, 5])];
    }
    if is_in(address, &TEREDO) {
        // The server, and the client, which is written inverted (RFC 4380, 4).
        return vec![at([4, 5, 6, 7]), Ipv4Addr::from_bits(!last.to_bits())];
    }
    if is_in(address, &TRANSLATED) {
        // By prefixes of 48, 56, 64 and 96 bits (RFC 6052, 2.2); the other readings of one are mostly zeros.
        let readings = [at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12]), last];
        let some: Vec<Ipv4Addr> = readings.into_iter().filter(|read| read.to_bits() >> 24 != 0).collect();
        return if some.is_empty() { vec![last] } else { some };
    }
    Vec::new()
}

/// The IPv4 address that carries an IPv6 address within a site (RFC 5214, 6.1).
fn within_site(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, _, _, _, kind, mark, high, low] = address.segments();
    let bits = u32::from(high) << 16 | u32::from(low);
    (matches!(kind, 0 | 0x200) && mark == 0x5efe).then_some(Ipv4Addr::from_bits(bits))
}

/// An IPv4 address as `inet_aton` reads it: one to four numbers, decimal, octal (`0…`) or hexadecimal (`0x…`), of which
/// the last fills what is left.
fn aton(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, before) = numbers.split_last()?;
    let left = 4_u32.checked_sub(u32::try_from(before.len()).ok()?).filter(|left| *left > 0)?;
    let first = before.iter().try_fold(0_u64, |all, byte| (*byte < 256).then_some(all << 8 | byte))?;
    let whole = (*last >> (8 * left) == 0).then_some(first << (8 * left) | last)?;
    u32::try_from(whole).ok().map(Ipv4Addr::from_bits)
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    };
    // A sign is no digit.
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u64::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_special_or_not_whatever_stands_for_it() {
        for (address, special) in [
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("100.100.100.199", false),
            ("100.100.100.200", true),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("168.63.129.15", false),
            ("168.63.129.16", true),
            ("169.253.255.255", false),
            ("169.254.0.0", true),
            ("169.254.169.254", true),
            ("169.254.170.2", true),
            ("169.255.0.0", false),
            ("172.16.0.1", false),
            ("192.0.0.192", true),
            ("192.0.1.1", false),
            ("192.0.2.1", true),
            ("192.31.196.1", true),
            ("192.52.193.1", true),
            ("192.88.99.1", true),
            ("192.168.1.1", false),
            ("192.175.48.1", true),
            ("198.17.255.255", false),
            ("198.18.0.1", true),
            ("198.19.255.255", true),
            ("198.20.0.0", false),
            ("198.51.100.1", true),
            ("203.0.113.1", true),
            ("52.216.1.1", false),
            ("223.255.255.255", false),
            ("224.0.0.1", true),
            ("239.255.255.255", true),
            ("240.0.0.1", true),
            ("255.255.255.255", true),
        ] {
            let address: Ipv4Addr = address.parse().unwrap();
            let [a, b, c, d] = address.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let server = 0x3434;
            for address in [
                IpAddr::V4(address),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low).into(),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low).into(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into(),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low).into(),
                Ipv6Addr::new(0x64, 0xff9b, 1, high, c, d << 8, 0, 0).into(),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0x2001, 0, server, server, 0, 0, !high, !low).into(),
                Ipv6Addr::new(0x2a01, 1, 2, 3, 0, 0x5efe, high, low).into(),
                Ipv6Addr::new(0x2a01, 1, 2, 3, 0x200, 0x5efe, high, low).into(),
            ] {
                // Where the length of the prefix isn't known, a reading that isn't meant may be in the table too, and one
                // that begins with a zero isn't meant.
                let unclear = address.to_string().starts_with("64:ff9b:1:") && (!special || a == 0);
                assert!(is_special(address) == special || unclear, "{address}, {special}");
            }
        }
    }

    #[test]
    fn ipv6_is_what_is_given_out_and_not_special() {
        for (address, special) in [
            ("::", true),
            ("::1", false),
            ("::2", true),
            ("::169.254.169.254", true),
            ("::10.0.0.1", false),
            ("64:ff9b::a9fe:a9fe", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b:1:a9fe:a9:fe00::", true),
            ("64:ff9b:1:a9:fe:a9fe::", true),
            ("64:ff9b:1:0:a9:fea9:fe00:0", true),
            ("64:ff9b:1::10.0.0.1", false),
            ("64:ff9b:1::", true),
            ("64:ff9b:2::1", true),
            ("100::1", true),
            ("2001::1", true),
            ("2001:2::1", true),
            ("2001:20::1", true),
            ("2001:db8::1", true),
            ("2001:4860:4860::8888", false),
            ("2002:a9fe:a9fe::1", true),
            ("2002:a00:1::1", false),
            ("2600:1f18::1", false),
            ("2620:4f:8000::1", true),
            ("2a01:4f8::1", false),
            ("3fff::1", true),
            ("4000::1", true),
            ("5f00::1", true),
            ("fc00::1", false),
            ("fd00::1", false),
            ("fd00:42::42", true),
            ("fd00:42::43", false),
            ("fd00:a9fe:a9fe::1", true),
            ("fd00:ec2::254", true),
            ("fd00:ec2::23", true),
            ("fd00:ec3::23", false),
            ("fd20:ce::254", true),
            ("fd00::5efe:169.254.169.254", true),
            ("fd00::5efe:10.0.0.1", false),
            ("fe80::1", true),
            ("fe80::5efe:10.0.0.1", true),
            ("febf::1", true),
            ("fec0::1", true),
            ("ff02::1", true),
        ] {
            assert_eq!(is_special(address.parse().unwrap()), special, "{address}");
        }
    }

    #[test]
    fn a_host_is_read_as_inet_aton_reads_it() {
        let metadata = Host::Address(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)));
        for text in [
            "169.254.169.254",
            "169.254.169.254.",
            "169.254.169.254..",
            "2852039166",
            "2852039166.",
            "0xa9fea9fe",
            "0XA9FEA9FE",
            "0x00000000a9fea9fe",
            "025177524776",
            "0025177524776",
            "169.254.43518",
            "169.16689662",
            "0xa9.0xfe.0xa9.0xfe",
            "0251.0376.0251.0376",
            "0251.254.0xa9.254",
            "169.0xfea9fe",
            "169%2e254%2E169.254",
            "%31%36%39.254.169.254",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[::FFFF:A9FE:A9FE]",
            "::ffff:a9fe:a9fe",
        ] {
            assert_eq!(Host::read(text), metadata, "{text}");
            assert!(Host::read(text).is_special(), "{text}");
        }
        for text in ["[fe80::1%25eth0]", "[fe80::1%eth0]", "fe80::1%1", "[FD00:EC2::23]", "[0:0::a9fe:a9fe]"]
        {
            assert!(matches!(Host::read(text), Host::Address(address) if is_special(address)), "{text}");
        }
        for text in [
            "",
            ".",
            "[",
            "[]",
            "[::1",
            "[x::1]",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.256.1",
            "425.510.425.510",
            "4294967296",
            "99999999999999999999",
            "0x1ffffffff",
            "0xfffffffffffffffff",
            "08.1.1.1",
            "169.254.169.0x",
            "x.0x",
            "a.b.1",
            "%",
            "a b",
            "a%00",
            "%ff",
            "\u{ff11}.2.3.4",
        ] {
            assert_eq!(Host::read(text), Host::Unclear, "{text}");
            assert!(Host::read(text).is_special(), "{text}");
        }
    }

    #[test]
    fn names_are_names_in_any_case_and_with_a_dot_at_their_end() {
        for (text, special) in [
            ("Bucket.S3.amazonaws.com", false),
            ("bucket.s3.amazonaws.com.", false),
            ("minio", false),
            ("localhost", false),
            ("169.254.169.254.example.com", false),
            ("0xa9fea9fe.example", false),
            ("1e3", false),
            ("dead.beef", false),
            ("metadata.google.internal", true),
            ("Metadata.Google.Internal.", true),
            ("metadata%2Egoogle.internal", true),
            ("instance-data", true),
        ] {
            let host = Host::read(text);
            let expected = text.replace("%2E", ".").to_ascii_lowercase();
            assert_eq!(host, Host::Name(expected.trim_end_matches('.').to_owned()), "{text}");
            assert_eq!(host.is_special(), special, "{text}");
        }
        for (text, address) in
            [("127.1", "127.0.0.1"), ("0x7f.1", "127.0.0.1"), ("[::1]", "::1"), ("10.1.2.3", "10.1.2.3")]
        {
            assert_eq!(Host::read(text), Host::Address(address.parse().unwrap()));
            assert!(!Host::read(text).is_special(), "{text}: people have stores there");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_spelling_of_an_address_is_that_address(bits: u32, parts in 1_u32..=4, radixes in 0..81_usize) {
            let mut numbers: Vec<u32> = (1..parts).map(|place| bits >> (32 - 8 * place) & 0xff).collect();
            numbers.push(if parts == 1 { bits } else { bits & (u32::MAX >> (8 * (parts - 1))) });
            let spelt = |(place, number): (usize, &u32)| match radixes / 3_usize.pow(u32::try_from(place).unwrap()) % 3 {
                0 => format!("{number}"),
                1 => format!("0{number:o}"),
                _ => format!("0X{number:x}"),
            };
            let text = numbers.iter().enumerate().map(spelt).collect::<Vec<_>>().join(".");
            proptest::prop_assert_eq!(Host::read(&text), Host::Address(Ipv4Addr::from_bits(bits).into()));
        }

        #[test]
        fn no_text_is_too_much_for_it(text in "\\PC{0,24}|[0-9a-fx.:%\\[\\]]{0,24}") {
            let host = Host::read(&text);
            proptest::prop_assert!(host.is_special() || !matches!(host, Host::Unclear));
        }
    }
}
