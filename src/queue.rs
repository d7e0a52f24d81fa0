//! Queues between processes.

mod error;
mod simple;

pub use error::PutError;
pub use simple::SimpleQueue;

use crate::{Error, ErrorKind, Result};
use procession_ipc::Error as IpcError;
use procession_ipc::codec::Wire;
use procession_ipc::mailbox::{self, SharedQueue, Wait};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

/// Sets how much memory all queues of the family may take together: a quarter of what the machine, or its control group, allows
/// unless this is called.
///
/// It counts in pieces of 256 KiB, at least one, from now on and for all processes of the family. With more than that in use, puts
/// are refused with [`ErrorKind::OutOfSpace`] until enough was got; nothing is lost.
///
/// # Errors
///
/// [`ErrorKind::NoSharedMemory`].
///
/// # Examples
///
/// ```
/// procession::set_queue_memory(64 << 20)?;
/// # Ok::<(), procession::Error>(())
/// ```
pub fn set_queue_memory(bytes: u64) -> Result<()> {
    Ok(mailbox::set_limit(bytes)?)
}

/// A queue between processes: any number of them may put and get, each message arrives once, first in, first out.
///
/// A handle may be cloned, be an argument or a result, or be sent to any process of the family, whatever the start method (in
/// Python it can only be inherited). The messages lie in memory that the family shares:
///
/// - A value is encoded when it is put. One that cannot travel is an error there, and nothing is queued.
/// - **What was put is there**, also if the process that put it ends at once, is killed, or is joined before anybody gets. In
///   Python a thread feeds a pipe, so a process that has put much does not end before somebody gets it, and one that is
///   killed takes what was not yet written with it.
/// - Processes may be killed at any moment, in the middle of putting or getting: the others go on. A message is lost at most
///   if the process is killed that was getting it.
/// - [`len`](Self::len), [`is_empty`](Self::is_empty) and [`is_full`](Self::is_full) are exact at the moment of the call.
/// - Messages of one process arrive in the order in which it put them, and so do those of all: the order is that of putting.
///
/// A queue without a bound takes as many messages as memory allows, up to 2^24 - 1 ([`ErrorKind::Full`]). All queues of a
/// family together may take a quarter of the memory of the machine, or of its cgroup; beyond that, putting is
/// [`ErrorKind::OutOfSpace`]. Waiting costs no processor time.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// fn greet(names: Queue<String>, greetings: Queue<String>) {
///     for name in std::iter::from_fn(|| names.get().ok().filter(|name| name != "STOP")) {
///         greetings.put(format!("hello {name}")).unwrap();
///     }
/// }
///
/// let (names, greetings) = (Queue::new()?, Queue::new()?);
/// let process = Process::spawn(greet, (names.clone(), greetings.clone()))?;
/// for name in ["bob", "eve", "STOP"] {
///     names.put(name.to_owned())?;
/// }
/// process.join()?;
/// assert_eq!([greetings.get()?, greetings.get()?], ["hello bob", "hello eve"]);
/// assert!(greetings.is_empty());
/// # Ok::<(), Error>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Queue<T> {
    shared: SharedQueue,
    /// Values go in and come out.
    items: PhantomData<fn(T) -> T>,
}

impl<T: Wire> Queue<T> {
    /// Makes an empty queue without a bound. Putting never waits for somebody to get.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooManyObjects`]; on the first use of a lock or queue in a process, [`ErrorKind::NoSharedMemory`],
    /// [`ErrorKind::TooManyProcesses`] and [`ErrorKind::Os`].
    pub fn new() -> Result<Self> {
        Ok(Self::of(SharedQueue::new(None)?))
    }

