//! How many events a rule lets through in a time: a bucket of tokens for each key. Pure: the time is that of reading.

use std::collections::HashMap;

/// Keys that are known; at the limit those that are full, which is what a new one is, are forgotten, and if that does not help all of them.
const KEYS: usize = 10_000;

/// So many events in so long, for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Events, and how many may come at once.
    pub events: u32,
    /// In so many nanoseconds.
    pub per_ns: i64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When the bucket will be full again, nanoseconds since 1970. It holds less by one event for each share of the time until then.
    full_at: i64,
}

/// The buckets of one rule.
#[derive(Debug, Default)]
pub struct Buckets(HashMap<Box<[u8]>, Bucket>);

impl Buckets {
    /// Whether one more event of this key goes through at this time, nanoseconds since 1970. A clock that goes back costs no tokens.
    pub fn takes(&mut self, limit: Limit, key: &[u8], now: i64) -> bool {
        let share = (limit.per_ns / i64::from(limit.events.max(1))).max(1);
        let latest = now.saturating_add(limit.per_ns);
        if let Some(bucket) = self.0.get_mut(key) {
            bucket.full_at = bucket.full_at.clamp(now, latest);
            let full_at = bucket.full_at.saturating_add(share);
            let takes = full_at <= latest;
            if takes {
                bucket.full_at = full_at;
            }
            return takes;
        }
        if self.0.len() >= KEYS {
            self.0.retain(|_, bucket| bucket.full_at > now);
            if self.0.len() >= KEYS {
                self.0.clear();
            }
        }
        self.0.insert(key.into(), Bucket { full_at: now.saturating_add(share) });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn each_key_has_its_own_tokens_and_gets_them_back() {
        let (limit, mut buckets) = (Limit { events: 10, per_ns: SECOND }, Buckets::default());
        let mut taken = |key: &str, now: i64| (0..100).filter(|_| buckets.takes(limit, key.as_bytes(), now)).count();
        assert_eq!(taken("a", 0), 10);
        assert_eq!(taken("a", 0), 0);
        assert_eq!(taken("b", 0), 10);
        assert_eq!(taken("a", SECOND / 2), 5);
        assert_eq!(taken("a", 100 * SECOND), 10, "no more than the bucket holds");
        assert_eq!(taken("a", 0), 0, "a clock that goes back gives nothing");
        assert_eq!(taken("a", SECOND), 10, "and costs no more than one time");
    }

    #[test]
    fn keys_are_limited() {
        let (limit, mut buckets) = (Limit { events: 1, per_ns: SECOND }, Buckets::default());
        for key in 0..3 * KEYS {
            assert!(buckets.takes(limit, &key.to_le_bytes(), 0));
            assert!(buckets.0.len() <= KEYS);
        }
    }
}
