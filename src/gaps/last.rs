//! The gaps that were noticed last, for a person who looks; they stay here after Kafka has them. Of this process alone. Pure.

use std::collections::VecDeque;

use super::Gap;

/// So many; the oldest one gives way.
const KEPT: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Last(VecDeque<Gap>);

impl Last {
    /// One more: together with its like, if that is among them.
    pub fn note(&mut self, gap: &Gap) {
        let is_like = |other: &Gap| {
            (&other.source, &other.of, &other.reason, &other.place, other.stream)
                == (&gap.source, &gap.of, &gap.reason, &gap.place, gap.stream)
        };
        let known = self.0.iter().position(is_like).and_then(|at| self.0.remove(at));
        let gap = known.map_or_else(
            || gap.clone(),
            |mut known| {
                known.merge(gap);
                known
            },
        );
        self.0.truncate(KEPT - 1);
        self.0.push_front(gap);
    }

    /// The newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Gap> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gaps::{Amount, Place};

    fn gap(path: &str, bytes: u64) -> Gap {
        let amount = Amount { bytes, ..Amount::default() };
        let place = Place::Path(path.as_bytes().into());
        let (source, of, reason, words) = ("web".into(), "file".into(), "deleted".into(), "".into());
        Gap { number: 0, source, of, reason, place, stream: None, from: None, to: None, amount, first_ns: 0, last_ns: 0, words }
    }

    #[test]
    fn like_gaps_are_one_and_the_oldest_gives_way() {
        let mut last = Last::default();
        for (path, bytes) in [("a", 1), ("b", 2), ("a", 3)] {
            last.note(&gap(path, bytes));
        }
        assert_eq!(last.iter().map(|gap| gap.amount.bytes).collect::<Vec<_>>(), [4, 2]);
        (0..100).for_each(|number| last.note(&gap(&number.to_string(), number)));
        assert_eq!(last.iter().map(|gap| gap.amount.bytes).collect::<Vec<_>>(), (84..100).rev().collect::<Vec<_>>());
    }
}
