//! Descriptors that travel beside the bytes.
//!
//! A descriptor is a number that means something in one process only, so it cannot be encoded: the kernel has to
//! carry it. A [`HandleFd`] inside a value therefore writes an index, and the descriptor goes into a list which the
//! transport sends along (`SCM_RIGHTS`). Serde has no room for such a list, hence nested *scopes* for each thread:
//!
//! - [`encode_with_handles`] opens a scope that collects duplicates of the descriptors;
//! - [`decode_with_handles`] opens a scope that gives them out again, each once;
//! - without a scope, it is deposited with another process, if the encoding is one of [`travel`]: what goes through memory or a
//!   stream has nothing beside its bytes;
//! - the round-trip check opens a scope in which a descriptor ends the check, so that it takes nothing.
//!
//! The innermost scope counts, and each is closed by its guard, also when a panic or an error passes.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::{self, Deserializer};
use serde::ser::{self, Serializer};
use serde::{Deserialize, Serialize};

use super::CodecError;
use crate::deposit::{self, Deposit, Ticket};
use crate::travel;

/// Descriptors that one message can carry: `SCM_MAX_FD`, unix(7).
pub const MAX_HANDLES: usize = 253;

const NO_SCOPE: &str = "a descriptor can only travel in what this library sends";

thread_local! {
    /// The innermost scope; each of those around it is with the guard of the one within. At the end of a thread there is none,
    /// so nothing has to be dropped then.
    static SCOPE: RefCell<ManuallyDrop<Option<Scope>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

/// What happens to a descriptor that is met.
#[derive(Debug)]
enum Scope {
    /// Duplicates are collected. `met` counts all, also those beyond [`MAX_HANDLES`], which are not duplicated.
    Collect { handles: Vec<OwnedFd>, met: usize, failure: Option<String> },
    /// Descriptors are given out by their index.
    Give { handles: Vec<Option<OwnedFd>>, failure: Option<String> },
    /// Meeting one ends the check.
    Check { met: bool },
}

/// A descriptor as a part of a value: wherever the value goes, the descriptor goes.
///
/// Serialising duplicates it (close-on-exec), so the sender keeps its own.
///
/// # Examples
///
/// ```
/// use procession_ipc::codec::{HandleFd, decode_with_handles, encode_with_handles};
///
/// let file = std::fs::File::open("/dev/null")?;
/// let value = (7u32, HandleFd::from(std::os::fd::OwnedFd::from(file)));
/// let (bytes, handles) = encode_with_handles(&value)?;
/// assert_eq!(handles.len(), 1);
///
/// let (number, handle): (u32, HandleFd) = decode_with_handles(&bytes, handles)?;
/// assert_eq!(number, 7);
/// let _file = std::fs::File::from(handle.into_owned());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HandleFd(OwnedFd);

impl HandleFd {
    /// Gives the descriptor back.
    #[must_use]
    pub fn into_owned(self) -> OwnedFd {
        self.0
    }
}

impl From<OwnedFd> for HandleFd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<HandleFd> for OwnedFd {
    fn from(handle: HandleFd) -> Self {
        handle.0
    }
}

impl AsFd for HandleFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for HandleFd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_fd(self.as_fd(), serializer)
    }
}

/// Serialises a descriptor as a [`HandleFd`] of it.
pub(crate) fn serialize_fd<S: Serializer>(fd: BorrowedFd<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    collect(fd).map_err(ser::Error::custom)?.serialize(serializer)
}

impl<'de> Deserialize<'de> for HandleFd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let way = Way::deserialize(deserializer)?;
        way.arrive().map(Self).map_err(de::Error::custom)
    }
}

/// Encodes `value` and collects the descriptors in it, to be sent beside the bytes.
///
/// # Errors
///
/// Those of [`encode`](super::encode); [`CodecError::TooManyHandles`] for more than [`MAX_HANDLES`] descriptors,
/// [`CodecError::Handle`] if one cannot be duplicated.
pub fn encode_with_handles<T: Serialize + ?Sized>(value: &T) -> Result<(Vec<u8>, Vec<OwnedFd>), CodecError> {
    collecting_handles(|| super::encode(value))
}

