//! Bytes that are nearly right: drives the fuzz bodies in tests.

/// Calls `body` with the seeds, each changed in up to three places. The same ones each time.
pub(crate) fn each_mutant(seeds: &[Vec<u8>], rounds: usize, body: fn(&[u8])) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    for round in 0..rounds {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..next(4) {
            if bytes.is_empty() {
                break;
            }
            let at = next(bytes.len());
            match next(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, next(256) as u8),
                2 => bytes[at] = [0, 1, 2, 0x7f, 0xff][next(5)],
                _ => bytes[at] ^= 1 << next(8),
            }
        }
        body(&bytes);
    }
}