    /// Makes an empty queue that takes `most` messages (Python's `maxsize`, where 0 is no bound). 2^24 - 1 and more are no bound.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Zero`] if that is 0; as for [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// let queue = Queue::bounded(2)?;
    /// queue.put('a')?;
    /// queue.put('b')?;
    /// assert!(queue.is_full());
    /// let refused = queue.try_put('c').unwrap_err();
    /// assert_eq!(refused.kind(), &ErrorKind::Full);
    /// assert_eq!(refused.into_value(), 'c');
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "maxsize")]
    pub fn bounded(most: usize) -> Result<Self> {
        Ok(Self::of(SharedQueue::new(Some(bound(most)?))?))
    }

    /// Makes an empty queue without a bound that has memory of its own, for a process whose code nobody trusts not to write wildly: a
    /// C library, say.
    ///
    /// A process that is started by [`Spawn`](crate::StartMethod::Spawn) or [`ForkServer`](crate::StartMethod::ForkServer), and is given
    /// isolated queues and no other queues or locks, has the memory of those queues mapped and none of the family's: whatever it writes
    /// by mistake reaches the messages of these queues, and no other queue or lock of anybody. What others get from a queue that was
    /// written over is wrong data or an error; or it waits, so wait with a timeout. A copy by fork has all that is mapped in its
    /// parent. It keeps faults in, and not malice.
    ///
    /// - **Values only**: a value with a lock, a queue or a [`Connection`](crate::Connection) in it is [`ErrorKind::Isolated`], and
    ///   nothing of it is queued.
    /// - **A handle is a descriptor**, and goes wherever a [`Connection`](crate::Connection) can go: into arguments and results, over
    ///   connections, into queues that are not isolated. For an isolated [pool](crate::PoolBuilder::isolated), it can go to the initializer.
    /// - The queue and its messages are gone with the last process that has a handle, also if that is killed, or with the last
    ///   message that has one. While a handle is in a queue or a task, the first process of the family has one too.
    /// - It costs a descriptor, and in each process that uses it a thread, which sleeps. Its messages may take a quarter of the memory of
    ///   the machine, or of its cgroup, which is for this queue alone: [`set_queue_memory`](crate::set_queue_memory) says nothing about it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Os`]: no descriptor, memory or addresses left (64 GiB of addresses each, or a quarter of RLIMIT_AS). On the first use in a process
    /// [`ErrorKind::NoSharedMemory`] and [`ErrorKind::TooManyProcesses`].
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// fn decode(images: Queue<Vec<u8>>, sizes: Queue<usize>) {
    ///     // What it calls may write where it should not.
    ///     sizes.put(images.get().unwrap().len()).unwrap();
    /// }
    ///
    /// let (images, sizes) = (Queue::isolated()?, Queue::isolated()?);
    /// let process = Process::spawn(decode, (images.clone(), sizes.clone()))?;
    /// images.put(vec![7; 1000])?;
    /// assert_eq!(sizes.get()?, 1000);
    /// process.join()?;
    ///
    /// let locks = Queue::isolated()?;
    /// let refused = locks.put(Lock::new()?).unwrap_err();
    /// assert!(matches!(refused.kind(), ErrorKind::Isolated { .. }));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn isolated() -> Result<Self> {
        Ok(Self::of(SharedQueue::isolated(None)?))
    }

    /// As [`isolated`](Self::isolated), and it takes `most` messages.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Zero`] if that is 0; as for [`isolated`](Self::isolated).
    pub fn isolated_bounded(most: usize) -> Result<Self> {
        Ok(Self::of(SharedQueue::isolated(Some(bound(most)?))?))
    }

    fn of(shared: SharedQueue) -> Self {
        Self { shared, items: PhantomData }
    }

    /// Puts a value at the end; waits while a bounded queue is full.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::QueueClosed`], [`ErrorKind::OutOfSpace`]; [`ErrorKind::Full`] with 16,777,215 messages in it, more than which
    /// no queue takes; [`ErrorKind::Isolated`]; [`ErrorKind::Codec`] and [`ErrorKind::NotRoundTrip`] for a value that cannot travel;
    /// on the first use of a lock or queue in a process, those of [`new`](Self::new). The error has the value.
    #[inline]
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_within(value, Wait::Forever)
    }

    /// Puts a value if the queue is not full.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`]; [`ErrorKind::TimedOut`] after a second in which a stopped process was about to put; as for
    /// [`put`](Self::put).
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_within(value, Wait::Never)
    }

    /// Puts a value at the end; waits while a bounded queue is full, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`] if it still is; as for [`put`](Self::put).
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_within(value, Wait::within(timeout))
    }

    #[inline]
    fn put_within(&self, value: T, wait: Wait) -> Result<(), PutError<T>> {
        self.shared.put_value(&value, wait).map_err(|error| PutError::new(error, value))
    }

    /// Puts a value at the end; while a bounded queue is full, the task waits and not its thread. Dropped before it is ready, nothing
    /// was put.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    pub async fn put_async(&self, value: T) -> Result<(), PutError<T>> {
        match self.shared.put_value_async(&value).await {
            Ok(()) => Ok(()),
            Err(error) => Err(PutError::new(error, value)),
        }
    }

    /// Takes the first value out; waits while there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::QueueClosed`]; [`ErrorKind::Codec`] if what was put is no `T`, which is then out of the queue;
    /// on the first use of a lock or queue in a process, those of [`new`](Self::new).
    #[inline]
    pub fn get(&self) -> Result<T> {
        Ok(self.shared.get_value(Wait::Forever)?)
    }

    /// Takes the first value out, if there is one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Empty`]; [`ErrorKind::TimedOut`] after a second in which a stopped process was about to get; as for
    /// [`get`](Self::get).
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T> {
        Ok(self.shared.get_value(Wait::Never)?)
    }

    /// Takes the first value out; waits while there is none, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Empty`] if there still is none; as for [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        Ok(self.shared.get_value(Wait::within(timeout))?)
    }

    /// Takes the first value out; while there is none, the task waits and not its thread. Dropped before it is ready, nothing was
    /// taken out. Any executor will do.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// async fn sum(queue: &Queue<u64>) -> Result<u64, Error> {
    ///     Ok(queue.get_async().await? + queue.get_async().await?)
    /// }
    /// ```
    pub async fn get_async(&self) -> Result<T> {
        Ok(self.shared.get_value_async().await?)
    }

    /// Takes one value out after the other, and waits for each. It ends when the queue is closed in this process and nothing is
    /// left in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// let queue = Queue::new()?;
    /// for number in 0..3 {
    ///     queue.put(number)?;
    /// }
    /// queue.close();
    /// assert_eq!(queue.iter().collect::<Result<Vec<i32>, _>>()?, [0, 1, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> QueueIter<'_, T> {
        QueueIter { queue: self }
    }
}

