//! One archive, by job (`lib/api/ci/job_artifacts.rb`) and for runners (`lib/api/ci/runner.rb`): the same bytes
//! after different questions.

use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, DATE, ETAG, EXPIRES, HeaderName, IF_NONE_MATCH,
    LOCATION, PRAGMA,
};
use http::{HeaderMap, Method, StatusCode};

use super::BOGUS_ETAG;
use crate::ask::Ask;
use crate::auth::Caller;
use crate::ids::JobId;
use crate::reply::{Reply, field};
use crate::settings::{Etag, Storage};
use crate::store::Override;
use crate::world::{Artifact, Job, Project, World};
use crate::{serve, store};

/// `GET /projects/:id/jobs/:job_id/artifacts`.
pub(super) fn by_job(
    world: &World,
    ask: &Ask,
    caller: Caller,
    project: &str,
    job: JobId,
) -> Result<Reply, Reply> {
    archive(world, ask, authorize(world, ask, caller, project, job)?)
}

/// A job's archive, expired or not: it goes until it is swept.
pub(super) fn archive(world: &World, ask: &Ask, job: &Job) -> Result<Reply, Reply> {
    let artifact = job.artifact.as_ref().ok_or_else(Reply::no_file)?;
    let etag = match world.setup.etag() {
        Etag::Weak => BOGUS_ETAG.to_owned(),
        Etag::Sha256 => format!("\"{}\"", artifact.archive.sha256()),
    };
    let direct = matches!(world.setup.storage, Storage::Redirect { .. });
    Ok(present(world, ask, artifact, Some(&etag), direct))
}

/// The checks before an archive or an entry: `read_project`, `read_build`, the job, `read_job_artifacts`.
pub(super) fn authorize<'a>(
    world: &'a World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
    job: JobId,
) -> Result<&'a Job, Reply> {
    let project = readable(world, ask, caller, segment)?;
    let job = world.job_in(project, job)?;
    if world.reads_artifacts(caller.user, project, job) { Ok(job) } else { Err(Reply::forbidden()) }
}

/// The project whose builds this caller may read.
pub(super) fn readable<'a>(
    world: &'a World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
) -> Result<&'a Project, Reply> {
    let project = world.project(ask, caller, segment)?;
    if world.reads_builds(caller.user, project) { Ok(project) } else { Err(Reply::forbidden()) }
}

/// The archive as this storage presents it, once access is settled.
pub(super) fn present(
    world: &World,
    ask: &Ask,
    artifact: &Artifact,
    etag: Option<&str>,
    direct: bool,
) -> Reply {
    if direct && let Storage::Redirect { job_id_in_path } = world.setup.storage {
        return redirect(ask, &store::signed_url(world, artifact.path(job_id_in_path), &ask.method, None));
    }
    if let Some(unchanged) = rack_not_modified(ask, etag) {
        return unchanged;
    }
    let rails = rails_fields(etag);
    match world.setup.storage {
        Storage::Local { .. } => {
            let mut fields = rails;
            attachment(&mut fields);
            serve::file(&ask.method, &ask.headers, fields, artifact.archive.content(), artifact.modified)
        }
        Storage::Redirect { .. } | Storage::Proxied { .. } => send_url(world, ask, artifact, rails, None),
    }
}

/// `Rack::ConditionalGet`: the field as one whole string, never a list; after authorisation, before any file.
pub(super) fn rack_not_modified(ask: &Ask, etag: Option<&str>) -> Option<Reply> {
    let etag = etag.filter(|etag| ask.header(IF_NONE_MATCH.as_str()) == Some(etag))?;
    let mut reply = Reply::new(StatusCode::NOT_MODIFIED);
    *reply.headers = rails_fields(Some(etag));
    Some(reply)
}

/// `Rack::ETag` promises revalidation only for a tag that it made itself.
pub(super) fn rails_fields(etag: Option<&str>) -> HeaderMap {
    let mut reply = Reply::new(StatusCode::OK);
    let made_by_rack = etag == Some(BOGUS_ETAG);
    reply.set(CACHE_CONTROL, if made_by_rack { "max-age=0, private, must-revalidate" } else { "no-cache" });
    if let Some(etag) = etag {
        reply.set(ETAG, etag);
    }
    *reply.headers
}

fn attachment(fields: &mut HeaderMap) {
    let mut reply = Reply::new(StatusCode::OK);
    reply.set(CONTENT_TYPE, "application/octet-stream");
    reply.set(CONTENT_DISPOSITION, "attachment; filename=\"artifacts.zip\"; filename*=UTF-8''artifacts.zip");
    reply.set(field("content-transfer-encoding"), "binary");
    fields.extend(*reply.headers);
}

/// Grape's `redirect`: 302 for GET, 303 for anything else over HTTP/1.1.
fn redirect(ask: &Ask, url: &str) -> Reply {
    let (status, text) = if ask.is_get() {
        (StatusCode::FOUND, format!("This resource has been moved temporarily to {url}."))
    } else {
        (StatusCode::SEE_OTHER, format!("An alternate resource is located at {url}."))
    };
    Reply::text(status, text).with(LOCATION, url).with(CACHE_CONTROL, "no-cache")
}

/// Workhorse's send-url (`workhorse/internal/sendurl/sendurl.go`): a GET to the store whatever the client's method,
/// with its Range and If-*; all of the store's fields come through but these, which stay Rails'.
pub(super) fn send_url(
    world: &World,
    ask: &Ask,
    artifact: &Artifact,
    rails: HeaderMap,
    over: Option<Override<'_>>,
) -> Reply {
    const RAILS_OWN: [HeaderName; 4] = [CACHE_CONTROL, EXPIRES, DATE, PRAGMA];
    if world.store_down {
        return Reply::text(StatusCode::BAD_GATEWAY, "Bad Gateway\n");
    }
    let mut reply = store::object(world, artifact.path(true), &Method::GET, &ask.headers, over);
    for name in RAILS_OWN {
        reply.headers.remove(name);
    }
    let storage_fields = std::mem::replace(&mut *reply.headers, rails);
    for (name, value) in storage_fields {
        if let Some(name) = name {
            reply.headers.insert(name, value);
        }
    }
    reply.proxied = true;
    reply.head_cost = if ask.is_head() { reply.source.len() } else { 0 };
    reply
}
