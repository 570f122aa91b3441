//! Downloads for browsers: whole files (`app/controllers/concerns/send_file_upload.rb`), single entries, and the
//! redirect from a ref to a job.

use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::super::entry::{self, Typed};
use super::super::{BOGUS_ETAG, content_type, download, tree::Listing};
use super::{Visit, entrance, job_url, pages, redirect};
use crate::ask::Ask;
use crate::ids::JobId;
use crate::percent;
use crate::reply::{Reply, field};
use crate::settings::{Etag, Storage};
use crate::store::Override;
use crate::world::{Artifact, World};
use crate::{serve, store};

/// `GET …/artifacts/download`: the archive, or what `file_type` names; expired files go until they are swept.
pub(super) fn download(world: &World, ask: &Ask, visit: &Visit<'_>, job: JobId) -> Result<Reply, Reply> {
    let kind = ask.param("file_type").unwrap_or("archive");
    // A trace needs the right to the build alone.
    let job = if kind == "trace" { visit.job(job)? } else { visit.readable(job)? };
    let file = if kind == "archive" { job.artifact.as_ref() } else { job.reports.get(kind) };
    Ok(send_upload(world, ask, file.ok_or_else(pages::not_found)?))
}

/// `GET …/artifacts/raw/*path`: of the archive, the one type that is a zip.
pub(super) fn raw(
    world: &World,
    ask: &Ask,
    visit: &Visit<'_>,
    job: JobId,
    path: &str,
) -> Result<Reply, Reply> {
    if ask.param("file_type").is_some_and(|kind| kind != "archive") {
        return Err(pages::not_found());
    }
    let artifact = visit.readable(job)?.artifact.as_ref().ok_or_else(pages::not_found)?;
    let path = entry::valid(path).ok_or_else(entrance::malformed)?;
    let etag = web_etag(world);
    let unchanged = download::rack_not_modified(ask, etag);
    Ok(unchanged.unwrap_or_else(|| entry::unpacked(world, artifact, &path, etag, Typed::ByContent)))
}

/// `GET …/jobs/artifacts/*ref_name_and_path?job=`: where the job has it. The query doesn't go along.
pub(super) fn of_ref(world: &World, ask: &Ask, visit: &Visit<'_>, rest: &str) -> Result<Reply, Reply> {
    let rest = entry::valid(rest).ok_or_else(entrance::malformed)?;
    let (ref_name, path) = split_ref(world, visit, &rest).ok_or_else(pages::not_found)?;
    let name = ask.param("job").ok_or_else(pages::not_found)?;
    let job = world.job_of_commit(visit.project.id, ref_name, name);
    let job = job.filter(|job| job.available().is_some()).ok_or_else(pages::not_found)?;
    let (action, path) = path.split_once('/').unwrap_or((path, ""));
    let url = format!("{}/artifacts/{action}", job_url(ask, visit.project, job.id));
    let url = match (action, path) {
        ("download" | "browse", "") => url,
        ("browse" | "file" | "raw", path) if !path.is_empty() => format!("{url}/{}", percent::encode(path)),
        _ => return Err(pages::not_found()),
    };
    Ok(redirect(StatusCode::FOUND, &url))
}

/// The longest ref of the project that the text starts with, or else its first segment
/// (`lib/extracts_ref.rb`).
fn split_ref<'a>(world: &World, visit: &Visit<'_>, text: &'a str) -> Option<(&'a str, &'a str)> {
    let known = world.refs(visit.project.id);
    let fits = |name: &&str| text.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    let len = known.filter(fits).map(str::len).max();
    let (name, path) = text.split_at(len.or_else(|| text.find('/'))?);
    Some((name, path.trim_start_matches('/')))
}

/// The tag on what Workhorse sends for the web side: the older releases' constant, or none.
fn web_etag(world: &World) -> Option<&'static str> {
    (world.setup.etag() == Etag::Weak).then_some(BOGUS_ETAG)
}

/// Sends a stored file under its own name. `proxy=` with any value, even `false`, keeps clients from the store.
/// Redirects are 302 for HEAD as well, to a URL signed for GET: Rails' `redirect_to`, not Grape's.
fn send_upload(world: &World, ask: &Ask, artifact: &Artifact) -> Reply {
    let name = &artifact.filename;
    let kind = content_type::by_extension(name, true).split(';').next().unwrap_or_default();
    let disposition = format!("attachment; filename=\"{name}\"; filename*=UTF-8''{}", percent::encode(name));
    let over = Override { content_type: kind, disposition: &disposition };
    let proxy = ask.params.iter().any(|(name, _)| name == "proxy");
    if let (Storage::Redirect { job_id_in_path }, false) = (world.setup.storage, proxy) {
        let path = artifact.path(job_id_in_path);
        let url = store::signed_url(world, path, &http::Method::GET, Some(over));
        return redirect(StatusCode::FOUND, &url);
    }
    let etag = web_etag(world);
    if let Some(unchanged) = download::rack_not_modified(ask, etag) {
        return unchanged;
    }
    let fields = download::rails_fields(etag);
    match world.setup.storage {
        Storage::Local { .. } => {
            let mut reply = Reply::new(StatusCode::OK);
            *reply.headers = fields;
            let reply = reply.with(CONTENT_TYPE, kind).with(CONTENT_DISPOSITION, &disposition);
            let fields = *reply.with(field("content-transfer-encoding"), "binary").headers;
            serve::file(&ask.method, &ask.headers, fields, artifact.archive.content(), artifact.modified)
        }
        Storage::Redirect { .. } | Storage::Proxied { .. } => {
            download::send_url(world, ask, artifact, fields, Some(over))
        }
    }
}

/// What is in an archive that can be looked into: there, not expired, and a zip.
pub(super) fn listing(world: &World, visit: &Visit<'_>, job: JobId) -> Result<Listing, Reply> {
    let artifact = visit.readable(job)?.available().ok_or_else(pages::not_found)?;
    Listing::of(world, artifact).ok_or_else(pages::not_found)
}
