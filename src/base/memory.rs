//! Memory that answers under way hold: one budget for all of it.
//!
//! Owns how much is held, by whom, and who waits. Counted is what a client that doesn't read pins: bytes on their way to it,
//! what unpacks them, and what is shared between answers: directories, unpacked files, ends of archives. Bytes of mapped
//! archives aren't: the kernel can take those back. Knows nothing of what is held.
//!
//! Bytes are counted when they are there and for as long as anything refers to them. Whoever wants to make more waits until
//! there is room, in order. A client's address (of IPv6: its /64) gets no more than half while another one waits, and never
//! the last eighth: one that takes all it can leaves room for others.

mod line;

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::base::household::Household;
use crate::base::num::to_u64;
use line::{Line, Ticket};

/// Longest wait for room before an answer is begun: as long as for a place towards GitLab.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Longest wait in the middle of one: those who read too slowly are let go after as long, by default.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// There is no room, and hasn't been for as long as anybody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is held for clients that read slowly")]
pub(crate) struct Full;

/// The budget.
#[derive(Debug)]
pub(crate) struct Memory {
    budget: u64,
    held: Mutex<MemoryUse>,
}

#[derive(Debug, Default)]
struct MemoryUse {
    all: u64,
    /// Of those who hold anything.
    by_address: HashMap<Household, u64>,
    line: Line,
    refused: u64,
}

impl Memory {
    /// A budget of so many bytes.
    pub(crate) fn new(budget: u64) -> Arc<Self> {
        Arc::new(Self { budget, held: Mutex::default() })
    }

    /// Bytes of it.
    pub(crate) const fn budget(&self) -> u64 {
        self.budget
    }

    /// Bytes held now.
    pub(crate) fn held(&self) -> u64 {
        self.held.lock().all
    }

    /// How many waited in vain.
    pub(crate) fn refused(&self) -> u64 {
        self.held.lock().refused
    }

    /// A client's share of it.
    pub(crate) fn share(self: &Arc<Self>, address: IpAddr) -> Share {
        Share { memory: Arc::clone(self), address: Some(Household::of(address)), ticket: None, pause: None }
    }

    /// A share that is everybody's.
    pub(crate) fn common(self: &Arc<Self>) -> Share {
        Share { memory: Arc::clone(self), address: None, ticket: None, pause: None }
    }

    /// Room for what is shared between answers, if there is some now.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        let mut held = self.held.lock();
        let all = held.all.checked_add(to_u64(bytes)).filter(|all| *all <= self.budget)?;
        held.all = all;
        Some(Lease { memory: Arc::clone(self), address: None, bytes: to_u64(bytes) })
    }

    fn take(self: &Arc<Self>, address: Option<Household>, bytes: usize) -> Lease {
        let bytes = to_u64(bytes);
        let mut held = self.held.lock();
        held.all = held.all.saturating_add(bytes);
        if let Some(address) = address.filter(|_| bytes > 0) {
            let own = held.by_address.entry(address).or_default();
            *own = own.saturating_add(bytes);
        }
        Lease { memory: Arc::clone(self), address, bytes }
    }

    fn give_back(&self, address: Option<Household>, bytes: u64) {
        let mut held = self.held.lock();
        held.all = held.all.saturating_sub(bytes);
        if let Some(address) = address
            && let Some(own) = held.by_address.get_mut(&address)
        {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                held.by_address.remove(&address);
            }
        }
        held.call(self.budget);
    }
}

impl MemoryUse {
    /// Whether more may be made for an address.
    fn has_room(&self, budget: u64, address: Option<Household>) -> bool {
        self.all < budget && self.is_within_share(budget, address, self.line.has_others(address))
    }

    fn is_within_share(&self, budget: u64, address: Option<Household>, others_wait: bool) -> bool {
        let Some(address) = address else { return true };
        let own = self.by_address.get(&address).copied().unwrap_or_default();
        own < budget / 2 || (self.all < budget - budget / 8 && !others_wait)
    }

    /// Calls those who wait and may go on, the first first, so many as there is room for.
    fn call(&mut self, budget: u64) {
        if self.all >= budget || self.line.is_empty() {
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        let others_wait = line.has_several();
        line.call(budget - self.all, |address| self.is_within_share(budget, address, others_wait));
        self.line = line;
    }
}

/// A client's part of the budget, for one answer.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Arc<Memory>,
    address: Option<Household>,
    /// Its place in the line, while it waits.
    ticket: Option<Ticket>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Share {
    /// Waits until there is room for more, before an answer is begun.
    pub(crate) async fn room(&mut self) -> Result<(), Full> {
        let room = std::future::poll_fn(|cx| self.poll_line(cx));
        let waited = tokio::time::timeout(LONGEST_WAIT, room).await;
        match waited {
            Ok(result) => result,
            Err(_) => Err(self.give_up()),
        }
    }

    /// The same in the middle of one.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Full>> {
        if let Poll::Ready(room) = self.poll_line(cx) {
            self.pause = None;
            return Poll::Ready(room);
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(LONGEST_PAUSE)));
        match pause.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(self.give_up())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Full>> {
        let mut held = self.memory.held.lock();
        if held.has_room(self.memory.budget, self.address) {
            if let Some(ticket) = self.ticket.take() {
                held.line.leave(ticket, self.address);
            }
            return Poll::Ready(Ok(()));
        }
        self.ticket = held.line.wait(self.ticket, self.address, cx.waker());
        if self.ticket.is_some() {
            return Poll::Pending;
        }
        held.refused += 1;
        Poll::Ready(Err(Full))
    }

    fn give_up(&mut self) -> Full {
        let mut held = self.memory.held.lock();
        held.refused += 1;
        if let Some(ticket) = self.ticket.take() {
            held.line.leave(ticket, self.address);
        }
        Full
    }

    /// Counts what is held from now on, room or not: what has come has come.
    pub(crate) fn take(&self, bytes: usize) -> Lease {
        self.memory.take(self.address, bytes)
    }

    /// Counts bytes for as long as anything refers to them.
    pub(crate) fn hold(&self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() { bytes } else { self.take(bytes.len()).around(bytes) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut held = self.memory.held.lock();
            held.line.leave(ticket, self.address);
            // It may have been called, and somebody else can go in its place.
            held.call(self.memory.budget);
        }
    }
}

/// Bytes that are counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    memory: Arc<Memory>,
    address: Option<Household>,
    bytes: u64,
}

impl Lease {
    /// Gives back what is more than so many bytes.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(to_u64(bytes));
        self.bytes -= less;
        self.memory.give_back(self.address, less);
    }

    /// Bytes that hold on to it.
    pub(crate) fn around(self, bytes: Bytes) -> Bytes {
        struct Counted(Bytes, #[expect(dead_code, reason = "what it does is done by its drop")] Lease);
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Bytes::from_owner(Counted(bytes, self))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.memory.give_back(self.address, self.bytes);
    }
}

#[cfg(test)]
mod tests;