/// Encodes as [`encode_with_handles`], and checks as [`check_encoded`](super::check_encoded) does that the value can be read
/// back as `O`.
///
/// # Errors
///
/// Those of [`encode_with_handles`] and [`check_encoded`](super::check_encoded).
pub fn encode_checked_with_handles<T, O>(value: &T) -> Result<(Vec<u8>, Vec<OwnedFd>), CodecError>
where
    T: Serialize + ?Sized,
    O: Deserialize<'static>,
{
    let (bytes, handles) = encode_with_handles(value)?;
    super::check_encoded::<T, O>(&bytes)?;
    Ok((bytes, handles))
}

/// Appends `value` to `out` as [`encode_wire`](super::encode_wire) does, and returns the descriptors in it.
///
/// # Errors
///
/// Those of [`encode_with_handles`]; `out` is then as it was.
pub fn encode_wire_with_handles<T: super::Wire>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<Vec<OwnedFd>, CodecError> {
    let start = out.len();
    match collecting_handles(|| super::encode_wire(value, out)) {
        Ok(((), handles)) => Ok(handles),
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Decodes a value that was encoded with its descriptors; those that it does not claim are closed.
///
/// # Errors
///
/// Those of [`decode`](super::decode); [`CodecError::Handle`] for a descriptor that is missing or claimed twice.
pub fn decode_with_handles<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    handles: Vec<OwnedFd>,
) -> Result<T, CodecError> {
    giving_handles(handles, || super::decode(bytes))
}

/// Decodes like [`decode_with_handles`], with the fast path of [`decode_wire`](super::decode_wire).
///
/// # Errors
///
/// Those of [`decode_with_handles`].
pub fn decode_wire_with_handles<T: super::Wire>(
    bytes: &[u8],
    handles: Vec<OwnedFd>,
) -> Result<T, CodecError> {
    giving_handles(handles, || super::decode_wire(bytes))
}

/// Says, during the check whether a type survives its round trip, that it is to end here and count as passed.
///
/// For `Deserialize` implementations that act on the world (take a reference in shared memory, connect): they call
/// this first, and return the error if there is one. Outside a check there is none.
///
/// # Examples
///
/// ```
/// # use serde::{Deserialize, Deserializer};
/// struct Ticket(u64);
///
/// impl<'de> Deserialize<'de> for Ticket {
///     fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
///         if let Some(end) = procession_ipc::codec::end_check() {
///             return Err(end);
///         }
///         u64::deserialize(deserializer).map(Ticket) // and count it
///     }
/// }
/// assert_eq!(procession_ipc::codec::decode::<Ticket>(&7u64.to_le_bytes())?.0, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn end_check<E: de::Error>() -> Option<E> {
    innermost(|scope| match scope {
        Some(Scope::Check { met }) => {
            *met = true;
            Some(E::custom("the check ends at a value that acts when it is read"))
        }
        _ => None,
    })
}

/// Whether what is encoded or decoded now goes nowhere: what acts then does not act.
pub(crate) fn is_checking() -> bool {
    innermost(|scope| matches!(scope, Some(Scope::Check { .. })))
}

/// Runs `body` in a scope where descriptors end a check, and says whether one was met.
pub(super) fn checking<R>(body: impl FnOnce() -> R) -> (R, bool) {
    let open = Open::new(Scope::Check { met: false });
    let result = body();
    (result, matches!(open.close(), Some(Scope::Check { met: true })))
}

/// Runs `body`, and collects the descriptors in what it encodes, to be sent beside the bytes.
///
/// # Errors
///
/// Those of `body`, and of [`encode_with_handles`].
pub fn collecting_handles<R>(
    body: impl FnOnce() -> Result<R, CodecError>,
) -> Result<(R, Vec<OwnedFd>), CodecError> {
    let open = Open::new(Scope::Collect { handles: Vec::new(), met: 0, failure: None });
    let result = body();
    let Some(Scope::Collect { handles, met, failure }) = open.close() else {
        return Ok((result?, Vec::new()));
    };
    if let Some(reason) = failure {
        return Err(CodecError::Handle { reason });
    }
    if met > MAX_HANDLES {
        return Err(CodecError::TooManyHandles { count: met, limit: MAX_HANDLES });
    }
    Ok((result?, handles))
}

/// Runs `body`, which decodes what was encoded with these descriptors; those that it does not claim are closed.
///
/// # Errors
///
/// Those of `body`; [`CodecError::Handle`] for a descriptor that is missing or claimed twice.
pub fn giving_handles<R>(
    handles: Vec<OwnedFd>,
    body: impl FnOnce() -> Result<R, CodecError>,
) -> Result<R, CodecError> {
    let handles = handles.into_iter().map(Some).collect();
    let open = Open::new(Scope::Give { handles, failure: None });
    let result = body();
    match open.close() {
        Some(Scope::Give { failure: Some(reason), .. }) => Err(CodecError::Handle { reason }),
        _ => result,
    }
}

