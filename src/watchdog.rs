//! Whether the daemon is alive, for systemd's watchdog: something waits to be sent and nothing moves, though Kafka answers; or a thread does not come
//! though it was called. Pure: what was seen goes in, the verdict comes out; `daemon/service.rs` looks and asks.
//!
//! A broker that is away, frozen, or has lost replicas must never trip it, since a restart cures nothing of that. So a lane that stands still is no
//! evidence by itself: what counts is the time since when a client of its own has had an answer from the leader of every partition, without a
//! failure in between. And a daemon that has delivered nothing since its start is not restarted again for it, whatever is the matter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a lane looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneLook {
    /// Its topic.
    pub topic: Arc<str>,
    /// Something waits, and since then nothing was heard of it: `None` while nothing waits.
    pub still_since: Option<Instant>,
    /// Something was delivered since the start.
    pub proven: bool,
}

/// A thread that rests at a bell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadLook {
    /// What it is called in words to people.
    pub name: Arc<str>,
    /// When it was to come; `None` while it works.
    pub due: Option<Instant>,
}

/// What follows from a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Why systemd is not told that all is well.
    pub stuck: Option<String>,
    /// Whether Kafka answers for this topic is to be asked.
    pub ask: Option<Arc<str>>,
}

/// Answers about one topic.
#[derive(Clone, Copy, Debug)]
struct Answers {
    /// When it was asked last.
    asked: Instant,
    /// The first and the last of the answers that came one after the other.
    good: Option<(Instant, Instant)>,
}

/// See the module.
#[derive(Debug)]
pub struct Watchdog {
    patience: Duration,
    /// Bounded by the topics there are.
    answers: HashMap<Arc<str>, Answers>,
    asking: bool,
}

impl Watchdog {
    /// One that takes for stuck what has not moved for `patience`.
    #[must_use]
    pub fn new(patience: Duration) -> Watchdog {
        Watchdog { patience, answers: HashMap::new(), asking: false }
    }

    /// Judges what is seen now.
    pub fn look(&mut self, lanes: &[LaneLook], threads: &[ThreadLook], now: Instant) -> Step {
        let since = |then: Instant| now.saturating_duration_since(then);
        let mut step = Step::default();
        for thread in threads {
            let late = thread.due.map_or(Duration::ZERO, since);
            if late >= self.patience {
                step.stuck = Some(format!("{} was called {} s ago and does not come", thread.name, late.as_secs()));
            }
        }
        self.answers.retain(|topic, _| lanes.iter().any(|lane| lane.topic == *topic && lane.still_since.is_some()));
        for lane in lanes.iter().filter(|lane| lane.proven) {
            let Some(still) = lane.still_since.filter(|still| since(*still) >= self.patience / 4) else { continue };
            let answers = self.answers.get(&lane.topic);
            if !self.asking && answers.is_none_or(|answers| since(answers.asked) >= self.patience / 8) {
                step.ask = Some(Arc::clone(&lane.topic));
            }
            let Some((first, last)) = answers.and_then(|answers| answers.good) else { continue };
            // An answer of long ago says nothing of now.
            let stuck = since(still.max(first));
            if stuck >= self.patience && since(last) < self.patience / 2 {
                step.stuck = Some(format!(
                    "events for topic {} wait and nothing has moved for {} s, though Kafka answers",
                    lane.topic,
                    stuck.as_secs()
                ));
            }
        }
        if let Some(topic) = &step.ask {
            self.asking = true;
            let good = self.answers.get(topic).and_then(|answers| answers.good);
            self.answers.insert(Arc::clone(topic), Answers { asked: now, good });
        }
        step
    }

    /// Kafka was asked about this topic, and has answered or not.
    pub fn answered(&mut self, topic: &Arc<str>, answers: bool, now: Instant) {
        self.asking = false;
        if let Some(known) = self.answers.get_mut(topic) {
            known.good = answers.then(|| (known.good.map_or(now, |(first, _)| first), now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(80);
    const SECOND: Duration = Duration::from_secs(1);

    fn lane(still_since: Option<Instant>) -> LaneLook {
        LaneLook { topic: "logs".into(), still_since, proven: true }
    }

    /// Looks once a second with a lane that stands still, where Kafka answers as it says; the first second in which it is stuck.
    fn first_stuck(answers: impl Fn(u32) -> bool, proven: bool, seconds: u32) -> Option<u32> {
        let (mut dog, start) = (Watchdog::new(PATIENCE), Instant::now());
        (0..seconds).find(|second| {
            let now = start + SECOND * *second;
            let step = dog.look(&[LaneLook { proven, ..lane(Some(start)) }], &[], now);
            if let Some(topic) = step.ask {
                dog.answered(&topic, answers(*second), now);
            }
            step.stuck.is_some()
        })
    }

    #[test]
    fn what_stands_still_though_kafka_answers_is_stuck() {
        let stuck = first_stuck(|_| true, true, 1000);
        assert_eq!(stuck, Some(100), "a quarter of the patience to begin asking, and the patience");
    }

    #[test]
    fn a_broker_that_does_not_answer_never_trips_it() {
        assert_eq!(first_stuck(|_| false, true, 100_000), None);
        // One answer now and then is not enough, and after an outage the time begins anew.
        assert_eq!(first_stuck(|second| second / 60 % 2 == 0, true, 100_000), None);
        assert_eq!(first_stuck(|second| second >= 600, true, 1000), Some(680));
    }

    #[test]
    fn an_answer_of_long_ago_says_nothing() {
        let (mut dog, start) = (Watchdog::new(PATIENCE), Instant::now());
        let topic = dog.look(&[lane(Some(start))], &[], start + SECOND * 20).ask.unwrap();
        dog.answered(&topic, true, start + SECOND * 20);
        // The next question gets no answer at all, not even a failure.
        assert!(dog.look(&[lane(Some(start))], &[], start + SECOND * 40).ask.is_some());
        assert!((40..100_000).all(|second| dog.look(&[lane(Some(start))], &[], start + SECOND * second) == Step::default()));
    }

    #[test]
    fn one_that_has_delivered_nothing_since_its_start_is_not_restarted_again() {
        assert_eq!(first_stuck(|_| true, false, 100_000), None);
    }

    #[test]
    fn what_moves_or_has_nothing_to_do_is_well_and_nobody_is_asked() {
        let (mut dog, start) = (Watchdog::new(PATIENCE), Instant::now());
        for second in 0..1000 {
            let now = start + SECOND * second;
            let moved = now.checked_sub(SECOND * 10);
            assert_eq!(dog.look(&[lane(None), lane(moved)], &[ThreadLook { name: "source a".into(), due: None }], now), Step::default());
        }
    }

    #[test]
    fn a_thread_that_does_not_come_when_it_is_called_is_stuck() {
        let (mut dog, start) = (Watchdog::new(PATIENCE), Instant::now());
        let thread = [ThreadLook { name: "the thread of source a".into(), due: Some(start + SECOND * 60) }];
        assert_eq!(dog.look(&[], &thread, start + SECOND * 139), Step::default());
        let stuck = dog.look(&[], &thread, start + SECOND * 140).stuck;
        assert_eq!(stuck.as_deref(), Some("the thread of source a was called 80 s ago and does not come"));
    }
}
