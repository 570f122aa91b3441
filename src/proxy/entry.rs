//! Somebody wants one entry of an archive.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use http::{HeaderValue, Response, header};

use super::body::{Body, Chain};
use super::lookup::{ArchiveFound, HeldArchive, Lookup};
use super::missed::{self, MissTurn};
use super::repair::{Sound, Unpacked};
use super::request::{Admitted, Answered, ArtifactRequest, NextStep, Retry};
use super::respond::{self, Entity, Ranges};
use super::types::Named;
use super::{Exchange, Proxy};
use crate::access::Admission;
use crate::entries::{Content, Gzip, Listed, OpenEntry};
use crate::gitlab::grant::Grant;
use crate::gitlab::grant::facts::TAIL;
use crate::gitlab::route::Question;
use crate::http::content;
use crate::store::{Archive, Availability, Reader};
use crate::telemetry::{Outcome, metrics};
use crate::upstream::Insists;

/// How much of an entry must be here before it is served, of an archive of which not all is: what is unpacked at once.
const AT_ONCE: u64 = 1 << 20;

/// How GitLab would describe an entry on this route.
struct Description {
    kind: HeaderValue,
    disposition: HeaderValue,
}

/// Answers a request for an entry of an archive.
pub(super) async fn entry_request(proxy: &Arc<Proxy>, exchange: Exchange, question: Question) -> Answered {
    let request = ArtifactRequest::new(proxy, &exchange, question);
    let (mut lookup, mut queue) = (Lookup::new(&request), missed::MissQueue::default());
    let outcome = loop {
        match look(&mut lookup).await {
            Some(NextStep::Answer(answer)) => return *answer,
            Some(NextStep::Pass(outcome)) => break outcome,
            Some(NextStep::Retry(Retry::Replaced(id))) => lookup.replace(id),
            Some(NextStep::Retry(why)) if lookup.again(&why) => continue,
            Some(NextStep::Retry(_)) => break Outcome::Changed,
            None => {}
        }
        // GitLab alone has it.
        if let MissTurn::Now(first) = queue.turn(&lookup).await {
            let (known, ArtifactRequest { question, caller, .. }) = (lookup.replaced(), request);
            let miss = missed::Miss { question, caller, known, first };
            return Box::pin(missed::missed(proxy, exchange, miss)).await;
        }
    };
    let question = request.question;
    Box::pin(missed::passed(proxy, exchange, &question, outcome)).await
}

/// `None`: the archive isn't held.
async fn look(lookup: &mut Lookup<'_>) -> Option<NextStep> {
    let request = lookup.request;
    let held = match lookup.find().await {
        ArchiveFound::Held(held) => held,
        ArchiveFound::Absent(absent) => Box::pin(absent.landed()).await?,
    };
    let name = &request.question.entry.as_ref()?.name;
    let answered = EntryRequest { request, name }.answer(held).await;
    Some(answered.unwrap_or_else(|next| next))
}

/// A request for one entry of an archive that is held.
struct EntryRequest<'a> {
    request: &'a ArtifactRequest<'a>,
    name: &'a str,
}

