//! Just enough of elf(5) to know a program from outside: the number of its build, the order of its constructors.

use std::{fs, path::Path};

const SYMBOLS: u32 = 2;
const RELOCATIONS: u32 = 4;
const CONSTRUCTORS: u32 = 14;

fn half(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
}

/// The number of a build, as the library forms it: FNV-1a over the program headers and the build id.
pub fn build_of(program: impl AsRef<Path>) -> u64 {
    let elf = fs::read(program).unwrap();
    let (table, size) = (long(&elf, 32), half(&elf, 54));
    let mut build = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            build = (build ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for header in elf[table..].chunks(size).take(half(&elf, 56)) {
        [&header[..4], &header[16..24], &header[40..48]].iter().for_each(|field| add(field));
        if header[0] == 4 {
            let start = long(header, 8);
            add(build_id_in(&elf[start..start + long(header, 40)]));
        }
    }
    build
}

/// The build id in a section of notes ("Notes").
fn build_id_in(notes: &[u8]) -> &[u8] {
    let mut at = 0;
    while at + 12 <= notes.len() {
        let name = word(notes, at).next_multiple_of(4) as usize;
        let length = word(notes, at + 4) as usize;
        let body = at + 12 + name;
        if word(notes, at + 8) == 3 && notes[at + 12..].starts_with(b"GNU\0") {
            return &notes[body..body + length];
        }
        at = body + length.next_multiple_of(4);
    }
    &[]
}

/// The names of a program's constructors, mangled, in the order in which the loader calls them. The program has its
/// symbols, and is position independent: its constructors are the addends of relocations.
pub fn constructors(program: &Path) -> Vec<String> {
    let elf = fs::read(program).unwrap();
    let sections = sections(&elf);
    let array = sections.iter().find(|section| section.kind == CONSTRUCTORS).unwrap();
    let mut slots: Vec<(usize, usize)> = sections
        .iter()
        .filter(|section| section.kind == RELOCATIONS)
        .flat_map(|section| section.bytes.chunks_exact(24))
        .map(|entry| (long(entry, 0), long(entry, 16)))
        .filter(|(slot, _)| (array.address..array.address + array.bytes.len()).contains(slot))
        .collect();
    slots.sort_unstable();
    assert_eq!(slots.len(), array.bytes.len() / 8, "each slot is filled by one relocation");
    let symbols = sections.iter().find(|section| section.kind == SYMBOLS).unwrap();
    let names = sections[symbols.link].bytes;
    let name_of = |address: usize| {
        let symbol =
            symbols.bytes.chunks_exact(24).find(|symbol| long(symbol, 8) == address && symbol[4] & 15 == 2);
        let start = symbol.map_or(0, |symbol| word(symbol, 0) as usize);
        names[start..].split(|&byte| byte == 0).next().map(|name| String::from_utf8_lossy(name).into_owned())
    };
    slots.into_iter().filter_map(|(_, address)| name_of(address)).collect()
}

struct Section<'a> {
    kind: u32,
    address: usize,
    bytes: &'a [u8],
    link: usize,
}

fn sections(elf: &[u8]) -> Vec<Section<'_>> {
    let (table, size) = (long(elf, 40), half(elf, 58));
    let headers = elf[table..].chunks(size).take(half(elf, 60));
    let section = |header| {
        let start = long(header, 24);
        Section {
            kind: word(header, 4),
            address: long(header, 16),
            // Zeros that the loader makes (8) take no room in the file.
            bytes: if word(header, 4) == 8 { &[] } else { &elf[start..start + long(header, 32)] },
            link: word(header, 40) as usize,
        }
    };
    headers.map(section).collect()
}
