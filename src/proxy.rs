//! One request, as steps: route, admit, look up, then hit, fill or pass.
//!
//! Owns the order of things and the answers that clients get. Knows access, fills, the store and GitLab by their
//! faces; knows nothing of sockets. Every failure becomes an answer here, and its status is chosen in one place
//! ([`answer`]).

mod answer;
mod archive;
mod body;
mod door;
mod entry;
mod firsts;
mod learn;
mod mend;
mod pass;
mod recognise;
mod report;
mod serve;
mod stall;
mod tunnel;
mod types;
mod upload;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};

pub use body::Body;
pub use firsts::Firsts;
pub use report::Reported;
pub use tunnel::{Seat, Tunnels};
pub use types::Types;
pub use wire::Wire;

use crate::access::Access;
use crate::clock::{Clock, Moment};
use crate::content;
use crate::entries::Entries;
use crate::fill::Fills;
use crate::hop::{self, Front, Names, Peer};
use crate::pace::Least;
use crate::route::{Line, Route};
use crate::store::Store;
use crate::telemetry::{Metrics, Outcome};
use crate::upstream::Upstream;
use report::Report;
use stall::Stall;
use upload::Upload;

/// A client's or larder's own name for a request, in logs on both sides.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the operator decides about answers.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What happens when one file of an archive that isn't held is asked for.
    pub on_file: OnFile,
    /// Which files go out as gzip to clients that take it.
    pub gzip: GzipFor,
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
pub struct Proxy {
    /// GitLab.
    pub upstream: Arc<Upstream>,
    /// Archives.
    pub store: Arc<Store>,
    /// Who may have them.
    pub access: Arc<Access>,
    /// Archives on their way.
    pub fills: Arc<Fills>,
    /// Single files of archives.
    pub entries: Entries,
    /// Who is first to want a file of an archive that isn't held.
    pub firsts: Arc<Firsts>,
    /// What GitLab was seen to say of files.
    pub types: Types,
    /// What the operator decides about answers.
    pub serving: Settings,
    /// Connections that speak something else than HTTP now.
    pub tunnels: Arc<Tunnels>,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What this process's request IDs begin with, so that they differ from the last one's.
    pub run: String,
    /// Requests so far.
    pub count: AtomicU64,
}

/// What a connection tells of itself with each request.
#[derive(Clone)]
pub struct Connection {
    /// The peer.
    pub peer: Peer,
    /// Its stream's side.
    pub wire: Arc<Wire>,
    /// What it holds while it is open, in whatever protocol.
    pub seat: Seat,
    /// The slowest that its client may take or send a body.
    pub least: Least,
}

/// A request on its way through. Whatever isn't a hit is awaited in a box: hyper moves a request's future, and the largest
/// step of it decides how much that is.
struct Exchange {
    /// The request line and what hyper noted beside it; its fields are in `fields`.
    parts: Parts,
    /// The fields, shared with whoever asks in this client's name.
    fields: Arc<HeaderMap>,
    body: Upload,
    peer: Peer,
    seat: Seat,
    front: Front,
    client: IpAddr,
    started: Moment,
}

impl Exchange {
    /// What decides how much of an archive is sent.
    fn request(&self) -> serve::Request<'_> {
        serve::Request { fields: &self.fields, head: is_head(&self.parts) }
    }
}

impl Proxy {
    /// Answers a request. It never fails: what goes wrong is an answer, or breaks its body off.
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Response<Reported> {
        let started = self.clock.now();
        let (mut parts, body) = request.into_parts();
        let settled = door::settle(&mut parts);
        let id = self.request_id(&parts.headers);
        parts.headers.insert(REQUEST_ID, id.clone());
        let client = connection.peer.client(&parts.headers);
        let wire = Arc::clone(&connection.wire);
        let shared = wire.is_shared();
        let mut report = Report::new(&self, &parts, &id, client, started, wire);
        let fields = Arc::new(std::mem::take(&mut parts.headers));
        let Connection { peer, wire, seat, least } = connection;
        let body = Upload::new(body, &fields, least, wire.is_shared());
        let stall = Stall::new(&wire, least);
        let front = Front::of(peer, &fields, &parts.uri);
        let pages = answer::reads_pages(self.upstream.origin().root(), parts.uri.path(), &fields);
        let asked = (parts.method.clone(), parts.uri.path_and_query().cloned());
        let exchange = Exchange { parts, fields, body, peer, seat, front: front.clone(), client, started };
        let (outcome, mut response) = match settled {
            Ok(()) => self.answer(exchange, &mut report).await,
            Err(why) => (Outcome::Malformed, answer::malformed(why)),
        };
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
        report.head(outcome, response.status());
        response.map(|body| Reported::new(body, report, stall))
    }

    /// GitLab's names, to us and to a client.
    fn names<'a>(&'a self, front: &'a Front) -> Names<'a> {
        let origin = self.upstream.origin();
        Names { scheme: origin.scheme(), authority: origin.authority(), front }
    }

    async fn answer(self: &Arc<Self>, exchange: Exchange, report: &mut Report) -> (Outcome, Response<Body>) {
        let target = match door::check(&exchange.parts, &exchange.fields) {
            Ok(target) => target,
            Err(why) => return (Outcome::Malformed, answer::malformed(why)),
        };
        if self.upstream.hop().is_in(&exchange.fields) {
            return (Outcome::Malformed, answer::looped());
        }
        let line = Line {
            method: &exchange.parts.method,
            target: &target,
            has_body: !exchange.body.is_end_stream(),
        };
        let route = Route::of(self.upstream.origin().root(), line);
        report.route(&route);
        match route {
            Route::Read(question) => archive::answer(self, exchange, question).await,
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
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        HeaderValue::try_from(format!("{}{number:016x}", self.run))
            .unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
    }

    /// The bytes of an HTTP/1.1 answer to a request that couldn't be read, behind which its connection ends.
    pub fn unread(&self, status: StatusCode) -> Vec<u8> {
        let mut response = answer::unread(status);
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

/// Removes the length that the body's own size says again.
fn leave_length_to_body(fields: &mut HeaderMap) {
    fields.remove(header::CONTENT_LENGTH);
}
