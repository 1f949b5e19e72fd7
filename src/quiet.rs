//! Whether a source has fallen silent: no event for longer than its `expect_every`. Pure: told about once a second what was read, and the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is known of one source.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Events that it had read when it was looked at last.
    read: u64,
    /// Whether anything was read since the start.
    heard: bool,
    /// When that was seen to change; without a change, when it was looked at first.
    at: Instant,
    quiet: bool,
}

/// All sources, by name.
#[derive(Debug, Default)]
pub struct Quiet {
    sources: BTreeMap<Arc<str>, Seen>,
}

/// What is worth saying of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It has been silent for so long, which is longer than it may be.
    Silent(Duration),
    /// It had been, for so long, and is no more.
    Back(Duration),
}

impl Quiet {
    /// At the start: what each source has read before.
    #[must_use]
    pub fn begin(read: impl IntoIterator<Item = (Arc<str>, u64)>, now: Instant) -> Quiet {
        let seen = |read| Seen { read, heard: false, at: now, quiet: false };
        Quiet { sources: read.into_iter().map(|(source, read)| (source, seen(read))).collect() }
    }

    /// A source had read so many events at `now`. `held_up` says that it may be unable to read, so that its silence means nothing: it is not
    /// counted. Each silence is told once, and so is its end.
    pub fn look(&mut self, source: &Arc<str>, read: u64, held_up: bool, expect_every: Option<Duration>, now: Instant) -> Option<Word> {
        let seen = match self.sources.get_mut(source) {
            Some(seen) => seen,
            None => self.sources.entry(Arc::clone(source)).or_insert(Seen { read: 0, heard: false, at: now, quiet: false }),
        };
        let silent = now.saturating_duration_since(seen.at);
        if seen.read != read {
            (seen.read, seen.at, seen.heard) = (read, now, true);
            return std::mem::take(&mut seen.quiet).then_some(Word::Back(silent));
        }
        if held_up && !seen.quiet {
            seen.at = now;
        }
        let fell_silent = !seen.quiet && expect_every.is_some_and(|most| silent > most && !held_up);
        seen.quiet |= fell_silent;
        fell_silent.then_some(Word::Silent(silent))
    }

    /// Whether a source is silent for longer than it may be.
    #[must_use]
    pub fn is_quiet(&self, source: &str) -> bool {
        self.sources.get(source).is_some_and(|seen| seen.quiet)
    }

    /// How long ago an event was read last; `None`: none since the start.
    #[must_use]
    pub fn last_event(&self, source: &str, now: Instant) -> Option<Duration> {
        self.sources.get(source).filter(|seen| seen.heard).map(|seen| now.saturating_duration_since(seen.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Plays a source that may be silent for ten seconds, a look a second: what is said at which second.
    fn play(reads: &[(u64, bool)]) -> Vec<(u64, Word)> {
        let (begin, source) = (Instant::now(), Arc::from("app"));
        let mut quiet = Quiet::begin([(Arc::clone(&source), reads[0].0)], begin);
        let mut look = |second: u64, (read, held_up): (u64, bool)| {
            quiet.look(&source, read, held_up, Some(SECOND * 10), begin + Duration::from_secs(second)).map(|word| (second, word))
        };
        (0..).zip(reads).filter_map(|(second, now)| look(second, *now)).collect()
    }

    #[test]
    fn a_silence_is_told_once_and_so_is_its_end() {
        let reads: Vec<_> = [(5, false)].into_iter().chain([(6, false); 40]).chain([(7, false); 9]).chain([(8, false); 12]).collect();
        let silent = |seconds| Word::Silent(SECOND * seconds);
        assert_eq!(play(&reads), [(12, silent(11)), (41, Word::Back(SECOND * 40)), (61, silent(11))]);
    }

    #[test]
    fn a_source_that_was_never_heard_is_silent_from_the_start_on() {
        assert_eq!(play(&[(0, false); 12]), [(11, Word::Silent(SECOND * 11))]);
    }

    #[test]
    fn who_can_not_read_is_not_silent() {
        let reads: Vec<_> = [(1, true); 60].into_iter().chain([(1, false); 12]).collect();
        assert_eq!(play(&reads), [(70, Word::Silent(SECOND * 11))]);
    }

    #[test]
    fn without_expect_every_nothing_is_said_and_the_last_event_is_known_all_the_same() {
        let (begin, source) = (Instant::now(), Arc::from("app"));
        let mut quiet = Quiet::begin([(Arc::clone(&source), 1)], begin);
        assert_eq!(quiet.look(&source, 1, false, None, begin), None);
        assert_eq!(quiet.last_event("app", begin), None, "what was read before the start");
        assert_eq!(quiet.look(&source, 2, false, None, begin + SECOND), None);
        assert_eq!(quiet.look(&source, 2, false, None, begin + SECOND * 9999), None);
        assert_eq!(quiet.last_event("app", begin + SECOND * 3), Some(SECOND * 2));
        assert!(!quiet.is_quiet("app"));
    }

    #[test]
    fn a_source_that_is_new_is_heard_with_its_first_event() {
        let (begin, mut quiet) = (Instant::now(), Quiet::default());
        assert_eq!(quiet.look(&"app".into(), 3, false, None, begin), None);
        assert_eq!(quiet.last_event("app", begin), Some(Duration::ZERO));
    }
}
