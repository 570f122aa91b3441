//! What the store should hold.

use std::collections::{BTreeMap, BTreeSet};

use super::step::JOBS;
use crate::base::key::ArchiveId;
use crate::base::num::{to_u64, to_usize};
use crate::store::record::CHUNK;

/// Which chunks of a sparse archive are here.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub(super) here: BTreeSet<u64>,
    /// What stands in its record.
    pub(super) noted: BTreeSet<u64>,
    /// What may stand there instead, as nobody knows whether it was written.
    pub(super) perhaps: Option<BTreeSet<u64>>,
}

/// An archive that was begun.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) job: u64,
    pub(super) seed: u64,
    pub(super) length: u64,
    pub(super) filled_at: u64,
    /// If it is sparse.
    pub(super) parts: Option<Parts>,
    /// Chunks that may not be what they were.
    pub(super) doubtful: BTreeSet<u64>,
    /// Whether its record or its length may not be what they were: it may leave at any time.
    pub(super) spoilt: bool,
}

impl Made {
    pub(super) const fn chunks(&self) -> u64 {
        self.length.div_ceil(CHUNK)
    }

    pub(super) fn all(&self) -> BTreeSet<u64> {
        (0..self.chunks()).collect()
    }

    pub(super) fn body(&self) -> Vec<u8> {
        body(self.seed, self.length)
    }

    /// The bytes of a chunk.
    pub(super) fn chunk(&self, chunk: u64) -> std::ops::Range<u64> {
        chunk * CHUNK..((chunk + 1) * CHUNK).min(self.length)
    }

    /// How many bytes some chunks have.
    pub(super) fn bytes(&self, chunks: &BTreeSet<u64>) -> u64 {
        chunks.iter().map(|chunk| self.chunk(*chunk)).map(|bytes| bytes.end - bytes.start).sum()
    }
}

/// Bytes of which no two archives share 4 KiB, nor two places of one.
pub(super) fn body(seed: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(seed % 251).unwrap(); to_usize(length)];
    for (at, block) in bytes.chunks_mut(4096).enumerate() {
        let stamp = (seed << 24 | to_u64(at)).to_be_bytes();
        let length = block.len().min(stamp.len());
        block[..length].copy_from_slice(&stamp[stamp.len() - length..]);
    }
    bytes
}

/// What is known of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Job {
    /// The archive that the store has.
    pub(super) live: Option<ArchiveId>,
    /// The one that is there even after a power cut.
    pub(super) sure: Option<ArchiveId>,
    /// Those that may be: they were being brought, or were removed and their directory wasn't brought to the disk since.
    pub(super) perhaps: BTreeSet<ArchiveId>,
    /// Those that were taken out while the disk refused: their files may be there still, until the next start.
    pub(super) left: BTreeSet<ArchiveId>,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) made: BTreeMap<ArchiveId, Made>,
    pub(super) jobs: BTreeMap<u64, Job>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self { made: BTreeMap::new(), jobs: JOBS.map(|job| (job, Job::default())).into() }
    }

    pub(super) fn job(&mut self, job: u64) -> &mut Job {
        self.jobs.get_mut(&job).unwrap()
    }

    /// The archive that the store has of a job, as it was made.
    pub(super) fn live(&self, job: u64) -> Option<(ArchiveId, &Made)> {
        self.jobs[&job].live.map(|id| (id, &self.made[&id]))
    }

    pub(super) fn parts(&mut self, id: ArchiveId) -> Option<&mut Parts> {
        self.made.get_mut(&id)?.parts.as_mut()
    }

    /// A job's archive is another one from now on, or none; only what is removed and brought without being synced.
    pub(super) fn moves(&mut self, job: u64, now: Option<ArchiveId>) {
        let job = self.job(job);
        if job.live != now {
            job.perhaps.extend(job.sure.take().into_iter().chain(now));
            job.live = now;
        }
    }

    /// What may be found of a job after an end that lets the kernel keep what it has.
    pub(super) fn after_an_end(&self, job: u64) -> BTreeSet<Option<ArchiveId>> {
        let Job { live, left, .. } = &self.jobs[&job];
        let since = live.map_or(0, |id| self.made[&id].filled_at);
        let left = left.iter().filter(|id| self.made[id].filled_at >= since);
        left.copied().map(Some).chain([*live]).collect()
    }

    /// A job's archive is on the disk for sure, and with it all that has happened in its directory.
    pub(super) fn is_sure(&mut self, job: u64, id: ArchiveId) {
        let made = &self.made;
        let job = self.jobs.get_mut(&job).unwrap();
        job.sure = Some(id);
        let stays = |other: &ArchiveId| made[other].parts.is_some() || job.left.contains(other);
        job.perhaps.retain(|other| other != &id && stays(other));
    }

    /// What may be found of a job after a power cut.
    pub(super) fn after_a_cut(&self, job: u64) -> BTreeSet<Option<ArchiveId>> {
        let Job { sure, perhaps, left, .. } = &self.jobs[&job];
        let Some(sure) = sure else {
            return perhaps.iter().copied().map(Some).chain([None]).collect();
        };
        let (spoilt, filled_at) = (self.made[sure].spoilt, self.made[sure].filled_at);
        let from = |id: &ArchiveId| if left.contains(id) { filled_at } else { filled_at + 1 };
        let may_win = |id: &&ArchiveId| spoilt || self.made[id].filled_at >= from(id);
        let none = spoilt.then_some(None);
        perhaps.iter().filter(may_win).copied().map(Some).chain([Some(*sure)]).chain(none).collect()
    }
}
