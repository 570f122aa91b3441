//! One entry of an archive: Workhorse unpacks it, from wherever the archive lies
//! (`workhorse/internal/artifacts/entry.go`, `workhorse/cmd/gitlab-zip-cat/main.go`). No ranges, never a redirect.

use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::{BOGUS_ETAG, download, zip_entry};
use crate::archive::sha256_hex;
use crate::ask::Ask;
use crate::auth::Caller;
use crate::ids::JobId;
use crate::percent;
use crate::reply::Reply;
use crate::settings::Etag;
use crate::world::World;

/// `GET /projects/:id/jobs/:job_id/artifacts/*artifact_path`.
pub(super) fn by_job(
    world: &World,
    ask: &Ask,
    caller: Caller,
    (project, job): (&str, JobId),
    path: &str,
) -> Result<Reply, Reply> {
    let job = download::authorize(world, ask, caller, project, job)?;
    let available = job.artifact.as_ref().filter(|artifact| !artifact.expired || job.locked);
    let artifact = available.ok_or_else(Reply::no_file)?;
    let path = percent::decode_text(path).filter(|path| !path.contains('\0'));
    let path = path.ok_or_else(|| Reply::message(StatusCode::BAD_REQUEST, "400 Bad request"))?;
    let etag = match world.setup.storage.etag() {
        Etag::Weak => BOGUS_ETAG.to_owned(),
        Etag::Sha256 => {
            format!("\"{}\"", sha256_hex(format!("{}:{path}", artifact.archive.sha256()).as_bytes()))
        }
    };
    if let Some(unchanged) = download::rack_not_modified(ask, Some(&etag)) {
        return Ok(unchanged);
    }
    let member = match zip_entry::find(artifact.archive.content(), &path) {
        Ok(Some(member)) => member,
        Ok(None) => return Ok(workhorse_404()),
        Err(_) => {
            return Ok(Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"));
        }
    };
    let mut reply = Reply::new(StatusCode::OK);
    *reply.headers = download::rails_fields(Some(&etag));
    reply.source = member;
    let base = path.rsplit('/').next().unwrap_or_default().replace('\\', "\\\\").replace('"', "\\\"");
    let disposition = format!("attachment; filename=\"{base}\"");
    Ok(reply.with(CONTENT_TYPE, content_type(&path)).with(CONTENT_DISPOSITION, &disposition))
}

/// Go's `http.NotFound`, which is what Workhorse answers.
fn workhorse_404() -> Reply {
    Reply::typed(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// By extension, as Go's `mime.TypeByExtension` with its built-in table and a few of the usual `mime.types`.
fn content_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "gif" => "image/gif",
        "htm" | "html" => "text/html; charset=utf-8",
        "jpeg" | "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "log" | "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "wasm" => "application/wasm",
        "webp" => "image/webp",
        "xml" => "text/xml; charset=utf-8",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}
