//! What wakes a thread that rests: a source by its watcher, the snapshots by a stream that waits for one, all by the word to stop.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Wakes one thread out of its rest.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Ends the rest that is going on, or else the next one.
    pub fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has been called and has not come yet need not be called again: that would be a system call each time.
        if !std::mem::replace(&mut *rung, true) {
            self.changed.notify_all();
        }
    }

    /// Rests until then, or until it is rung.
    pub fn wait_until(&self, until: Instant) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = until.saturating_duration_since(Instant::now());
        let outcome = self.changed.wait_timeout_while(rung, patience, |rung| !*rung);
        *outcome.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}
