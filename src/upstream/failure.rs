//! Attempts that failed, and whether another one may follow.

use std::error::Error as _;
use std::io;

use h2::Reason;
use http::Extensions;
use hyper_util::client::legacy;

use super::connect::StreamInfo;
use super::error::{self, Error, FailureKind};
use super::session::Stream;

/// Whether there may be another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// GitLab may have begun to act.
    Never,
    /// Its connection had brought an answer before, and ended without one.
    IfSafe,
    /// GitLab has done nothing with it.
    Unprocessed,
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) again: Again,
    /// Another one shares a connection dialled after this one; `None`: it has one of its own.
    pub(super) after: Option<u64>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, again: Again::Never, after: None }
    }
}

impl Failure {
    /// A request that never reached its connection.
    pub(super) fn lost() -> Self {
        Self { again: Again::Unprocessed, ..Self::from(Error::from_kind(FailureKind::Terminated)) }
    }

    /// On a connection of its own.
    pub(super) fn alone(error: legacy::Error) -> Self {
        let connecting = error.is_connect();
        // A request that its connection hasn't even taken over is given back as cancelled.
        let source = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
        let unwritten = source.is_some_and(hyper::Error::is_canceled);
        let mut extensions = Extensions::new();
        if let Some(connected) = error.connect_info() {
            connected.get_extras(&mut extensions);
        }
        let reused = StreamInfo::of(&mut extensions).is_some_and(|known| known.is_used());
        let error = Error::classify(error, connecting);
        let again = if unwritten {
            Again::Unprocessed
        } else if reused && error.kind() == FailureKind::Terminated {
            Again::IfSafe
        } else {
            Again::Never
        };
        Self { error, again, after: None }
    }

    /// On a shared one; `unwritten`: the connection hasn't even taken it over.
    pub(super) fn over(stream: &Stream, error: hyper::Error, unwritten: bool) -> Self {
        let cause = error::find::<h2::Error>(&error);
        let again = match cause {
            _ if unwritten => Again::Unprocessed,
            Some(cause) => said(cause),
            // hyper takes the cause out where the connection broke.
            None if error::is_behind::<io::Error>(&error) && stream.has_answered() => Again::IfSafe,
            None => Again::Never,
        };
        let alone = cause.is_some_and(|cause| cause.reason() == Some(Reason::HTTP_1_1_REQUIRED));
        if again != Again::Never && !alone {
            stream.retire();
        }
        Self { error: Error::classify(error, false), again, after: (!alone).then_some(stream.number()) }
    }
}

/// What may follow on what GitLab said of a request.
fn said(cause: &h2::Error) -> Again {
    // A GOAWAY is the error of those alone that came after the last which GitLab has looked at (RFC 9113, 6.8).
    let unseen = matches!(cause.reason(), Some(Reason::REFUSED_STREAM | Reason::HTTP_1_1_REQUIRED));
    if cause.is_remote() && (cause.is_go_away() || unseen) { Again::Unprocessed } else { Again::Never }
}
