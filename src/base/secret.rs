//! Fingerprints of credentials.
//!
//! Owns the random key of this process and the only form in which credentials are remembered: 128 bits of a keyed
//! hash, worthless outside the process that made them. Knows nothing of requests.

use std::fmt;

use parking_lot::Mutex;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes from the operating system: larder can't key its fingerprints without them")]
pub struct NoRandomness;

/// 128 bits of a keyed hash. Equal fingerprints mean equal input, for the life of one process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u128);

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)));
    text
}

impl Fingerprint {
    /// The fingerprint as text, for what isn't a secret: a request's name.
    pub(crate) fn as_hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

/// Names for requests that say nothing, 128 random bits each: neither how many there were before nor when.
///
/// Drawn in blocks, since a call of the system for each would cost as much as the rest of a short answer.
#[derive(Debug, Default)]
pub(crate) struct Ids(Mutex<Vec<u8>>);

/// Bytes of a name, and of a block.
const NAME: usize = 16;
const BLOCK: usize = 256 * NAME;

impl Ids {
    /// A name that no request had before, in hexadecimal digits; `None` where the system gives no random bytes.
    pub(crate) fn next(&self) -> Option<String> {
        let mut drawn = self.0.lock();
        if drawn.len() < NAME {
            let mut block = vec![0; BLOCK];
            SystemRandom::new().fill(&mut block).ok()?;
            *drawn = block;
        }
        let rest = drawn.len().checked_sub(NAME)?;
        Some(hex(&drawn.split_off(rest)))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// Makes fingerprints under a key that no one outside this process has.
#[derive(Clone)]
pub struct Fingerprinter(hmac::Key);

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter(..)")
    }
}

impl Fingerprinter {
    /// A new random key.
    pub fn random() -> Result<Self, NoRandomness> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map(Self).map_err(|_| NoRandomness)
    }

    /// The fingerprint of `parts`, each prefixed with its length: moving a byte from one part to the next changes it.
    pub(crate) fn of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&crate::base::num::to_u64(part.len()).to_le_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let half = tag.as_ref().first_chunk::<16>().copied().unwrap_or_default();
        Fingerprint(u128::from_le_bytes(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_just_concatenated() {
        let key = Fingerprinter::random().unwrap();
        let of = |parts: &[&str]| key.of(parts.iter().map(|p| p.as_bytes()));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab", ""]), of(&["ab"]));
    }

    #[test]
    fn no_name_comes_twice_or_tells_of_another() {
        let ids = Ids::default();
        let all: Vec<String> = (0..3 * BLOCK / NAME).map(|_| ids.next().unwrap()).collect();
        let distinct: std::collections::HashSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|name| name.len() == 32));
        let beginnings: std::collections::HashSet<&str> = all.iter().map(|name| &name[..4]).collect();
        assert!(beginnings.len() > all.len() / 2, "not one run of numbers");
    }

    #[test]
    fn keys_differ_between_processes_and_nothing_is_printed() {
        let (one, two) = (Fingerprinter::random().unwrap(), Fingerprinter::random().unwrap());
        let token: [&[u8]; 1] = [b"glpat-secret"];
        assert_ne!(one.of(token), two.of(token));
        assert_eq!(format!("{one:?} {:?}", one.of(token)), "Fingerprinter(..) Fingerprint(..)");
    }
}
