//! A fill of all of an archive, from its first bytes on.

use std::sync::Arc;

use super::conclude::Fresh;
use super::open::Opened;
use super::transfer::{Ended, Identity, Incoming, Lost, Transfer};
use super::{Fill, FillBody, Fills, OriginResponse, flight};
use crate::base::key::ArchiveId;
use crate::gitlab::grant::Epoch;
use crate::gitlab::route::Question;
use crate::store::{self, Archive, ChunkClaim, Record, State};
use crate::telemetry::metrics;

impl Fills {
    /// What is to be said of an archive that begins to come, but for its bytes.
    pub(super) fn record(&self, question: &Question, response: &OriginResponse) -> Record {
        let (key, facts) = (question.key, response.facts.clone());
        Record {
            key,
            id: ArchiveId::new(0),
            length: facts.length.unwrap_or_default(),
            filled_at: self.deps.clock.now().unix_seconds(),
            etag: flight::entity_tag(&self.deps.instance, key, &facts),
            facts,
            faces: Vec::new(),
            kept: response.kept.clone(),
            class: question.class,
            chunks: Vec::new(),
            present: None,
        }
    }

    /// Brings all of an archive whose first bytes are here.
    pub(super) async fn bring_in(
        &self,
        flight: Arc<Fill>,
        opened: Opened,
        claim: ChunkClaim,
        arrival: Arc<FillBody>,
        epoch: Epoch,
    ) -> metrics::FillLabel {
        let archive = Arc::clone(arrival.archive());
        let (delimited, may_stay) = (opened.response.is_delimited(), arrival.may_stay_partial());
        let OriginResponse { validator, body, skip, .. } = opened.response;
        let transfer = Transfer {
            fills: self,
            archive: Arc::clone(&archive),
            waiters: Arc::clone(arrival.waiters()),
            identity: Identity::Beginning { validator, delimited, can_be_told: arrival.can_be_told() },
            noted: may_stay,
        };
        let incoming = Incoming { first: opened.first, body, skip };
        let result = match Box::pin(transfer.run(claim, Some(incoming))).await {
            Ended::All(claim) => {
                let fresh = Fresh { flight, delimited, before: opened.before, epoch };
                match claim.finish() {
                    Ok(()) => {
                        self.conclude_as(&archive, Some(fresh)).await.unwrap_or(metrics::FillLabel::Broken)
                    }
                    Err(_) => metrics::FillLabel::Broken,
                }
            }
            Ended::Full(claim, error, remainder) => {
                self.not_stored(&error);
                archive.leave(claim, remainder);
                return metrics::FillLabel::Unstored;
            }
            Ended::Wrong(claim, error) => {
                tracing::warn!(key = %archive.key(), reason = %error, "not stored");
                archive.break_off();
                drop(claim);
                return if matches!(error, store::Error::OtherBytes) {
                    metrics::FillLabel::Damaged
                } else {
                    metrics::FillLabel::Broken
                };
            }
            Ended::Lost(claim, Lost::Changed) => {
                archive.break_off();
                drop(claim);
                return metrics::FillLabel::Broken;
            }
            Ended::Lost(claim, _) => {
                drop(claim);
                metrics::FillLabel::Broken
            }
            Ended::Died => metrics::FillLabel::Unstored,
        };
        if archive.state() == State::Arriving {
            self.keep_partial(&archive, may_stay, epoch).await;
        }
        result
    }

    /// The rest doesn't come: what is here stays for whoever asks next.
    async fn keep_partial(&self, archive: &Arc<Archive>, may_stay: bool, epoch: Epoch) {
        if may_stay && archive.present().count() > 0 {
            let (store, access, kept) =
                (Arc::clone(&self.deps.store), Arc::clone(&self.deps.access), Arc::clone(archive));
            let placed = crate::base::rt::blocking(move || {
                store.place(&kept, || access.epochs().hold(kept.key(), epoch))
            });
            if let Ok(Err(error)) = placed.await {
                tracing::debug!(%error, "the beginning of an archive isn't kept");
            }
        }
        archive.break_off();
    }

    /// Counts an archive that isn't stored. What the disk has to do with it is said once, by the store.
    pub(super) fn not_stored(&self, error: &store::Error) {
        tracing::debug!(%error, "an archive isn't stored");
        if let Some(why) = error.unstored() {
            self.deps.metrics.unstored(why);
        }
    }
}
