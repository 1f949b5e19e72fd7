//! Walks what was written against the table of keys: every value is judged where it stands, unknown keys and keys set twice are told with
//! their places, and what is good is kept in layers for figment to merge. Pure.

use std::collections::{BTreeMap, BTreeSet};

use figment::value::{Dict, Value as Plain};

use super::Text;
use super::document::{self, Node, Value};
use super::problem::{Fault, Origin, Problem, nearest};
use super::schema::{self, Kind};
use super::{kinds, librdkafka};

/// Values of one layer, and where each dotted path was set.
#[derive(Default)]
pub struct Layer {
    /// The good values.
    pub values: Dict,
    /// Where each key (good or bad) and each table was written first.
    pub origins: BTreeMap<String, Origin>,
}

/// All that was written.
#[derive(Default)]
pub struct Collected {
    /// From the files, without their sources.
    pub files: Layer,
    /// From the environment.
    pub environment: Layer,
    /// The sources, in the order of the files, each with its place.
    pub sources: Vec<(Origin, Layer)>,
    /// The lists of rules, in the order of the files.
    pub rules: Vec<Node>,
    /// The lists of tests of them, likewise.
    pub tests: Vec<Node>,
    /// The mistakes so far.
    pub problems: Vec<Problem>,
    /// The main file as a whole, to blame for what is set nowhere.
    pub main: Option<Origin>,
    /// Whether a file could not be read or understood, so that nothing may be called missing.
    pub incomplete: bool,
}

/// Collects the files and the environment's overrides; `problems` are those of files that could not be read.
#[must_use]
pub fn collect(texts: &[Text], overrides: &[(String, String)], problems: Vec<Problem>) -> Collected {
    let main = texts.first().map(|text| Origin::File { index: 0, line: 0, name: text.name.clone() });
    let mut all = Collected { main, incomplete: !problems.is_empty(), problems, ..Collected::default() };
    for (index, text) in texts.iter().enumerate() {
        match document::parse(text, index) {
            Ok(root) => all.file(root),
            Err(mistakes) => {
                all.problems.extend(mistakes);
                all.incomplete = true;
            }
        }
    }
    for (name, value) in overrides {
        all.variable(name, value);
    }
    all
}

impl Collected {
    fn file(&mut self, root: Vec<(String, Node)>) {
        let (lists, rest): (Vec<_>, Vec<_>) = root.into_iter().partition(|(name, _)| schema::LISTS.contains(&name.as_str()));
        let (sources, lists): (Vec<_>, Vec<_>) = lists.into_iter().partition(|(name, _)| name == "source");
        for (name, node) in lists {
            if name == "rule" { self.rules.push(node) } else { self.tests.push(node) }
        }
        table(&mut self.files, &mut self.problems, ("", None), rest);
        for (_, node) in sources {
            let Value::List(items) = node.value else {
                self.problems.push(
                    Fault::new(format!("{} is no list of sources", node.value.what()), "write [[source]]").at(&node.origin, "source"),
                );
                continue;
            };
            for Node { origin, value } in items {
                let Value::Table(entries) = value else {
                    self.problems.push(Fault::new(format!("{} is no source", value.what()), "write [[source]]").at(&origin, "source"));
                    continue;
                };
                let mut layer = Layer::default();
                let word = entries.iter().find_map(|(name, node)| match &node.value {
                    Value::Text(text) if name == "type" => Some(text.clone()),
                    _ => None,
                });
                // Of a source without a good type every key of any type is taken: what is wrong is its type.
                let kind = word.as_deref().filter(|word| schema::is_source_type(word));
                table(&mut layer, &mut self.problems, ("source", kind), entries);
                self.sources.push((origin, layer));
            }
        }
    }

