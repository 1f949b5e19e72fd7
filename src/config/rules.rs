//! The rules of a configuration, and the tests of them that stand in it: each `[[rule]]` and `[[test]]` judged where it stands. Apart from the
//! table of keys because conditions nest and take several forms. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::bytes::Regex;

use super::document::{Node, Value};
use super::kinds;
use super::problem::{Fault, Origin, Problem, nearest};
use crate::rules::redact::{Find, Redact};
use crate::rules::when::{Of, When};
use crate::rules::{Action, Rule};
use crate::source::file::discover::Pattern;
use crate::source::syslog::parse::{facility_word, severity_word};

/// How many rules there may be; each event may be asked by all of them.
const MOST_RULES: usize = 1000;
/// How deep `not` and `any_of` may stand in each other.
const DEEPEST: usize = 16;

/// What may stand in a condition, and what each is.
pub const CONDITIONS: [(&str, &str); 9] = [
    ("source", "the name of the source"),
    ("type", "its type: file or syslog"),
    ("path", "the file's path as first seen, with *, ?, [a-z], {a,b} and **"),
    ("message", "a regex that matches the line, or the text of a syslog message"),
    ("app", "the program of a syslog message"),
    ("severity", "the severity of a syslog message, or { at_least = \"warning\" } for that and worse"),
    ("facility", "the facility of a syslog message"),
    ("not", "a condition that must not hold"),
    ("any_of", "a list of conditions of which one must hold"),
];

/// The actions there are, and what each does.
pub const ACTIONS: [(&str, &str); 4] = [
    ("drop", "true: the event is left out, and counted"),
    ("keep", "true: the event is shipped, and later rules don't see it"),
    ("sample", "{ one_in = 100 }: one event in so many is shipped"),
    ("redact", "{ pattern = \"email\" } or { regex = \"…\", with = \"…\" }: replaces what it finds in the message"),
];

/// What a later version does.
const LATER: [&str; 8] = ["route", "parse", "set", "remove", "rename", "timestamp", "rate_limit", "severity"];

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
}

/// What a table holds, each value taken once; what is left is not known there.
struct Entries {
    origin: Origin,
    path: String,
    rest: Vec<(String, Node)>,
}

