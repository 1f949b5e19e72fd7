//! The conditions of rules. Pure.

use std::sync::Arc;

use super::entries::{Entries, regex};
use crate::config::document::{Node, Value};
use crate::config::problem::{Fault, Origin, Problem};
use crate::rules::when::{Compare, Test, When};
use crate::source::file::discover::Pattern;
use crate::source::journald::filter::unit_pattern;
use crate::source::syslog::parse::{facility_word, severity_word};

/// How deep `not` and `any_of` may stand in each other.
const DEEPEST: usize = 16;

/// What may stand in a condition, and what each is.
pub const CONDITIONS: [(&str, &str); 11] = [
    ("source", "the name of the source"),
    ("type", "its type: file, syslog or journald"),
    ("path", "the file's path as first seen, with *, ?, [a-z], {a,b} and **"),
    ("message", "a regex that matches the line, or the text of a syslog message or of an entry of the journal"),
    ("unit", "the unit of an entry of the journal, with *, ? and [a-z]; .service where it has no other ending"),
    ("app", "the program of a syslog message, the identifier of an entry of the journal"),
    ("severity", "the severity of a syslog message or an entry, or { at_least = \"warning\" } for that and worse"),
    ("facility", "the facility of a syslog message or an entry"),
    (
        "fields",
        "{ NAME = \"text\" }, { NAME = [ … ] }, or { NAME = { regex = '…' } }, { exists = false }, { gte = 500, lt = 600 }: what a rule before has found, or a member of an entry's JSON, as pid or 'journal._COMM'",
    ),
    ("not", "a condition that must not hold"),
    ("any_of", "a list of conditions of which one must hold"),
];

/// Judges conditions.
pub(super) struct Judge<'a> {
    pub(super) sources: &'a [(Arc<str>, &'static str)],
}

impl Judge<'_> {
    pub(super) fn when(&self, node: Node, path: &str, depth: usize, problems: &mut Vec<Problem>) -> Option<When> {
        let mut table = Entries::of(node, path, problems)?;
        if depth > DEEPEST {
            problems.push(table.blame(format!("conditions stand in each other more than {DEEPEST} deep"), "make it simpler"));
            return None;
        }
        let before = problems.len();
        let mut all = Vec::new();
        for (name, _) in CONDITIONS {
            let Some(node) = table.take(name) else { continue };
            let key = table.key(name);
            all.extend(match name {
                "not" => self.when(node, &key, depth + 1, problems).map(|when| When::Not(Box::new(when))),
                "any_of" => self.any_of(node, &key, depth, problems),
                "fields" => fields(node, &key, problems),
                "severity" if matches!(node.value, Value::Table(_)) => at_least(node, &key, problems),
                _ => self.one(name, node, &key, problems),
            });
        }
        if all.is_empty() && table.rest.is_empty() && problems.len() == before {
            problems.push(table.blame("the condition is empty", "leave when out for all events, or write what must hold"));
        }
        table.end(&CONDITIONS.map(|(name, _)| name), problems);
        (problems.len() == before).then_some(When::All(all))
    }

    fn any_of(&self, node: Node, key: &str, depth: usize, problems: &mut Vec<Problem>) -> Option<When> {
        let Value::List(items) = node.value else {
            problems.push(Fault::new(format!("{} is no list", node.value.what()), "write [ { … }, { … } ]").at(&node.origin, key));
            return None;
        };
        if items.is_empty() {
            problems.push(Fault::new("the list is empty", "write [ { … }, { … } ]").at(&node.origin, key));
        }
        Some(When::Any(items.into_iter().filter_map(|item| self.when(item, key, depth + 1, problems)).collect()))
    }

    /// A condition that takes a string or a list of strings.
    fn one(&self, name: &str, node: Node, key: &str, problems: &mut Vec<Problem>) -> Option<When> {
        let origin = node.origin.clone();
        let items = match node.value {
            Value::List(items) => items,
            value => vec![Node { origin: node.origin, value }],
        };
        if items.is_empty() {
            problems.push(Fault::new("the list is empty", "name at least one").at(&origin, key));
            return None;
        }
        if name == "message" {
            return Some(When::Message(items.iter().filter_map(|item| regex(item, key, problems)).collect()));
        }
        let texts = texts(items, key, problems);
        let mut wrong = |origin: &Origin, wrong: String, right: String| problems.push(Fault::new(wrong, right).at(origin, key));
        let known = |words: &[&'static str], text: &str| words.iter().position(|word| *word == text);
        Some(match name {
            "source" => {
                let names: Vec<&str> = self.sources.iter().map(|(name, _)| &**name).collect();
                for (origin, text) in texts.iter().filter(|(_, text)| !names.contains(&text.as_str())) {
                    wrong(origin, format!("there is no source {text:?}"), format!("there are {}", names.join(", ")));
                }
                When::Source(texts.into_iter().map(|(_, text)| text.into()).collect())
            }
            "type" => {
                const TYPES: [&str; 3] = ["file", "syslog", "journald"];
                let mut types = Vec::new();
                for (origin, text) in texts {
                    match known(&TYPES, &text).and_then(|at| TYPES.get(at)) {
                        Some(kind) => types.push(*kind),
                        None => wrong(&origin, format!("there is no type {text:?}"), "there are file, syslog, journald".to_owned()),
                    }
                }
                When::Type(types)
            }
            "path" => {
                let mut patterns = Vec::new();
                for (origin, text) in texts {
                    match Pattern::parse(&text) {
                        Ok(pattern) => patterns.push(pattern),
                        Err(words) => {
                            wrong(&origin, format!("{text:?}: {words}"), "write an absolute path with *, ?, [a-z], {a,b} or **".to_owned());
                        }
                    }
                }
                When::Path(patterns)
            }
            "unit" => When::Unit(texts.iter().filter_map(|(_, text)| unit_pattern(text)).collect()),
            "severity" | "facility" => {
                let words = words(name);
                let mut bits = 0_u32;
                for (origin, text) in texts {
                    match known(&words, &text) {
                        Some(code) => bits |= 1 << code,
                        None => wrong(&origin, format!("there is no {name} {text:?}"), format!("there are {}", words.join(", "))),
                    }
                }
                if name == "facility" { When::Facility(bits) } else { When::Severity(u8::try_from(bits).unwrap_or(u8::MAX)) }
            }
            _ => When::App(texts.into_iter().map(|(_, text)| text.into_bytes().into()).collect()),
        })
    }
}

