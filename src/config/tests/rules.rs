//! Rules and tests of them: what is accepted, and every mistake in its words.

use super::super::rules::{ACTIONS, CONDITIONS};
use super::{SMALL, judge, machine, mistakes};

fn with(more: &str) -> String {
    format!("{SMALL}{more}")
}

#[test]
fn rules_have_names_and_an_order_over_all_files() {
    let more = "[[rule]]\nname = \"first\"\nwhen = { source = \"app\", message = [\"a\", \"b\"], not = { path = \"/var/**/x.log\" } }\ndrop = true\n[[rule]]\nkeep = true\n";
    let other = "[[rule]]\nwhen = { any_of = [{ type = \"syslog\", severity = { at_least = \"error\" } }, { message = \"x\" }] }\nredact = { pattern = \"ipv4\", keep_prefix = 24 }\n[[rule]]\nsample = { one_in = 10 }\n";
    let config = judge(&[&with(more), other], &machine()).unwrap();
    assert_eq!(config.rules.iter().map(|rule| &*rule.name).collect::<Vec<_>>(), ["first", "rule-2", "rule-3", "rule-4"]);
}

#[test]
fn every_mistake_is_told_with_its_line_and_a_remedy() {
    let more = r#"
[[rule]]
name = "twice"
when = { source = "ap", mesage = "x", unit = "ssh" }
drop = true
keep = true

[[rule]]
name = "twice"
when = { message = "", severity = "bad", type = "files", path = "x" }

[[rule]]
when = { message = '(' }
route = { topic = "audit" }

[[rule]]
when = {}
sample = { one_in = 1 }

[[rule]]
when = { message = '\w{1000}' }
redact = { pattern = "emial" }

[[rule]]
when = { any_of = [], severity = { at_least = "x" } }
drop = false

[[test]]
input = "x"
"#;
    insta::assert_snapshot!(mistakes(&with(more)), @r#"
    a.toml:10: rule: a rule has one action, not drop and keep; make a rule of each
    a.toml:12: rule.when.source: there is no source "ap"; there are app
    a.toml:12: rule.when.unit: entries of the journal can't be asked in this version; use the source's units
    a.toml:12: rule.when.mesage: unknown key; did you mean "message"?
    a.toml:16: rule: a rule "twice" is there already, at a.toml:10; give each rule a name of its own
    a.toml:16: rule: the rule has no action; add one of drop, keep, sample, redact, parse, set, remove, rename, timestamp, severity, rate_limit
    a.toml:18: rule.when.type: there is no type "files"; there are file, syslog, journald
    a.toml:18: rule.when.path: "x": the path is relative; write it from the root, such as /var/log/x; write an absolute path with *, ?, [a-z], {a,b} or **
    a.toml:18: rule.when.message: the regex is empty, so it would match everything; write what to look for
    a.toml:18: rule.when.severity: there is no severity "bad"; there are emergency, alert, critical, error, warning, notice, info, debug
    a.toml:21: rule.when.message: not a regex: error: unclosed group; a \ before what is to be taken as it is, in '…', may help
    a.toml:22: rule.route: this action is not in this version; this version has drop, keep, sample, redact, parse, set, remove, rename, timestamp, severity, rate_limit
    a.toml:25: rule.when: the condition is empty; leave when out for all events, or write what must hold
    a.toml:26: rule.sample.one_in: not a number that is possible here; write 2 to 9223372036854775807
    a.toml:29: rule.when.message: the regex takes more than 1MiB compiled; make its repetitions smaller, or write (?-u) for bytes instead of characters
    a.toml:30: rule.redact.pattern: there is no such pattern; write pattern = one of email, ipv4, ipv6, card, bearer, aws_key, or regex = "…" with with = "…"
    a.toml:33: rule.when.severity: at_least is no severity; write one of emergency, alert, critical, error, warning, notice, info, debug
    a.toml:33: rule.when.any_of: the list is empty; write [ { … }, { … } ]
    a.toml:34: rule.drop: only true makes sense here; write true, or leave the rule out
    a.toml:36: test: it expects nothing, or several things; write one of dropped_by = "RULE", message = "…" and record_contains = '…'
    "#);
}

#[test]
fn a_rule_that_reaches_a_journal_is_refused() {
    let journal = "[[source]]\nname = \"j\"\ntype = \"journald\"\n";
    let all = mistakes(&with(&format!("{journal}[[rule]]\nwhen = {{ message = \"x\" }}\ndrop = true\n")));
    assert!(all.contains("reaches the source \"j\" of type journald"), "{all}");
    let files = with(&format!("{journal}[[rule]]\nwhen = {{ type = [\"file\", \"syslog\"], message = \"x\" }}\ndrop = true\n"));
    assert!(judge(&[&files], &machine()).is_ok());
}

#[test]
fn what_a_rule_can_say_stands_in_the_example() {
    let example = include_str!("../../../config.example.toml");
    for (name, doc) in CONDITIONS.iter().chain(&ACTIONS) {
        assert!(example.lines().any(|line| line == format!("#   {name}: {doc}")), "{name}: {doc}");
    }
}
