//! How a ref is resolved.
//!
//! larder resolves none: which job's archive a ref leads to GitLab alone knows, and says anew with each answer. A question by
//! ref is put to GitLab in the caller's name like any other, and what GitLab shows is compared with what is held.
//!
//! 1. **The route.** `jobs/artifacts/:ref/download` and `/raw/` are read in [`crate::gitlab::route`] (its module `read`, `by_ref`). The
//!    [key](crate::base::key::Key::Ref) is a hash of project, ref, job name and whether recent pipelines count, each as GitLab would
//!    read it: two spellings of one question are one key, and a ref that moves keeps its key. A browser's route by ref is not
//!    larder's: GitLab redirects it to a job.
//! 2. **What GitLab's answer shows.** Never the job. A redirect names the object, an answer of GitLab's own may have a digest
//!    as its tag; either [identifies](Facts::identifies) the archive. Else there are length, date and the last KiB, which two
//!    jobs of one ref may share.
//! 3. **By what an archive is recognised as the ref's.** By what identifies it; where nothing does, by its whole directory, with
//!    each entry's checksum ([`recognised`]). One that is still arriving shows no directory yet: nothing proves that it is the
//!    ref's before it has landed ([`unnamed_while_arriving`]).
//! 4. **Asking before fetching.** Most archives that a ref leads to were fetched by job before. So by ref one question is asked
//!    before a transfer is begun only to be thrown away; and by job while a transfer for a ref is under way, which may be of
//!    that job ([`may_be_had_otherwise`]).
//! 5. **Joined keys.** What GitLab shows is held under another key, and that is proven ([`Facts::proves`]: digest or object):
//!    this key is joined to it ([`is_held_as`], [`Store::join`](crate::store::Store::join)). It is one archive then, with one
//!    file; whoever asks by the joined key still has a question of its own. An archive that replaces the other, or that GitLab
//!    no longer has, parts them.
//! 6. **Transfers that turn out to be one.** A fill says what it brings before its first byte; of two under different keys that
//!    bring the same, the later one ends and its callers follow the earlier (`announce` in [`crate::fill`]). Whoever was shown
//!    what is arriving under another key follows that at once ([`arriving_as`]). A file that was just asked for by ref is found
//!    when the archive has landed under a job's key ([`is_another_keys`]).
//! 7. **What isn't remembered.** Where the ref led last. A yes is remembered for as long as any, for this key and this archive:
//!    meanwhile the ref may have moved, and the older archive is answered, as it would be by a job that began before. Every
//!    change that may concern a ref [ends those of all refs](crate::access::Epochs::invalidate_refs). Joins aren't on disk:
//!    after a restart the first question by ref finds the job's archive by its marks again.

use std::sync::Arc;

use bytes::Bytes;

use super::Proxy;
use crate::access::{Admission, Caller, Mismatch};
use crate::base::key::{ArchiveId, Key};
use crate::base::num::to_usize;
use crate::fill::Fill;
use crate::gitlab::grant::Facts;
use crate::gitlab::grant::facts::TAIL;
use crate::gitlab::route::{Class, Question};
use crate::store::Archive;

/// Longest directory that is compared as a whole, some 50,000 entries; an archive with a longer one isn't recognised
/// by it.
const LONGEST_DIRECTORY: u64 = 4 << 20;

/// By what an archive is recognised. Two jobs of one ref may have archives of one length, date and last KiB: where
/// nothing else is known, a ref's is recognised by its whole directory, with the checksum of each entry.
pub(super) async fn recognised(proxy: &Proxy, class: Class, archive: &Arc<Archive>) -> Arc<Facts> {
    let facts = archive.facts();
    if !class.is_by_ref() || facts.identifies() {
        return facts;
    }
    let by_directory = recognised_by_directory(proxy, archive, &facts);
    archive.recognised(&facts, Box::pin(by_directory)).await
}

async fn recognised_by_directory(proxy: &Proxy, archive: &Arc<Archive>, facts: &Facts) -> Facts {
    let length = archive.stored_length();
    let begins = proxy.entries.directory_begins_at(archive).await;
    let directory = begins.and_then(|begins| length.checked_sub(begins));
    let span = directory.filter(|directory| *directory <= LONGEST_DIRECTORY).map(|span| span.max(TAIL));
    let tail = match span {
        Some(span) => shared_end(proxy, archive, span).await,
        None => None,
    };
    match tail {
        Some(tail) => Facts { tail: Some(tail), ..facts.clone() },
        // Unproven: it is fetched again.
        None => facts.by_ref(),
    }
}

/// The end of an archive, which counts for as long as anybody compares with it.
async fn shared_end(proxy: &Proxy, archive: &Arc<Archive>, span: u64) -> Option<Bytes> {
    let mut share = proxy.memory.common();
    share.room().await.ok()?;
    let lease = share.take(to_usize(span));
    Some(lease.around(archive.end(span).await.ok()?.into()))
}

/// By what an archive that arrives is recognised by ref, where nothing identifies it: what it would be recognised by is still
/// missing. `None`: by its facts.
pub(super) fn unnamed_while_arriving(class: Class, facts: &Facts) -> Option<Facts> {
    (class.is_by_ref() && !facts.identifies()).then(|| facts.by_ref())
}

/// Whether one question may show that what a key leads to is held, or arrives, under another one; not while a transfer for
/// the key itself is under way.
pub(super) fn may_be_had_otherwise(proxy: &Proxy, question: &Question) -> bool {
    let may_be = question.class.is_by_ref() || proxy.fills.is_ref_under_way();
    may_be && !proxy.fills.is_under_way(question.key)
}

/// Whether what GitLab has is held under another key, other than as `known`; then the keys are joined.
pub(super) async fn is_held_as(
    proxy: &Proxy,
    key: Key,
    mismatch: &Mismatch,
    known: Option<ArchiveId>,
) -> bool {
    proxy.store.join(key, &mismatch.facts, known).await
}

/// The transfer under another key of what GitLab has.
pub(super) fn arriving_as(proxy: &Proxy, key: Key, mismatch: &Mismatch) -> Option<Arc<Fill>> {
    proxy.fills.under_way_as(key, &mismatch.facts)
}

/// Asks whether what arrived under another key is what this question leads to; then the keys are joined.
pub(super) async fn is_another_keys(proxy: &Proxy, caller: &Caller, question: &Question) -> bool {
    match proxy.access.inquire(caller, &question.of_archive()).await {
        Admission::Other(mismatch) => is_held_as(proxy, question.key, &mismatch, None).await,
        _ => false,
    }
}
