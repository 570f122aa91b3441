//! Reading what is stored, and comparing it.

use std::sync::Arc;

use super::super::key;
use super::dice::Dice;
use super::step::JOBS;
use super::world::{Done, World};
use super::{Check, ensure};
use crate::base::key::ArchiveId;
use crate::base::num::to_usize;
use crate::store::{Archive, ReadError, Reader as Slices};

/// One who reads for long.
#[derive(Debug)]
pub(super) struct Reader {
    id: ArchiveId,
    slices: Slices,
}

impl Reader {
    pub(super) const fn archive(&self) -> &Arc<Archive> {
        self.slices.archive()
    }
}

/// Where reading ended.
enum Stop {
    End,
    Absent,
    Unproven,
    Unsound(u64),
}

impl World {
    /// The archive of a job, which is the one that it should be.
    pub(super) async fn find(&mut self, job: u64, done: &mut Done) -> Check<Option<Arc<Archive>>> {
        let found = self.store().find(key(job)).await;
        let id = found.as_ref().map(|archive| archive.id());
        let live = self.model.live(job);
        let is_gone = live.is_some_and(|(_, made)| made.spoilt || self.is_expired(made));
        let expected = live.filter(|(_, made)| !self.is_expired(made)).map(|(id, _)| id);
        ensure!(
            id == expected || id.is_none() && is_gone,
            "job {job} has {id:?} and should have {expected:?}"
        );
        done.removed |= is_gone && id.is_none();
        Ok(found)
    }

    /// Reads on, comparing.
    async fn read_on(&self, id: ArchiveId, slices: &mut Slices, body: &[u8]) -> Check<Stop> {
        let made = &self.model.made[&id];
        loop {
            let at = to_usize(slices.left().start);
            match std::future::poll_fn(|cx| slices.poll_next(cx)).await {
                None => return Ok(Stop::End),
                Some(Ok(slice)) => {
                    ensure!(!slice.is_empty(), "nothing came at {at} of {id}");
                    ensure!(slice == body[at..at + slice.len()], "wrong bytes at {at} of {id}");
                }
                Some(Err(ReadError::Absent(chunk))) => {
                    let parts = made.parts.as_ref().ok_or("a chunk of a whole archive is missing")?;
                    ensure!(!parts.here.contains(&chunk), "{chunk} isn't here, though it is: {parts:?}");
                    return Ok(Stop::Absent);
                }
                Some(Err(ReadError::Unproven)) => {
                    ensure!(made.parts.is_some(), "a whole archive isn't proven");
                    return Ok(Stop::Unproven);
                }
                Some(Err(ReadError::Unsound(unsound))) => {
                    ensure!(made.doubtful.contains(&unsound.chunk()), "{unsound}, though nobody touched it");
                    return Ok(Stop::Unsound(unsound.chunk()));
                }
                Some(Err(error)) => return Err(format!("{error} at {at} of {id}")),
            }
        }
    }

    pub(super) async fn read(&mut self, job: u64, part: bool, mapped: bool, dice: &mut Dice) -> Check<Done> {
        let mut done = Done::default();
        let Some(archive) = self.find(job, &mut done).await? else { return Ok(done) };
        let made = self.model.made[&archive.id()].clone();
        let (body, length) = (made.body(), made.length);
        let from = if part { dice.below(length) } else { 0 };
        let to = if part { from + dice.below(length - from + 1) } else { length };
        let mut slices = archive.read(&self.grant(archive.id()), from..to).ok_or("no slices")?;
        if mapped {
            slices.allow_mapped();
        }
        // Each chunk of it may have to be mended.
        for _ in 0..=made.chunks() {
            match self.read_on(archive.id(), &mut slices, &body).await? {
                Stop::End => {
                    ensure!(slices.remaining() == Some(0), "it ended early");
                    return Ok(done);
                }
                Stop::Unproven => {
                    ensure!(!part || from == 0 && to == length, "a part of it had to wait");
                    return Ok(done);
                }
                Stop::Absent => return Ok(done),
                Stop::Unsound(chunk) => {
                    let bytes = made.chunk(chunk);
                    ensure!(
                        !self.store().repair(&archive, chunk, b"wrong").unwrap_or(false),
                        "it was mended with anything"
                    );
                    let mended = self.store().repair(
                        &archive,
                        chunk,
                        &body[to_usize(bytes.start)..to_usize(bytes.end)],
                    );
                    if let Err(error) = mended {
                        done.error = Some(crate::store::Error::io("mend", error));
                        return Ok(done);
                    }
                    ensure!(mended.is_ok_and(|mended| mended), "it wasn't mended with the right bytes");
                    self.model.made.get_mut(&archive.id()).unwrap().doubtful.remove(&chunk);
                }
            }
        }
        Err("it was mended without end".to_owned())
    }

    pub(super) async fn hold(&mut self, job: u64) -> Check<Done> {
        let mut done = Done::default();
        let Some(archive) = self.find(job, &mut done).await? else { return Ok(done) };
        let id = archive.id();
        let length = archive.stored_length();
        let from = if archive.is_partial() { length.min(1) } else { 0 };
        let slices = archive.read(&self.grant(id), from..length).ok_or("no slices")?;
        if self.readers.len() < 2 {
            self.readers.push(Reader { id, slices });
        }
        Ok(done)
    }

    /// Whoever has begun to read gets to the end, whatever has become of the archive.
    pub(super) async fn release(&mut self) -> Check<Done> {
        let Some(Reader { id, mut slices }) = self.readers.pop() else { return Ok(Done::default()) };
        let body = self.model.made[&id].body();
        self.read_on(id, &mut slices, &body).await?;
        Ok(Done::default())
    }

    /// All archives, as far as they are here.
    pub(super) async fn read_all(&mut self, dice: &mut Dice) -> Check {
        for job in JOBS {
            let done = self.read(job, false, false, dice).await?;
            ensure!(done.error.is_none(), "{:?}", done.error);
            if done.removed {
                self.model.moves(job, None);
            }
        }
        Ok(())
    }
}

/// Bytes on the disk.
pub(super) fn length(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
