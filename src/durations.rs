//! How often something took how long, counted from one thread and read from another without a lock. Twelve figures, however much is counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Up to how many milliseconds each bucket goes; behind the last there is one without a limit.
const LIMITS: [u64; 10] = [5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000, 300_000];

/// See the module.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; LIMITS.len() + 1],
    micros: AtomicU64,
}

/// The same as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Took {
    /// Up to how many seconds each goes, and how many were in it alone. The last one has no limit.
    pub buckets: Vec<(f64, u64)>,
    /// All together.
    pub seconds: f64,
}

impl Durations {
    /// Counts one.
    pub fn note(&self, took: Duration) {
        let at = LIMITS.iter().position(|limit| took <= Duration::from_millis(*limit)).unwrap_or(LIMITS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was counted until now.
    #[must_use]
    pub fn took(&self) -> Took {
        let limits = LIMITS.iter().map(|limit| Duration::from_millis(*limit).as_secs_f64()).chain([f64::INFINITY]);
        let buckets = limits.zip(&self.buckets).map(|(limit, count)| (limit, count.load(Ordering::Relaxed))).collect();
        Took { buckets, seconds: Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_bucket_of_its_limit() {
        let durations = Durations::default();
        for millis in [0, 5, 6, 300_000, 300_001] {
            durations.note(Duration::from_millis(millis));
        }
        let took = durations.took();
        let counts: Vec<u64> = took.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((took.seconds, took.buckets[0].0, took.buckets[10].0), (600.012, 0.005, f64::INFINITY));
    }
}