impl Entries {
    fn of(node: Node, path: &str, problems: &mut Vec<Problem>) -> Option<Entries> {
        match node.value {
            Value::Table(rest) => Some(Entries { origin: node.origin, path: path.to_owned(), rest }),
            other => {
                problems.push(Fault::new(format!("{} is no table", other.what()), "write { … }").at(&node.origin, path));
                None
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.rest.iter().position(|(key, _)| key == name)?;
        Some(self.rest.swap_remove(at).1)
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn text(&mut self, name: &str, problems: &mut Vec<Problem>) -> Option<String> {
        let node = self.take(name)?;
        match node.value {
            Value::Text(text) => Some(text),
            other => {
                problems.push(Fault::new(format!("{} is no string", other.what()), "write \"…\"").at(&node.origin, &self.key(name)));
                None
            }
        }
    }

    fn number(&mut self, name: &str, (min, max): (i64, i64), problems: &mut Vec<Problem>) -> Option<i64> {
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

    fn blame(&self, wrong: impl Into<String>, right: impl Into<String>) -> Problem {
        Fault::new(wrong, right).at(&self.origin, &self.path)
    }

    /// Tells of every key that was not taken.
    fn end(self, known: &[&str], problems: &mut Vec<Problem>) {
        for (name, node) in &self.rest {
            let right = nearest(name, known.iter().copied())
                .map_or_else(|| format!("there are {}", known.join(", ")), |near| format!("did you mean {near:?}?"));
            problems.push(Fault::new("unknown key", right).at(&node.origin, &self.key(name)));
        }
    }
}

/// Every table of a list of them, each with its place.
fn tables(lists: Vec<Node>, path: &str, problems: &mut Vec<Problem>) -> Vec<Entries> {
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

/// Builds the rules and the tests of them from the lists of both; `sources` are the names and types there are.
pub fn judge(
    (rules, tests): (Vec<Node>, Vec<Node>),
    sources: &[(Arc<str>, &'static str)],
    problems: &mut Vec<Problem>,
) -> (Arc<[Rule]>, Vec<Test>) {
    (self::rules(rules, sources, problems), self::tests(tests, sources, problems))
}

/// Builds the rules; `sources` are the names and types there are. A rule that is wrong is told and left out.
fn rules(lists: Vec<Node>, sources: &[(Arc<str>, &'static str)], problems: &mut Vec<Problem>) -> Arc<[Rule]> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut names: BTreeMap<String, Origin> = BTreeMap::new();
    let tables = tables(lists, "rule", problems);
    if let Some(first_beyond) = tables.get(MOST_RULES) {
        problems.push(
            first_beyond.blame(format!("there are more than {MOST_RULES} rules"), "join some: a list in a condition means any of it"),
        );
    }
    for (index, mut table) in tables.into_iter().enumerate() {
        let name = table.text("name", problems).unwrap_or_else(|| format!("rule-{}", index + 1));
        if let Some(first) = names.get(&name) {
            problems.push(table.blame(format!("a rule {name:?} is there already, at {first}"), "give each rule a name of its own"));
        }
        if name.is_empty() || name.len() > 100 {
            problems.push(table.blame("the name is empty or longer than 100 bytes", "write a few words"));
        }
        names.entry(name.clone()).or_insert_with(|| table.origin.clone());
        let judge = Judge { sources };
        let when = match table.take("when") {
            Some(node) => judge.when(node, "rule.when", 0, problems),
            None => Some(When::All(Vec::new())),
        };
        let action = action(&mut table, problems);
        let origin = table.origin.clone();
        let known: Vec<&str> = ["name", "when"].into_iter().chain(ACTIONS.iter().map(|(name, _)| *name)).collect();
        table.end(&known, problems);
        let (Some(when), Some(action)) = (when, action) else { continue };
        for (source, _) in sources.iter().filter(|(_, kind)| *kind == "journald") {
            if !when.of(&Of { source, kind: "journald", path: None, fields: true }).is_never() {
                let wrong = format!(
                    "the rule {name:?} reaches the source {source:?} of type journald, whose entries rules can't look into in this version"
                );
                problems.push(Fault::new(wrong, "add type = [\"file\", \"syslog\"] to its condition").at(&origin, "rule.when"));
            }
        }
        rules.push(Rule::new(&name, when, action));
    }
    rules.into()
}

fn action(table: &mut Entries, problems: &mut Vec<Problem>) -> Option<Action> {
    let present: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).filter(|name| table.rest.iter().any(|(key, _)| key == name)).collect();
    let mut later = false;
    for name in LATER {
        if let Some(node) = table.take(name) {
            later = true;
            let right = format!("this version has {}", ACTIONS.map(|(name, _)| name).join(", "));
            problems.push(Fault::new("this action is not in this version", right).at(&node.origin, &table.key(name)));
        }
    }
    let names = ACTIONS.map(|(name, _)| name).join(", ");
    let [name] = present.as_slice() else {
        if present.len() > 1 {
            problems.push(table.blame(format!("a rule has one action, not {}", present.join(" and ")), "make a rule of each"));
        } else if !later {
            problems.push(table.blame("the rule has no action", format!("add one of {names}")));
        }
        for name in present {
            table.take(name);
        }
        return None;
    };
    let node = table.take(name)?;
    let path = table.key(name);
    match *name {
        "drop" | "keep" if matches!(node.value, Value::Bool(true)) => Some(if *name == "drop" { Action::Drop } else { Action::Keep }),
        "drop" | "keep" => {
            problems.push(Fault::new("only true makes sense here", "write true, or leave the rule out").at(&node.origin, &path));
            None
        }
        "sample" => {
            let mut table = Entries::of(node, &path, problems)?;
            let one_in = table.number("one_in", (2, i64::MAX), problems);
            if one_in.is_none() && !problems.iter().any(|problem| problem.key == table.key("one_in")) {
                problems.push(table.blame("one_in is not set", "write { one_in = 100 }"));
            }
            table.end(&["one_in"], problems);
            Some(Action::Sample(u64::try_from(one_in?).unwrap_or(1)))
        }
        _ => redact(Entries::of(node, &path, problems)?, problems),
    }
}

fn redact(mut table: Entries, problems: &mut Vec<Problem>) -> Option<Action> {
    let (pattern, with) = (table.take("pattern"), table.text("with", problems));
    let keep = table.number("keep_prefix", (0, 128), problems).and_then(|bits| u32::try_from(bits).ok());
    let regex = table.take("regex");
    let right = format!("write pattern = one of {}, or regex = \"…\" with with = \"…\"", Find::READY.join(", "));
    let name = match &pattern {
        Some(Node { value: Value::Text(name), .. }) => name.as_str(),
        _ => "",
    };
    let most = match name {
        "ipv4" => 32,
        "ipv6" => 128,
        _ => 0,
    };
    if keep.is_some_and(|bits| bits > most) {
        problems.push(table.blame("keep_prefix is for ipv4 (0 to 32) and ipv6 (0 to 128)", "leave it out, or write fewer bits"));
    }
    let find = match (&pattern, regex) {
        (Some(node), None) => {
            let found = Find::ready(name, keep);
            if found.is_none() {
                problems.push(Fault::new("there is no such pattern", right).at(&node.origin, &table.key("pattern")));
            }
            found
        }
        (None, Some(node)) => self::regex(&node, &table.key("regex"), problems).map(Find::Regex),
        _ => {
            problems.push(table.blame("it has to have one of pattern and regex", right));
            None
        }
    };
    let with = with.unwrap_or_else(|| if name.is_empty() { "[redacted]".to_owned() } else { format!("[{name}]") });
    table.end(&["pattern", "regex", "with", "keep_prefix"], problems);
    Some(Action::Redact(Redact { find: find?, with: with.into_bytes() }))
}

/// A regex that is not empty and not too large.
fn regex(node: &Node, key: &str, problems: &mut Vec<Problem>) -> Option<Regex> {
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

/// Judges conditions.
struct Judge<'a> {
    sources: &'a [(Arc<str>, &'static str)],
}

impl Judge<'_> {
    fn when(&self, node: Node, path: &str, depth: usize, problems: &mut Vec<Problem>) -> Option<When> {
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
                "severity" if matches!(node.value, Value::Table(_)) => at_least(node, &key, problems),
                _ => self.one(name, node, &key, problems),
            });
        }
        if let Some(node) = table.take("unit") {
            let fault = Fault::new("entries of the journal can't be asked in this version", "use the source's units");
            problems.push(fault.at(&node.origin, &table.key("unit")));
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
fn texts(items: Vec<Node>, key: &str, problems: &mut Vec<Problem>) -> Vec<(Origin, String)> {
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
fn words(name: &str) -> Vec<&'static str> {
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

/// Builds the tests; one without a source is of the only source there is.
fn tests(lists: Vec<Node>, sources: &[(Arc<str>, &'static str)], problems: &mut Vec<Problem>) -> Vec<Test> {
    let mut tests = Vec::new();
    for mut table in tables(lists, "test", problems) {
        let (input, source) = (table.text("input", problems), table.text("source", problems));
        let (dropped_by, message) = (table.text("dropped_by", problems), table.text("message", problems));
        let source = match (source, sources) {
            (Some(source), _) => sources.iter().find(|(name, _)| **name == *source),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        if input.is_none() {
            problems.push(table.blame("input is not set", "write the line that is tried"));
        }
        if source.is_none_or(|(_, kind)| *kind == "journald") {
            problems.push(table.blame("it names no source of type file or syslog", "write source = \"…\""));
        }
        let expected = match (dropped_by, message) {
            (Some(rule), None) => Some(Expected::DroppedBy(rule)),
            (None, Some(message)) => Some(Expected::Message(message)),
            _ => {
                problems.push(table.blame("it expects nothing, or two things", "write one of dropped_by = \"RULE\" and message = \"…\""));
                None
            }
        };
        let origin = table.origin.clone();
        table.end(&["input", "source", "dropped_by", "message"], problems);
        if let (Some(input), Some((source, _)), Some(expected)) = (input, source, expected) {
            tests.push(Test { origin, source: Arc::clone(source), input, expected });
        }
    }
    tests
}
