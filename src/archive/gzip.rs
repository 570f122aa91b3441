//! A deflated entry as a gzip file.
//!
//! Owns the framing (RFC 1952); knows nothing of zip. An entry's deflate stream stands between [`HEADER`] and
//! [`trailer`] as it is: both formats carry raw deflate, the CRC-32 and the length of what comes out.

/// What comes first: no name, no time, unknown system (RFC 1952 2.3.1).
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// What comes last: the CRC-32 and the length modulo 2^32 of the inflated bytes (RFC 1952 2.3.1).
pub fn trailer(crc32: u32, size: u64) -> [u8; 8] {
    // The upper half of the length falls off.
    (u64::from(crc32) | size << 32).to_le_bytes()
}
