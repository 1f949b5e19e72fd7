//! What messages of one batch have in common around their values: each class a key and headers, told apart by the bytes that the stamp writes. Apart
//! because the rules know nothing of it. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::rules::Done;
use crate::rules::stamp::{Class, Stamp};
use crate::rules::when::Look;

/// The classes of the present batch, numbered from 1; 0 is that of events without a stamp. As many as a batch has events at most.
#[derive(Debug, Default)]
pub(super) struct Classes {
    pub(super) stamp: Option<Arc<Stamp>>,
    numbers: HashMap<Box<[u8]>, u16>,
    /// What the stamp wrote for each, and a number for its key.
    made: Vec<(Box<[u8]>, u16)>,
    keys: HashMap<Box<[u8]>, u16>,
    written: Vec<u8>,
    done: Done,
}

impl Classes {
    /// A new batch begins.
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
        self.made.clear();
        self.keys.clear();
    }

    /// What the batch's messages have of the stamp is added to its tally.
    pub(super) fn tell(&mut self) {
        let done = std::mem::take(&mut self.done);
        if let Some(stamp) = self.stamp.as_ref().filter(|_| done != Done::default()) {
            stamp.tally.add(done);
        }
    }

    /// The class of an event, and what was written for it; `None`: there is no stamp.
    pub(super) fn of(&mut self, look: &Look<'_>) -> Option<(u16, &[u8])> {
        let stamp = self.stamp.clone()?;
        let mut written = std::mem::take(&mut self.written);
        let all = stamp.write(look, &mut written);
        (self.done.matched, self.done.errors) = (self.done.matched + 1, self.done.errors + u64::from(!all));
        let class = self.number(&written);
        self.written = written;
        Some((class, &self.written))
    }

    /// The class of what the stamp wrote.
    pub(super) fn number(&mut self, written: &[u8]) -> u16 {
        if let Some(class) = self.numbers.get(written) {
            return *class;
        }
        let class = u16::try_from(self.made.len() + 1).unwrap_or(u16::MAX);
        let key = written.get(..4 + key_len(written)).unwrap_or(written);
        let key = self.keys.get(key).copied().unwrap_or_else(|| {
            self.keys.insert(key.into(), class);
            class
        });
        self.numbers.insert(written.into(), class);
        self.made.push((written.into(), key));
        class
    }

    /// A number that classes with the same key share.
    pub(super) fn key_of(&self, class: u16) -> u16 {
        self.made(class).map_or(0, |(_, key)| *key)
    }

    /// What events of this class have in common.
    pub(super) fn class(&self, class: u16) -> Class {
        self.made(class).zip(self.stamp.as_ref()).map(|((written, _), stamp)| stamp.class(written)).unwrap_or_default()
    }

    fn made(&self, class: u16) -> Option<&(Box<[u8]>, u16)> {
        self.made.get(usize::from(class).checked_sub(1)?)
    }
}

/// How long the key is that a stamp wrote; 0 for one that is missing.
fn key_len(written: &[u8]) -> usize {
    written.first_chunk::<4>().map_or(0, |len| u32::from_le_bytes(*len)).checked_add(1).map_or(0, |len| len as usize - 1)
}
