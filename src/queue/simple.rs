//! The queue with fewer verbs.

use super::{PutError, Queue};
use crate::Result;
use procession_ipc::codec::Wire;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A [`Queue`] with fewer verbs: no bound and no timeouts, as Python's.
///
/// # Examples
///
/// ```
/// use procession::{Process, SimpleQueue};
///
/// fn square(numbers: SimpleQueue<u64>, squares: SimpleQueue<u64>) {
///     let number = numbers.get().unwrap();
///     squares.put(number * number).unwrap();
/// }
///
/// let (numbers, squares) = (SimpleQueue::new()?, SimpleQueue::new()?);
/// Process::spawn(square, (numbers.clone(), squares.clone()))?;
/// numbers.put(12)?;
/// assert_eq!(squares.get()?, 144);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct SimpleQueue<T>(Queue<T>);

impl<T: Wire> SimpleQueue<T> {
    /// Makes an empty queue.
    ///
    /// # Errors
    ///
    /// As for [`Queue::new`].
    pub fn new() -> Result<Self> {
        Queue::new().map(Self)
    }

    /// Puts a value at the end. It does not wait (in Python it does while the pipe is full).
    ///
    /// # Errors
    ///
    /// As for [`Queue::put`].
    #[inline]
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.0.put(value)
    }

    /// Takes the first value out; waits while there is none.
    ///
    /// # Errors
    ///
    /// As for [`Queue::get`].
    #[inline]
    pub fn get(&self) -> Result<T> {
        self.0.get()
    }

    /// Takes the first value out; while there is none, the task waits and not its thread.
    ///
    /// # Errors
    ///
    /// As for [`Queue::get`].
    pub async fn get_async(&self) -> Result<T> {
        self.0.get_async().await
    }
}

impl<T> SimpleQueue<T> {
    /// Whether there is no message in the queue.
    #[doc(alias = "empty")]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes this handle and its clones in this process, as [`Queue::close`] does. What is still there is for others to get.
    pub fn close(&self) {
        self.0.close();
    }
}

impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleQueue").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}
