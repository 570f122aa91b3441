//! One entry of an archive: Workhorse unpacks it, from wherever the archive lies
//! (`workhorse/internal/artifacts/entry.go`, `workhorse/cmd/gitlab-zip-cat/main.go`). No ranges, never a redirect.

use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::zip_entry::{self, Unpacked};
use super::{BOGUS_ETAG, by_ref, content_type, download};
use crate::archive::sha256_hex;
use crate::ask::Ask;
use crate::auth::Caller;
use crate::ids::JobId;
use crate::payload::Source;
use crate::percent;
use crate::reply::Reply;
use crate::settings::{Etag, Setup, Storage};
use crate::world::{Artifact, World};

/// How much of an entry Workhorse holds back while it looks what it is
/// (`workhorse/internal/headers/headers.go`, `MaxDetectSize`).
const HELD_BACK: u64 = 4096;
/// What Go's `http.Error` writes, into whatever was sent so far.
const FAILED: &str = "Internal Server Error\n";

/// What decides on an entry's `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    ByExtension,
    ByContent,
}

/// `GET /projects/:id/jobs/:job_id/artifacts/*artifact_path`: the one entry route that tests expiry.
pub(super) fn by_job(
    world: &World,
    ask: &Ask,
    caller: Caller,
    (project, job): (&str, JobId),
    path: &str,
) -> Result<Reply, Reply> {
    let job = download::authorize(world, ask, caller, project, job)?;
    let artifact = job.available().ok_or_else(Reply::no_file)?;
    tagged(world, ask, artifact, path, Typed::ByExtension)
}

/// `GET /projects/:id/jobs/artifacts/:ref_name/raw/*artifact_path`.
pub(super) fn by_ref(
    world: &World,
    ask: &Ask,
    caller: Caller,
    (project, ref_name): (&str, &str),
    path: &str,
) -> Result<Reply, Reply> {
    let job = by_ref::job(world, ask, caller, project, ref_name)?;
    let artifact = job.artifact.as_ref().ok_or_else(Reply::no_file)?;
    tagged(world, ask, artifact, path, Typed::ByContent)
}

/// The API's answer: with a tag that Rails knows before Workhorse has touched the archive.
fn tagged(world: &World, ask: &Ask, artifact: &Artifact, path: &str, typed: Typed) -> Result<Reply, Reply> {
    let path = valid(path).ok_or_else(|| Reply::message(StatusCode::BAD_REQUEST, "400 Bad request"))?;
    let etag = match world.setup.etag() {
        Etag::Weak => BOGUS_ETAG.to_owned(),
        Etag::Sha256 => {
            format!("\"{}\"", sha256_hex(format!("{}:{path}", artifact.archive.sha256()).as_bytes()))
        }
    };
    let unchanged = download::rack_not_modified(ask, Some(&etag));
    Ok(unchanged.unwrap_or_else(|| unpacked(world, artifact, &path, Some(&etag), typed)))
}

/// The decoded path, if it is UTF-8 without a zero byte (`lib/gitlab/ci/build/artifacts/path.rb`).
pub(super) fn valid(path: &str) -> Option<String> {
    percent::decode_text(path).filter(|path| !path.contains('\0'))
}

/// What Workhorse makes of it.
pub(super) fn unpacked(
    world: &World,
    artifact: &Artifact,
    path: &str,
    etag: Option<&str>,
    typed: Typed,
) -> Reply {
    if world.store_down && !matches!(world.setup.storage, Storage::Local { .. }) {
        return failed();
    }
    // A lost object looks to Workhorse like a lost member.
    let Some(archive) = world.bytes_of(artifact) else {
        return workhorse_404();
    };
    match zip_entry::find(archive.content(), path) {
        Ok(Some(member)) => dressed(&world.setup, member, path, etag, typed),
        Ok(None) => workhorse_404(),
        Err(_) => failed(),
    }
}

/// `entry.go` sets `attachment` first, and `content_headers.go` leaves a disposition that says so.
fn dressed(setup: &Setup, mut member: Unpacked, path: &str, etag: Option<&str>, typed: Typed) -> Reply {
    let (declared, read) = (member.declared, member.body.len());
    let mut reply = Reply::new(StatusCode::OK);
    *reply.headers = download::rails_fields(etag);
    // An empty entry has nothing to look at: its extension counts on every route.
    let kind = match typed {
        Typed::ByContent if read > 0 => content_type::by_content(&start(&member.body), setup.attachments),
        _ => content_type::by_extension(path, setup.mime_table),
    };
    let error = Source::bytes(FAILED);
    if read < declared {
        // What is still held back goes out as an error; otherwise the text is appended where it fits, and the
        // connection ends short of the length it was promised.
        if typed == Typed::ByContent && read < HELD_BACK {
            reply.status = StatusCode::INTERNAL_SERVER_ERROR;
            member.body.push(error);
        } else {
            if read + error.len() <= declared {
                member.body.push(error);
            }
            reply.declares = Some(declared);
        }
    }
    reply.source = member.body;
    reply.with(CONTENT_TYPE, kind).with(CONTENT_DISPOSITION, &disposition(path))
}

/// The base name as Go's `filepath.Base` has it, quoted; a line break becomes a blank on the wire.
fn disposition(path: &str) -> String {
    let base = match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or_default(),
    };
    let base = base.replace('\\', "\\\\").replace('"', "\\\"").replace(['\r', '\n'], " ");
    format!("attachment; filename=\"{base}\"")
}

fn start(body: &Source) -> Vec<u8> {
    let mut body = body.clone();
    body.read(HELD_BACK).ok().flatten().map(|bytes| bytes.to_vec()).unwrap_or_default()
}

/// Go's `http.NotFound`, which is what Workhorse answers.
fn workhorse_404() -> Reply {
    Reply::typed(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

fn failed() -> Reply {
    Reply::typed(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", FAILED)
}
