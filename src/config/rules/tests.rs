//! The `[[test]]` tables of a configuration. Pure.

use std::sync::Arc;

use super::entries::tables;
use crate::config::document::Node;
use crate::config::problem::{Origin, Problem};

/// One `[[test]]`.
#[derive(Clone, Debug)]
pub struct Test {
    /// Where it stands.
    pub origin: Origin,
    /// The source whose event it is.
    pub source: Arc<str>,
    /// The line.
    pub input: String,
    /// What is to become of it.
    pub expected: Expected,
}

/// What a `[[test]]` expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// That this rule leaves it out.
    DroppedBy(String),
    /// That it is shipped with this message.
    Message(String),
    /// That it is shipped, and this is in the record that is sent.
    Record(String),
    /// That it is shipped to this topic.
    Topic(String),
}

/// Builds the tests; one without a source is of the only source there is.
pub(super) fn tests(lists: Vec<Node>, sources: &[(Arc<str>, &'static str)], problems: &mut Vec<Problem>) -> Vec<Test> {
    let mut tests = Vec::new();
    for mut table in tables(lists, "test", problems) {
        let (input, source) = (table.text("input", problems), table.text("source", problems));
        let keys = ["dropped_by", "message", "record_contains", "topic"];
        let [dropped_by, message, record, topic] = keys.map(|name| table.text(name, problems));
        let source = match (source, sources) {
            (Some(source), _) => sources.iter().find(|(name, _)| **name == *source),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        if input.is_none() {
            problems.push(table.blame("input is not set", "write the line that is tried"));
        }
        if source.is_none() {
            problems.push(table.blame("it names no source that there is", "write source = \"…\""));
        }
        let expected = match (dropped_by, message, record, topic) {
            (Some(rule), None, None, None) => Some(Expected::DroppedBy(rule)),
            (None, Some(message), None, None) => Some(Expected::Message(message)),
            (None, None, Some(text), None) => Some(Expected::Record(text)),
            (None, None, None, Some(topic)) => Some(Expected::Topic(topic)),
            _ => {
                let right = "write one of dropped_by = \"RULE\", message = \"…\", record_contains = '…' and topic = \"…\"";
                problems.push(table.blame("it expects nothing, or several things", right));
                None
            }
        };
        let origin = table.origin.clone();
        table.end(&["input", "source", "dropped_by", "message", "record_contains", "topic"], problems);
        if let (Some(input), Some((source, _)), Some(expected)) = (input, source, expected) {
            tests.push(Test { origin, source: Arc::clone(source), input, expected });
        }
    }
    tests
}
