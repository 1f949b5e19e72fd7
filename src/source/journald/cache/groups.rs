//! Fields that many entries have together: what a process logs has all fields but its message and time in common. Found as a whole by their offsets,
//! they cost one look and one copy. A group is learnt when it is met for the second time. Pure.

use super::{Cache, Text};
use crate::source::journald::render::Role;

/// Groups that may be kept at a time.
const GROUPS: usize = 1024;
/// Entries with more fields that they share are put together from those.
const WIDEST: usize = 128;

/// Fields as they stand in a message together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Group {
    /// What they say of the filters together.
    pub bits: u64,
    /// The length of their payloads, each one's end included, bytes.
    pub bytes: u64,
    /// By role, what has a place of its own.
    pub tops: [Text; Role::TOPS],
    /// Those of these that stand in a row behind the message.
    pub named: Text,
    /// What stands in `journal`.
    pub others: Text,
    /// Bits of its names' numbers modulo 64: most names that it does not have show in these.
    pub(in crate::source::journald) names: u64,
    /// Its fields, and the numbers of their names.
    pub(in crate::source::journald) items: (u32, u16),
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// 0: free.
    file: u64,
    /// Of the group that was met here last.
    met: u64,
    group: Group,
}

/// What [`Cache`] knows of groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Vec<Slot>,
    items: Vec<u64>,
    keys: Vec<u16>,
}

impl Groups {
    fn range(group: &Group) -> std::ops::Range<usize> {
        let (start, len) = group.items;
        start as usize..start as usize + usize::from(len)
    }

    pub(super) fn clear(&mut self) {
        *self = Groups::default();
    }
}

/// What tells groups apart; several chains, since each product waits for the one before.
fn hash(file: u64, items: &[u64]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |chain: u64, item: u64| (chain ^ item).wrapping_mul(FACTOR).rotate_left(29);
    let mut chains = [file, 1, 2, 3];
    let (fours, rest) = items.as_chunks::<4>();
    for four in fours {
        chains.iter_mut().zip(four).for_each(|(chain, item)| *chain = mix(*chain, *item));
    }
    chains.iter_mut().zip(rest).for_each(|(chain, item)| *chain = mix(*chain, *item));
    chains.into_iter().fold(items.len() as u64, mix)
}

fn bit(key: u16) -> u64 {
    1 << (key % 64)
}

fn place(hash: u64) -> usize {
    (hash >> 40) as usize % GROUPS
}

impl Cache {
    /// These fields of this file together, if that is kept.
    #[inline]
    #[must_use]
    pub fn group(&self, file: u64, items: &[u64]) -> Option<&Group> {
        let slot = self.groups.slots.get(place(hash(file, items))).filter(|slot| slot.file == file)?;
        let same = self.groups.items.get(Groups::range(&slot.group)).is_some_and(|known| known == items);
        same.then_some(&slot.group)
    }

    /// Whether a field of the group has the name of this number.
    #[must_use]
    pub fn has_name(&self, group: &Group, key: u16) -> bool {
        group.names & bit(key) != 0 && self.groups.keys.get(Groups::range(group)).is_some_and(|keys| keys.contains(&key))
    }

    /// Whether these fields are worth learning as a group: they have been met together before.
    pub fn is_met_again(&mut self, file: u64, items: &[u64]) -> bool {
        if items.is_empty() || items.len() > WIDEST {
            return false;
        }
        if self.groups.slots.is_empty() {
            self.groups.slots.resize(GROUPS, Slot::default());
        }
        let hash = hash(file, items);
        let Some(slot) = self.groups.slots.get_mut(place(hash)) else { return false };
        std::mem::replace(&mut slot.met, hash) == hash
    }

    /// Keeps a group of these fields, whose names have these numbers; its texts are kept already.
    pub fn learn(&mut self, file: u64, items: &[u64], keys: &[u16], group: Group) {
        let Some(slot) = self.groups.slots.get_mut(place(hash(file, items))).filter(|_| keys.len() == items.len()) else { return };
        let start = u32::try_from(self.groups.items.len()).unwrap_or(u32::MAX);
        self.groups.items.extend_from_slice(items);
        self.groups.keys.extend_from_slice(keys);
        let names = keys.iter().fold(0, |names, key| names | bit(*key));
        (slot.file, slot.group) = (file, Group { names, items: (start, u16::try_from(items.len()).unwrap_or(0)), ..group });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_all_of_its_fields_and_no_others() {
        let mut cache = Cache::default();
        let group = Group { bytes: 7, ..Group::default() };
        let items = [64, 128, 192];
        assert!(cache.group(1, &items).is_none());
        assert!(!cache.is_met_again(1, &items) && cache.is_met_again(1, &items));
        cache.learn(1, &items, &[3, 1, 4], group);
        let found = *cache.group(1, &items).unwrap();
        assert_eq!(found.bytes, 7);
        assert!(cache.has_name(&found, 4) && !cache.has_name(&found, 5));
        for (file, other) in [(2, items.as_slice()), (1, &[64, 128]), (1, &[64, 128, 200]), (1, &[128, 64, 192]), (1, &[])] {
            assert!(cache.group(file, other).is_none(), "{file} {other:?}");
        }
        cache.clear();
        assert!(cache.group(1, &items).is_none());
    }
}
