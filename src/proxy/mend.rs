//! Slices of an archive, of which a damaged one is fetched again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::Proxy;
use crate::access::Caller;
use crate::route::Question;
use crate::store::{Archive, Mapped, Slices, Unsound};
use crate::telemetry::metrics::Mend;

/// In whose name a damaged chunk is fetched again: of whoever reads it, whom GitLab lets have it.
#[derive(Clone)]
pub(super) struct Mender {
    pub(super) proxy: Arc<Proxy>,
    pub(super) caller: Caller,
    pub(super) question: Question,
}

type Mending = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A range of a stored archive on its way to a client. A damaged chunk is never sent: it is fetched again, or the range
/// breaks off and the archive leaves the store.
pub struct Sound {
    slices: Slices,
    mender: Option<Box<Mender>>,
    mending: Option<Mending>,
}

impl Sound {
    /// Without a mender damage can only break the range off.
    pub(super) const fn new(slices: Slices, mender: Option<Box<Mender>>) -> Self {
        Self { slices, mender, mending: None }
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
                Some(Err(error)) => match unsound(error) {
                    Ok(unsound) => self.mending = Some(self.mend(unsound)),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                next => return Poll::Ready(next),
            }
        }
    }

    fn mend(&self, unsound: Unsound) -> Mending {
        let (archive, mender) = (Arc::clone(self.slices.archive()), self.mender.clone());
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
            let _ = crate::rt::blocking(move || archive.give_up()).await;
            Err(io::Error::new(io::ErrorKind::InvalidData, unsound))
        })
    }
}

/// The damage behind an error, if that is what it is.
fn unsound(error: io::Error) -> Result<Unsound, io::Error> {
    if error.get_ref().and_then(|inner| inner.downcast_ref::<Unsound>()).is_none() {
        return Err(error);
    }
    let inner = error.into_inner().and_then(|inner| inner.downcast().ok());
    inner.map(|unsound| *unsound).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

impl Mender {
    async fn mend(&self, archive: &Arc<Archive>, unsound: &Unsound) -> bool {
        let (range, length) = (archive.range_of(unsound), archive.record().length);
        let fetched = self.proxy.fills.fetch_part(&self.caller, &self.question, range, length).await;
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
