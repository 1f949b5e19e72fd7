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
    a.toml:12: rule.when.mesage: unknown key; did you mean "message"?
    a.toml:16: rule: a rule "twice" is there already, at a.toml:10; give each rule a name of its own
    a.toml:16: rule: the rule has no action; add one of drop, keep, sample, redact, parse, set, remove, rename, timestamp, severity, route, rate_limit
    a.toml:18: rule.when.type: there is no type "files"; there are file, syslog, journald
    a.toml:18: rule.when.path: "x": the path is relative; write it from the root, such as /var/log/x; write an absolute path with *, ?, [a-z], {a,b} or **
    a.toml:18: rule.when.message: the regex is empty, so it would match everything; write what to look for
    a.toml:18: rule.when.severity: there is no severity "bad"; there are emergency, alert, critical, error, warning, notice, info, debug
    a.toml:21: rule.when.message: not a regex: error: unclosed group; a \ before what is to be taken as it is, in '…', may help
    a.toml:25: rule.when: the condition is empty; leave when out for all events, or write what must hold
    a.toml:26: rule.sample.one_in: not a number that is possible here; write 2 to 9223372036854775807
    a.toml:29: rule.when.message: the regex takes more than 1MiB compiled; make its repetitions smaller, or write (?-u) for bytes instead of characters
    a.toml:30: rule.redact.pattern: there is no such pattern; write pattern = one of email, ipv4, ipv6, card, bearer, aws_key, or regex = "…" with with = "…"
    a.toml:33: rule.when.severity: at_least is no severity; write one of emergency, alert, critical, error, warning, notice, info, debug
    a.toml:33: rule.when.any_of: the list is empty; write [ { … }, { … } ]
    a.toml:34: rule.drop: only true makes sense here; write true, or leave the rule out
    a.toml:36: test: it expects nothing, or several things; write one of dropped_by = "RULE", message = "…", record_contains = '…' and topic = "…"
    "#);
}

