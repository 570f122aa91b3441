//! Who waits for memory, in order.

use crate::base::household::Household;
use std::collections::{BTreeMap, HashMap};
use std::task::Waker;

/// Most that wait at once: as many streams as some hundred connections have. Further ones are told at once.
const LONGEST: usize = 16 << 10;

/// What one who goes on is reckoned to take: the longest piece of an archive.
const STEP: u64 = 64 << 10;

/// Who waits.
type Address = Option<Household>;

/// A place in the line, kept until its holder goes on or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The line. By address, so that those who may not go on are passed by at once.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// A waker is gone once its owner has been called and hasn't looked yet.
    waiting: HashMap<Address, BTreeMap<Ticket, Option<Waker>>>,
    length: usize,
    next: u64,
}

impl Line {
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether anybody from another address waits.
    pub(super) fn has_others(&self, address: Address) -> bool {
        self.waiting.len() > usize::from(self.waiting.contains_key(&address))
    }

    /// Whether more than one address waits.
    pub(super) fn has_several(&self) -> bool {
        self.waiting.len() > 1
    }

    /// Waits, or goes on waiting; `None` if too many do.
    pub(super) fn wait(&mut self, ticket: Option<Ticket>, address: Address, waker: &Waker) -> Option<Ticket> {
        if ticket.is_none() && self.length >= LONGEST {
            return None;
        }
        let ticket = ticket.unwrap_or_else(|| {
            self.length += 1;
            self.next += 1;
            Ticket(self.next)
        });
        self.waiting.entry(address).or_default().insert(ticket, Some(waker.clone()));
        Some(ticket)
    }

    /// Leaves the line.
    pub(super) fn leave(&mut self, ticket: Ticket, address: Address) {
        let Some(own) = self.waiting.get_mut(&address) else { return };
        if own.remove(&ticket).is_some() {
            self.length -= 1;
        }
        if own.is_empty() {
            self.waiting.remove(&address);
        }
    }

    /// Calls the first of those who `may` go on, until `room` is spoken for. They keep their places until they have looked.
    pub(super) fn call(&mut self, room: u64, may: impl Fn(Address) -> bool) {
        let steps = usize::try_from((room / STEP).max(1)).unwrap_or(usize::MAX);
        let able = self.waiting.iter_mut().filter(|(address, _)| may(**address));
        let mut first: Vec<_> = able.flat_map(|(_, own)| own.iter_mut().take(steps)).collect();
        first.sort_unstable_by_key(|(ticket, _)| **ticket);
        for (_, waker) in first.into_iter().take(steps) {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }
}
