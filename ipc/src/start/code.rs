//! Makes copies of a process cheaper: its code is mapped in them from the beginning.
//!
//! fork(2) leaves out the page tables of a mapping of a file that was never written to, since faults can fill them in (`vma_needs_copy`
//! in the kernel's mm/memory.c). So a copy has a fault for each 64 KiB of code that it comes to, of 2 us here: 27 of the 63 of a child
//! that does nothing. Of a mapping with one page of its own, all that is there is copied, which takes less.
//!
//! So one byte of each mapping of code is written as it is, through /proc/self/mem, in the way of a debugger that sets a
//! breakpoint: the mapping itself stays as it was. This costs a page for each mapping, which copies share.

use std::fs::{File, read_to_string};
use std::io;
use std::os::unix::fs::FileExt;

/// Has the code of this process mapped in its copies. For a process with one thread, before it is copied often.
///
/// # Errors
///
/// The kernel refuses, or /proc is not mounted: then copies have it mapped as they come to it.
pub(super) fn map_in_copies() -> io::Result<()> {
    let memory = File::options().read(true).write(true).open("/proc/self/mem")?;
    let maps = read_to_string("/proc/self/maps")?;
    mappings_of_code(&maps).try_for_each(|start| {
        let mut byte = [0];
        memory.read_exact_at(&mut byte, start)?;
        memory.write_all_at(&byte, start)
    })
}

/// Where the mappings of files begin that hold code and are nobody else's, in what /proc/self/maps says (proc_pid_maps(5)).
fn mappings_of_code(maps: &str) -> impl Iterator<Item = u64> {
    maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let is_code = rest.starts_with("r-xp ") && rest.contains(" /");
        let (start, _) = range.split_once('-').filter(|_| is_code)?;
        u64::from_str_radix(start, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_code_are_found() {
        let maps = "\
            55a2e666c000-55a2e66ee000 r--p 00000000 fe:00 11739244   /tmp/a program\n\
            55a2e66ee000-55a2e6825000 r-xp 00081000 fe:00 11739244   /tmp/a program\n\
            55a2e6825000-55a2e6832000 rw-p 001b7000 fe:00 11739244   /tmp/a program\n\
            7f0902468000-7f09025be000 r-xp 00026000 fe:00 326279     /usr/lib/libc.so.6 (deleted)\n\
            7f0902700000-7f0902800000 r-xs 00026000 fe:00 326279     /usr/lib/shared\n\
            7f0902800000-7f0902900000 r-xp 00000000 00:00 0 \n\
            7fff379f8000-7fff379fa000 r-xp 00000000 00:00 0          [vdso]\n\
            nonsense";
        let found: Vec<_> = mappings_of_code(maps).collect();
        assert_eq!(found, [0x55a2_e66e_e000, 0x7f09_0246_8000]);
        assert_eq!(mappings_of_code("").count(), 0);
    }
}
