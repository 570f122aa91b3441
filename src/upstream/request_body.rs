//! Bodies to GitLab.

use std::error::Error as StdError;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};

/// What a body breaks with.
pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// A request's body on its way to GitLab.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
pub(super) fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
