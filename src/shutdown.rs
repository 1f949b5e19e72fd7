//! The word to stop. Only sources hear it at once; everything behind them ends when nothing more comes, or when the deadline has passed.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::bell::Bell;

/// How far stopping has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// At work.
    #[default]
    Run,
    /// One source ends while the others go on: it reads first what nobody can read later.
    Leave,
    /// Sources end; what they have read is sent.
    Drain,
    /// Everything ends; what was not acknowledged is read again at the next start.
    Now,
}

/// Shared by all threads; or a source's own, which hears what all are told as well.
#[derive(Debug, Default)]
pub struct Stop {
    phase: Mutex<Phase>,
    changed: Condvar,
    /// Rung at each step.
    bell: Option<Arc<Bell>>,
    /// Those who hear what this one is told; as many as there are sources.
    below: Mutex<Vec<Weak<Stop>>>,
}

impl Stop {
    /// One for a part that can be stopped by itself, whose thread `bell` wakes; it goes on with this one.
    #[must_use]
    pub fn below(&self, bell: Arc<Bell>) -> Arc<Stop> {
        let mut below = self.below.lock().unwrap_or_else(PoisonError::into_inner);
        below.retain(|stop| stop.strong_count() > 0);
        let stop = Arc::new(Stop { phase: Mutex::new(self.phase()), bell: Some(bell), ..Stop::default() });
        below.push(Arc::downgrade(&stop));
        stop
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        let below = self.below.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
            *now = phase.max(*now);
            self.changed.notify_all();
        }
        if let Some(bell) = &self.bell {
            bell.ring();
        }
        for stop in below.iter().filter_map(Weak::upgrade) {
            stop.advance(phase);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_are_told_each_hears_and_not_the_other_way_round() {
        let all = Arc::new(Stop::default());
        let (one, other) = (all.below(Arc::default()), all.below(Arc::default()));
        one.advance(Phase::Leave);
        assert_eq!((all.phase(), one.phase(), other.phase()), (Phase::Run, Phase::Leave, Phase::Run));
        all.advance(Phase::Drain);
        assert_eq!((one.phase(), other.phase()), (Phase::Drain, Phase::Drain));
        assert_eq!(all.below(Arc::default()).phase(), Phase::Drain, "who comes late hears it as well");
        drop((one, other));
        drop(all.below(Arc::default()));
        assert!(all.below.lock().unwrap().len() <= 2, "those that are gone are forgotten");
    }
}
