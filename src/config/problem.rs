//! A mistake in a configuration: where it is, what is wrong, what would be right. Apart because every step of reading one finds them.

use std::fmt;
use std::sync::Arc;

/// Where a value comes from. Ordered as the layers are, and within a file by line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A line of a file.
    File {
        /// The place of the file among the configuration's files.
        index: usize,
        /// The line, from 1; 0 for the file as a whole.
        line: usize,
        /// The file's path.
        name: Arc<str>,
    },
    /// An environment variable.
    Environment(String),
    /// Nobody set it; the words say what it was made from, where that is not plain.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { name, line: 0, .. } => write!(f, "{name}"),
            Origin::File { name, line, .. } => write!(f, "{name}:{line}"),
            Origin::Environment(variable) => write!(f, "environment variable {variable}"),
            Origin::Default("") => write!(f, "default"),
            Origin::Default(from) => write!(f, "default, from {from}"),
        }
    }
}

/// What is wrong with a value, and what would be right; two halves of one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl Fault {
    /// A fault of these two halves.
    pub fn new(wrong: impl Into<String>, right: impl Into<String>) -> Fault {
        Fault { wrong: wrong.into(), right: right.into() }
    }

    /// The fault as a problem of this key at this place.
    #[must_use]
    pub fn at(self, origin: &Origin, key: &str) -> Problem {
        Problem { origin: origin.clone(), key: key.to_owned(), fault: self }
    }
}

/// One mistake. Its text never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// The key, dotted; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong and what would be right.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default("") {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.fault.wrong, self.fault.right)
    }
}

/// All mistakes of a configuration, at least one.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// The candidate that `word` was probably meant to be: at most one edit in three characters away.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count().min(64) / 3).max(1);
    candidates
        .map(|candidate| (crate::nearest::distance(word, candidate), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min()
        .map(|(_, near)| near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_a_stranger_is_not() {
        let keys = ["topic", "compression", "max_event"];
        assert_eq!(nearest("compresion", keys.into_iter()), Some("compression"));
        assert_eq!(nearest("max-event", keys.into_iter()), Some("max_event"));
        assert_eq!(nearest("topics", keys.into_iter()), Some("topic"));
        assert_eq!(nearest("http", keys.into_iter()), None);
        let distance = crate::nearest::distance;
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "")), (3, 3, 3));
    }
}
