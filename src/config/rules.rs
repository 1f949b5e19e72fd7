//! The rules of a configuration, and the tests of them that stand in it: each `[[rule]]` and `[[test]]` judged where it stands. Apart from the
//! table of keys because conditions nest and take several forms. Pure.

mod actions;
mod conditions;
mod entries;
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Machine;
use super::document::Node;
use super::problem::{Fault, Origin, Problem};
use crate::rules::parse::Form;
use crate::rules::when::{Of, When};
use crate::rules::{Action, Rule};
use crate::source::multiline::Multiline;
use crate::source::syslog::arrival::shed::First;
pub use actions::ACTIONS;
use actions::action;
pub use conditions::CONDITIONS;
use conditions::Judge;
use entries::tables;
pub use tests::{Expected, Test};

/// How many rules there may be; each event may be asked by all of them.
const MOST_RULES: usize = 1000;
/// Builds the rules and the tests of them from the lists of both; `sources` are the names and types there are, `raw` says whether that is the format.
pub fn judge(
    (rules, tests): (Vec<Node>, Vec<Node>),
    (sources, raw): (&[(Arc<str>, &'static str)], bool),
    machine: &Machine<'_>,
    problems: &mut Vec<Problem>,
) -> (Arc<[Rule]>, Vec<Test>) {
    (self::rules(rules, (sources, raw), machine, problems), self::tests::tests(tests, sources, problems))
}

/// Builds the rules; `sources` are the names and types there are. A rule that is wrong is told and left out.
fn rules(
    lists: Vec<Node>,
    (sources, raw): (&[(Arc<str>, &'static str)], bool),
    machine: &Machine<'_>,
    problems: &mut Vec<Problem>,
) -> Arc<[Rule]> {
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
        let action = action(&mut table, machine, problems);
        let origin = table.origin.clone();
        let known: Vec<&str> = ["name", "when"].into_iter().chain(ACTIONS.iter().map(|(name, _)| *name)).collect();
        table.end(&known, problems);
        let (Some(when), Some(action)) = (when, action) else { continue };
        let journal = sources
            .iter()
            .find(|(source, kind)| *kind == "journald" && !when.of(&Of { source, kind: "journald", path: None, fields: true }).is_never());
        if let Some((source, _)) = journal.filter(|_| raw && when.asks_more()) {
            let wrong = format!(
                "the rule {name:?} asks entries of the source {source:?} of type journald for more than their message, and in kafka.format = \"raw\" they have no more"
            );
            let right = "use another format, or what the source can select by: units, priority, identifiers, matches; or add type = [\"file\", \"syslog\"]";
            problems.push(Fault::new(wrong, right).at(&origin, "rule.when"));
        }
        let finds = |action: &Action| matches!(action, Action::Parse(_) | Action::Set(_));
        if journal.is_none() && (when.asks_fields() || asks_fields(&action)) && !rules.iter().any(|rule| finds(&rule.action)) {
            let wrong = format!("the rule {name:?} asks for fields, and no rule before it has found any");
            problems.push(Fault::new(wrong, "put a rule with parse or set before it").at(&origin, "rule"));
        }
        rules.push(Rule::new(&name, when, action));
    }
    rules.into()
}

/// Whether an action is of no use where no field is there.
fn asks_fields(action: &Action) -> bool {
    match action {
        Action::Sample(_, by) => by.is_some(),
        Action::Set(fields) => fields.iter().any(|(_, template)| template.needs_fields()),
        Action::Remove(_) | Action::Rename(_) | Action::Timestamp(_) => true,
        Action::Severity(severity) => matches!(severity, crate::rules::Severity::Of(_)),
        Action::Route(route) => route.topic.needs_fields(),
        Action::RateLimit(_, by) => by.as_ref().is_some_and(crate::rules::template::Template::needs_fields),
        Action::Drop | Action::Keep | Action::Redact(_) | Action::Parse(_) => false,
    }
}

/// The conditions of the rules that name what a full syslog source refuses first.
pub(super) fn shed_first(rules: &[Rule], (source, names): (&str, &[String]), origin: &Origin, problems: &mut Vec<Problem>) -> First {
    let mut classes = Vec::new();
    for name in names {
        let fault = match rules.iter().find(|rule| *rule.name == **name) {
            None => Fault::new(format!("there is no rule {name:?}"), "name rules as their name key does"),
            Some(rule) if rule.when.asks_fields() => Fault::new(
                format!("the rule {name:?} asks for fields, which are not found yet when a message comes"),
                "name one that asks for message, app, severity, facility",
            ),
            Some(rule) => {
                let when = rule.when.of(&Of { source, kind: "syslog", path: Some(b""), fields: true });
                if !when.is_never() {
                    classes.push((Arc::clone(&rule.name), when));
                    continue;
                }
                Fault::new(format!("the rule {name:?} reaches no message of this source"), "name one that does")
            }
        };
        problems.push(fault.at(origin, "source.shed_first"));
    }
    First::new(classes)
}

/// Lines of containers that hold parts of one are joined where a rule takes them apart.
pub(super) fn joined_for(rules: &[Rule], source: &str) -> Option<Multiline> {
    let of = Of { source, kind: "file", path: None, fields: false };
    rules.iter().filter(|rule| !rule.when.of(&of).is_never()).find_map(|rule| match rule.action {
        Action::Parse(Form::Docker) => Some(Multiline::of_containers(false)),
        Action::Parse(Form::Cri) => Some(Multiline::of_containers(true)),
        _ => None,
    })
}