    fn variable(&mut self, name: &str, value: &str) {
        let (first, node) = document::variable(name, value);
        if schema::LISTS.contains(&first.as_str()) {
            let fault = Fault::new(format!("{first}s can't be set by variables"), "set them in the file or in conf.d");
            self.problems.push(fault.at(&node.origin, &first));
        } else {
            table(&mut self.environment, &mut self.problems, ("", None), vec![(first, node)]);
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// The path inside its own tree: a source's keys are at its root.
fn inside(path: &str) -> Vec<&str> {
    path.strip_prefix("source.").unwrap_or(path).split('.').collect()
}

/// Takes in a table at this path, in a source of this type if it is known.
fn table(layer: &mut Layer, problems: &mut Vec<Problem>, (prefix, kind): (&str, Option<&str>), entries: Vec<(String, Node)>) {
    for (name, node) in entries {
        let path = join(prefix, &name);
        if let Some(key) = schema::key(&path, kind) {
            leaf(layer, problems, key, &node);
        } else if let Some(right) = schema::table(&path) {
            let Value::Table(entries) = node.value else {
                problems.push(Fault::new(format!("{} is no table", node.value.what()), right).at(&node.origin, &path));
                layer.origins.entry(path).or_insert(node.origin);
                continue;
            };
            if !layer.origins.contains_key(&path) {
                schema::insert(&mut layer.values, &inside(&path), Plain::from(Dict::new()));
                layer.origins.insert(path.clone(), node.origin);
            }
            table(layer, problems, (&path, kind), entries);
        } else {
            problems.push(unknown((prefix, kind), &name, &path, &node.origin));
        }
    }
}

fn leaf(layer: &mut Layer, problems: &mut Vec<Problem>, key: &schema::Key, node: &Node) {
    let free = matches!(key.kind, Kind::Texts | Kind::Properties);
    let (true, Value::Table(entries)) = (free, &node.value) else {
        if claim(layer, problems, key.path, &node.origin)
            && let Some(value) = kinds::judge(key.kind, key.path, node, problems)
        {
            schema::insert(&mut layer.values, &inside(key.path), value);
        }
        return;
    };
    for (name, node) in entries {
        let path = join(key.path, name);
        if !claim(layer, problems, &path, &node.origin) {
            continue;
        }
        let judged = match (key.kind, &node.value) {
            (Kind::Properties, value) => librdkafka::judge(name, value),
            (_, Value::Text(text)) => Ok(text.clone()),
            (_, other) => Err(Fault::new(format!("{} is no string", other.what()), kinds::example(Kind::Text))),
        };
        match judged {
            Ok(value) => {
                let mut full = inside(key.path);
                full.push(name);
                schema::insert(&mut layer.values, &full, Plain::from(value));
            }
            Err(fault) => problems.push(fault.at(&node.origin, &path)),
        }
    }
}

/// Notes where a path is set; false, with a problem, if it is set already.
fn claim(layer: &mut Layer, problems: &mut Vec<Problem>, path: &str, origin: &Origin) -> bool {
    let Some(first) = layer.origins.get(path) else {
        layer.origins.insert(path.to_owned(), origin.clone());
        return true;
    };
    problems.push(Fault::new(format!("set twice, first at {first}"), "keep one of the two").at(origin, path));
    false
}

fn unknown((prefix, kind): (&str, Option<&str>), name: &str, path: &str, origin: &Origin) -> Problem {
    let names: BTreeSet<&str> = schema::names(prefix, kind).collect();
    if let (Some(kind), Some(key)) = (kind, schema::key(path, None)) {
        let right = format!("sources of type {:?} have it; leave it out", key.of.join("\" and \""));
        return Fault::new(format!("a source of type {kind:?} has no such key"), right).at(origin, path);
    }
    let elsewhere = || schema::KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(name)).map(|key| key.path);
    let right = match nearest(name, names.iter().copied()).map(|near| format!("{near:?}")) {
        Some(near) => format!("did you mean {near}?"),
        None => match elsewhere() {
            Some(full) => format!("there is {full}"),
            None => format!("there are {}", names.into_iter().collect::<Vec<_>>().join(", ")),
        },
    };
    Fault::new("unknown key", right).at(origin, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_escape_behind_a_character_of_several_bytes_does_not_make_a_variable_panic() {
        for value in ["\"\u{11c92}🄀0\\n\"", "[\"é\\\\\"]", "{a=\"ü\\t\"}"] {
            let collected = collect(&[], &[("kafka__topic".into(), value.into())], Vec::new());
            assert_eq!(collected.environment.values.len(), 1, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_variable_makes_it_panic(text in "(\\[{1,2}(source|kafka|agent)\\]{1,2}|[a-z_.\"]{1,9} ?= ?[\"0-9a-zé\\[\\]{}]{0,9}|\\PC{0,9}|\n){0,12}",
                                                   name in "(kafka|agent|source|labels|librdkafka|__|_|\\PC){0,6}", value in "\\PC{0,20}") {
            let texts = [Text { name: "a.toml".into(), text }];
            let collected = collect(&texts, &[(name, value)], Vec::new());
            for problem in &collected.problems {
                prop_assert!(!problem.to_string().is_empty());
            }
        }
    }
}
