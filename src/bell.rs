//! What wakes a thread that rests: a source by its watcher, the snapshots by a stream that waits for one, all by the word to stop.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
struct State {
    rung: bool,
    /// While somebody rests: when it is to come again, which is at once when it is rung.
    due: Option<Instant>,
}

/// Wakes one thread out of its rest.
#[derive(Debug, Default)]
pub struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the rest that is going on, or else the next one.
    pub fn ring(&self) {
        let mut state = self.lock();
        // Who has been called and has not come yet need not be called again: that would be a system call each time.
        if !std::mem::replace(&mut state.rung, true) {
            state.due = state.due.map(|due| due.min(Instant::now()));
            self.changed.notify_all();
        }
    }

    /// Rests until then, or until it is rung.
    pub fn wait_until(&self, until: Instant) {
        let mut state = self.lock();
        let now = Instant::now();
        state.due = Some(if state.rung { now } else { until });
        let outcome = self.changed.wait_timeout_while(state, until.saturating_duration_since(now), |state| !state.rung);
        *outcome.unwrap_or_else(PoisonError::into_inner).0 = State::default();
    }

    /// When the thread that rests here is to come, or was to come; `None` while nobody rests.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.lock().due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_known_when_who_rests_was_to_come() {
        let bell = Arc::new(Bell::default());
        assert_eq!(bell.due(), None);
        let (rests, until) = (Arc::clone(&bell), Instant::now() + Duration::from_secs(3600));
        let rester = thread::spawn(move || rests.wait_until(until));
        while bell.due() != Some(until) {
            thread::yield_now();
        }
        let called = Instant::now();
        bell.ring();
        assert!(bell.due().is_none_or(|due| due >= called && due < until));
        rester.join().unwrap();
        assert_eq!(bell.due(), None);
    }
}
