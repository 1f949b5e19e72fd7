//! Waiting before trying again: the one user of the `backoff` crate, which is no longer maintained; so that it can be exchanged in this file.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// Growing waits with full jitter, so that a fleet does not come back as a stampede. Never gives up.
#[derive(Debug)]
pub struct Retry {
    inner: ExponentialBackoff,
}

impl Retry {
    /// Waits between 0 and twice `first`, doubling up to `ceiling` (an upper limit of each wait).
    #[must_use]
    pub fn new(first: Duration, ceiling: Duration) -> Retry {
        let inner = ExponentialBackoff {
            initial_interval: first,
            current_interval: first,
            randomization_factor: 1.0,
            multiplier: 2.0,
            max_interval: ceiling / 2,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Retry { inner }
    }

    /// How long to wait before the next try.
    pub fn wait(&mut self) -> Duration {
        self.inner.next_backoff().unwrap_or(self.inner.max_interval)
    }

    /// It worked: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_but_never_beyond_the_ceiling_and_never_end() {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(10));
        let waits: Vec<_> = (0..1000).map(|_| retry.wait()).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(10)));
        assert!(waits.iter().skip(20).any(|wait| *wait > Duration::from_secs(5)));
        retry.reset();
        assert!(retry.wait() <= Duration::from_millis(200));
    }

    #[test]
    fn jitter_is_full_so_that_a_fleet_does_not_come_back_at_once() {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut seconds = [0; 10];
        for wait in (0..5000).map(|_| retry.wait()).skip(1000) {
            seconds[usize::try_from(wait.as_secs()).unwrap().min(9)] += 1;
        }
        // 400 of 4000 in each second of the ten; half of that is 11 standard deviations away.
        assert!(seconds.iter().all(|count| (200..600).contains(count)), "{seconds:?}");
        let mut other = Retry::new(Duration::from_secs(1), Duration::from_secs(10));
        let mut twin = Retry::new(Duration::from_secs(1), Duration::from_secs(10));
        assert_ne!((other.wait(), other.wait()), (twin.wait(), twin.wait()), "two agents that fail together try again apart");
    }
}