/// The strings of a list, each with its place.
pub(super) fn texts(items: Vec<Node>, key: &str, problems: &mut Vec<Problem>) -> Vec<(Origin, String)> {
    let mut texts = Vec::new();
    for item in items {
        match item.value {
            Value::Text(text) if !text.is_empty() => texts.push((item.origin, text)),
            other => {
                let what = if matches!(other, Value::Text(_)) { "an empty string" } else { other.what() };
                problems.push(Fault::new(format!("{what} names nothing"), "write \"…\"").at(&item.origin, key));
            }
        }
    }
    texts
}

/// The words of severities or facilities, in order of their codes.
pub(super) fn words(name: &str) -> Vec<&'static str> {
    if name == "severity" { (0..8).map(severity_word).collect() } else { (0..24).map(facility_word).collect() }
}

fn at_least(node: Node, key: &str, problems: &mut Vec<Problem>) -> Option<When> {
    let mut table = Entries::of(node, key, problems)?;
    let word = table.text("at_least", problems);
    let words = words("severity");
    let code = word.as_deref().and_then(|word| words.iter().position(|known| *known == word));
    if code.is_none() {
        problems.push(table.blame("at_least is no severity", format!("write one of {}", words.join(", "))));
    }
    table.end(&["at_least"], problems);
    // Lower codes are worse.
    code.map(|code| When::Severity(u8::try_from((1_u32 << (code + 1)) - 1).unwrap_or(u8::MAX)))
}

/// What is asked of fields: each must hold.
fn fields(node: Node, key: &str, problems: &mut Vec<Problem>) -> Option<When> {
    let table = Entries::of(node, key, problems)?;
    if table.rest.is_empty() {
        problems.push(table.blame("no field is named", "write { NAME = \"text\" }"));
    }
    let mut all = Vec::new();
    for (name, node) in table.rest {
        let key = format!("{key}.{name}");
        if let Some(test) = test(node, &key, problems) {
            all.push(When::Field(name.into_bytes().into(), test));
        }
    }
    Some(When::All(all))
}

/// What is asked of one field.
fn test(node: Node, key: &str, problems: &mut Vec<Problem>) -> Option<Test> {
    if !matches!(node.value, Value::Table(_)) {
        let items = match node.value {
            Value::List(items) => items,
            value => vec![Node { origin: node.origin.clone(), value }],
        };
        let mut all: Vec<Box<[u8]>> = Vec::new();
        for item in items {
            match item.value {
                Value::Text(text) => all.push(text.into_bytes().into()),
                Value::Integer(number) => all.push(number.to_string().into_bytes().into()),
                Value::Bool(yes) => all.push(yes.to_string().into_bytes().into()),
                other => {
                    let right = "write \"text\", a whole number, true or false, or { gte = 0.5 } to compare";
                    problems.push(Fault::new(format!("{} can't be compared as text", other.what()), right).at(&item.origin, key));
                }
            }
        }
        if all.is_empty() {
            problems.push(Fault::new("nothing is named", "write \"text\"").at(&node.origin, key));
        }
        return Some(Test::Is(all));
    }
    let mut table = Entries::of(node, key, problems)?;
    let before = problems.len();
    let mut tests = Vec::new();
    if let Some(node) = table.take("regex") {
        tests.extend(regex(&node, &table.key("regex"), problems).map(|regex| Test::Matches(vec![regex])));
    }
    if let Some(node) = table.take("exists") {
        match node.value {
            Value::Bool(exists) => tests.push(Test::Exists(exists)),
            _ => problems.push(Fault::new("neither true nor false", "write true or false").at(&node.origin, &table.key("exists"))),
        }
    }
    let mut numbers = Vec::new();
    for (word, compare) in Compare::WORDS {
        let Some(node) = table.take(word) else { continue };
        match node.value {
            // Whole numbers beyond 2^53 are compared as the nearest ones that a float has.
            #[expect(clippy::cast_precision_loss, reason = "as the numbers that it is compared with")]
            Value::Integer(number) => numbers.push((compare, number as f64)),
            Value::Float(number) => numbers.push((compare, number)),
            other => problems.push(Fault::new(format!("{} is no number", other.what()), "write 500").at(&node.origin, &table.key(word))),
        }
    }
    if !numbers.is_empty() {
        tests.push(Test::Number(numbers));
    }
    let one = tests.pop();
    if (one.is_none() || !tests.is_empty()) && problems.len() == before && table.rest.is_empty() {
        problems
            .push(table.blame("it asks for nothing, or for several kinds", "write one of regex, exists, or numbers with gt, gte, lt, lte"));
    }
    table.end(&["regex", "exists", "gt", "gte", "lt", "lte"], problems);
    one
}
