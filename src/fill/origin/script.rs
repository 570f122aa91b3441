//! An origin that plays a part, for tests of those who ask it.

use std::ops::Range;

use http::Response;
use http::header::{self, HeaderMap, HeaderValue};
use parking_lot::Mutex;

use super::{ArchiveOrigin, Asking, ByteRequest, ByteSource, NoBytes, OriginResponse, Relayed, StoreSource};
use crate::base::num::{to_u64, to_usize};
use crate::gitlab::grant::judge::Span;
use crate::gitlab::grant::{AskedPath, Facts, Location, StorageRules, Yes};
use crate::upstream::Fetched;

/// An archive, and how it is given away.
#[derive(Debug)]
pub(in crate::fill) struct ScriptedOrigin {
    pub(in crate::fill) bytes: Vec<u8>,
    pub(in crate::fill) facts: Facts,
    pub(in crate::fill) validator: Option<HeaderValue>,
    /// Whether a store has it.
    pub(in crate::fill) in_store: bool,
    /// Whether spans of it are given.
    pub(in crate::fill) in_parts: bool,
    /// What is answered instead of the next steps, the last first.
    pub(in crate::fill) instead: Mutex<Vec<NoBytes>>,
    /// What was asked for: the step, and which bytes.
    pub(in crate::fill) asked: Mutex<Vec<(&'static str, Option<Span>)>>,
}

impl ScriptedOrigin {
    pub(in crate::fill) fn new(bytes: &[u8], in_store: bool) -> Self {
        let length = Some(to_u64(bytes.len()));
        let object = in_store.then(|| location().object());
        Self {
            bytes: bytes.to_vec(),
            facts: Facts { object, length, ..Facts::default() },
            validator: None,
            in_store,
            in_parts: true,
            instead: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    fn next(&self, step: &'static str, request: ByteRequest<'_>) -> Result<(), NoBytes> {
        self.asked.lock().push((step, request.span));
        self.instead.lock().pop().map_or(Ok(()), Err)
    }

    /// The bytes that are given to a request for a span.
    fn range(&self, span: Option<Span>) -> Range<u64> {
        let length = to_u64(self.bytes.len());
        match span.filter(|_| self.in_parts) {
            None => 0..length,
            Some(Span::From(first)) => first..length,
            Some(Span::Between(first, end)) => first..end.min(length),
            Some(Span::Last(count)) => length.saturating_sub(count)..length,
        }
    }

    async fn response(&self, yes: Yes, request: ByteRequest<'_>) -> OriginResponse {
        let range = self.range(request.span);
        let body = Fetched::for_test(&self.bytes[to_usize(range.start)..to_usize(range.end)], 0).await;
        let mut head = Response::new(()).into_parts().0;
        head.headers.extend(self.validator.clone().map(|validator| (header::ETAG, validator)));
        OriginResponse::new(yes, self.facts.clone(), range, (head, body), None)
    }
}

impl ArchiveOrigin for ScriptedOrigin {
    fn locate<'a>(&'a self, request: ByteRequest<'a>) -> Asking<'a, ByteSource> {
        Box::pin(async move {
            self.next("locate", request)?;
            let yes = Yes::for_test();
            if !self.in_store {
                return Ok(ByteSource::Answer(Box::new(self.response(yes, request).await)));
            }
            let from = StoreSource::new(yes, location(), HeaderMap::new());
            let head = Response::new(()).into_parts().0;
            let rest = Fetched::for_test(b"", 0).await;
            let redirect = Relayed { head, first: bytes::Bytes::new(), rest };
            Ok(ByteSource::Store(Box::new(from), Box::new(redirect)))
        })
    }

    fn read<'a>(&'a self, from: &'a StoreSource, request: ByteRequest<'a>) -> Asking<'a, OriginResponse> {
        Box::pin(async move {
            self.next("read", request)?;
            Ok(self.response(from.yes.clone(), request).await)
        })
    }

    fn fell_silent(&self, _: &StoreSource) {
        self.asked.lock().push(("silent", None));
    }
}

/// A place in a store.
fn location() -> Location {
    let rules = StorageRules { gitlab: "http://gitlab".parse().unwrap(), external: None, hosts: None };
    let led = [(header::LOCATION, HeaderValue::from_static("http://store/a?sv=1&sig=1"))];
    rules.location(&led.into_iter().collect(), AskedPath::default()).unwrap()
}
