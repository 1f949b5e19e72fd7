//! Fields that many entries have, rendered once: by file and offset, since journald never rewrites a field. Their texts lie one behind the other, so
//! that finding one touches two places in memory and allocates nothing. Bounded. Pure.

mod groups;

use super::render::Role;
pub use groups::Group;
use groups::Groups;

/// Fields that may be kept; each takes 56 bytes, and its text.
const SLOTS: usize = 8192;
/// Longer texts are rendered each time, bytes.
const LONGEST: usize = 2 << 10;
/// All texts together, bytes; beyond it all are let go, and those in use come back.
const MOST: usize = 3 << 20;

/// What is known of a field as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// What it says of the filters.
    pub bits: u64,
    /// Where its text is.
    pub text: Text,
    /// Length of its payload in the journal, bytes.
    pub len: u32,
    /// Its name's number.
    pub key: u16,
    /// What it is in a message.
    pub role: Role,
}

/// A text, in the cache or in a buffer for one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Where it begins.
    pub start: u32,
    /// Its length, bytes.
    pub len: u32,
    /// Where in it its value begins.
    pub value: u16,
    /// It lies in the cache.
    pub kept: bool,
}

impl Text {
    /// The bytes of it, within those of all.
    #[must_use]
    pub fn of(self, all: &[u8]) -> &[u8] {
        let start = self.start as usize;
        all.get(start..start + self.len as usize).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// 0: free.
    file: u64,
    offset: u64,
    fragment: Fragment,
}

const FREE: Slot = Slot {
    file: 0,
    offset: 0,
    fragment: Fragment { bits: 0, text: Text { start: 0, len: 0, value: 0, kept: true }, len: 0, key: 0, role: Role::Left },
};

/// See the module.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Vec<Slot>,
    texts: Vec<u8>,
    groups: Groups,
    /// Which of two slots is given up next.
    turn: usize,
}

fn place(file: u64, offset: u64) -> usize {
    let mixed = (offset >> 3 ^ file << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 48) as usize % SLOTS
}

impl Cache {
    /// The field at this offset of this file, if it is kept.
    #[inline]
    #[must_use]
    pub fn get(&self, file: u64, offset: u64) -> Option<Fragment> {
        let at = place(file, offset);
        let is_it = |slot: &&Slot| slot.offset == offset && slot.file == file;
        let found = self.slots.get(at).filter(is_it).or_else(|| self.slots.get(at ^ 1).filter(is_it))?;
        Some(found.fragment)
    }

    /// All texts that are kept.
    #[must_use]
    pub fn texts(&self) -> &[u8] {
        &self.texts
    }

    /// Lets all go if it is too much: between two entries, since texts that were found stay where they are until then.
    pub fn tidy(&mut self) {
        if self.texts.len() > MOST - LONGEST * 4 {
            self.clear();
        }
    }

    /// Keeps a text for as long as the others; `None`: it is too long for that.
    pub fn keep(&mut self, text: &[u8]) -> Option<Text> {
        let narrow = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let start = self.texts.len();
        if text.len() > LONGEST * 2 || start + text.len() > MOST {
            return None;
        }
        self.texts.extend_from_slice(text);
        Some(Text { start: narrow(start), len: narrow(text.len()), value: 0, kept: true })
    }

    /// Keeps a field with this text, which lies elsewhere; what is known of it from now on. `None`: it is too long, or one entry alone has filled
    /// the cache.
    pub fn put(&mut self, file: u64, offset: u64, fragment: &Fragment, text: &[u8]) -> Option<Fragment> {
        if text.len() > LONGEST || self.texts.len() + text.len() > MOST {
            return None;
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, FREE);
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
        let slot = self.slots.get_mut(at)?;
        let narrow = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let kept = Text { start: narrow(self.texts.len()), len: narrow(text.len()), kept: true, ..fragment.text };
        // What was at this place before leaves its text behind, until all are let go.
        self.texts.extend_from_slice(text);
        *slot = Slot { file, offset, fragment: Fragment { text: kept, ..*fragment } };
        Some(slot.fragment)
    }

    /// Lets all go.
    pub fn clear(&mut self) {
        (self.slots, self.texts) = (Vec::new(), Vec::new());
        self.groups.clear();
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
            let fragment = Fragment { len: u32::try_from(round).unwrap(), ..FREE.fragment };
            let text = vec![b'a' + (round % 26) as u8; (round % 2_100) as usize];
            cache.tidy();
            let put = cache.put(file, offset, &fragment, &text);
            assert_eq!(put.is_some(), text.len() <= LONGEST);
            let found = cache.get(file, offset).map(|found| (found.len, found.text.of(cache.texts()).to_vec()));
            assert_eq!(found, put.map(|put| (put.len, text)));
            assert!(cache.texts.len() <= MOST && cache.slots.len() <= SLOTS);
        }
        assert!(cache.get(4, 0).is_none());
    }

    #[test]
    fn what_was_found_stays_until_it_is_tidied() {
        let mut cache = Cache::default();
        let first = cache.put(1, 8, &FREE.fragment, b"first").unwrap();
        let mut offset = 16;
        while cache.put(1, offset, &FREE.fragment, &[b'x'; LONGEST]).is_some() {
            offset += 8;
        }
        assert_eq!(first.text.of(cache.texts()), b"first");
        cache.tidy();
        assert!(cache.texts().is_empty() && cache.get(1, 8).is_none());
    }
}
