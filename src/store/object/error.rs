//! Why bytes of an archive can't be had.

use std::io;

/// A chunk whose bytes aren't those that were written, or can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the archive's file is damaged in its MiB {chunk}{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct Unsound {
    pub(super) chunk: u64,
    pub(super) why: Option<io::Error>,
}

impl Unsound {
    /// Which chunk it is.
    pub(crate) const fn chunk(&self) -> u64 {
        self.chunk
    }
}

/// Why the next bytes can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A chunk isn't here, and nobody fetches it. Once somebody has, the reader goes on.
    #[error("the archive's MiB {0} isn't here yet")]
    Absent(u64),
    /// All of it may be here, and hasn't been found right: nobody who reads all of it gets to its end before. Once it was,
    /// the reader goes on.
    #[error("the archive hasn't been found right yet")]
    Unproven,
    /// A chunk is damaged. Once it was repaired, the reader goes on.
    #[error(transparent)]
    Unsound(#[from] Unsound),
    /// The rest will never come.
    #[error("{0}")]
    Broken(&'static str),
    /// The file can't be read, or the source broke off.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            ReadError::Broken(_) => Self::new(io::ErrorKind::UnexpectedEof, error),
            other => Self::other(other),
        }
    }
}
