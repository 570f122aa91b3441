//! Entity tags, and the digests that GitLab gives as some of them.

use serde::{Deserialize, Serialize};

use crate::base::secret::hex;

/// A strong entity tag, quotes included (RFC 9110, 8.8.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Etag(String);

impl Etag {
    /// A strong tag from a field value. Weak ones are ignored: older GitLab sends one constant for all artifacts.
    pub(crate) fn strong(value: &str) -> Option<Self> {
        let opaque = value.strip_prefix('"')?.strip_suffix('"')?;
        let allowed = opaque.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b));
        allowed.then(|| Self(value.to_owned()))
    }

    /// A strong tag around text that needs no escaping.
    pub fn quoting(opaque: &str) -> Option<Self> {
        Self::strong(&format!("\"{opaque}\""))
    }

    /// The tag as a field value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of the same in a content coding: another representation (RFC 9110, 8.8.3.3).
    pub(crate) fn of_coding(&self, coding: &str) -> Option<Self> {
        Self::quoting(&format!("{}-{coding}", self.0.trim_matches('"')))
    }

    /// The SHA-256 that newest GitLab gives as the tag of an archive, if it looks like one.
    pub(crate) fn digest(&self) -> Option<Sha256> {
        Sha256::parse(self.0.strip_prefix('"')?.strip_suffix('"')?)
    }
}

/// SHA-256 of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// A digest's bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 lower-case hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            let lower = pair.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            *byte = u8::from_str_radix(pair, 16).ok().filter(|_| lower)?;
        }
        Some(Self(bytes))
    }

    /// The entity tag that GitLab gives to an entry of the archive with this digest: SHA-256 of the digest's digits, a
    /// colon and the entry's name.
    pub(crate) fn entry_tag(self, name: &str) -> Option<Etag> {
        let text = format!("{}:{name}", hex(&self.0));
        Etag::quoting(&hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()))
    }

    /// Its first 8 bytes: enough to look for it by.
    pub(crate) fn prefix(self) -> u64 {
        self.0.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default()
    }
}
