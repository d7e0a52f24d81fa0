//! How a function's address travels: as the offset of a descriptor within the main image.
//!
//! A descriptor is a constant beside the code: a magic number that names its kind, and a function pointer. The offset is
//! checked on both sides. Where it is made, it must lie in the main program's image; where it is used, it must be in
//! range, aligned, and start with the magic number of the kind that is asked for.

#![allow(unsafe_code)]

use crate::sys::image::{main_image, object_holding};
use crate::{Error, Result};

use super::Luggage;
use super::outcome::Outcome;

/// A kind of descriptor: what its function takes and returns.
pub(crate) trait Kind: 'static {
    /// First bytes of a descriptor of this kind: random, so that no other data look like it.
    const MAGIC: [u64; 2];
    /// The function pointer.
    type Run: Copy;
}

/// How to call the main function of a process: its arguments, and what is in them, to be taken out.
pub(crate) type ProcessEntry = fn(&'static [u8], &mut Luggage) -> Outcome;

/// The main function of a process.
#[derive(Debug)]
pub(crate) enum ProcessKind {}

impl Kind for ProcessKind {
    const MAGIC: [u64; 2] = [0x9c4d_31f7_0be5_62a8, 0x5be0_97c3_d41a_8f26];
    type Run = ProcessEntry;
}

/// A descriptor in read-only data.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Descriptor<K: Kind> {
    magic: [u64; 2],
    run: K::Run,
}

impl<K: Kind> Descriptor<K> {
    pub(crate) const fn new(run: K::Run) -> Self {
        Self { magic: K::MAGIC, run }
    }

    pub(crate) fn run(&self) -> K::Run {
        self.run
    }
}

/// The offset of a descriptor, for the message to another process. `what` names the function in the error.
pub(crate) fn offset_of<K: Kind>(descriptor: &'static Descriptor<K>, what: &str) -> Result<u64> {
    let address = std::ptr::from_ref(descriptor).addr();
    main_image()
        .offset_of(address)
        .ok_or_else(|| Error::NotInMainImage { what: format!("`{what}`"), library: object_holding(address) })
}

/// The descriptor at `offset`, if there is one of this kind.
pub(crate) fn at_offset<K: Kind>(offset: u64) -> Result<&'static Descriptor<K>> {
    let malformed = Error::Malformed { what: "function offset (was the program built again while it ran?)" };
    let (size, align) = (size_of::<Descriptor<K>>(), align_of::<Descriptor<K>>());
    let Some(address) = main_image().address_of(offset, size, align) else { return Err(malformed) };
    let address = std::ptr::with_exposed_provenance::<Descriptor<K>>(address);
    // SAFETY: the range lies in a mapped segment of the image, which is never unmapped, and is aligned. The magic number
    // is the first field (`repr(C)`), and two integers are valid whatever the bytes are.
    let magic = unsafe { address.cast::<[u64; 2]>().read() };
    if magic != K::MAGIC {
        return Err(malformed);
    }
    // SAFETY: 128 random bits of this kind are there, so the constant that `Descriptor::new` made is: `run` is a
    // valid function pointer, and the constant is never written.
    Ok(unsafe { &*address })
}

/// Says whether this library itself is in the main image, as spawn and the fork server need it.
///
/// # Errors
///
/// [`Error::NotInMainImage`] inside a library that another program loaded: executing that program again would run its
/// `main` instead of our entry.
pub fn assert_inside_main_image() -> Result<()> {
    let own = assert_inside_main_image as fn() -> Result<()> as usize;
    match main_image().offset_of(own) {
        Some(_) => Ok(()),
        None => Err(Error::NotInMainImage {
            what: "the library `procession`".to_owned(),
            library: object_holding(own),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::outcome;

    fn nothing(_: &'static [u8], _: &mut Luggage) -> Outcome {
        outcome::of_call(|| ())
    }

    static GOOD: Descriptor<ProcessKind> = Descriptor::new(nothing as ProcessEntry);
    static OTHER: Descriptor<ProcessKind> = Descriptor { magic: [1, 2], run: nothing };

    #[test]
    fn an_offset_leads_back_to_its_descriptor() {
        let offset = offset_of(&GOOD, "nothing").unwrap();
        assert!(std::ptr::eq(at_offset::<ProcessKind>(offset).unwrap(), &GOOD));
    }

    #[test]
    fn wrong_offsets_are_refused() {
        let good = offset_of(&GOOD, "nothing").unwrap();
        let other = offset_of(&OTHER, "other").unwrap();
        for offset in [0, 8, good + 8, good + 1, other, u64::MAX, u64::MAX - 7, 1 << 47] {
            assert!(at_offset::<ProcessKind>(offset).is_err(), "{offset:#x}");
        }
    }

    #[test]
    fn a_descriptor_outside_the_image_is_refused_by_name() {
        let leaked: &'static Descriptor<ProcessKind> =
            Box::leak(Box::new(Descriptor::new(nothing as ProcessEntry)));
        let error = offset_of(leaked, "far_away").unwrap_err();
        assert!(error.to_string().contains("far_away"), "{error}");
    }
}
