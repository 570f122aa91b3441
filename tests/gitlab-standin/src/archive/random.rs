//! Pseudo-random content that is cheap to make: one random block, stamped so that no two pages are equal.

/// The block that is repeated.
const BLOCK: usize = 1 << 20;
/// Each page of this size starts with a stamp of its own.
const PAGE: usize = 4096;

/// An endless, seeded stream of bytes that hardly compress.
pub(crate) struct Filler {
    block: Vec<u8>,
    seed: u64,
}

impl Filler {
    /// A stream of which `total` bytes are wanted: most archives are far shorter than a block, and to make all of one
    /// takes longer than everything else about them.
    pub(crate) fn new(seed: u64, total: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let wanted = usize::try_from(total).unwrap_or(BLOCK).min(BLOCK);
        let mut block = Vec::with_capacity(wanted + size_of::<u64>());
        while block.len() < wanted {
            block.extend_from_slice(&step(&mut state).to_le_bytes());
        }
        Self { block, seed }
    }

    /// The bytes of block number `index`, `len` of them.
    pub(crate) fn block(&self, index: u64, len: usize) -> Vec<u8> {
        let mut bytes = self.block.get(..len.min(BLOCK)).unwrap_or_default().to_vec();
        for (page, chunk) in (0u64..).zip(bytes.chunks_mut(PAGE)) {
            let stamp = (index << 20) ^ page ^ self.seed.rotate_left(32);
            for (byte, mark) in chunk.iter_mut().zip(stamp.to_le_bytes()) {
                *byte ^= mark;
            }
        }
        bytes
    }

    /// The size of a full block.
    pub(crate) const fn block_size() -> usize {
        BLOCK
    }
}

/// Xorshift64*: small, and good enough to defeat compression.
fn step(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
