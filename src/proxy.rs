//! One request, as steps: route, admit, look up, then hit, fill or pass.
//!
//! Owns the order of things and the answers that clients get. Knows access, fills, the store and GitLab by their
//! faces, and connections by what they say of themselves; knows nothing of sockets. Every failure becomes an answer here, and its status is chosen in one place
//! ([`answer`]).

mod access_log;
mod answer;
mod archive;
mod body;
mod entry;
mod held;
mod lead;
mod left;
mod lookup;
mod missed;
mod pass;
mod refs;
mod relay;
mod repair;
mod request;
mod respond;
mod spelling;
mod tunnel;
mod types;
mod upload;
mod validate;

use std::sync::Arc;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper::body::{Body as _, Incoming};

pub(crate) use access_log::Reported;
pub(crate) use body::Body;
pub(crate) use left::Left;
pub(crate) use missed::FirstMisses;
pub(crate) use spelling::Spelling;
pub(crate) use tunnel::Tunnels;
pub(crate) use types::Types;

use crate::access::{Access, Caller};
use crate::base::clock::{Clock, Moment};
use crate::base::memory::Memory;
use crate::base::secret::Ids;
use crate::entries::Entries;
use crate::fill::Fills;
use crate::gitlab::route::{RequestLine, Route};
use crate::http::content;
use crate::http::hop::Ignored;
use crate::http::hop::{self, Front, Names, REQUEST_ID, Way};
use crate::server::{ConnInfo, ConnPermit, Handler, Unhandled};
use crate::store::Store;
use crate::telemetry::{Metrics, Outcome};
use crate::upstream::Upstream;
use access_log::Report;
use upload::Upload;

/// What the operator decides about answers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What happens when one file of an archive that isn't held is asked for.
    pub on_file: OnFile,
    /// Which files go out as gzip to clients that take it.
    pub gzip: GzipFor,
    /// Fields of clients that don't matter to GitLab's answers.
    pub ignore_fields: Arc<Ignored>,
}

/// What happens beside the answer when one file of an archive that isn't held is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFile {
    /// The archive is fetched, for those who ask next.
    Archive,
    /// Nothing.
    Pass,
}

/// Which files go out as gzip, as they lie deflated in the archive, to clients that take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GzipFor {
    /// Types that GitLab's own nginx compresses: no client that saves what it gets is surprised.
    Text,
    /// All.
    All,
    /// None.
    Off,
}

impl GzipFor {
    fn covers(self, kind: &str) -> bool {
        match self {
            Self::Text => content::is_compressed_by_nginx(kind),
            Self::All => true,
            Self::Off => false,
        }
    }
}

/// What requests are answered with.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// GitLab.
    pub upstream: Arc<Upstream>,
    /// Archives.
    pub store: Arc<Store>,
    /// Who may have them.
    pub access: Arc<Access>,
    /// Archives on their way.
    pub fills: Arc<Fills>,
    /// What answers under way may hold.
    pub memory: Arc<Memory>,
    /// Single files of archives.
    pub entries: Entries,
    /// Who is first to want a file of an archive that isn't held.
    pub first_misses: FirstMisses,
    /// What GitLab was seen to say of files.
    pub types: Types,
    /// What the operator decides about answers.
    pub serving: Settings,
    /// Changes that go on without their clients.
    pub left: Arc<Left>,
    /// Connections that speak something else than HTTP now.
    pub tunnels: Arc<Tunnels>,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Names for requests that come without one.
    pub ids: Ids,
    /// How answers of larder's own are written.
    pub spelling: Spelling,
}

/// A request on its way through. Whatever isn't a hit is awaited in a box: hyper moves a request's future, and the largest
/// step of it decides how much that is.
struct Exchange {
    /// The request line and what hyper noted beside it; its fields are in `fields`.
    parts: Parts,
    /// The fields, shared with whoever asks in this client's name.
    fields: Arc<HeaderMap>,
    body: Upload,
    permit: Arc<ConnPermit>,
    front: Front,
    way: Way,
    started: Moment,
    /// Fields that don't matter to what it may have.
    ignored: Arc<Ignored>,
    /// Whether it came by HTTP/2.
    shared: bool,
}

impl Exchange {
    /// Who asks.
    fn caller(&self) -> Caller {
        Caller::new(self.ignored.without(&self.fields), self.way.clone())
    }

    /// What decides how much of an archive is sent.
    fn request(&self) -> respond::Request<'_> {
        respond::Request { fields: &self.fields, head: is_head(&self.parts) }
    }
}

impl Handler for Proxy {
    type Body = Reported;