/// The number of messages that a bounded queue takes.
fn bound(most: usize) -> Result<NonZeroU32> {
    let zero = || Error::new(ErrorKind::Zero { what: "the number of messages of a bounded queue" });
    NonZeroU32::new(u32::try_from(most).unwrap_or(u32::MAX)).ok_or_else(zero)
}

impl<T> Queue<T> {
    /// Number of messages in the queue. In Python it is an approximation.
    #[doc(alias = "qsize")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there is no message in the queue.
    #[doc(alias = "empty")]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.is_empty()
    }

    /// Whether it takes no more messages.
    #[doc(alias = "full")]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.is_full()
    }

    /// Closes this handle and its clones in this process: putting and getting are [`ErrorKind::QueueClosed`] from now on, also
    /// for whoever is waiting. Other processes are not concerned, and neither are the messages: their number can be asked for (in
    /// Python `empty()` is then an error), and [`iter`](Self::iter) takes out what is there.
    ///
    /// A handle that this process decodes later, or has decoded before by itself, is another one, and open.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Waits until what this process has put is there for others, which it always is: for programs that were written for Python.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::QueueOpen`] before [`close`](Self::close), as in Python.
    pub fn join_thread(&self) -> Result<()> {
        if self.shared.is_closed() { Ok(()) } else { Err(Error::new(ErrorKind::QueueOpen)) }
    }

    /// Does nothing, since the end of a process never waits for a queue: for programs that were written for Python.
    #[doc(alias = "allow_exit_without_flush")]
    pub fn cancel_join_thread(&self) {}
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), items: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("is_closed", &self.shared.is_closed())
            .finish()
    }
}

impl<'a, T: Wire> IntoIterator for &'a Queue<T> {
    type Item = Result<T>;
    type IntoIter = QueueIter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The values of a queue, as [`Queue::iter`] takes them out.
#[derive(Debug)]
pub struct QueueIter<'a, T> {
    queue: &'a Queue<T>,
}

impl<T: Wire> Iterator for QueueIter<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.queue.shared.take_value(Wait::Forever) {
            Err(IpcError::QueueClosed) => None,
            taken => Some(taken.map_err(Error::from)),
        }
    }
}
