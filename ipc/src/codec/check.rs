//! Whether a value can be read back: found at its sender, once for each pair of types and thread.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::guard::{Copied, Guard, Kind, MAX_DEPTH};
use super::{CodecError, NOT_SELF_DESCRIBING, Wire, encode, encode_into, encode_wire, handles};

/// Checks that `value` can be read back as `O`, the owned form of its type, once for each pair of types and thread.
///
/// Callers that have the bytes already use [`check_encoded`]. Descriptors are neither duplicated nor taken.
///
/// # Errors
///
/// Those of [`encode`] and [`check_encoded`].
pub fn check_round_trip<T, O>(value: &T) -> Result<(), CodecError>
where
    T: Serialize + ?Sized,
    O: Deserialize<'static>,
{
    if has_passed(key::<T, O>()) {
        return Ok(());
    }
    let (bytes, _) = handles::checking(|| encode(value));
    check_encoded::<T, O>(&bytes?)
}

/// Appends the encoded `value` to `out`, and checks as [`check_encoded`] does that it can be read back as `O`.
///
/// One step, so that handles in what turns out not to travel are taken back by the scope around it (see `travel`).
///
/// # Errors
///
/// Those of [`encode`] and [`check_encoded`]; `out` is then as it was.
#[inline]
pub fn encode_checked<T, O>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>
where
    T: Serialize + ?Sized,
    O: Deserialize<'static>,
{
    let start = out.len();
    encode_into(value, out)?;
    check_from::<T, O>(start, out)
}

/// As [`encode_checked`], a `Vec` of numbers as one copy.
///
/// # Errors
///
/// Those of [`encode_checked`]; `out` is then as it was.
#[inline]
pub fn encode_wire_checked<T: Wire>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    encode_wire(value, out)?;
    check_from::<T, T>(start, out)
}

#[inline]
fn check_from<T: ?Sized, O: Deserialize<'static>>(start: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let checked = check_encoded::<T, O>(&out[start..]);
    if checked.is_err() {
        out.truncate(start);
    }
    checked
}

/// Checks that `bytes`, a `T` just encoded, can be read back as `O`, the owned form of `T`.
///
/// Serde lets a type be written in ways that a compact format cannot read. Found here, it is an error of the caller
/// who sends the value; found later, of another process. The first value of each pair of types is decoded on each
/// thread; after it has passed, the check is one look-up. One value is a sample; what a later value may
/// leave out is found when that one is encoded.
///
/// The check passes undecided where it cannot know: at a part that insists on borrowing (`&'static str`: the bytes
/// do not live that long), at a descriptor, and wherever [`end_check`](super::end_check) is asked.
///
/// # Errors
///
/// [`CodecError::NotRoundTrip`], each time until a value of the type passes; [`CodecError::TooDeep`] if this value is
/// the reason and not its type.
///
/// # Examples
///
/// ```
/// use procession_ipc::codec::{self, CodecError};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// #[serde(untagged)]
/// enum Id { Number(u64), Name(String) }
///
/// let bytes = codec::encode(&Id::Number(7))?;
/// let error = codec::check_encoded::<Id, Id>(&bytes);
/// assert!(matches!(error, Err(CodecError::NotRoundTrip { .. })));
/// # let _ = Id::Name(String::new());
/// # Ok::<(), CodecError>(())
/// ```
#[inline]
pub fn check_encoded<T: ?Sized, O: Deserialize<'static>>(bytes: &[u8]) -> Result<(), CodecError> {
    let key = key::<T, O>();
    if has_passed(key) {
        return Ok(());
    }
    check_now::<T, O>(bytes)?;
    note_passed(key);
    Ok(())
}

/// How many keys need no memory from the allocator, which a copy of the process would have to give back at its end.
const FEW: usize = 8;

thread_local! {
    /// Keys of the pairs of types that have passed on this thread: the first ones; 0 is none.
    static FIRST_PASSED: Cell<[usize; FEW]> = const { Cell::new([0; FEW]) };
    /// All others.
    static PASSED: RefCell<BTreeSet<usize>> = const { RefCell::new(BTreeSet::new()) };
    /// The one that was looked up last; 0 is none.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

fn note_passed(key: usize) {
    let mut first = FIRST_PASSED.get();
    if let Some(free) = first.iter_mut().find(|known| **known == 0) {
        *free = key;
        return FIRST_PASSED.set(first);
    }
    // At the end of a thread its set may be gone.
    let _ = PASSED.try_with(|passed| passed.borrow_mut().insert(key));
}

#[inline]
fn has_passed(key: usize) -> bool {
    LAST.get() == key || is_among_passed(key)
}

#[inline(never)]
fn is_among_passed(key: usize) -> bool {
    let is_noted = |passed: &RefCell<BTreeSet<usize>>| passed.borrow().contains(&key);
    let first = FIRST_PASSED.get();
    let passed = first.contains(&key) || !first.contains(&0) && PASSED.try_with(is_noted).unwrap_or(false);
    if passed {
        LAST.set(key);
    }
    passed
}

/// The address of the pair's check. A `TypeId` would demand `'static` of `T`, and of `O` too.
///
/// A linker that merges identical functions gives two pairs one key only if their checks, which contain the
/// decoding of `O` and the names of both types, are the same code: then what one has shown holds for the other.
#[inline]
fn key<T: ?Sized, O: Deserialize<'static>>() -> usize {
    let check: fn(&[u8]) -> Result<(), CodecError> = check_now::<T, O>;
    check as usize
}

#[cold]
#[inline(never)]
fn check_now<T: ?Sized, O: Deserialize<'static>>(bytes: &[u8]) -> Result<(), CodecError> {
    let mut guard = Guard::<'_, Copied>::new(bytes);
    let (result, ended) = handles::checking(|| O::deserialize(&mut guard).map(drop));
    let hint = match (result, guard.remaining()) {
        (Ok(()), 0) => return Ok(()),
        (Ok(()), left) => mismatch::<O>(&format!("{left} bytes are left over")),
        (Err(_), _) if ended => return Ok(()),
        (Err(fault), _) => match fault.into_kind() {
            Kind::Borrows(_) => return Ok(()),
            Kind::NotSelfDescribing => NOT_SELF_DESCRIBING.to_owned(),
            Kind::Message(reason) => mismatch::<O>(&reason),
            Kind::TooDeep => {
                return Err(CodecError::TooDeep { type_name: type_name::<T>(), limit: MAX_DEPTH });
            }
            Kind::TooLong { claimed, .. } => mismatch::<O>(&format!("a length of {claimed} is found")),
            other => mismatch::<O>(&format!("{other:?}")),
        },
    };
    Err(CodecError::NotRoundTrip { type_name: type_name::<T>(), hint })
}

fn mismatch<O>(reason: &str) -> String {
    format!(
        "its bytes are not a `{}` ({reason}), as with `#[serde(skip_serializing_if = ..)]`; \
         drop the attribute, or send the value as a string of JSON",
        type_name::<O>()
    )
}
