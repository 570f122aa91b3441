//! The records of a zip as bytes (PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.16), in the dialect of Go's
//! `archive/zip` writer.

/// 2024-01-01 00:00:00 UTC: one date for all members keeps archives reproducible.
const UNIX_TIME: u32 = 1_704_067_200;
const DOS_DATE: u16 = (44 << 9) | (1 << 5) | 1;
/// Above this a 32-bit field holds the marker and the Zip64 field the number.
const MAX_32: u64 = 0xffff_ffff;

/// What local header, data descriptor and directory say of one member.
pub(super) struct Record {
    name: String,
    method: u16,
    mode: u32,
    offset: u64,
    pub(super) crc: u32,
    pub(super) size: u64,
    pub(super) packed: u64,
}

impl Record {
    pub(super) fn new(name: &str, method: u16, mode: u32, offset: u64) -> Self {
        Self { name: name.to_owned(), method, mode, offset, crc: 0, size: 0, packed: 0 }
    }

    /// The same member under another name.
    pub(super) fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..*self }
    }

    /// The local header: sizes and CRC are zero, they follow the data (flag bit 3).
    pub(super) fn local_header(&self) -> Vec<u8> {
        let mut out = Bytes::signed(0x0403_4b50);
        out.u16(20).u16(self.flags()).u16(self.method).u16(0).u16(DOS_DATE).u32(0).u32(0).u32(0);
        out.len16(self.name.len()).len16(extra_field().len()).raw(self.name.as_bytes()).raw(&extra_field());
        out.0
    }

    /// The data descriptor, with signature; directories have none.
    pub(super) fn data_descriptor(&self) -> Vec<u8> {
        if self.is_directory() {
            return Vec::new();
        }
        let mut out = Bytes::signed(0x0807_4b50);
        out.u32(self.crc);
        if self.is_zip64() {
            out.u64(self.packed).u64(self.size);
        } else {
            out.capped(self.packed).capped(self.size);
        }
        out.0
    }

    /// The record in the directory.
    pub(super) fn central_header(&self) -> Vec<u8> {
        let wide = self.is_zip64() || self.offset >= MAX_32;
        let mut extra = extra_field();
        if wide {
            extra.extend(
                Bytes::default().u16(1).u16(24).u64(self.size).u64(self.packed).u64(self.offset).take(),
            );
        }
        let mut out = Bytes::signed(0x0201_4b50);
        // Made by Unix, version 2.0.
        out.u16(0x0314).u16(if wide { 45 } else { 20 }).u16(self.flags()).u16(self.method);
        out.u16(0).u16(DOS_DATE).u32(self.crc);
        let shown = |number| if wide { MAX_32 } else { number };
        out.capped(shown(self.packed)).capped(shown(self.size));
        out.len16(self.name.len()).len16(extra.len()).u16(0).u16(0).u16(0).u32(self.mode << 16);
        out.capped(shown(self.offset)).raw(self.name.as_bytes()).raw(&extra);
        out.0
    }

    /// Bit 3 for the descriptor; bit 11 only where the name needs it, as Go does.
    fn flags(&self) -> u16 {
        let descriptor = if self.is_directory() { 0 } else { 0x8 };
        let utf8 = if self.name.is_ascii() { 0 } else { 0x800 };
        descriptor | utf8
    }

    fn is_directory(&self) -> bool {
        self.name.ends_with('/')
    }

    fn is_zip64(&self) -> bool {
        self.size >= MAX_32 || self.packed >= MAX_32
    }
}

/// The Runner's fields, owner (Info-ZIP `ux`) and time (`UT`), and the `UT` that Go adds for itself.
fn extra_field() -> Vec<u8> {
    let mut out = Bytes::default();
    out.u16(0x7875).u16(11).u8(1).u8(4).u32(0).u8(4).u32(0);
    for _ in 0..2 {
        out.u16(0x5455).u16(5).u8(1).u32(UNIX_TIME);
    }
    out.take()
}

/// The end of the directory, with the Zip64 records before it where a number needs them.
pub(super) fn end_of_directory(count: u64, start: u64, size: u64) -> Vec<u8> {
    let mut out = Bytes::default();
    let wide = count >= 0xffff || start >= MAX_32 || size >= MAX_32;
    if wide {
        out.u32(0x0606_4b50).u64(44).u16(45).u16(45).u32(0).u32(0).u64(count).u64(count).u64(size).u64(start);
        out.u32(0x0706_4b50).u32(0).u64(start + size).u32(1);
    }
    let shown = |number| if wide { MAX_32 } else { number };
    let count = u16::try_from(shown(count)).unwrap_or(u16::MAX);
    out.u32(0x0605_4b50).u16(0).u16(0).u16(count).u16(count).capped(shown(size)).capped(shown(start)).u16(0);
    out.take()
}

/// Little-endian fields, one after the other.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn signed(signature: u32) -> Self {
        Self(signature.to_le_bytes().to_vec())
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn len16(&mut self, len: usize) -> &mut Self {
        self.u16(u16::try_from(len).unwrap_or(u16::MAX))
    }

    /// A 32-bit field that shows the marker where the number is too big.
    fn capped(&mut self, value: u64) -> &mut Self {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX))
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}
