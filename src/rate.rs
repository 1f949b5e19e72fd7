//! The brake of `kafka.max_rate`: how many bytes a second all lanes together may send, in fair turns between those that have something to send.
//!
//! `Brake` decides and knows no clock: a bucket that fills at the rate, and start-time fair queueing over it. Each lane has a tag, the bytes it
//! has sent since it became busy, counted from the smallest tag there was then; those with small tags go first. [`Rate`] shares it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may be sent at once after a pause: as much as the rate gives in this time. Whoever comes back from waiting later than this loses some of it.
const BURST: Duration = Duration::from_millis(200);
/// How long a lane that is next in turn is waited for beyond the moment that it was told; then the others go on without it.
const GRACE: Duration = Duration::from_millis(50);
/// How far a lane may be ahead of one that waits: what the rate gives in this time. With less, lanes with small pieces would wait for each other
/// more than for the rate.
const AHEAD: Duration = Duration::from_millis(50);
/// How soon a lane that is not in turn asks again.
const AGAIN: Duration = Duration::from_millis(5);
/// The longest wait that is told, so that whoever waits looks at other things as well.
const LONGEST: Duration = Duration::from_secs(1);

/// The brake, shared by all lanes.
#[derive(Debug)]
pub struct Rate {
    brake: Mutex<Brake>,
    begun: Instant,
}

impl Rate {
    /// A brake for so many bytes a second (at least 1).
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Rate {
        Rate { brake: Mutex::new(Brake::new(bytes_per_second)), begun: Instant::now() }
    }

    /// Asks whether `lane` may send so many bytes now; then they are counted. One piece may be larger than a second's worth: it goes as a whole,
    /// and all wait the longer after it.
    ///
    /// # Errors
    /// Not yet: ask again after this time, at most a second. Who asks later, or never, holds up the others only for a moment.
    pub fn take(&self, lane: &Arc<str>, bytes: usize, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.begun);
        self.brake.lock().unwrap_or_else(PoisonError::into_inner).take(lane, bytes as u64, now)
    }
}

/// What the brake knows. Times count from any fixed moment.
#[derive(Debug)]
struct Brake {
    /// Bytes a second.
    rate: i128,
    /// What may be sent, in billionths of a byte; below 0 after a piece larger than what was there.
    level: i128,
    filled: Duration,
    /// The smallest tag of a lane that is busy: what another begins with. Never goes back.
    tag: u64,
    /// Lanes whose tag is ahead of that, or that wait; at most as many as there are lanes.
    lanes: BTreeMap<Arc<str>, Turn>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    tag: u64,
    /// When it was told to ask again, while it waits.
    due: Option<Duration>,
}

impl Turn {
    /// Whether it waits and is still expected.
    fn waits(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| now <= due + GRACE)
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / (1 << 64))
}

impl Brake {
    fn new(bytes_per_second: u64) -> Brake {
        let rate = i128::from(bytes_per_second.max(1));
        Brake { rate, level: rate * nanos(BURST), filled: Duration::ZERO, tag: 0, lanes: BTreeMap::new() }
    }

    fn take(&mut self, lane: &Arc<str>, bytes: u64, now: Duration) -> Result<(), Duration> {
        self.fill(now);
        let turn = self.lanes.get(lane).copied().unwrap_or_default();
        // What was not asked for in time is not made up for.
        let tag = turn.tag.max(self.tag);
        let wait = if self.level <= 0 {
            // Rounded up: a wait must not end before there is something.
            let nanos = u64::try_from(-self.level / self.rate + 1).unwrap_or(u64::MAX);
            Duration::from_nanos(nanos).min(LONGEST)
        } else if self.other_is_next(lane, tag, now) {
            AGAIN
        } else {
            self.level -= i128::from(bytes) * 1_000_000_000;
            self.lanes.insert(Arc::clone(lane), Turn { tag: tag.saturating_add(bytes), due: None });
            let least = self.lanes.values().filter(|turn| turn.waits(now)).map(|turn| turn.tag).fold(tag, u64::min);
            self.tag = self.tag.max(least);
            // A lane that neither waits nor is ahead is as one that never asked.
            self.lanes.retain(|_, turn| turn.tag > self.tag || turn.waits(now));
            return Ok(());
        };
        self.lanes.insert(Arc::clone(lane), Turn { tag, due: Some(now + wait) });
        Err(wait)
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        self.level = (self.level + self.rate * nanos(passed)).min(self.rate * nanos(BURST));
    }

