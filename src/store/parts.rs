//! The store's face towards archives that come in parts.

use std::sync::Arc;

use super::{Archive, Draft, Error, Record, Store, Writer, sparse};
use crate::grant::Sha256;

impl Store {
    /// An archive by what its record is to say, of which nothing is here and which nobody can find yet: it gets a new name.
    /// Blocks.
    pub fn sparse(&self, record: Record) -> Result<Arc<Archive>, Error> {
        self.shared.sparse(record)
    }

    /// Puts a sparse archive where it can be found, if `still` says that nothing has overtaken it; as in [`Self::commit`].
    /// Returns whether. Blocks.
    pub fn place(&self, archive: &Arc<Archive>, still: impl FnOnce(&mut dyn FnMut())) -> Result<bool, Error> {
        self.shared.note_unplaced(archive)?;
        let now = self.clock.now().unix_seconds();
        let mut placed = None;
        still(&mut || placed = Some(self.shared.place_sparse(archive, now)));
        let Some(replaced) = placed else {
            return Ok(false);
        };
        self.shared.hot.insert(archive.key(), Arc::clone(archive));
        self.shared.unlink(archive.key(), replaced);
        Ok(true)
    }

    /// Writes down which chunks of a sparse archive are here. Blocks.
    pub fn note(&self, archive: &Archive) -> Result<(), Error> {
        self.shared.note(archive)
    }

    /// Writes down how far a draft has come, so that the next larder goes on from there if this one is killed. Blocks.
    pub fn note_draft(&self, draft: &Draft, record: Record, writer: &Writer) -> Result<(), Error> {
        if !draft.path().starts_with(self.shared.layout.partial()) {
            return Ok(());
        }
        draft.was_noted();
        self.shared.note_draft(&sparse::beginning(record, writer.sums().to_vec()))
    }

    /// Keeps the beginning of a draft whose rest doesn't come, as a sparse archive, if `still` says so; as in
    /// [`Self::commit`]. Blocks.
    pub fn rest(
        &self,
        draft: &Draft,
        record: Record,
        writer: &Writer,
        still: impl FnOnce(&mut dyn FnMut()),
    ) -> Result<(), Error> {
        if writer.sums().is_empty() || draft.length() != Some(record.length) {
            return Ok(());
        }
        let record = sparse::beginning(record, writer.sums().to_vec());
        let (now, key, written) = (self.clock.now().unix_seconds(), record.key, writer.written());
        let mut kept = None;
        still(&mut || kept = Some(self.shared.rest(draft, record.clone(), written, now)));
        if let Some(replaced) = kept.transpose()? {
            // The one that stood there may be open: it would stay so, and its bytes taken.
            self.shared.let_go(key);
            self.shared.unlink(key, replaced);
        }
        Ok(())
    }

    /// Makes a sparse archive whose bytes are all here, with this digest, a whole one. `false`: it has left the store.
    /// Blocks.
    pub fn complete(&self, archive: &Arc<Archive>, sha256: Sha256) -> Result<bool, Error> {
        let now = self.clock.now().unix_seconds();
        Ok(self.shared.promote(archive, sha256, now)?.is_some())
    }
}
