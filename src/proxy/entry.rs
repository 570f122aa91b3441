//! Somebody wants one entry of an archive.

use std::io;
use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};

use super::archive::{Answer, Asking, Step, Turned, down};
use super::body::{Body, Chain};
use super::firsts::First;
use super::learn::learn;
use super::mend::{Sound, Unpacked};
use super::serve::{self, Entity};
use super::{Exchange, OnFile, Proxy, is_head, pass};
use crate::access::{Admission, Caller, Granted, Subject};
use crate::content;
use crate::entries::{Content, Entry, Gzip, Listed};
use crate::fill::{Asker, Leader};
use crate::grant::facts::TAIL;
use crate::grant::judge::content_length;
use crate::key::ArchiveId;
use crate::route::{Class, Question};
use crate::store::{Archive, Have, Slices};
use crate::telemetry::{Outcome, metrics};

/// Longest archive that is fetched for the sake of any file in it.
const WORTH_ANY: u64 = 64 << 20;

/// How many times the length of the file that was asked for a longer archive may have to be fetched beside it.
const WORTH_TIMES: u64 = 256;

/// How much of an entry must be here before it is served, of an archive of which not all is: what is unpacked at once.
const AT_ONCE: u64 = 1 << 20;

/// A request for an entry of an archive that isn't held.
pub(super) struct Miss {
    pub(super) question: Question,
    pub(super) caller: Caller,
    pub(super) known: Option<ArchiveId>,
    /// Its being the first one; `None`: it was kept waiting by another, or begins nothing.
    pub(super) first: Option<First>,
}

/// What a request for an entry of an archive that isn't held comes to.
pub(super) enum Turn {
    /// It goes to GitLab.
    Now(Option<First>),
    /// It has waited for another one, who may have begun the archive.
    Waited,
}

/// GitLab's own answer goes out at once; the archive is fetched beside it, for those who ask next.
pub(super) async fn missed(proxy: &Arc<Proxy>, exchange: Exchange, miss: Miss) -> Answer {
    let name = miss.question.entry.as_ref().map(|entry| entry.name.clone());
    let wanted = begins_archives(proxy, &exchange);
    let (outcome, response) = pass::read(proxy, exchange, Outcome::Missed).await;
    if let (Class::JobEntry, StatusCode::OK, Some(name)) = (miss.question.class, response.status(), &name) {
        proxy.types.learn(name, response.headers());
    }
    if response.status() == StatusCode::OK && wanted && outcome == Outcome::Missed {
        let length = content_length(response.headers()).unwrap_or_default();
        let leader = Leader {
            caller: miss.caller,
            question: miss.question.of_archive(),
            takes_redirect: true,
            longest: Some(WORTH_ANY.max(length.saturating_mul(WORTH_TIMES))),
            part: true,
        };
        begin_beside(proxy, leader, (miss.known, miss.first), name.unwrap_or_default());
    }
    (outcome, response)
}

/// Whether an archive is begun beside the answer to a request for an entry of it.
fn begins_archives(proxy: &Proxy, exchange: &Exchange) -> bool {
    exchange.parts.method == Method::GET && proxy.serving.on_file == OnFile::Archive
}

/// Begins the archive of an entry that was just had from GitLab, with its end and that entry's own bytes, for those who ask
/// next.
fn begin_beside(
    proxy: &Arc<Proxy>,
    leader: Leader,
    (known, first): (Option<ArchiveId>, Option<First>),
    name: String,
) {
    let proxy = Arc::clone(proxy);
    crate::rt::spawn(async move {
        let asker = Asker { caller: leader.caller.clone(), question: leader.question.clone() };
        let begun = proxy.fills.begin_beside(leader, known).await;
        // Those who have waited fetch what they want of it themselves.
        drop(first);
        if !begun {
            return;
        }
        let Some(archive) = proxy.store.find(asker.question.key).await else {
            return;
        };
        if let Some(listed) = proxy.entries.listed(&archive, &name).await {
            // Whoever wants it and doesn't find it fetches it himself.
            let _ = proxy.fills.ensure(&asker, &archive, listed.span).await;
        }
    });
}

/// How GitLab would describe an entry on this route.
struct Description {
    kind: HeaderValue,
    disposition: HeaderValue,
}