    /// Whether another lane that waits has sent so much less that it is to go first.
    fn other_is_next(&self, lane: &Arc<str>, tag: u64, now: Duration) -> bool {
        let ahead = u64::try_from(self.rate * nanos(AHEAD) / nanos(Duration::from_secs(1))).unwrap_or(u64::MAX);
        self.lanes.iter().any(|(other, turn)| other != lane && turn.waits(now) && turn.tag.max(self.tag).saturating_add(ahead) < tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(lane: usize) -> Arc<str> {
        format!("lane {lane}").into()
    }

    /// Lanes that always have a piece of their own size to send, and come back as late as `delays` say; what each has sent, in order.
    fn busy(rate: u64, sizes: &[u64], delays: &[u64], span: Duration) -> Vec<(Duration, usize, u64)> {
        let mut brake = Brake::new(rate);
        let mut wakes: Vec<Duration> = vec![Duration::ZERO; sizes.len()];
        let (mut sent, mut asks) = (Vec::new(), 0_usize);
        loop {
            let lane = (0..sizes.len()).min_by_key(|lane| (wakes[*lane], *lane)).unwrap();
            let now = wakes[lane];
            if now >= span {
                return sent;
            }
            match brake.take(&name(lane), sizes[lane], now) {
                Ok(()) => sent.push((now, lane, sizes[lane])),
                Err(wait) => {
                    asks += 1;
                    assert!(wait > Duration::ZERO && wait <= LONGEST);
                    wakes[lane] = now + wait + Duration::from_millis(delays[asks % delays.len()]);
                }
            }
        }
    }

    fn total(sent: &[(Duration, usize, u64)], lane: impl Fn(usize) -> bool) -> u64 {
        sent.iter().filter(|(_, of, _)| lane(*of)).map(|(_, _, bytes)| bytes).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn over_any_time_no_more_goes_than_the_rate_gives_and_a_burst(
            rate in 1_u64..10_000_000,
            asks in prop::collection::vec((0..5_usize, 0_u64..3_000_000, 0_u64..2_000), 1..120),
        ) {
            let mut brake = Brake::new(rate);
            let (mut now, mut sent) = (Duration::ZERO, Vec::new());
            for (lane, bytes, pause) in asks {
                now += Duration::from_millis(pause / 10);
                if brake.take(&name(lane), bytes, now).is_ok() {
                    sent.push((now, bytes));
                }
            }
            for (from, (start, _)) in sent.iter().enumerate() {
                let mut sum = 0;
                for (end, bytes) in &sent[from..] {
                    // The last piece may be as large as it likes: it goes as a whole.
                    let span = end.saturating_sub(*start);
                    prop_assert!(i128::from(sum) * 1_000_000_000 <= i128::from(rate) * nanos(span + BURST), "{sum} bytes in {span:?}");
                    sum += bytes;
                }
            }
        }

        #[test]
        fn each_busy_lane_has_its_fair_share_whatever_its_pieces(
            sizes in prop::collection::vec(500_u64..50_000, 1..6),
            delays in prop::collection::vec(0_u64..20, 1..9),
        ) {
            let (rate, span) = (1_000_000, Duration::from_secs(20));
            let sent = busy(rate, &sizes, &delays, span);
            let all = total(&sent, |_| true);
            let given = rate * span.as_secs();
            prop_assert!(all >= given - 2 * rate / 5, "{all} of {given}: none of the rate is left unused");
            for lane in 0..sizes.len() {
                let own = total(&sent, |of| of == lane);
                let share = all / sizes.len() as u64;
                prop_assert!(own.abs_diff(share) <= 4 * 50_000 + share / 20, "lane {lane} sent {own}, its share is {share}; {sizes:?}");
            }
        }
    }

    #[test]
    fn a_lane_that_does_not_come_back_holds_up_nobody() {
        let mut brake = Brake::new(1000);
        brake.take(&name(0), 5000, Duration::ZERO).unwrap();
        let wait = brake.take(&name(1), 100, Duration::ZERO).unwrap_err();
        assert_eq!(wait, LONGEST, "4.8 s in all, told in seconds");
        // Lane 1 is gone. Lane 0 has sent more, and waits for it only for a moment.
        let mut now = Duration::ZERO;
        let mut waits = 0;
        while let Err(wait) = brake.take(&name(0), 100, now) {
            now += wait;
            waits += 1;
        }
        assert!(now < Duration::from_millis(4900), "{now:?}");
        assert!(waits < 20, "{waits}");
    }

    #[test]
    fn a_lane_that_was_idle_gets_its_share_and_no_more() {
        let rate = 100_000;
        let mut brake = Brake::new(rate);
        let mut now = Duration::ZERO;
        let mut sent = [0_u64; 2];
        while now < Duration::from_secs(20) {
            for lane in [0, 1] {
                // The second one begins after ten seconds.
                if lane == 0 || now >= Duration::from_secs(10) {
                    while brake.take(&name(lane), 1000, now).is_ok() {
                        sent[lane] += 1000;
                    }
                }
            }
            now += Duration::from_millis(1);
        }
        assert!(sent[1].abs_diff(rate * 5) < rate / 10 && sent[0].abs_diff(rate * 15) < rate / 2, "{sent:?}");
    }

    #[test]
    fn only_lanes_that_matter_are_kept() {
        let mut brake = Brake::new(1 << 30);
        for lane in 0..1000 {
            let now = Duration::from_millis(lane);
            brake.take(&name(usize::try_from(lane).unwrap()), 10, now).unwrap();
            brake.take(&name(0), 1, now).unwrap();
        }
        assert!(brake.lanes.len() <= 1000);
        // Once lane 0 has passed what they sent, they are as new.
        for _ in 0..20 {
            brake.take(&name(0), 1, Duration::from_secs(2)).unwrap();
        }
        assert_eq!(brake.lanes.len(), 1);
    }
}
