//! The elements of an encoded `Vec`, added to a `Vec` that is there already.

use std::any::type_name;

use super::guard::{Borrowed, Guard};
use super::{CodecError, Wire, bulk, decode_error, decode_prefix};

/// Decodes the `Vec` at the start of `bytes`, appends its elements to `values`, and returns the bytes behind it.
///
/// # Errors
///
/// Those of [`decode_prefix`], and [`TooLong`](CodecError::TooLong) for more than `most` elements; the elements before the
/// one that could not be read are then in `values`.
///
/// # Examples
///
/// ```
/// use procession_ipc::codec;
///
/// let mut bytes = codec::encode(&vec![1u64, 2])?;
/// codec::encode_into("rest", &mut bytes)?;
/// let mut values = vec![0u64];
/// let rest = codec::decode_values(&bytes, 2, &mut values)?;
/// assert_eq!((values, codec::decode(rest)?), (vec![0, 1, 2], "rest"));
/// # Ok::<(), codec::CodecError>(())
/// ```
pub fn decode_values<'b, T: Wire>(
    bytes: &'b [u8],
    most: usize,
    values: &mut Vec<T>,
) -> Result<&'b [u8], CodecError> {
    let (claimed, used) = decode_prefix::<u64>(bytes)?;
    let content = &bytes[used..];
    let Some(count) = usize::try_from(claimed).ok().filter(|&count| count <= most) else {
        return Err(CodecError::TooLong { type_name: type_name::<T>(), claimed, available: most });
    };
    values.reserve(count.min(content.len()));
    let mut guard = Guard::<'b, Borrowed>::new(content);
    for _ in 0..count {
        values.push(T::deserialize(&mut guard).map_err(|fault| decode_error(fault, type_name::<T>()))?);
    }
    Ok(&content[content.len() - guard.remaining()..])
}

/// Appends the elements of the `Vec` that `bytes` hold to `values` as one copy, if they are numbers and `count` of them;
/// else does nothing and says `false`. It runs no code of the type's own.
///
/// # Examples
///
/// ```
/// use procession_ipc::codec;
///
/// let (bytes, mut values) = (codec::encode(&vec![1u64, 2])?, vec![0u64]);
/// assert!(codec::decode_numbers(&bytes, 2, &mut values));
/// assert_eq!(values, [0, 1, 2]);
/// assert!(!codec::decode_numbers(&bytes, 3, &mut values) && !codec::decode_numbers(&bytes, 2, &mut vec![()]));
/// # Ok::<(), codec::CodecError>(())
/// ```
#[inline]
pub fn decode_numbers<T: Wire>(bytes: &[u8], count: usize, values: &mut Vec<T>) -> bool {
    bulk::append(bytes, count, values)
}
