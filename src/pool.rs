//! Large buffers, used again: a block that is given back by the lane is read into next, so that full speed costs neither page faults nor zeroing.

use std::sync::{Mutex, PoisonError};

use crate::batch::Event;

/// Blocks kept for use; more are freed. At full speed one is being read into and one encoded into while the rest is in flight.
const KEPT: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Pool {
    blocks: Mutex<Vec<Vec<u8>>>,
    events: Mutex<Vec<Vec<Event>>>,
}

impl Pool {
    /// An empty buffer with room for at least `capacity` bytes, and for no more than twice as many.
    #[must_use]
    pub fn block(&self, capacity: usize) -> Vec<u8> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let found = blocks.iter().position(|block| (capacity..=capacity * 2).contains(&block.capacity()));
        found.map_or_else(|| Vec::with_capacity(capacity), |at| blocks.swap_remove(at))
    }

    /// An empty list of events.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes a buffer back; small ones and those beyond the limit are freed.
    pub fn give_block(&self, mut block: Vec<u8>) {
        block.clear();
        keep(&self.blocks, block, 64 << 10);
    }

    /// Frees all that is kept: for pauses.
    pub fn clear(&self) {
        *self.blocks.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    /// Takes a list back; small ones and those beyond the limit are freed.
    pub fn give_events(&self, mut events: Vec<Event>) {
        events.clear();
        keep(&self.events, events, 256);
    }
}

fn keep<T>(kept: &Mutex<Vec<Vec<T>>>, item: Vec<T>, least: usize) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if item.capacity() >= least && kept.len() < KEPT {
        kept.push(item);
    }
}
