//! What a source tells of itself while it runs, beside its books: whether it is open, and which files it holds open. Written by its threads, read
//! from outside without a lock.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub struct Pulse {
    /// How much of it is not open yet: its first search, or each address.
    closed: AtomicUsize,
    live: AtomicU64,
    rotated: AtomicU64,
    deleted: AtomicU64,
}

/// Open files by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// At their path.
    pub live: u64,
    /// Renamed or replaced.
    pub rotated: u64,
    /// Deleted; their disk space is free when they are closed.
    pub deleted: u64,
}

impl AddAssign for Files {
    fn add_assign(&mut self, other: Files) {
        self.live += other.live;
        self.rotated += other.rotated;
        self.deleted += other.deleted;
    }
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse { closed: AtomicUsize::new(1), live: AtomicU64::new(0), rotated: AtomicU64::new(0), deleted: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// Of a source that is open when `parts` of it are.
    #[must_use]
    pub fn new(parts: usize) -> Arc<Pulse> {
        Arc::new(Pulse { closed: AtomicUsize::new(parts), ..Pulse::default() })
    }

    /// One of its parts is open; a part is said once.
    pub fn opened(&self) {
        // Not below nothing, which is open.
        let _ = self.closed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |closed| closed.checked_sub(1));
    }

    /// How many of its parts are not open yet.
    #[must_use]
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// It holds these files open.
    pub fn hold(&self, files: Files) {
        self.live.store(files.live, Ordering::Relaxed);
        self.rotated.store(files.rotated, Ordering::Relaxed);
        self.deleted.store(files.deleted, Ordering::Relaxed);
    }

    /// What [`Pulse::hold`] was told last.
    #[must_use]
    pub fn held(&self) -> Files {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Files { live: of(&self.live), rotated: of(&self.rotated), deleted: of(&self.deleted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_when_all_its_parts_are() {
        let pulse = Pulse::new(2);
        let closed = [0; 3].map(|_| {
            pulse.opened();
            pulse.closed()
        });
        assert_eq!(closed, [1, 0, 0]);
        let files = Files { live: 1, rotated: 2, deleted: 3 };
        pulse.hold(files);
        assert_eq!(pulse.held(), files);
    }
}