#[test]
fn a_secret_for_hashes_is_read_and_judged() {
    let more = |file: &str| format!("[[rule]]\nredact = {{ pattern = \"email\", hash_with = \"{file}\" }}\n");
    let read = |path: &std::path::Path| match path.to_str() {
        Some("/good") => Ok((b"0123456789abcdef\n".to_vec(), 0o640)),
        Some("/short") => Ok((b"0123".to_vec(), 0o640)),
        Some("/open") => Ok((b"0123456789abcdef".to_vec(), 0o644)),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let told = |file: &str| {
        let machine = super::super::Machine { read: &read, ..machine() };
        judge(&[&with(&more(file))], &machine).map(drop).map_err(|problems| problems.to_string())
    };
    assert_eq!(told("/good"), Ok(()));
    assert!(told("/short").unwrap_err().contains("holds less than 16 bytes"));
    assert!(told("/open").unwrap_err().contains("everybody may read"));
    assert!(told("/none").unwrap_err().contains("rule.redact.hash_with: /none can't be read"));
    let all = mistakes(&with("[[rule]]\nredact = { pattern = \"email\", with = \"x\", hash_with = \"/none\" }\n"));
    assert!(all.contains("hash_with goes with neither with nor keep_prefix"), "{all}");
}

#[test]
fn every_mistake_of_the_newer_actions_has_its_words() {
    let more = r#"
[[rule]]
when = { fields = { status = { gte = "x" }, size = {}, "" = [] } }
parse = { jsn = {} }

[[rule]]
parse = { json = {}, cri = {} }

[[rule]]
parse = { regex = 'no group' }

[[rule]]
set = { a = "{b", c = 1 }

[[rule]]
remove = []

[[rule]]
rename = { a = "" }

[[rule]]
timestamp = { format = "iso", timezone = "Mars/Base", on_error = "drop" }

[[rule]]
severity = "bad"

[[rule]]
rate_limit = { events = 0, per = "often" }
"#;
    insta::assert_snapshot!(mistakes(&with(more)), @r#"
    a.toml:11: rule.when.fields.: nothing is named; write "text"
    a.toml:11: rule.when.fields.size: it asks for nothing, or for several kinds; write one of regex, exists, or numbers with gt, gte, lt, lte
    a.toml:11: rule.when.fields.status.gte: a string is no number; write 500
    a.toml:12: rule.parse.jsn: unknown key; did you mean "json"?
    a.toml:15: rule.parse: it has to name one form; write one of { json = {} }, { logfmt = {} }, { regex = '…' }, { docker = {} }, { cri = {} }, { syslog = {} }
    a.toml:18: rule.parse.regex: the regex has no named group; write (?<name>…) around what is to become a field
    a.toml:21: rule.set.c: a number is no string; write "…"
    a.toml:21: rule.set.a: a { without its }; write {{ for the character; write "text {FIELD}"
    a.toml:24: rule.remove: nothing is named; write "FIELD"
    a.toml:27: rule.rename.a: the new name is empty; write a name
    a.toml:30: rule.timestamp: field is not set; write { field = "time" }
    a.toml:30: rule.timestamp.format: "iso" is no format; there are rfc3339, unix, unix_ms, unix_us, unix_ns, and patterns such as "%d/%b/%Y:%H:%M:%S %z"; write "rfc3339", "unix", or a pattern
    a.toml:30: rule.timestamp: there is no time zone "Mars/Base"; write a name such as "Europe/Berlin"
    a.toml:30: rule.timestamp: on_error can't be "drop"; write "keep" (the event's time stays) or "observed" (it becomes the time of reading)
    a.toml:33: rule.severity: there is no severity "bad"; there are emergency, alert, critical, error, warning, notice, info, debug
    a.toml:36: rule.rate_limit.events: not a number that is possible here; write 1 to 4294967295
    a.toml:36: rule.rate_limit: per is no time; write { events = 1000, per = "1s" }
    "#);
}

#[test]
fn a_rule_that_asks_for_fields_comes_behind_one_that_finds_them() {
    let asks = "[[rule]]\nseverity = { field = \"level\" }\n";
    assert!(mistakes(&with(asks)).contains("asks for fields, and no rule before it has found any"));
    let finds = "[[rule]]\nparse = { json = {} }\n";
    assert!(judge(&[&with(&format!("{finds}{asks}"))], &machine()).is_ok());
}

#[test]
fn a_route_names_topics_that_kafka_takes_and_all_that_a_field_may_make() {
    let routes = [
        "{}",
        "{ topic = \"a b\" }",
        "{ topic = \"x-{app}\" }",
        "{ topic = \"x\", topics = [\"x\"] }",
        "{ topic = \"x-{app}\", topics = [\"x/y\"] }",
        "{ topic = \"{\" }",
    ];
    let rules = routes.map(|route| format!("[[rule]]\nroute = {route}\n")).concat();
    insta::assert_snapshot!(mistakes(&with(&rules)), @r##"
    a.toml:10: rule.route: topic is not set; write { topic = "audit" }
    a.toml:12: rule.route.topic: Kafka takes no topic "a b"; write 1 to 249 of A-Z a-z 0-9 . _ - (not "." or "..")
    a.toml:14: rule.route: the topic has a field in it, and there is no list of the topics that it may be; add topics = ["…", "…"] with every topic that may come out of it
    a.toml:16: rule.route.topics: the topic has no field in it, so it needs no list; leave topics out
    a.toml:18: rule.route.topics: Kafka takes no topic "x/y"; write 1 to 249 of A-Z a-z 0-9 . _ - (not "." or "..")
    a.toml:20: rule.route.topic: a { without its }; write {{ for the character; write {NAME} where a field goes
    "##);
    let good = with("[[rule]]\nroute = { topic = \"x-{app}\", topics = [\"x-a\", \"x-b\"] }\n[[rule]]\nroute = { topic = \"audit\" }\n");
    let config = judge(&[&good], &machine()).unwrap();
    let topics = config.topics();
    assert!(["x-a", "x-b", "audit"].iter().all(|topic| topics.contains(topic)), "{topics:?}");
    assert_eq!(config.topics_of(&config.named[0].name).len(), 4, "the topics of a source are its own and those of rules that reach it");
}

#[test]
fn entries_of_the_journal_can_be_asked_in_all_formats_but_raw() {
    let journal = "[[source]]\nname = \"j\"\ntype = \"journald\"\n";
    let rule = |when: &str| with(&format!("{journal}[[rule]]\nwhen = {{ {when} }}\ndrop = true\n"));
    for when in ["message = \"x\"", "unit = \"ssh\"", "unit = [\"a*\", \"b.timer\"], severity = \"info\"", "fields = { pid = \"1\" }"] {
        assert!(judge(&[&rule(when)], &machine()).is_ok(), "{when}");
    }
    let raw = |text: String| text.replacen("[kafka]", "[kafka]\nformat = \"raw\"", 1);
    let told = mistakes(&raw(rule("unit = \"ssh\"")));
    assert!(told.contains("for more than their message, and in kafka.format = \"raw\" they have no more"), "{told}");
    assert!(judge(&[&raw(rule("message = \"x\""))], &machine()).is_ok());
    assert!(judge(&[&raw(rule("type = [\"file\", \"syslog\"], severity = \"info\""))], &machine()).is_ok());
}

#[test]
fn keys_and_headers_are_judged() {
    let kafka = |lines: &str| with("").replacen("[kafka]\n", &format!("[kafka]\n{lines}\n"), 1);
    let good = judge(&[&kafka("key = \"{app}\"\nheaders = { h = \"{host} {source}\" }")], &machine()).unwrap();
    let stamp = good.stamp.unwrap();
    assert_eq!((&*stamp.name, stamp.headers.len()), ("kafka.key and kafka.headers", 1));
    assert!(judge(&[&kafka("key = \"stream\"")], &machine()).unwrap().stamp.is_none());
    let told = mistakes(&kafka("key = \"web\"\nheaders = { logferry-x = \"a\", b = \"{\" }"));
    insta::assert_snapshot!(told, @r##"
    a.toml:1: kafka.headers: a { without its }; write {{ for the character; write {NAME} where a field goes
    a.toml:1: kafka.headers: "logferry-x" is a name of logferry's own headers; name it otherwise
    a.toml:2: kafka.key: "web" would be the key of all messages; write "stream", "round-robin", or a text with a {FIELD} in it
    "##);
}

#[test]
fn what_a_rule_can_say_stands_in_the_example() {
    let example = include_str!("../../../config.example.toml");
    for (name, doc) in CONDITIONS.iter().chain(&ACTIONS) {
        assert!(example.lines().any(|line| line == format!("#   {name}: {doc}")), "{name}: {doc}");
    }
}
