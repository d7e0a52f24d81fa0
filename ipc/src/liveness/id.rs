//! The number by which a process is known in lock words and journals.

use std::num::NonZeroU32;

/// Bits of the slot number: 4,096 slots, of which the first is nobody's.
pub(crate) const SLOT_BITS: u32 = 12;

/// Bits of the generation: how often the slot was used before.
pub(crate) const GENERATION_BITS: u32 = 18;

/// Number of slots.
pub(crate) const SLOTS: u32 = 1 << SLOT_BITS;

/// A process that uses shared memory: its slot in the process table, and the slot's generation, so that a later user of the
/// slot is somebody else. 30 bits; never 0, since slot 0 is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ProcessId(NonZeroU32);

impl ProcessId {
    /// The process that uses `slot` in its `generation`; `None` for a slot that nobody can have.
    pub(crate) fn new(slot: u32, generation: u32) -> Option<Self> {
        let is_slot = (1..SLOTS).contains(&slot);
        let generation = generation % (1 << GENERATION_BITS);
        NonZeroU32::new(generation << SLOT_BITS | slot).filter(|_| is_slot).map(Self)
    }

    /// What was read from shared memory: `None` if that is no process.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        Self::new(bits % SLOTS, bits >> SLOT_BITS).filter(|id| id.bits() == bits)
    }

    /// This process, as it keeps its own number in memory of its own; `None` for what `from_bits` refuses too.
    #[inline]
    pub(crate) fn from_own(bits: u32) -> Option<Self> {
        // Nothing else but 0 and all ones is ever kept there.
        NonZeroU32::new(bits).filter(|_| bits != u32::MAX).map(Self)
    }

    /// The number itself, below 2^30.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0.get()
    }

    /// Its slot.
    pub(crate) fn slot(self) -> u32 {
        self.bits() % SLOTS
    }

    /// The generation of its slot.
    pub(crate) fn generation(self) -> u32 {
        self.bits() >> SLOT_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_from_their_bits_and_nonsense_is_nobody() {
        for (slot, generation) in [(1, 0), (SLOTS - 1, 5), (77, (1 << GENERATION_BITS) - 1)] {
            let id = ProcessId::new(slot, generation).unwrap();
            assert_eq!((id.slot(), id.generation()), (slot, generation));
            assert!(id.bits() < 1 << 30);
            assert_eq!(ProcessId::from_bits(id.bits()), Some(id));
        }
        assert_eq!(ProcessId::new(0, 5), None);
        assert_eq!(ProcessId::new(SLOTS, 5), None);
        for nonsense in [0, 5 << SLOT_BITS, u32::MAX] {
            assert_eq!(ProcessId::from_bits(nonsense), None, "{nonsense:x}");
        }
    }
}
