//! Faults on demand: which request is hit, and what happens to its answer.

mod matching;

use bytes::Bytes;

use crate::gate::Gate;
use crate::route::Class;
use crate::seen::Seen;
pub use matching::FaultHandle;
pub(crate) use matching::Faults;

/// How a connection that is broken on purpose ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An orderly close: everything sent before arrives. To a client that was told no length it looks like success.
    Close,
    /// A reset: the client gets an error, and may lose what was still on the way.
    Reset,
}

/// What happens to an answer.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The request is answered only when the gate lets its head pass. What is answered is decided then.
    Hold(Gate),
    /// The body passes only as the gate releases bytes.
    Slow(Gate),
    /// The body breaks off after so many bytes, all of which are sent.
    Cut {
        /// Body bytes that still go out. Not fewer than the body has: nothing breaks, except a chunked body's end.
        after: u64,
        /// How the connection ends.
        ending: Ending,
    },
    /// The connection is closed instead of an answer.
    Drop(Ending),
    /// `Content-Length` says so many more than come; the connection closes then.
    DeclareMore(u64),
    /// `Content-Length` says so many fewer than there are; the rest is not sent.
    DeclareFewer(u64),
    /// No `Content-Length`: chunked (RFC 9112, section 7.1).
    Chunked,
    /// No `Content-Length`: HTTP/1.0, the close is the end (RFC 9112, section 6.3, item 8).
    CloseDelimited,
    /// `Range` and `If-Range` are not looked at: a whole 200.
    IgnoreRange,
    /// 200 with a page instead, as a proxy in between or a maintenance mode would send.
    Html,
    /// 302 to GitLab's sign-in page, built from `X-Forwarded-Host` or `Host`.
    SignIn,
    /// A redirect somewhere else.
    Redirect {
        /// The status, such as 302.
        status: u16,
        /// The `Location`, word for word.
        location: String,
    },
    /// A redirect of a front that sends everybody elsewhere, before anybody's right is looked at.
    Front {
        /// The status, such as 302.
        status: u16,
        /// The `Location`, in which `{path}` and `{target}` are the request's path, and the same with its query.
        location: String,
    },
    /// Any answer.
    Answer {
        /// The status; above 599 or below 200 it becomes 500.
        status: u16,
        /// The `Content-Type`.
        content_type: &'static str,
        /// The body.
        body: Bytes,
    },
    /// The right head, then another body under 200: for a store that holds no zip.
    Body(Bytes),
    /// The right head, chunked, and garbage on the wire where chunks should be.
    Garbage,
}

type Predicate = Box<dyn Fn(&Seen) -> bool + Send + Sync>;

/// An [`Effect`] and the requests that it is for. Without conditions: every request to GitLab, for ever.
pub struct Fault {
    effect: Effect,
    class: Option<Class>,
    token: Option<String>,
    predicate: Option<Predicate>,
    turns: Turns,
}

#[derive(Clone, Copy, Debug)]
enum Turns {
    Always,
    First(u64),
    Nth(u64),
}

impl Fault {
    /// This effect on every request to GitLab.
    pub fn new(effect: Effect) -> Self {
        Self { effect, class: None, token: None, predicate: None, turns: Turns::Always }
    }

    /// Only requests of this class; [`Class::Object`] means the object store.
    #[must_use]
    pub fn on(mut self, class: Class) -> Self {
        self.class = Some(class);
        self
    }

    /// Only requests to the object store.
    #[must_use]
    pub fn on_store(self) -> Self {
        self.on(Class::Object)
    }

    /// Only requests that carry this text in a field or in their target, such as a token.
    #[must_use]
    pub fn carrying(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Only requests of which the closure says so.
    #[must_use]
    pub fn when(mut self, predicate: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(Box::new(predicate));
        self
    }

    /// Only the `turn`th request that meets the other conditions; the first is 1.
    #[must_use]
    pub fn nth(mut self, turn: u64) -> Self {
        self.turns = Turns::Nth(turn);
        self
    }

    /// Only the first `count` requests that meet the other conditions.
    #[must_use]
    pub fn first(mut self, count: u64) -> Self {
        self.turns = Turns::First(count);
        self
    }

    /// Only the first request that meets the other conditions.
    #[must_use]
    pub fn once(self) -> Self {
        self.first(1)
    }

    fn meets(&self, seen: &Seen) -> bool {
        let class = match self.class {
            Some(class) => class == seen.class,
            None => seen.class != Class::Object,
        };
        class
            && self.token.as_deref().is_none_or(|token| seen.carries(token))
            && self.predicate.as_ref().is_none_or(|predicate| predicate(seen))
    }
}
