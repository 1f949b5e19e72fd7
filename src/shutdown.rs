//! The word to stop. Only sources hear it at once; everything behind them ends when nothing more comes, or when the deadline has passed.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far stopping has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// At work.
    #[default]
    Run,
    /// Sources end; what they have read is sent.
    Drain,
    /// Everything ends; what was not acknowledged is read again at the next start.
    Now,
}

/// Shared by all threads.
#[derive(Debug, Default)]
pub struct Stop {
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl Stop {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        let mut now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        *now = phase.max(*now);
        self.changed.notify_all();
    }

    /// Sleeps for `time`, less if `phase` is reached before. Returns whether it is.
    pub fn sleep_unless(&self, phase: Phase, time: Duration) -> bool {
        let until = Instant::now() + time;
        let now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = until.saturating_duration_since(Instant::now());
        let outcome = self.changed.wait_timeout_while(now, wait, |now| *now < phase).unwrap_or_else(PoisonError::into_inner);
        *outcome.0 >= phase
    }
}