impl EntryRequest<'_> {
    async fn answer(&self, held: HeldArchive<'_, '_>) -> Result<NextStep, NextStep> {
        let archive = Arc::clone(held.archive());
        if archive.is_partial() && !self.is_here(&archive).await {
            return Box::pin(self.partly_held(held)).await;
        }
        let entry = self.find(&archive).await?;
        let admitted = self.admit(held, entry.size()).await?;
        Ok(self.respond(admitted, &entry, Outcome::Hit).await)
    }

    /// An entry of which not all is here. Nothing is fetched before GitLab has said yes: whoever gets a no must not make
    /// others wait for bytes that it can't have.
    async fn partly_held(&self, held: HeldArchive<'_, '_>) -> Result<NextStep, NextStep> {
        if self.request.is_head() {
            // Its bytes would cross for nobody.
            return Err(NextStep::Pass(Outcome::Missed));
        }
        let listed = self.listed(held.archive()).await?;
        let admitted = self.admit(held, listed.size).await?;
        let (archive, fills) = (admitted.archive(), &self.request.proxy.fills);
        let brought = fills.bring(&self.request.requester(), archive, listed.span, Insists::No).await;
        brought.map_err(|error| left_missing(&error))?;
        let entry = self.find(archive).await?;
        self.fetch_data(archive, &entry).await.map_err(|error| left_missing(&error))?;
        Ok(self.respond(admitted, &entry, Outcome::Partial).await)
    }

    /// The entry; one that isn't there, or can't be read, is GitLab's to answer.
    async fn find(&self, archive: &Arc<Archive>) -> Result<OpenEntry, NextStep> {
        let entry = self.request.proxy.entries.find(archive, self.name).await;
        entry.ok_or(NextStep::Pass(Outcome::NotArchive))
    }

    /// Asks whether the caller may have an entry of this name and length; and what it is called, where that isn't known.
    async fn admit(&self, held: HeldArchive<'_, '_>, size: u64) -> Result<Admitted<Arc<Archive>>, NextStep> {
        let (recognised, types) = (held.recognise().await, &self.request.proxy.types);
        let named = Named::new(self.request.class(), self.name, size);
        let turn = types.turn(named).await;
        let admitted = recognised.admit_to_entry(size, types.of(named).is_some()).await;
        if let Some(kind) = admitted.as_ref().ok().and_then(Admitted::kind) {
            types.heard(named, kind);
        }
        drop(turn);
        admitted
    }

    async fn respond(
        &self,
        admitted: Admitted<Arc<Archive>>,
        entry: &OpenEntry,
        outcome: Outcome,
    ) -> NextStep {
        match self.response(admitted, entry).await {
            Ok(response) => (outcome, response).into(),
            Err(error) => left(&error),
        }
    }

    /// Whether all of an entry is here, of an archive of which not all is.
    async fn is_here(&self, archive: &Arc<Archive>) -> bool {
        has_end(archive)
            && match self.request.proxy.entries.listed(archive, self.name).await {
                Some(listed) => {
                    let begins = listed.span.start..listed.span.end.min(listed.span.start.saturating_add(1));
                    archive.have(&listed.span) == Availability::All
                        || archive.have(&begins) == Availability::All && self.has_data(archive).await
                }
                None => false,
            }
    }

    /// The same of an entry whose local header is here: it may be shorter than is reckoned with.
    async fn has_data(&self, archive: &Arc<Archive>) -> bool {
        let entry = self.request.proxy.entries.find(archive, self.name).await;
        entry.is_some_and(|entry| archive.have(&entry.data()) == Availability::All)
    }

    /// What the directory says of an entry. One that isn't here, as of a transfer that broke off, is fetched in this
    /// caller's name if GitLab lets it have the archive.
    async fn listed(&self, archive: &Arc<Archive>) -> Result<Listed, NextStep> {
        let (entries, fills) = (&self.request.proxy.entries, &self.request.proxy.fills);
        let begins = if has_end(archive) { entries.directory_begins_at(archive).await } else { None };
        if begins.is_none() {
            match self.request.inquire_about_archive().await {
                Admission::Other(_) => {}
                Admission::Down(error) => return Err(NextStep::down(&error)),
                _ => return Err(NextStep::Pass(Outcome::Missed)),
            }
            let fetched = fills.ensure_directory(&self.request.requester(), archive).await;
            fetched.map_err(|error| left_missing(&error))?;
        }
        let listed = entries.listed(archive, self.name).await;
        listed.ok_or(NextStep::Pass(Outcome::NotArchive))
    }

    /// Fetches an entry's data: all of a short one, as it is unpacked at once; the beginning of a long one, whose rest is on
    /// its way then.
    async fn fetch_data(&self, archive: &Arc<Archive>, entry: &OpenEntry) -> io::Result<()> {
        let (fills, requester, data) = (&self.request.proxy.fills, self.request.requester(), entry.data());
        fills.bring(&requester, archive, data.clone(), Insists::No).await?;
        let at_once = data.start..data.end.min(data.start.saturating_add(AT_ONCE));
        fills.ensure(&requester, archive, at_once, Insists::No).await
    }

    async fn response(
        &self,
        mut admitted: Admitted<Arc<Archive>>,
        entry: &OpenEntry,
    ) -> io::Result<Response<Body>> {
        entry.prepare().await?;
        let Description { kind, disposition } = self.description(entry).await?;
        let covered = kind.to_str().is_ok_and(|kind| self.request.proxy.serving.gzip.covers(kind));
        let varies = entry.packs() && covered;
        let all = admitted.archive().have(&entry.data()) == Availability::All;
        let packs = varies && all && self.takes_gzip();
        let gzip = if packs { entry.gzip(admitted.grant()).await? } else { None };
        let class = self.request.class();
        let fresh = admitted.learn(class);
        let (archive, grant) = (admitted.archive(), admitted.grant());
        let mut fields = archive.kept(class).fields().clone();
        fields.insert(header::CONTENT_TYPE, kind);
        fields.insert(header::CONTENT_DISPOSITION, disposition);
        if varies {
            fields.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        let age = Some(self.request.exchange.started.since(grant.asked_at()));
        let entity = Entity {
            etag: entry.etag(self.name),
            modified: None,
            length: Some(entry.size()),
            fields,
            fresh,
            age,
            ranges: if entry.is_at_hand() { Ranges::Any } else { Ranges::InOrder },
        };
        if let Some(gzip) = gzip {
            return Ok(self.packed(entity, gzip));
        }
        let mut pass = None;
        Ok(respond::respond(self.request.exchange.request(), entity, |span| {
            self.part(entry, grant, span.within(entry.size()), &mut pass)
        }))
    }

    async fn description(&self, entry: &OpenEntry) -> io::Result<Description> {
        let types = &self.request.proxy.types;
        let named = Named::new(self.request.class(), self.name, entry.size());
        let kind = if named.is_by_content() {
            types.of_content(named, content::is_svg(&entry.head(content::LOOKED_AT).await?))
        } else {
            types.of(named)
        };
        // What GitLab couldn't be asked about is called what it most likely calls it.
        let kind = kind.unwrap_or(HeaderValue::from_static(content::UNKNOWN));
        let disposition = HeaderValue::try_from(content::disposition(self.name)).map_err(io::Error::other)?;
        Ok(Description { kind, disposition })
    }

    /// A range of an entry; what has to be unpacked of several is in one pass.
    fn part(
        &self,
        entry: &OpenEntry,
        grant: &Grant,
        range: Range<u64>,
        pass: &mut Option<Unpacked>,
    ) -> Option<Body> {
        if let Some(further) = pass.as_ref().and_then(|pass| pass.and(range.clone())) {
            return Some(Body::Entry(further));
        }
        Some(match entry.content(grant, range)? {
            Content::Whole(bytes) => Body::Stored(bytes),
            Content::Slices(slices) => self.as_it_lies(slices),
            Content::Checked(checked) => {
                let first = Unpacked::new(checked, self.request.repairer());
                *pass = Some(first.handle());
                Body::Entry(first)
            }
        })
    }

    /// The entry as it lies in the archive, within a gzip member.
    fn packed(&self, mut entity: Entity<'_>, gzip: Gzip) -> Response<Body> {
        let etag = entity.etag.and_then(|etag| etag.of_coding("gzip"));
        entity.fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let entity =
            Entity { etag: etag.as_ref(), length: Some(gzip.length()), ranges: Ranges::None, ..entity };
        let mut gzip = Some(gzip);
        respond::respond(self.request.exchange.request(), entity, |_| {
            let Gzip { header, stream, trailer } = gzip.take()?;
            let parts = [Body::Whole(header), self.as_it_lies(stream), Body::Whole(trailer)];
            Chain::new(parts, metrics::BodySource::Store).map(Body::Chain)
        })
    }

    /// Bytes of an entry as they lie in the archive.
    fn as_it_lies(&self, slices: Reader) -> Body {
        let repairer = (!slices.archive().is_compared()).then(|| Box::new(self.request.repairer()));
        Body::Slices(Sound::new(slices, repairer))
    }

    /// Whether the client takes gzip; parts are of the entry as it is.
    fn takes_gzip(&self) -> bool {
        let fields = &self.request.exchange.fields;
        let accepted = fields.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        !fields.contains_key(header::RANGE) && content::accepts_gzip(accepted)
    }
}

/// Whether the end of an archive is here, where its directory is looked for.
fn has_end(archive: &Archive) -> bool {
    let length = archive.stored_length();
    archive.have(&(length.saturating_sub(TAIL)..length)) == Availability::All
}

/// It doesn't add up, or can't be read: GitLab's own answer, from now on.
fn left(error: &io::Error) -> NextStep {
    tracing::debug!(%error, "an entry is left to GitLab");
    NextStep::Pass(Outcome::NotArchive)
}

/// What is missing of it can't be fetched in this caller's name, or finds no room: GitLab's own answer, and what is held stays
/// as it is.
fn left_missing(error: &io::Error) -> NextStep {
    tracing::debug!(%error, "an entry is left to GitLab");
    NextStep::Pass(Outcome::Missed)
}
