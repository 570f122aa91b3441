//! Slices of an archive, of which a damaged or missing one is fetched.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::Proxy;
use crate::entries::{Checked, Lacking};
use crate::fill::Asker;
use crate::store::{Absent, Archive, Mapped, Slices, Unsound};
use crate::telemetry::metrics::Mend;

/// In whose name a damaged chunk is fetched again: of whoever reads it, whom GitLab lets have it.
#[derive(Clone)]
pub(super) struct Mender {
    pub(super) proxy: Arc<Proxy>,
    pub(super) asker: Asker,
}

type Mending = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A range of a stored archive on its way to a client. A damaged chunk is never sent: it is fetched again, or the range
/// breaks off and the archive leaves the store. A missing one is waited for.
pub struct Sound {
    slices: Slices,
    mender: Option<Box<Mender>>,
    /// Whether all of the archive had been found sound when this began.
    was_compared: bool,
    mending: Option<Mending>,
}

impl Sound {
    /// Without a mender damage can only break the range off. An archive that was found sound as a whole needs none: if it
    /// is damaged since, its next reader has one.
    pub(super) fn new(slices: Slices, mender: Option<Box<Mender>>) -> Self {
        let was_compared = slices.archive().is_compared();
        Self { slices, mender, was_compared, mending: None }
    }

    /// Allows slices of the mapping; see [`Slices::allow_mapped`].
    pub(super) const fn allow_mapped(&mut self) {
        self.slices.allow_mapped();
    }

    /// The mapping that its bytes lie in; see [`Slices::mapped`].
    pub(super) fn mapped(&self) -> Option<Mapped> {
        self.slices.mapped()
    }

    pub(super) const fn remaining(&self) -> u64 {
        self.slices.remaining()
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(mending) = &mut self.mending {
                let mended = ready!(mending.as_mut().poll(cx));
                self.mending = None;
                if let Err(error) = mended {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(self.slices.poll_next(cx)) {
                Some(Err(error)) => match what_is_wrong(error) {
                    Wrong::Unsound(unsound) => self.mending = Some(self.mend(unsound)),
                    Wrong::Absent(absent) => self.mending = Some(self.bring(absent)),
                    Wrong::Other(error) => return Poll::Ready(Some(Err(error))),
                },
                next => return Poll::Ready(next),
            }
        }
    }

    /// Missing bytes are fetched in the reader's name, as far as he reads.
    fn bring(&self, absent: Absent) -> Mending {
        let (archive, mender, left) =
            (Arc::clone(self.slices.archive()), self.mender.clone(), self.slices.left());
        Box::pin(async move {
            let Some(mender) = mender else {
                return Err(io::Error::other(absent));
            };
            let fills = &mender.proxy.fills;
            match absent {
                Absent::Chunk(_) => fills.bring(&mender.asker, &archive, left).await,
                Absent::Proof => {
                    fills.finish(&archive).await;
                    archive.proven().await
                }
            }
        })
    }

    fn mend(&self, unsound: Unsound) -> Mending {
        let (archive, mender) = (Arc::clone(self.slices.archive()), self.mender.clone());
        let was_compared = self.was_compared;
        Box::pin(async move {
            tracing::error!(archive = %archive.id(), %unsound, "a stored archive is damaged");
            let done = match &mender {
                Some(mender) => mender.mend(&archive, &unsound).await,
                None => false,
            };
            if done {
                return Ok(());
            }
            // Whatever comes of it, this reader has no more of it.
            if mender.is_some() || !was_compared {
                let _ = crate::rt::blocking(move || archive.give_up()).await;
            }
            Err(io::Error::new(io::ErrorKind::InvalidData, unsound))
        })
    }
}

/// An entry on its way to a client. What others gave up fetching of it is fetched in this reader's name.
pub struct Unpacked {
    checked: Box<Checked>,
    mender: Box<Mender>,
    bringing: Option<Mending>,
}

impl Unpacked {
    pub(super) fn new(checked: Box<Checked>, mender: Mender) -> Self {
        Self { checked, mender: Box::new(mender), bringing: None }
    }

    pub(super) const fn remaining(&self) -> u64 {
        self.checked.remaining()
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(bringing) = &mut self.bringing {
                let brought = ready!(bringing.as_mut().poll(cx));
                self.bringing = None;
                if let Err(error) = brought {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            let next = ready!(self.checked.poll_next(cx));
            match next.as_ref().and_then(|next| next.as_ref().err()).and_then(lacking) {
                Some(range) => self.bringing = Some(self.bring(range)),
                None => return Poll::Ready(next),
            }
        }
    }

    fn bring(&self, range: Range<u64>) -> Mending {
        let (mender, archive) = (self.mender.clone(), Arc::clone(self.checked.archive()));
        Box::pin(async move { mender.proxy.fills.bring(&mender.asker, &archive, range).await })
    }
}

fn lacking(error: &io::Error) -> Option<Range<u64>> {
    let lacking = error.get_ref()?.downcast_ref::<Lacking>()?;
    Some(lacking.0.clone())
}

/// What keeps a slice from being had.
enum Wrong {
    Unsound(Unsound),
    Absent(Absent),
    Other(io::Error),
}

fn what_is_wrong(error: io::Error) -> Wrong {
    if let Some(absent) = error.get_ref().and_then(|inner| inner.downcast_ref::<Absent>()) {
        return Wrong::Absent(*absent);
    }
    match error.downcast::<Unsound>() {
        Ok(unsound) => Wrong::Unsound(unsound),
        Err(error) => Wrong::Other(error),
    }
}

impl Mender {
    async fn mend(&self, archive: &Arc<Archive>, unsound: &Unsound) -> bool {
        let (range, length) = (archive.range_of(unsound), archive.record().length);
        let fetched = self.proxy.fills.fetch_part(&self.asker, range, length).await;
        let mended = match fetched {
            Some(bytes) => {
                let (archive, chunk) = (Arc::clone(archive), unsound.chunk());
                let written = crate::rt::blocking(move || archive.mend(chunk, &bytes)).await;
                matches!(written, Ok(Ok(true)))
            }
            None => false,
        };
        self.proxy.metrics.mend(if mended { Mend::Mended } else { Mend::Lost });
        mended
    }
}
