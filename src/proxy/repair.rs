//! Slices of an archive, of which a damaged or missing one is fetched.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Proxy;
use crate::base::num::to_u64;
use crate::entries::{Checked, EntryError};
use crate::fill::Requester;
use crate::store::{Archive, Mapped, ReadError, Reader, Unsound};
use crate::telemetry::metrics::Mend;
use crate::upstream::Insists;

/// In whose name a damaged chunk is fetched again: of whoever reads it, whom GitLab lets have it.
#[derive(Clone)]
pub(super) struct Repairer {
    pub(super) proxy: Arc<Proxy>,
    pub(super) requester: Requester,
}

type Repairing = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A range of a stored archive on its way to a client. A damaged chunk is never sent: it is fetched again, or the range
/// breaks off and the archive leaves the store. A missing one is waited for.
pub(crate) struct Sound {
    slices: Reader,
    repairer: Option<Box<Repairer>>,
    repairing: Option<Repairing>,
}

impl Sound {
    /// Without a repairer damage can only break the range off. An archive that was found sound as a whole needs none: if it
    /// is damaged since, its next reader has one.
    pub(super) fn new(slices: Reader, repairer: Option<Box<Repairer>>) -> Self {
        Self { slices, repairer, repairing: None }
    }

    /// Allows slices of the mapping; see [`Reader::allow_mapped`].
    pub(super) const fn allow_mapped(&mut self) {
        self.slices.allow_mapped();
    }

    /// Makes slices that are copied short.
    pub(super) const fn keep_little(&mut self) {
        self.slices.keep_little();
    }

    /// Whether its slices can be of a mapping.
    pub(super) fn is_mappable(&self) -> bool {
        self.slices.is_mappable()
    }

    /// The mapping that its bytes lie in; see [`Reader::mapped`].
    pub(super) fn mapped(&self) -> Option<Mapped> {
        self.slices.mapped()
    }

    pub(super) fn remaining(&self) -> u64 {
        // Of what is stored the end is known.
        self.slices.remaining().unwrap_or_default()
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(repairing) = &mut self.repairing {
                let mended = ready!(repairing.as_mut().poll(cx));
                self.repairing = None;
                if let Err(error) = mended {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(self.slices.poll_next(cx)) {
                Some(Err(ReadError::Unsound(unsound))) => self.repairing = Some(self.mend(unsound)),
                Some(Err(ReadError::Absent(chunk))) => self.repairing = Some(self.bring(chunk)),
                Some(Err(ReadError::Unproven)) => self.repairing = Some(self.prove()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(slice)) => return Poll::Ready(Some(Ok(slice))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Missing bytes are fetched in the reader's name, as far as he reads.
    fn bring(&self, chunk: u64) -> Repairing {
        let (archive, repairer, left) =
            (Arc::clone(self.slices.archive()), self.repairer.clone(), self.slices.left());
        Box::pin(async move {
            let repairer = repairer.ok_or(ReadError::Absent(chunk))?;
            repairer.proxy.fills.bring(&repairer.requester, &archive, left, Insists::Yes).await
        })
    }

    /// All of it is read, and nobody gets to its end before it was found right.
    fn prove(&self) -> Repairing {
        let (archive, repairer) = (Arc::clone(self.slices.archive()), self.repairer.clone());
        Box::pin(async move {
            repairer.ok_or(ReadError::Unproven)?.proxy.fills.conclude(&archive).await;
            Ok(archive.proven().await?)
        })
    }

    fn mend(&self, unsound: Unsound) -> Repairing {
        let (archive, repairer) = (Arc::clone(self.slices.archive()), self.repairer.clone());
        Box::pin(async move {
            tracing::error!(archive = %archive.id(), %unsound, "a stored archive is damaged");
            let done = match &repairer {
                Some(repairer) => repairer.mend(&archive, &unsound).await,
                None => false,
            };
            if done {
                return Ok(());
            }
            // Whatever comes of it, this reader has no more of it.
            if let Some(repairer) = repairer {
                let store = Arc::clone(&repairer.proxy.store);
                let _ = crate::base::rt::blocking(move || store.give_up(&archive)).await;
            }
            Err(io::Error::new(io::ErrorKind::InvalidData, unsound))
        })
    }
}

/// A range of an entry on its way to a client. Several ranges of one answer share a pass over the entry, and are read one
/// after the other.
pub(crate) struct Unpacked {
    pass: Arc<Mutex<EntryPass>>,
    left: u64,
}

impl Unpacked {
    pub(super) fn new(checked: Box<Checked>, repairer: Repairer) -> Self {
        let left = checked.remaining();
        let pass = EntryPass { checked, repairer: Box::new(repairer), bringing: None };
        Self { pass: Arc::new(Mutex::new(pass)), left }
    }

    /// Makes its pieces short.
    pub(super) fn keep_little(&self) {
        self.pass.lock().checked.keep_little();
    }

    /// One more range in the same pass; `None` if it doesn't follow those that are in it.
    pub(super) fn and(&self, range: Range<u64>) -> Option<Self> {
        let left = range.end.checked_sub(range.start)?;
        self.pass.lock().checked.add(range).then(|| Self { pass: Arc::clone(&self.pass), left })
    }

    /// The same range once more, for nobody to read: what further ranges are added to.
    pub(super) fn handle(&self) -> Self {
        Self { pass: Arc::clone(&self.pass), left: 0 }
    }

    pub(super) const fn remaining(&self) -> u64 {
        self.left
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let next = ready!(self.pass.lock().poll_next(cx));
        if let Some(Ok(bytes)) = &next {
            self.left = self.left.saturating_sub(to_u64(bytes.len()));
        }
        Poll::Ready(next)
    }
}

/// One pass over an entry. What others gave up fetching of it is fetched in this reader's name.
struct EntryPass {
    checked: Box<Checked>,
    repairer: Box<Repairer>,
    bringing: Option<Repairing>,
}

impl EntryPass {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(bringing) = &mut self.bringing {
                let brought = ready!(bringing.as_mut().poll(cx));
                self.bringing = None;
                if let Err(error) = brought {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(self.checked.poll_next(cx)) {
                Some(Err(EntryError::Lacking(range))) => self.bringing = Some(self.bring(range)),
                Some(Err(EntryError::Io(error))) => return Poll::Ready(Some(Err(error))),
                Some(Ok(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn bring(&self, range: Range<u64>) -> Repairing {
        let (repairer, archive) = (self.repairer.clone(), Arc::clone(self.checked.archive()));
        Box::pin(async move {
            repairer.proxy.fills.bring(&repairer.requester, &archive, range, Insists::Yes).await
        })
    }
}

impl Repairer {
    async fn mend(&self, archive: &Arc<Archive>, unsound: &Unsound) -> bool {
        let (range, length) = (archive.range_of(unsound), archive.stored_length());
        let fetched = self.proxy.fills.fetch_part(&self.requester, range, length).await;
        let mended = match fetched {
            Some(bytes) => {
                let (store, archive, chunk) =
                    (Arc::clone(&self.proxy.store), Arc::clone(archive), unsound.chunk());
                let written = crate::base::rt::blocking(move || store.repair(&archive, chunk, &bytes)).await;
                matches!(written, Ok(Ok(true)))
            }
            None => false,
        };
        self.proxy.metrics.mend(if mended { Mend::Mended } else { Mend::Lost });
        mended
    }
}
