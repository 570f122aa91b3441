//! The ground: what any module may use, and what knows none of them.

pub mod clock;
pub(crate) mod household;
pub mod key;
pub(crate) mod memory;
pub(crate) mod num;
pub mod pace;
pub(crate) mod rt;
pub mod secret;
pub(crate) mod singleflight;
