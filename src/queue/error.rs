//! Why a value was not put into a queue.

use crate::{Error, ErrorKind};
use procession_ipc::Error as IpcError;
use std::fmt;

/// Why a value was not put into a queue, and the value. With `?` it becomes an [`Error`].
pub struct PutError<T> {
    error: Error,
    value: T,
}

impl<T> PutError<T> {
    pub(super) fn new(error: IpcError, value: T) -> Self {
        Self { error: error.into(), value }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        self.error.kind()
    }

    /// Gives the value back.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> From<PutError<T>> for Error {
    fn from(error: PutError<T>) -> Self {
        error.error
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for PutError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
