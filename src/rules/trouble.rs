//! When errors of rules are told: at the first of a rule, and then in sums, so that a rule that fails on every event is no flood. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Tally;

/// A rule is told of again after so long, if it had errors since.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// What was told of each rule: how many errors it had then, and when. As many entries as there were rules since the start.
#[derive(Debug, Default)]
pub struct Trouble(HashMap<Arc<str>, (u64, Instant)>);

impl Trouble {
    /// The rules of which something is to be told now, each with how many errors it had since the last time.
    pub fn look<'a>(&mut self, rules: impl IntoIterator<Item = (&'a Arc<str>, &'a Tally)>, now: Instant) -> Vec<(Arc<str>, u64)> {
        let mut tell = Vec::new();
        for (name, tally) in rules {
            let errors = tally.done().errors;
            let told = self.0.get(name);
            // Other rules of this name, after a reload, begin again at nothing.
            let before = told.map_or(0, |(before, _)| if *before > errors { 0 } else { *before });
            let due = told.is_none_or(|(_, at)| now.saturating_duration_since(*at) >= TELL_EVERY);
            if errors > before && due {
                self.0.insert(Arc::clone(name), (errors, now));
                tell.push((Arc::clone(name), errors - before));
            }
        }
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::when::When;
    use crate::rules::{Action, Done, Rule};

    fn of(rules: &[Rule]) -> impl Iterator<Item = (&Arc<str>, &Tally)> {
        rules.iter().map(|rule| (&rule.name, &rule.tally))
    }

    #[test]
    fn errors_are_told_at_once_and_then_in_sums() {
        let rules = [Rule::new("a", When::All(vec![]), Action::Keep), Rule::new("b", When::All(vec![]), Action::Keep)];
        let fail = |errors| rules[0].tally.add(Done { errors, ..Done::default() });
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        assert_eq!(trouble.look(of(&rules), now), []);
        fail(3);
        assert_eq!(trouble.look(of(&rules), now), [("a".into(), 3)]);
        fail(4);
        assert_eq!(trouble.look(of(&rules), now + TELL_EVERY / 2), []);
        fail(5);
        assert_eq!(trouble.look(of(&rules), now + TELL_EVERY), [("a".into(), 9)]);
        assert_eq!(trouble.look(of(&rules), now + TELL_EVERY * 3), []);
        let anew = [Rule::new("a", When::All(vec![]), Action::Keep)];
        anew[0].tally.add(Done { errors: 1, ..Done::default() });
        assert_eq!(trouble.look(of(&anew), now + TELL_EVERY * 3), [("a".into(), 1)]);
    }
}
