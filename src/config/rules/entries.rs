//! Tables of a rule, each value taken once and judged where it stands. Apart because every part of a rule is such a table. Pure.

use regex::bytes::Regex;

use crate::config::document::{Node, Value};
use crate::config::kinds;
use crate::config::problem::{Fault, Origin, Problem, nearest};

/// What a table holds, each value taken once; what is left is not known there.
pub(super) struct Entries {
    pub(super) origin: Origin,
    pub(super) path: String,
    pub(super) rest: Vec<(String, Node)>,
}

impl Entries {
    pub(super) fn of(node: Node, path: &str, problems: &mut Vec<Problem>) -> Option<Entries> {
        match node.value {
            Value::Table(rest) => Some(Entries { origin: node.origin, path: path.to_owned(), rest }),
            other => {
                problems.push(Fault::new(format!("{} is no table", other.what()), "write { … }").at(&node.origin, path));
                None
            }
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.rest.iter().position(|(key, _)| key == name)?;
        Some(self.rest.swap_remove(at).1)
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub(super) fn text(&mut self, name: &str, problems: &mut Vec<Problem>) -> Option<String> {
        let node = self.take(name)?;
        match node.value {
            Value::Text(text) => Some(text),
            other => {
                problems.push(Fault::new(format!("{} is no string", other.what()), "write \"…\"").at(&node.origin, &self.key(name)));
                None
            }
        }
    }

    pub(super) fn number(&mut self, name: &str, (min, max): (i64, i64), problems: &mut Vec<Problem>) -> Option<i64> {
        let node = self.take(name)?;
        match node.value {
            Value::Integer(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                let fault = Fault::new("not a number that is possible here", format!("write {min} to {max}"));
                problems.push(fault.at(&node.origin, &self.key(name)));
                None
            }
        }
    }

    pub(super) fn blame(&self, wrong: impl Into<String>, right: impl Into<String>) -> Problem {
        Fault::new(wrong, right).at(&self.origin, &self.path)
    }

    /// Tells of every key that was not taken.
    pub(super) fn end(self, known: &[&str], problems: &mut Vec<Problem>) {
        for (name, node) in &self.rest {
            let right = nearest(name, known.iter().copied())
                .map_or_else(|| format!("there are {}", known.join(", ")), |near| format!("did you mean {near:?}?"));
            problems.push(Fault::new("unknown key", right).at(&node.origin, &self.key(name)));
        }
    }
}

/// Every table of a list of them, each with its place.
pub(super) fn tables(lists: Vec<Node>, path: &str, problems: &mut Vec<Problem>) -> Vec<Entries> {
    let mut all = Vec::new();
    for node in lists {
        let Value::List(items) = node.value else {
            problems.push(
                Fault::new(format!("{} is no list of tables", node.value.what()), format!("write [[{path}]]")).at(&node.origin, path),
            );
            continue;
        };
        all.extend(items.into_iter().filter_map(|item| Entries::of(item, path, problems)));
    }
    all
}

/// A regex that is not empty and not too large.
pub(super) fn regex(node: &Node, key: &str, problems: &mut Vec<Problem>) -> Option<Regex> {
    let fault = match &node.value {
        Value::Text(text) => match kinds::regex(text) {
            Ok(regex) => return Some(regex),
            Err(fault) => fault,
        },
        other => Fault::new(format!("{} is no string", other.what()), "write '…'"),
    };
    problems.push(fault.at(&node.origin, key));
    None
}
