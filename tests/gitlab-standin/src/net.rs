//! Listening, and everything below HTTP that a fault may touch: the door, the connection, its bytes.

mod capture;
mod conn;
mod door;
mod tap;

pub(crate) use conn::Conn;
pub(crate) use door::Door;
pub use door::Listening;
pub(crate) use tap::{Tap, Transport};
