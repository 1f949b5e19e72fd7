//! Fields that many entries have, rendered once: by file and offset, since journald never rewrites a field. Bounded, and nothing is allocated for a
//! field that is found. Pure.

/// Fields that may be kept; each takes about 100 bytes, and its text.
const SLOTS: usize = 8192;
/// Longer texts are rendered each time, bytes.
const LONGEST: usize = 2 << 10;
/// All texts together, bytes; beyond it all are let go, and those in use come back.
const MOST: usize = 3 << 20;

/// A field as it is written.
#[derive(Clone, Debug, Default)]
pub struct Fragment {
    /// What it says of the filters.
    pub bits: u64,
    /// Its name's number.
    pub key: u16,
    /// Length of its payload in the journal, bytes.
    pub len: u32,
    /// Where its value begins in `text`.
    pub value: u32,
    /// It goes among the others, whatever its name.
    pub other: bool,
    /// What is written.
    pub text: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// 0: free.
    file: u64,
    offset: u64,
    fragment: Fragment,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Vec<Slot>,
    size: usize,
    /// Which of two slots is given up next.
    turn: usize,
}

fn place(file: u64, offset: u64) -> usize {
    let mixed = (offset >> 3 ^ file << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 48) as usize % SLOTS
}

impl Cache {
    /// The field at this offset of this file, if it is kept.
    #[must_use]
    pub fn get(&self, file: u64, offset: u64) -> Option<&Fragment> {
        let at = place(file, offset);
        let is_it = |slot: &&Slot| slot.file == file && slot.offset == offset;
        let found = self.slots.get(at).filter(is_it).or_else(|| self.slots.get(at ^ 1).filter(is_it))?;
        Some(&found.fragment)
    }

    /// Whether a field of this text would be kept.
    #[must_use]
    pub fn takes(text: &[u8]) -> bool {
        text.len() <= LONGEST
    }

    /// Keeps a field, if its text is not long.
    pub fn put(&mut self, file: u64, offset: u64, fragment: &Fragment) {
        if !Cache::takes(&fragment.text) {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        if self.size + fragment.text.len() > MOST {
            self.clear();
            self.slots.resize(SLOTS, Slot::default());
        }
        let at = place(file, offset);
        let free = |at: usize| self.slots.get(at).is_some_and(|slot| slot.file == 0);
        self.turn ^= 1;
        let at = if free(at) {
            at
        } else if free(at ^ 1) {
            at ^ 1
        } else {
            at ^ self.turn
        };
        let Some(slot) = self.slots.get_mut(at) else { return };
        self.size = self.size - slot.fragment.text.len() + fragment.text.len();
        (slot.file, slot.offset) = (file, offset);
        let mut text = std::mem::take(&mut slot.fragment.text);
        text.clear();
        text.extend_from_slice(&fragment.text);
        let Fragment { bits, key, len, value, other, .. } = *fragment;
        slot.fragment = Fragment { bits, key, len, value, other, text };
    }

    /// Lets all go.
    pub fn clear(&mut self) {
        (self.slots, self.size) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_what_was_put_there_and_memory_is_bounded() {
        let mut cache = Cache::default();
        for round in 0..40_000_u64 {
            let (file, offset) = (1 + round % 3, round * 64);
            let fragment =
                Fragment { len: u32::try_from(round).unwrap(), text: vec![b'x'; (round % 2_100) as usize], ..Fragment::default() };
            cache.put(file, offset, &fragment);
            let found = cache.get(file, offset).map(|found| (found.len, found.text.len()));
            assert_eq!(found, (fragment.text.len() <= LONGEST).then_some((fragment.len, fragment.text.len())));
            assert!(cache.size <= MOST && cache.slots.len() == SLOTS);
        }
        assert!(cache.get(4, 0).is_none());
    }
}
