//! The main program's image in memory: where it starts, which constructors it has, which build it is.
//!
//! A function travels between processes as an offset from the image's base. Parent and child execute the same inode, so
//! the offset means the same thing in both; the checks here turn the cases where it does not into errors.

use nix::libc::{self, c_char, c_int, c_void};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// A constructor as the loader calls it: the arguments are those of `main` on glibc.
pub type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// One dynamic section entry (elf(5)).
#[repr(C)]
struct Dynamic {
    tag: usize,
    value: usize,
}

const DT_NULL: usize = 0;
const DT_INIT_ARRAY: usize = 25;
const DT_INIT_ARRAYSZ: usize = 27;
const NT_GNU_BUILD_ID: u32 = 3;

/// The main program as the loader mapped it.
#[derive(Debug)]
pub struct Image {
    base: usize,
    segments: Vec<Range<usize>>,
    constructors: Range<usize>,
    id: u64,
}

/// The image of the running program.
#[must_use]
pub fn main_image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut image = Image { base: 0, segments: Vec::new(), constructors: 0..0, id: 0 };
        let data: *mut Image = &mut image;
        // SAFETY: `visit_first` only uses `data` as the `Image` that it is, and only during this call.
        unsafe { libc::dl_iterate_phdr(Some(visit_first), data.cast()) };
        image
    })
}

/// dl_iterate_phdr(3) reports the main program first; the result 1 ends the walk.
unsafe extern "C" fn visit_first(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid description for the time of this call.
    let info = unsafe { &*info };
    // SAFETY: `data` is the exclusively borrowed `Image` of `main_image`.
    let image = unsafe { &mut *data.cast::<Image>() };
    // SAFETY: the loader's table of program headers has `dlpi_phnum` entries and lives as long as the image.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    image.fill(info.dlpi_addr as usize, headers);
    1
}

impl Image {
    fn fill(&mut self, base: usize, headers: &[libc::Elf64_Phdr]) {
        self.base = base;
        let mut id = Fnv::new();
        for header in headers {
            let start = base.wrapping_add(header.p_vaddr as usize);
            let range = start..start.wrapping_add(header.p_memsz as usize);
            id.add_header(header.p_type, header.p_vaddr, header.p_memsz);
            match header.p_type {
                libc::PT_LOAD => self.segments.push(range),
                libc::PT_DYNAMIC => self.constructors = constructors_of(base, range),
                libc::PT_NOTE => id.add(build_id_of(notes_at(range))),
                _ => {}
            }
        }
        self.id = id.0;
    }

    /// A number that differs between builds: the build id where the linker wrote one, and the layout.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The distance of `address` from the image's base, if it lies within the image.
    #[must_use]
    pub fn offset_of(&self, address: usize) -> Option<u64> {
        self.contains(address, 1).then(|| address.wrapping_sub(self.base) as u64)
    }

    /// The address at `offset`, if `size` bytes from there lie within one mapped segment and `align` holds.
    #[must_use]
    pub fn address_of(&self, offset: u64, size: usize, align: usize) -> Option<usize> {
        let address = self.base.checked_add(usize::try_from(offset).ok()?)?;
        (self.contains(address, size) && address.is_multiple_of(align)).then_some(address)
    }

    fn contains(&self, address: usize, size: usize) -> bool {
        let Some(end) = address.checked_add(size) else { return false };
        self.segments.iter().any(|segment| segment.start <= address && end <= segment.end)
    }

    /// The constructors that the loader calls after `own`, in its order.
    ///
    /// Empty when the image has no dynamic section (a static program that is not position independent).
    #[must_use]
    pub fn constructors_after(&self, own: Constructor) -> &'static [Constructor] {
        let count = self.constructors.len() / size_of::<Constructor>();
        if count == 0 {
            return &[];
        }
        let first = self.constructors.start as *const Constructor;
        // SAFETY: the dynamic section says that `count` function pointers lie here; they live as long as the image,
        // and the loader has relocated them before it called the first.
        let all = unsafe { std::slice::from_raw_parts(first, count) };
        let own = all.iter().position(|&other| std::ptr::fn_addr_eq(other, own));
        own.map_or(&[], |at| &all[at + 1..])
    }
}

fn constructors_of(base: usize, section: Range<usize>) -> Range<usize> {
    let count = section.len() / size_of::<Dynamic>();
    // SAFETY: PT_DYNAMIC names a mapped, relocated table of this many entries.
    let entries = unsafe { std::slice::from_raw_parts(section.start as *const Dynamic, count) };
    let value = |tag| entries.iter().take_while(|e| e.tag != DT_NULL).find(|e| e.tag == tag).map(|e| e.value);
    match (value(DT_INIT_ARRAY), value(DT_INIT_ARRAYSZ)) {
        (Some(at), Some(bytes)) => base + at..base + at + bytes,
        _ => 0..0,
    }
}

fn notes_at(section: Range<usize>) -> &'static [u8] {
    // SAFETY: PT_NOTE names a mapped, read-only range of the image, which is never unmapped.
    unsafe { std::slice::from_raw_parts(section.start as *const u8, section.len()) }
}

