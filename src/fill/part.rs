//! A part of an archive that is held already, fetched again.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;

use super::Fills;
use crate::access::Caller;
use crate::grant::{Opening, judge};
use crate::num::{to_u64, to_usize};
use crate::route::Question;
use crate::upstream::Fetched;

impl Fills {
    /// Asks GitLab in a caller's name for these bytes of an archive of `length` bytes, and follows its redirect to the
    /// object store. `None` if they can't be had; what comes must still be compared with their checksum.
    pub async fn fetch_part(
        &self,
        caller: &Caller,
        question: &Question,
        range: Range<u64>,
        length: u64,
    ) -> Option<Bytes> {
        let asked =
            HeaderValue::try_from(format!("bytes={}-{}", range.start, range.end.checked_sub(1)?)).ok()?;
        let mut fields = caller.sent();
        fields.insert(header::RANGE, asked.clone());
        let upstream = &self.means.upstream;
        let answer = upstream.fetch(&question.target, fields).await.ok()?;
        let rules = self.means.access.rules();
        let answer = match judge::open(answer.status(), answer.headers(), rules, caller.host()) {
            Opening::Elsewhere(_, location) => {
                upstream.fetch_object(location.uri(), Some(asked)).await.ok()?
            }
            _ => answer,
        };
        part(answer, range, length).await
    }
}

/// The body of an answer that is the part that was asked for, or the whole of what is all one part.
async fn part(answer: Response<Fetched>, range: Range<u64>, length: u64) -> Option<Bytes> {
    let said = format!("bytes {}-{}/{length}", range.start, range.end.checked_sub(1)?);
    let given = answer.headers().get(header::CONTENT_RANGE).map(HeaderValue::as_bytes);
    let fits = match answer.status() {
        StatusCode::PARTIAL_CONTENT => given == Some(said.as_bytes()),
        StatusCode::OK => range == (0..length),
        _ => false,
    };
    if !fits {
        return None;
    }
    let wanted = to_usize(range.end - range.start);
    let (mut body, mut bytes) = (answer.into_body(), BytesMut::with_capacity(wanted));
    while let Some(frame) = body.frame().await {
        let data = frame.ok()?.into_data().unwrap_or_default();
        if bytes.len() + data.len() > wanted {
            return None;
        }
        bytes.extend_from_slice(&data);
    }
    (to_u64(bytes.len()) == range.end - range.start).then(|| bytes.freeze())
}
