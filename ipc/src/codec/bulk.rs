//! A `Vec` of plain numbers at the root of a message, as one copy.
//!
//! Serde visits each element, which costs 2 to 13 times a copy. The type is recognised by `Any`, which the optimiser
//! resolves at compile time; the bytes are those of the slow path. Everything unusual (another type, another
//! byte order, bytes that do not fit) is left to the slow path, which knows how to report it.
//!
//! `String` and `serde_bytes::ByteBuf` are one copy in the slow path already.

use std::any::Any;

use bytemuck::Pod;

/// Bytes of the length before the elements.
const PREFIX: usize = size_of::<u64>();

/// Whether the memory of a number is what travels.
const SAME_ORDER: bool = cfg!(target_endian = "little");

/// Whether `usize` is as wide in memory as on the wire.
const WIDE_USIZE: bool = size_of::<usize>() == size_of::<u64>();

/// Whether `$attempt` is true for one of the types of numbers, which it calls `$Number`.
macro_rules! any_number {
    ($Number:ident => $attempt:expr) => {
        SAME_ORDER
            && (any_number!($Number => $attempt; u8 i8 u16 i16 u32 i32 u64 i64 f32 f64)
                || WIDE_USIZE && any_number!($Number => $attempt; usize isize))
    };
    ($Number:ident => $attempt:expr; $($type:ty)*) => {
        ($({
            type $Number = $type;
            $attempt
        })||*)
    };
}

/// Appends `value` to `out` if it is a `Vec` of numbers, or says `false`.
#[inline]
pub(super) fn encode<T: 'static>(value: &T, out: &mut Vec<u8>) -> bool {
    let Some((count, bytes)) = parts(value) else { return false };
    out.reserve(PREFIX + bytes.len());
    out.extend_from_slice(&(count as u64).to_le_bytes());
    out.extend_from_slice(bytes);
    true
}

/// How many numbers `value` has, and their bytes, if it is a `Vec` of numbers.
#[inline]
pub(super) fn parts<T: 'static>(value: &T) -> Option<(usize, &[u8])> {
    let (value, mut found) = (value as &dyn Any, None);
    let _ = any_number!(N => {
        found = of::<N>(value);
        found.is_some()
    });
    found
}

#[inline]
fn of<N: Pod>(value: &dyn Any) -> Option<(usize, &[u8])> {
    let numbers = value.downcast_ref::<Vec<N>>()?;
    Some((numbers.len(), bytemuck::cast_slice(numbers)))
}

/// Reads `bytes` if `T` is a `Vec` of numbers and `bytes` holds one and no more.
#[inline]
pub(super) fn decode<T: 'static>(bytes: &[u8]) -> Option<T> {
    let mut slot: Option<T> = None;
    let place = &mut slot;
    let _ = any_number!(N => get::<T, N>(bytes, place));
    slot
}

/// Appends the elements of the `Vec` that `bytes` hold to `values` if that is a `Vec` of numbers and they are `count`, or
/// says `false`.
#[inline]
pub(super) fn append<T: 'static>(bytes: &[u8], count: usize, values: &mut T) -> bool {
    let Some((prefix, content)) = bytes.split_first_chunk::<PREFIX>() else { return false };
    u64::from_le_bytes(*prefix) == count as u64 && any_number!(N => add::<T, N>(content, count, values))
}

#[inline]
fn get<T: 'static, N: Pod>(bytes: &[u8], place: &mut Option<T>) -> bool {
    let Some(place) = (place as &mut dyn Any).downcast_mut::<Option<Vec<N>>>() else { return false };
    *place = numbers(bytes);
    true
}

#[inline]
fn add<T: 'static, N: Pod>(content: &[u8], count: usize, values: &mut T) -> bool {
    let Some(values) = (values as &mut dyn Any).downcast_mut::<Vec<N>>() else { return false };
    let fits = count.checked_mul(size_of::<N>()) == Some(content.len());
    if fits {
        extend(values, content);
    }
    fits
}

fn numbers<N: Pod>(bytes: &[u8]) -> Option<Vec<N>> {
    let (prefix, content) = bytes.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u64::from_le_bytes(*prefix)).ok()?;
    if length.checked_mul(size_of::<N>()) != Some(content.len()) {
        return None;
    }
    let mut numbers = Vec::new();
    extend(&mut numbers, content);
    Some(numbers)
}

#[inline]
fn extend<N: Pod>(numbers: &mut Vec<N>, content: &[u8]) {
    match bytemuck::try_cast_slice::<u8, N>(content) {
        Ok(aligned) => numbers.extend_from_slice(aligned),
        Err(_) => numbers.extend(content.chunks_exact(size_of::<N>()).map(bytemuck::pod_read_unaligned::<N>)),
    }
}