impl Asking<'_> {
    /// Lets one at a time be the first to want a file of an archive; the others wait for him, once.
    pub(super) async fn turn(&mut self) -> Turn {
        let (firsts, key) = (&self.proxy.firsts, self.question.key);
        if !begins_archives(self.proxy, self.exchange) {
            return Turn::Now(None);
        }
        if std::mem::replace(&mut self.waited, true) {
            // The one before came to nothing; perhaps this one does better.
            return Turn::Now(firsts.take(key).ok());
        }
        firsts.be(key).await.map_or(Turn::Waited, |first| Turn::Now(Some(first)))
    }

    pub(super) async fn entry(&self, found: Option<Arc<Archive>>) -> Step {
        let (Some(archive), Some(asked)) = (found, &self.question.entry) else {
            return Step::Missed(self.known);
        };
        if archive.is_sparse() && !self.is_here(&archive, &asked.name).await {
            return Box::pin(self.lacked(&archive, &asked.name)).await;
        }
        let Some(entry) = self.proxy.entries.find(&archive, &asked.name).await else {
            return Step::Pass(Outcome::NotArchive);
        };
        match self.admit_to_entry(&archive, entry.size()).await {
            Ok(granted) => self.entry_step(&archive, &entry, granted, Outcome::Hit).await,
            Err(step) => step,
        }
    }

    /// An entry of which not all is here. Nothing is fetched before GitLab has said yes: whoever gets a no must not make
    /// others wait for bytes that he can't have.
    async fn lacked(&self, archive: &Arc<Archive>, name: &str) -> Step {
        if is_head(&self.exchange.parts) {
            // Its bytes would cross for nobody.
            return Step::Pass(Outcome::Missed);
        }
        let listed = match self.listed(archive, name).await {
            Ok(listed) => listed,
            Err(step) => return step,
        };
        let granted = match self.admit_to_entry(archive, listed.size).await {
            Ok(granted) => granted,
            Err(step) => return step,
        };
        if let Err(error) = self.proxy.fills.bring(&self.asker(), archive, listed.span).await {
            return left_missing(&error);
        }
        let Some(entry) = self.proxy.entries.find(archive, name).await else {
            return Step::Pass(Outcome::NotArchive);
        };
        match self.fetch_data(archive, &entry).await {
            Ok(()) => self.entry_step(archive, &entry, granted, Outcome::Partial).await,
            Err(error) => left_missing(&error),
        }
    }

    /// Asks whether the caller may have an entry of this length.
    async fn admit_to_entry(&self, archive: &Arc<Archive>, size: u64) -> Result<Granted, Step> {
        let facts = self.recognised(archive).await;
        let subject = Subject {
            id: archive.id(),
            facts: &facts,
            visitors: archive.visitors(),
            described: true,
            entry: Some(size),
        };
        match self.admit(subject).await {
            Ok(granted) => Ok(granted),
            Err(Turned::Other(other)) => Err(match self.replaced(archive, &other).await {
                Step::Other(id) => Step::Missed(Some(id)),
                step => step,
            }),
            Err(Turned::Step(step)) => Err(step),
        }
    }

    async fn entry_step(
        &self,
        archive: &Arc<Archive>,
        entry: &Entry,
        granted: Granted,
        outcome: Outcome,
    ) -> Step {
        let name = self.question.entry.as_ref().map_or("", |asked| asked.name.as_str());
        match self.entry_hit(archive, entry, name, granted).await {
            Ok(response) => (outcome, response).into(),
            Err(error) => left(&error),
        }
    }

    /// Whether all of an entry is here, of an archive of which not all is.
    async fn is_here(&self, archive: &Arc<Archive>, name: &str) -> bool {
        has_end(archive)
            && match self.proxy.entries.listed(archive, name).await {
                Some(listed) => archive.have(&listed.span) == Have::All,
                None => false,
            }
    }

    /// What the directory says of an entry. One that isn't here, as of a transfer that broke off, is fetched in this
    /// caller's name if GitLab lets him have the archive.
    async fn listed(&self, archive: &Arc<Archive>, name: &str) -> Result<Listed, Step> {
        let begins =
            if has_end(archive) { self.proxy.entries.directory_begins_at(archive).await } else { None };
        if begins.is_none() {
            let question = self.question.of_archive();
            match self.proxy.access.inquire(&self.caller, &question).await {
                Admission::Other(_) => {}
                Admission::Down(error) => return Err(down(&error)),
                _ => return Err(Step::Pass(Outcome::Missed)),
            }
            let fetched = self.proxy.fills.ensure_directory(&self.asker(), archive).await;
            fetched.map_err(|error| left_missing(&error))?;
        }
        let listed = self.proxy.entries.listed(archive, name).await;
        listed.ok_or(Step::Pass(Outcome::NotArchive))
    }

    /// Fetches an entry's data: all of a short one, as it is unpacked at once; the beginning of a long one, whose rest is on
    /// its way then.
    async fn fetch_data(&self, archive: &Arc<Archive>, entry: &Entry) -> io::Result<()> {
        let (fills, asker, data) = (&self.proxy.fills, self.asker(), entry.data());
        fills.bring(&asker, archive, data.clone()).await?;
        fills.ensure(&asker, archive, data.start..data.end.min(data.start.saturating_add(AT_ONCE))).await
    }

    async fn entry_hit(
        &self,
        archive: &Arc<Archive>,
        entry: &Entry,
        name: &str,
        granted: Granted,
    ) -> io::Result<Response<Body>> {
        let class = self.question.class;
        entry.prepare().await?;
        let Description { kind, disposition } = self.description(entry, name).await?;
        let covered = kind.to_str().is_ok_and(|kind| self.proxy.serving.gzip.covers(kind));
        let varies = entry.packs() && covered;
        let all = archive.have(&entry.data()) == Have::All;
        let gzip = if varies && all && self.takes_gzip() { entry.gzip(&granted.grant).await? } else { None };
        let fresh = granted.said.map(|said| learn(archive, class, said));
        let mut fields = archive.kept(class).fields().clone();
        fields.insert(header::CONTENT_TYPE, kind);
        fields.insert(header::CONTENT_DISPOSITION, disposition);
        if varies {
            fields.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        let age = Some(self.exchange.started.since(granted.grant.asked_at()));
        let entity = Entity {
            etag: entry.etag(name),
            modified: None,
            length: Some(entry.size()),
            fields,
            fresh,
            age,
            ranges: true,
        };
        let response = match gzip {
            Some(gzip) => self.packed(entity, gzip),
            None => serve::respond(self.exchange.request(), entity, |span| {
                let content = entry.content(&granted.grant, span.within(entry.size()))?;
                Some(self.body(content))
            }),
        };
        Ok(response)
    }

    async fn description(&self, entry: &Entry, name: &str) -> io::Result<Description> {
        let kind = if self.question.class == Class::JobEntry {
            self.proxy.types.of(name)
        } else {
            HeaderValue::from_static(content::sniffed(&entry.head(content::SNIFFED).await?))
        };
        let disposition = HeaderValue::try_from(content::disposition(name)).map_err(io::Error::other)?;
        Ok(Description { kind, disposition })
    }

    fn body(&self, content: Content) -> Body {
        match content {
            Content::Whole(bytes) => Body::Stored(bytes),
            Content::Slices(slices) => stored(slices),
            Content::Checked(checked) => Body::Entry(Unpacked::new(checked, self.mender())),
        }
    }

    /// The entry as it lies in the archive, within a gzip member.
    fn packed(&self, mut entity: Entity<'_>, gzip: Gzip) -> Response<Body> {
        let etag = entity.etag.and_then(|etag| etag.of_coding("gzip"));
        entity.fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let entity = Entity { etag: etag.as_ref(), length: Some(gzip.length()), ranges: false, ..entity };
        let mut gzip = Some(gzip);
        serve::respond(self.exchange.request(), entity, |_| {
            let Gzip { header, stream, trailer } = gzip.take()?;
            let parts = [Body::Whole(header), stored(stream), Body::Whole(trailer)];
            Chain::new(parts, metrics::From::Store).map(Body::Chain)
        })
    }

    /// Whether the client takes gzip; parts are of the entry as it is.
    fn takes_gzip(&self) -> bool {
        let fields = &self.exchange.fields;
        let accepted = fields.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        !fields.contains_key(header::RANGE) && content::accepts_gzip(accepted)
    }
}

/// Whether the end of an archive is here, where its directory is looked for.
fn has_end(archive: &Archive) -> bool {
    let length = archive.record().length;
    archive.have(&(length.saturating_sub(TAIL)..length)) == Have::All
}

/// It doesn't add up, or can't be read: GitLab's own answer, from now on.
fn left(error: &io::Error) -> Step {
    tracing::debug!(%error, "an entry is left to GitLab");
    Step::Pass(Outcome::NotArchive)
}

/// What is missing of it can't be fetched in this caller's name, or finds no room: GitLab's own answer, and what is held stays
/// as it is.
fn left_missing(error: &io::Error) -> Step {
    tracing::debug!(%error, "an entry is left to GitLab");
    Step::Pass(Outcome::Missed)
}

/// Slices that were compared on their way to be unpacked: damage since then breaks them off.
fn stored(slices: Slices) -> Body {
    Body::Slices(Sound::new(slices, None))
}
