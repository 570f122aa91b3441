//! By what an archive is told from another one.

use std::sync::Arc;

use super::archive::Asking;
use crate::grant::Facts;
use crate::grant::facts::TAIL;
use crate::store::Archive;

/// Longest directory that is compared as a whole, some 50,000 entries; an archive with a longer one isn't recognised
/// by it.
const LONGEST_DIRECTORY: u64 = 4 << 20;

impl Asking<'_> {
    /// By what an archive is recognised. Two jobs of one ref may have archives of one length, date and last KiB: where
    /// nothing else is known, a ref's is recognised by its whole directory, with the checksum of each entry.
    pub(super) async fn recognised(&self, archive: &Arc<Archive>) -> Arc<Facts> {
        let facts = archive.facts();
        if !self.question.class.is_by_ref() || facts.identifies() {
            return facts;
        }
        Arc::new(Box::pin(self.recognised_by_directory(archive, &facts)).await)
    }

    async fn recognised_by_directory(&self, archive: &Arc<Archive>, facts: &Facts) -> Facts {
        let length = archive.record().length;
        let begins = self.proxy.entries.directory_begins_at(archive).await;
        let directory = begins.and_then(|begins| length.checked_sub(begins));
        let span = directory.filter(|directory| *directory <= LONGEST_DIRECTORY).map(|span| span.max(TAIL));
        let tail = match span {
            Some(span) => archive.end(span).await.ok(),
            None => None,
        };
        match tail {
            Some(tail) => Facts { tail: Some(tail), ..facts.clone() },
            // Unproven: it is fetched again.
            None => facts.by_ref(),
        }
    }
}
