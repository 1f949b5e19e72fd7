//! When the spill will be full, by how fast it has filled during the last minute; and how often that is worth a line in the log. Pure: time is
//! given.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The rate is the one of this long.
const WINDOW: Duration = Duration::from_secs(60);
/// At most one sample in this time is kept, so at most 61 in all.
const SPACING: Duration = Duration::from_secs(1);
/// Before this much is known nothing is said.
const LEAST: Duration = Duration::from_secs(10);
/// What has not grown for this long stands still, whatever it did before.
const STILL: Duration = Duration::from_secs(15);
/// A longer time is as good as never.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// The samples of the last minute.
#[derive(Debug, Default)]
pub struct Forecast {
    samples: VecDeque<(Instant, u64)>,
}

impl Forecast {
    /// Notes how many bytes the spill has at `now`. Samples must come in order of time.
    pub fn note(&mut self, now: Instant, bytes: u64) {
        if let Some((last, was)) = self.samples.back_mut()
            && now.saturating_duration_since(*last) < SPACING
        {
            *was = bytes;
            return;
        }
        self.samples.push_back((now, bytes));
        while self.samples.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.samples.pop_front();
        }
    }

    /// How long until it has `max` bytes at the present rate; `None` while it shrinks or stands still, or too little is known.
    #[must_use]
    pub fn full_in(&self, max: u64) -> Option<Duration> {
        let (&(first, _), &(last, bytes)) = (self.samples.front()?, self.samples.back()?);
        if last.saturating_duration_since(first) < LEAST {
            return None;
        }
        let before = self.samples.iter().rev().find(|(at, _)| last.saturating_duration_since(*at) >= STILL.min(last - first))?;
        if bytes <= before.1 {
            return None;
        }
        if bytes >= max {
            return Some(Duration::ZERO);
        }
        let rate = self.slope(first)?;
        Duration::try_from_secs_f64(precise(max - bytes) / rate).ok().filter(|time| *time < FAR)
    }

    /// Bytes a second, by the straight line that fits the samples best: segments come and go whole, and no single one may move it much.
    fn slope(&self, first: Instant) -> Option<f64> {
        let count = precise(self.samples.len() as u64);
        let points = || self.samples.iter().map(|(at, bytes)| (at.saturating_duration_since(first).as_secs_f64(), precise(*bytes)));
        let (time, bytes) = points().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
        let (over, under) = points().fold((0.0, 0.0), |sum, point| {
            let away = point.0 - time;
            (sum.0 + away * (point.1 - bytes), sum.1 + away * away)
        });
        Some(over / under).filter(|rate| rate.is_finite() && *rate > 0.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate, shown with two digits")]
fn precise(value: u64) -> f64 {
    value as f64
}

/// After this long it is said again.
const SAY_EVERY: Duration = Duration::from_secs(600);
/// After so long without an estimate the next one is a new beginning.
const OVER: Duration = Duration::from_secs(60);

/// Decides when an estimate is worth a line in the log: when it begins, when it has halved, and every ten minutes.
#[derive(Debug, Default)]
pub struct Teller {
    said: Option<(Instant, Duration)>,
    /// When there was an estimate last.
    seen: Option<Instant>,
}

impl Teller {
    /// Whether to say `estimate` now.
    pub fn is_worth_saying(&mut self, now: Instant, estimate: Option<Duration>) -> bool {
        if self.seen.is_some_and(|seen| now.saturating_duration_since(seen) >= OVER) {
            (self.said, self.seen) = (None, None);
        }
        let Some(estimate) = estimate else { return false };
        self.seen = Some(now);
        let worth =
            self.said.is_none_or(|(at, said)| estimate <= said / 2 && estimate < said || now.saturating_duration_since(at) >= SAY_EVERY);
        if worth {
            self.said = Some((now, estimate));
        }
        worth
    }
}

/// A time as people say it, in its two largest units: `3 h 20 m`, `45 s`.
#[must_use]
pub fn words(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = time.as_secs();
    let at = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let mut parts = UNITS.iter().skip(at);
    let Some((unit, name)) = parts.next() else { return String::new() };
    let first = format!("{} {name}", seconds / unit);
    match parts.next().map(|(next, name)| (seconds % unit / next, name)) {
        Some((rest, name)) if rest > 0 => format!("{first} {rest} {name}"),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Plays a spill, a sample a second.
    fn play(sizes: impl IntoIterator<Item = u64>) -> Forecast {
        let (begin, mut forecast) = (Instant::now(), Forecast::default());
        for (at, bytes) in (0..).zip(sizes) {
            forecast.note(begin + SECOND * at, bytes);
        }
        forecast
    }

    #[test]
    fn what_fills_steadily_is_full_when_the_rest_has_come() {
        let forecast = play((0..=100).map(|second| second * 10));
        assert_eq!(forecast.full_in(11_000), Some(SECOND * 1000));
        assert_eq!(forecast.samples.len(), 61, "no more than a minute is kept");
        assert_eq!(forecast.full_in(1000), Some(Duration::ZERO), "full already");
    }

    #[test]
    fn too_little_is_no_ground_for_a_forecast() {
        assert_eq!(Forecast::default().full_in(100), None);
        assert_eq!(play([0, 10, 20]).full_in(100), None);
        assert!(play((0..=10).map(|second| second * 10)).full_in(1000).is_some());
    }

    #[test]
    fn what_shrinks_or_stands_still_will_not_be_full() {
        assert_eq!(play((0..60).map(|second| 10_000 - second * 10)).full_in(20_000), None);
        assert_eq!(play([5_000; 60]).full_in(20_000), None);
        let stops = (0..60).chain(std::iter::repeat_n(59, 16)).map(|second| second * 10);
        assert_eq!(play(stops).full_in(20_000), None, "grew, but not any more");
    }

    #[test]
    fn a_step_of_a_segment_moves_the_estimate_little() {
        // 10 bytes a second, and every 20 seconds a segment of 40 is deleted: 8 a second.
        let sizes = (0..=120).map(|second: u64| 1000 + second * 10 - second / 20 * 40);
        let Some(time) = play(sizes).full_in(10_000) else { panic!("it fills") };
        let exact = (10_000_u64 - (1000 + 1200 - 240)) / 8;
        assert!(time.as_secs().abs_diff(exact) < exact / 5, "{time:?}, not about {exact} s");
    }

    #[test]
    fn a_slower_rate_is_believed_within_the_minute() {
        let sizes = (0..100).map(|second| second * 100).chain((1..=61).map(|second| 9_900 + second));
        assert_eq!(play(sizes).full_in(9_961 + 600), Some(SECOND * 600));
    }

    #[test]
    fn it_is_said_at_the_beginning_when_halved_and_every_ten_minutes() {
        let (begin, mut teller) = (Instant::now(), Teller::default());
        let hours = |hours| Some(Duration::from_hours(hours));
        let mut at = |seconds: u64, estimate| teller.is_worth_saying(begin + SECOND * u32::try_from(seconds).unwrap(), estimate);
        assert!(!at(0, None));
        assert!(at(1, hours(8)));
        assert!(!at(2, hours(8)) && !at(3, hours(5)));
        assert!(at(4, hours(4)), "halved");
        assert!(!at(5, None) && !at(6, hours(4)), "a moment without one is no new beginning");
        assert!((7..604).all(|second| !at(second, hours(4))));
        assert!(at(604, hours(4)), "after ten minutes");
        assert!(!at(700, None));
        assert!(at(701, hours(9)), "a new beginning");
    }

    #[test]
    fn a_full_spill_is_not_said_every_second() {
        let (begin, mut teller) = (Instant::now(), Teller::default());
        let said = (0..300).filter(|second| teller.is_worth_saying(begin + SECOND * *second, Some(Duration::ZERO))).count();
        assert_eq!(said, 1);
    }

    #[test]
    fn a_time_is_told_in_two_units() {
        let told: Vec<_> = [0, 45, 60, 61, 12_000, 7_200, 187_200].into_iter().map(|seconds| words(SECOND * seconds)).collect();
        assert_eq!(told, ["0 s", "45 s", "1 m", "1 m 1 s", "3 h 20 m", "2 h", "2 d 4 h"]);
    }
}