/// The bytes of the build id among `notes`; empty when there is none (elf(5), "Notes").
fn build_id_of(mut notes: &[u8]) -> &[u8] {
    while let Some((header, rest)) = notes.split_at_checked(12) {
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (name_len, len) = (word(0) as usize, word(4) as usize);
        let start = name_len.next_multiple_of(4);
        let Some(body) = rest.get(start..start + len) else { break };
        if word(8) == NT_GNU_BUILD_ID && rest.starts_with(b"GNU\0") {
            return body;
        }
        notes = rest.get(start + len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    &[]
}

/// The number that [`Image::id`] would be in a program that runs `file`; `None` if it is no 64-bit program of this system.
///
/// # Errors
///
/// The file cannot be read.
pub fn id_of_file(file: &File) -> io::Result<Option<u64>> {
    const HEADER: usize = 64;
    const ENTRY: usize = 56;
    /// Far more than any program has, so that a strange file costs no memory.
    const MOST_NOTES: u64 = 1 << 20;
    let read = |at: u64, len: usize| -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; len];
        match file.read_exact_at(&mut bytes, at) {
            // It ends before, or no file has such a place.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidInput) => {
                Ok(None)
            }
            other => other.map(|()| Some(bytes)),
        }
    };
    let Some(header) = read(0, HEADER)? else { return Ok(None) };
    let short = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    let (entry_size, count) = (short(54), short(56));
    if !header.starts_with(b"\x7fELF\x02") || entry_size != ENTRY {
        return Ok(None);
    }
    let Some(table) = read(long(&header, 32), count * ENTRY)? else { return Ok(None) };
    let mut id = Fnv::new();
    for entry in table.chunks_exact(ENTRY) {
        let kind = u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let (at, size) = (long(entry, 8), long(entry, 40));
        id.add_header(kind, long(entry, 16), size);
        if kind == libc::PT_NOTE && size <= MOST_NOTES {
            let Some(notes) = read(at, size as usize)? else { return Ok(None) };
            id.add(build_id_of(&notes));
        }
    }
    Ok(Some(id.0))
}

/// Eight bytes of an ELF structure as a number.
fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// File name of the object that holds `address`, for error texts.
#[must_use]
pub fn object_holding(address: usize) -> String {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is room for one Dl_info; dladdr(3) takes any address.
    let found = unsafe { libc::dladdr(address as *const c_void, info.as_mut_ptr()) };
    // SAFETY: all-zero is a valid Dl_info, and dladdr may have filled it.
    let info = unsafe { info.assume_init() };
    if found == 0 || info.dli_fname.is_null() {
        return "an unknown library".to_owned();
    }
    // SAFETY: dladdr found an object, whose name is a C string that lives as long as the object.
    unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned()
}

/// The FNV-1a hash (draft-eastlake-fnv): no keys, the same in each process.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// What is in the program header of a file and in that of the same file in memory.
    fn add_header(&mut self, kind: u32, address: u64, size: u64) {
        self.add(&kind.to_le_bytes());
        self.add(&address.to_le_bytes());
        self.add(&size.to_le_bytes());
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_program_are_inside_and_those_of_libc_are_not() {
        let image = main_image();
        let own = main_image as fn() -> &'static Image as usize;
        let offset = image.offset_of(own).unwrap();
        assert_eq!(image.address_of(offset, 1, 1), Some(own));
        let foreign = libc::getpid as unsafe extern "C" fn() -> i32 as usize;
        assert_eq!(image.offset_of(foreign), None);
        assert!(object_holding(foreign).contains("libc"), "{}", object_holding(foreign));
    }

    #[test]
    fn number_of_a_file_is_that_of_the_program_which_runs_it() {
        let own = File::open("/proc/self/exe").unwrap();
        assert_eq!(id_of_file(&own).unwrap(), Some(main_image().id()));
        let other = File::open("/bin/sh").unwrap();
        assert_ne!(id_of_file(&other).unwrap(), Some(main_image().id()));
        let no_programs: [&[u8]; 4] = [b"", b"#!/bin/sh\n", b"\x7fELF\x02", &[0x7f; 4096]];
        for bytes in no_programs {
            let file = File::from(crate::sys::memory::sealed_memory(&[bytes]).unwrap());
            assert_eq!(id_of_file(&file).unwrap(), None);
        }
    }

    #[test]
    fn hostile_program_headers_are_no_program() {
        let mut own = vec![0; 4096];
        File::open("/proc/self/exe").unwrap().read_exact_at(&mut own, 0).unwrap();
        for at in (0..64).chain(own.len() - 64..own.len()) {
            let mut bytes = own.clone();
            bytes[at] ^= 0xff;
            let file = File::from(crate::sys::memory::sealed_memory(&[&bytes]).unwrap());
            let _ = id_of_file(&file).unwrap();
        }
    }

    #[test]
    fn offsets_outside_the_image_or_unaligned_are_refused() {
        let image = main_image();
        let inside = image.offset_of(main_image as fn() -> &'static Image as usize).unwrap();
        let table = [(u64::MAX, 1, 1), (1 << 60, 1, 1), (inside, usize::MAX, 1), (inside | 1, 1, 2)];
        for (offset, size, align) in table {
            assert_eq!(image.address_of(offset, size, align), None, "{offset} {size} {align}");
        }
    }

    #[test]
    fn the_program_has_constructors_and_an_identity() {
        let image = main_image();
        assert!(image.constructors.len() >= size_of::<Constructor>());
        assert_ne!(image.id(), Fnv::new().0);
    }
}