    async fn handle(self: Arc<Self>, request: Request<Incoming>, connection: ConnInfo) -> Response<Reported> {
        let started = self.clock.now();
        let (mut parts, body) = request.into_parts();
        let peer = connection.peer;
        let settled = validate::settle(&mut parts, peer);
        let client = settled.unwrap_or(peer.address);
        let id = self.request_id(&parts.headers);
        parts.headers.insert(REQUEST_ID, id.clone());
        let shared = connection.is_shared();
        let mut report = Report::new(&self, &parts, &id, client, started);
        let fields = Arc::new(std::mem::take(&mut parts.headers));
        let way = Way::of(peer, client, &fields);
        let connection_kind = held::ConnectionKind::of(&connection);
        let ConnInfo { protocol, least, permit, .. } = connection;
        let body = Upload::new(body, &fields, least, shared);
        let front = Front::of(peer, &fields, &parts.uri);
        let pages = answer::reads_pages(self.upstream.origin().root(), parts.uri.path(), &fields);
        let asked = (parts.method.clone(), parts.uri.path_and_query().cloned());
        let ignored = Arc::clone(&self.serving.ignore_fields);
        let front_of = front.clone();
        let exchange =
            Exchange { parts, fields, body, permit, front: front_of, way, started, ignored, shared };
        let (outcome, response) = match settled {
            Ok(_) => self.answer(exchange, &mut report).await,
            Err(why) => (Outcome::Malformed, answer::malformed(why)),
        };
        let (room, outcome, mut response) =
            held::make_room(&self, (&asked.0, client), &connection_kind, outcome, response).await;
        if pages {
            response = answer::page(response);
        }
        let fields = response.headers_mut();
        // What follows a request that is misread is misread as well.
        if outcome == Outcome::Malformed && !shared {
            fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let target = asked.1.as_ref().map_or("", PathAndQuery::as_str);
        self.names(&front).rename_answer(&asked.0, target, fields);
        fields.append(
            HeaderName::from_static("cache-status"),
            HeaderValue::from_static(outcome.cache_status()),
        );
        hop::add_via(fields);
        if !fields.contains_key(REQUEST_ID) {
            fields.insert(REQUEST_ID, id);
        }
        if !shared {
            self.spelling.note(response.extensions_mut());
        }
        report.head(outcome, response.status());
        response.map(|body| Reported::new(body, report, protocol, room))
    }

    fn refuse(&self, why: Unhandled) -> Vec<u8> {
        self.last(match why {
            Unhandled::SlowHead => answer::late(),
            Unhandled::Unencrypted => answer::unencrypted(),
        })
    }
}

impl Proxy {
    /// GitLab's names, to us and to a client.
    fn names<'a>(&'a self, front: &'a Front) -> Names<'a> {
        let (origin, external) = (self.upstream.origin(), self.upstream.external());
        let external = (external.scheme(), external.authority());
        Names { scheme: origin.scheme(), authority: origin.authority(), external, front }
    }

    async fn answer(self: &Arc<Self>, exchange: Exchange, report: &mut Report) -> (Outcome, Response<Body>) {
        let target = match validate::check(&exchange.parts, &exchange.fields) {
            Ok(target) => target,
            Err(why) => return (Outcome::Malformed, answer::malformed(why)),
        };
        if self.upstream.hop().is_in(&exchange.fields) {
            return (Outcome::Malformed, answer::looped());
        }
        let line = RequestLine {
            method: &exchange.parts.method,
            target: &target,
            has_body: !exchange.body.is_end_stream(),
        };
        let root = self.upstream.origin().root();
        let route = Route::of(root, line).meant(root, line, &exchange.fields);
        report.route(&route);
        match route {
            Route::Read(question) if question.entry.is_some() => {
                entry::entry_request(self, exchange, question).await
            }
            Route::Read(question) => archive::archive_request(self, exchange, question).await,
            Route::Write(write) => Box::pin(pass::write(self, exchange, write)).await,
            Route::Pass => Box::pin(pass::pass(self, exchange, Outcome::Pass)).await,
        }
    }

    /// The client's own name for its request if that is plain and short, else a new one.
    fn request_id(&self, fields: &HeaderMap) -> HeaderValue {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let given = fields
            .get(REQUEST_ID)
            .filter(|id| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(plain));
        given.cloned().unwrap_or_else(|| self.new_id())
    }

    fn new_id(&self) -> HeaderValue {
        let name = self.ids.next().and_then(|name| HeaderValue::try_from(name).ok());
        name.unwrap_or_else(|| HeaderValue::from_static("unnamed"))
    }

    /// The bytes of an answer without a request, behind which its connection ends.
    fn last(&self, mut response: Response<Body>) -> Vec<u8> {
        let fields = response.headers_mut();
        let bypass = HeaderValue::from_static(Outcome::Malformed.cache_status());
        fields.insert(HeaderName::from_static("cache-status"), bypass);
        hop::add_via(fields);
        fields.insert(REQUEST_ID, self.new_id());
        answer::written(response)
    }
}

/// Whether the client asked for a head alone.
fn is_head(parts: &Parts) -> bool {
    parts.method == http::Method::HEAD
}
