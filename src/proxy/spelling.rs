//! How names are written in answers of larder's own.
//!
//! hyper writes each name as it is noted beside an answer's fields, and in title case what isn't (`Etag`). It takes such
//! notes only from what it has read; so it is given something to read once.

use bytes::Bytes;
use http::{Extensions, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Names that GitLab and its nginx write otherwise than in title case, of those that come with hits.
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nConnection: close\r\nETag: x\r\nX-XSS-Protection: x\r\n\
    RateLimit-Limit: x\r\nRateLimit-Name: x\r\nRateLimit-Observed: x\r\nRateLimit-Remaining: x\r\n\
    RateLimit-Reset: x\r\n\r\n";

/// The notes, for answers that have none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spelling(Extensions);

impl Spelling {
    /// Has hyper read names. Where it doesn't, which would be a mistake of ours, it writes them in title case.
    pub(crate) async fn read() -> Self {
        let (near, mut far) = tokio::io::duplex(ANSWER.len());
        let handshake = http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(near));
        let Ok((mut sender, connection)) = handshake.await else { return Self::default() };
        let answering = async {
            // The request is there before its answer, or that would be one to nothing.
            far.read_u8().await?;
            far.write_all(ANSWER).await
        };
        let asking =
            async { tokio::join!(sender.send_request(Request::new(Empty::<Bytes>::new())), answering).0 };
        // The connection ends behind the answer.
        let (answer, _) = tokio::join!(asking, connection);
        Self(answer.map(|answer| answer.into_parts().0.extensions).unwrap_or_default())
    }

    /// Notes it beside an answer that has nothing noted: one that isn't GitLab's own.
    pub(super) fn note(&self, noted: &mut Extensions) {
        if noted.is_empty() {
            noted.clone_from(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hyper_has_noted_something() {
        assert!(!Spelling::read().await.0.is_empty());
    }
}
