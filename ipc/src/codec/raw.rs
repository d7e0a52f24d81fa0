//! Values whose bytes need no encoding: numbers in a row and text.
//!
//! A transport that copies anyway takes the bytes from where they are ([`raw_parts`]) and puts them where they shall be
//! ([`Raw`]), so there is no copy in between. The bytes on the way are those that encoding would have written.

use std::any::{Any, TypeId};
use std::marker::PhantomData;

use super::{CodecError, Wire, bulk, decode};

/// Bytes of the length before the content.
const LENGTH: usize = size_of::<u64>();

/// The encoded `value` as its length and its content, if it is a `Vec` of numbers or a `String`.
///
/// # Examples
///
/// ```
/// use procession_ipc::codec;
///
/// let numbers = vec![1u8, 2];
/// let (length, content) = codec::raw_parts(&numbers).unwrap();
/// assert_eq!([&length[..], content].concat(), codec::encode(&numbers)?);
/// assert!(codec::raw_parts(&7u8).is_none());
/// # Ok::<(), codec::CodecError>(())
/// ```
#[inline]
pub fn raw_parts<T: 'static>(value: &T) -> Option<([u8; LENGTH], &[u8])> {
    let (count, content) = bulk::parts(value).or_else(|| {
        let text = (value as &dyn Any).downcast_ref::<String>()?;
        Some((text.len(), text.as_bytes()))
    })?;
    Some(((count as u64).to_le_bytes(), content))
}

/// A value that is about to arrive as its length and its content: a `Vec<u8>` or a `String`.
///
/// # Examples
///
/// ```
/// use procession_ipc::codec::Raw;
///
/// let mut raw = Raw::<String>::new().unwrap();
/// let (length, content) = raw.parts();
/// length[0] = 2;
/// content.extend_from_slice(b"ab");
/// assert_eq!(raw.value()?, "ab");
/// assert!(Raw::<Vec<u64>>::new().is_none());
/// # Ok::<(), procession_ipc::codec::CodecError>(())
/// ```
#[derive(Debug)]
pub struct Raw<T> {
    length: [u8; LENGTH],
    content: Vec<u8>,
    value: PhantomData<fn() -> T>,
}

impl<T: Wire> Raw<T> {
    /// Room for a value; `None`: `T` is another type.
    #[inline]
    #[must_use]
    pub fn new() -> Option<Self> {
        let is_raw = [TypeId::of::<Vec<u8>>(), TypeId::of::<String>()].contains(&TypeId::of::<T>());
        is_raw.then(|| Self { length: [0; LENGTH], content: Vec::new(), value: PhantomData })
    }

    /// Where the first bytes go, and where the rest is appended.
    #[inline]
    pub fn parts(&mut self) -> (&mut [u8; LENGTH], &mut Vec<u8>) {
        (&mut self.length, &mut self.content)
    }

    /// The value that has arrived.
    ///
    /// # Errors
    ///
    /// Those of [`decode`].
    #[inline]
    pub fn value(self) -> Result<T, CodecError> {
        let Self { length, content, .. } = self;
        let mut slot: Option<T> = None;
        let place: &mut dyn Any = &mut slot;
        let mut left = Vec::new();
        if u64::from_le_bytes(length) != content.len() as u64 {
            left = content;
        } else if let Some(bytes) = place.downcast_mut::<Option<Vec<u8>>>() {
            *bytes = Some(content);
        } else if let Some(text) = place.downcast_mut::<Option<String>>() {
            match String::from_utf8(content) {
                Ok(valid) => *text = Some(valid),
                Err(error) => left = error.into_bytes(),
            }
        }
        // What is wrong with the bytes is found by decoding them.
        slot.map_or_else(|| decode(&[&length[..], &left].concat()), Ok)
    }
}