/// Where the descriptor of a message is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Way {
    /// Beside the bytes, at this index.
    Beside(u32),
    /// With a process that keeps it.
    Deposited(Ticket),
}

impl Way {
    fn arrive(self) -> Result<OwnedFd, String> {
        match self {
            _ if travel::way() == travel::Way::Barred => Err(travel::bar().to_string()),
            Self::Beside(index) => give(index),
            Self::Deposited(_) if is_checking() => give(0),
            Self::Deposited(ticket) => deposit::take(ticket).map_err(|error| crate::error::chain(&error)),
        }
    }
}

/// Puts a duplicate into the scope; without one, deposits it, if it is known what becomes of the bytes.
fn collect(fd: BorrowedFd<'_>) -> Result<Way, String> {
    let has_scope = innermost(|scope| !matches!(scope, Some(Scope::Give { .. }) | None));
    let is_lent = match (has_scope, travel::way()) {
        (_, travel::Way::Barred) => return Err(travel::bar().to_string()),
        (true, _) => return put_beside(fd).map(Way::Beside),
        (_, travel::Way::Unknown) => return Err(NO_SCOPE.to_owned()),
        (_, way) => way == travel::Way::Often,
    };
    let deposit = Deposit::new(fd, is_lent).map_err(|error| crate::error::chain(&error))?;
    let ticket = deposit.ticket();
    travel::note_deposit(deposit);
    Ok(Way::Deposited(ticket))
}

/// Puts a duplicate into the scope and returns its index.
fn put_beside(fd: BorrowedFd<'_>) -> Result<u32, String> {
    innermost(|scope| match scope {
        Some(Scope::Check { met }) => {
            *met = true;
            Ok(0)
        }
        Some(Scope::Collect { handles, met, failure }) => {
            *met += 1;
            if *met <= MAX_HANDLES {
                let duplicate = fd.try_clone_to_owned().map_err(|error| {
                    failure.insert(format!("a descriptor cannot be duplicated: {error}")).clone()
                })?;
                handles.push(duplicate);
            }
            u32::try_from(*met - 1).map_err(|error| error.to_string())
        }
        Some(Scope::Give { .. }) | None => Err(NO_SCOPE.to_owned()),
    })
}

/// Takes the descriptor with this index out of the scope.
fn give(index: u32) -> Result<OwnedFd, String> {
    innermost(|scope| match scope {
        Some(Scope::Check { met }) => {
            *met = true;
            Err("the check ends at a descriptor".to_owned())
        }
        Some(Scope::Give { handles, failure }) => {
            let count = handles.len();
            let slot = usize::try_from(index).ok().and_then(|index| handles.get_mut(index));
            let reason = match slot {
                Some(slot) => match slot.take() {
                    Some(fd) => return Ok(fd),
                    None => format!("descriptor {index} is claimed twice"),
                },
                None => format!("descriptor {index} is missing: {count} came with the message"),
            };
            Err(failure.insert(reason).clone())
        }
        Some(Scope::Collect { .. }) | None => Err(NO_SCOPE.to_owned()),
    })
}

/// Runs `action` on the innermost scope.
fn innermost<R>(action: impl FnOnce(Option<&mut Scope>) -> R) -> R {
    SCOPE.with_borrow_mut(|scope| action(scope.as_mut()))
}

/// An open scope, which ends with this.
struct Open {
    /// The scope around this one, if there is one; nothing once this one has ended.
    outer: Option<Option<Scope>>,
    /// The scope belongs to one thread.
    thread: PhantomData<*const ()>,
}

impl Open {
    fn new(scope: Scope) -> Self {
        Self { outer: Some(enter(Some(scope))), thread: PhantomData }
    }

    /// Ends the scope and returns what it holds.
    fn close(mut self) -> Option<Scope> {
        self.outer.take().and_then(enter)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.outer.take().and_then(enter));
    }
}

/// Makes another scope the innermost one, and returns the one that was.
fn enter(scope: Option<Scope>) -> Option<Scope> {
    ManuallyDrop::into_inner(SCOPE.replace(ManuallyDrop::new(scope)))
}
