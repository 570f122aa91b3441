//! A deflated entry as a gzip file.
//!
//! Owns the framing (RFC 1952); knows nothing of zip. An entry's deflate stream stands between [`HEADER`] and
//! [`trailer`] as it is: both formats carry raw deflate, the CRC-32 and the length of what comes out.

/// What comes first: no name, no time, unknown system (RFC 1952 2.3.1).
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Bytes of [`trailer`].
pub(crate) const TRAILER: usize = 8;

/// What comes last: the CRC-32 and the length modulo 2^32 of the inflated bytes (RFC 1952 2.3.1).
pub fn trailer(crc32: u32, size: u64) -> [u8; TRAILER] {
    // The upper half of the length falls off.
    (u64::from(crc32) | size << 32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::zip::tests::writer::File;

    #[test]
    fn an_entrys_deflate_stream_is_a_gzip_file() {
        for content in [vec![], b"hello".to_vec(), vec![7; 100_000]] {
            let file = File::deflated("a", &content);
            let bytes = [HEADER.as_slice(), &file.data, &trailer(file.crc, file.size)].concat();
            let mut inflated = Vec::new();
            flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut inflated).unwrap();
            assert_eq!(inflated, content);
        }
    }

    #[test]
    fn of_a_length_the_lower_half_is_told() {
        assert_eq!(trailer(0x0403_0201, 0x0807_0605), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(trailer(u32::MAX, (9 << 32) | 0x0807_0605), [255, 255, 255, 255, 5, 6, 7, 8]);
    }
}
