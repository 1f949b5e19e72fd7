//! One byte budget (`agent.memory`) for all that holds events, from reader to acknowledgement, librdkafka's bookkeeping included.
//! Apart because every stage holds charges and only readers wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The budget. Readers wait for it to have room; later stages take what they need at once, and the overdraft holds readers back.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// The budget that this one is a share of.
    whole: Option<Arc<Budget>>,
    gate: Mutex<()>,
    room: Condvar,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit: limit.into(), used: AtomicUsize::new(0), whole: None, gate: Mutex::new(()), room: Condvar::new() })
    }

    /// A share of at most `limit` bytes: what is charged to it is charged to the whole as well, so that one lane that is stuck does not use up
    /// the memory of all.
    #[must_use]
    pub fn share(self: &Arc<Self>, limit: usize) -> Arc<Budget> {
        let (gate, room) = (Mutex::new(()), Condvar::new());
        Arc::new(Budget { limit: limit.into(), used: AtomicUsize::new(0), whole: Some(Arc::clone(self)), gate, room })
    }

    /// The limit, bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Another limit from now on, bytes. What is above a lower one stays until it is settled, and holds readers back.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes charged now; above the limit while later stages have overdrawn it.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Whether a reader may take `bytes` more. One reader may always go on when nothing at all is charged, however small the limit.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let used = self.used();
        // An empty share may begin even when others have used up the whole: that is one block more, and nobody starves.
        used == 0 || (used.saturating_add(bytes) <= self.limit() && self.whole.as_ref().is_none_or(|whole| whole.has_room(bytes)))
    }

    /// Where everybody waits, whatever the share.
    fn root(&self) -> &Budget {
        self.whole.as_ref().map_or(self, |whole| whole.root())
    }

    fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        if let Some(whole) = &self.whole {
            whole.add(bytes);
        }
    }

    fn take_off(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        if let Some(whole) = &self.whole {
            whole.take_off(bytes);
        }
    }

    /// Waits until there is room for `bytes`, at most `patience`; says whether there is.
    pub fn wait_for_room(&self, bytes: usize, patience: Duration) -> bool {
        let root = self.root();
        let gate = root.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = root.room.wait_timeout_while(gate, patience, |()| !self.has_room(bytes));
        drop(outcome);
        self.has_room(bytes)
    }

    /// Charges `bytes` at once, overdrawing if need be.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.add(bytes);
        Charge { budget: Arc::clone(self), bytes }
    }
}

/// Bytes taken from the budget; given back on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges the same budget with `bytes` more, overdrawing if need be.
    #[must_use]
    pub fn another(&self, bytes: usize) -> Charge {
        self.budget.charge(bytes)
    }

    /// Changes it to `bytes`, overdrawing if need be.
    pub fn resize(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.budget.add(bytes - self.bytes);
        } else {
            self.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    fn give_back(&self, bytes: usize) {
        self.budget.take_off(bytes);
        let root = self.budget.root();
        // Taken so that a reader between its check and its wait can't miss the call.
        drop(root.gate.lock().unwrap_or_else(PoisonError::into_inner));
        root.room.notify_all();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overdraft_holds_readers_back_until_it_is_paid() {
        let budget = Budget::new(100);
        let first = budget.charge(60);
        assert!(budget.has_room(40) && !budget.has_room(41));
        let mut second = budget.charge(10);
        second.resize(90);
        assert_eq!(budget.used(), 150);
        assert!(!budget.wait_for_room(1, Duration::from_millis(1)));
        drop(first);
        drop(second);
        assert!(budget.has_room(1_000_000), "an empty budget lets one reader on, however large its block");
    }

    #[test]
    fn a_share_that_is_used_up_leaves_the_others_theirs() {
        let whole = Budget::new(100);
        let (one, other) = (whole.share(50), whole.share(50));
        let stuck = one.charge(60);
        assert!(!one.has_room(1) && other.has_room(40) && whole.used() == 60);
        let charge = other.charge(40);
        assert!(!other.has_room(1), "the whole is used up");
        drop((stuck, charge));
        assert_eq!((whole.used(), one.used(), other.used()), (0, 0, 0));
    }
}
