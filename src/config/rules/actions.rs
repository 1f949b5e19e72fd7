//! The actions of rules. Pure.

use std::path::Path;
use std::sync::Arc;

use super::conditions::words;
use super::entries::{Entries, regex};
use crate::config::Machine;
use crate::config::document::{Node, Value};
use crate::config::problem::{Fault, Problem};
use crate::config::{kinds, units};
use crate::rules::change::{Format, Time};
use crate::rules::limit::Limit;
use crate::rules::parse::Form;
use crate::rules::redact::{Find, Redact, Salt};
use crate::rules::route::Route;
use crate::rules::template::Template;
use crate::rules::{Action, Severity};
use jiff::tz::TimeZone;

/// The actions there are, and what each does.
pub const ACTIONS: [(&str, &str); 12] = [
    ("drop", "true: the event is left out, and counted"),
    ("keep", "true: the event is shipped, and later rules don't see it"),
    (
        "sample",
        "{ one_in = 100 }: one event in so many is shipped; with by = \"FIELD\" all events of the same value there, or none of them",
    ),
    (
        "redact",
        "{ pattern = \"email\" } or { regex = \"…\", with = \"…\" }: replaces what it finds in the message and in its fields; with hash_with = \"SECRET FILE\" by a hash",
    ),
    (
        "parse",
        "{ json = {} }, { logfmt = {} }, { regex = '(?<NAME>…)' }, { docker = {} }, { cri = {} }, { syslog = {} }: finds fields in the message",
    ),
    ("set", "{ NAME = \"text {FIELD} {OTHER|instead}\" }: gives fields a value"),
    ("remove", "\"FIELD\" or a list of them: takes fields away"),
    ("rename", "{ OLD = \"NEW\" }: gives fields other names"),
    ("timestamp", "{ field = \"time\", format = \"rfc3339\" }: the event's time is what the field says"),
    ("severity", "\"warning\", or { field = \"level\" }: the event's severity"),
    (
        "route",
        "{ topic = \"audit\" }, or { topic = \"app-{app}\", topics = [\"app-web\", \"app-db\"] }: the event goes to this topic; where a field is missing or the name is none of the list, to where it was going",
    ),
    ("rate_limit", "{ events = 1000, per = \"1s\", by = \"app\" }: what comes faster is left out, and counted"),
];

/// The one action of a rule.
pub(super) fn action(table: &mut Entries, machine: &Machine<'_>, problems: &mut Vec<Problem>) -> Option<Action> {
    let present: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).filter(|name| table.rest.iter().any(|(key, _)| key == name)).collect();
    let names = ACTIONS.map(|(name, _)| name).join(", ");
    let [name] = present.as_slice() else {
        if present.len() > 1 {
            problems.push(table.blame(format!("a rule has one action, not {}", present.join(" and ")), "make a rule of each"));
        } else {
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
        "sample" => sample(Entries::of(node, &path, problems)?, problems),
        "redact" => redact(Entries::of(node, &path, problems)?, machine, problems),
        "parse" => parse(Entries::of(node, &path, problems)?, problems),
        "set" => set(Entries::of(node, &path, problems)?, problems),
        "remove" => Some(remove(node, &path, problems)),
        "rename" => Some(rename(Entries::of(node, &path, problems)?, problems)),
        "timestamp" => timestamp(Entries::of(node, &path, problems)?, problems),
        "severity" => severity(node, &path, problems),
        "route" => route(Entries::of(node, &path, problems)?, problems),
        _ => rate_limit(Entries::of(node, &path, problems)?, problems),
    }
}

fn sample(mut table: Entries, problems: &mut Vec<Problem>) -> Option<Action> {
    let one_in = table.number("one_in", (2, i64::MAX), problems);
    if one_in.is_none() && !problems.iter().any(|problem| problem.key == table.key("one_in")) {
        problems.push(table.blame("one_in is not set", "write { one_in = 100 }"));
    }
    let by = table.text("by", problems).map(|name| name.into_bytes().into());
    table.end(&["one_in", "by"], problems);
    Some(Action::Sample(u64::try_from(one_in?).unwrap_or(1), by))
}

/// A name with fields in it can come out as anything, so the topics that it may be are named.
fn route(mut table: Entries, problems: &mut Vec<Problem>) -> Option<Action> {
    let key = |table: &Entries| table.key("topic");
    let (text, origin) = (table.text("topic", problems), table.origin.clone());
    if text.is_none() && !problems.iter().any(|problem| problem.key == key(&table)) {
        problems.push(table.blame("topic is not set", "write { topic = \"audit\" }"));
    }
    let list = table.take("topics").map(|node| {
        let origin = node.origin.clone();
        let Value::List(items) = node.value else {
            problems.push(Fault::new("no list", "write [\"…\", \"…\"]").at(&origin, &table.key("topics")));
            return (origin, Vec::new());
        };
        let texts = super::conditions::texts(items, &table.key("topics"), problems);
        (origin, texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>())
    });
    let template = text.as_deref().and_then(|text| match Template::read(text) {
        Ok(template) => Some(template),
        Err(wrong) => {
            problems.push(Fault::new(wrong, "write {NAME} where a field goes").at(&origin, &key(&table)));
            None
        }
    });
    let constant = template.as_ref().and_then(Template::text).map(str::to_owned);
    let topics = match (list, constant) {
        (Some((origin, _)), Some(_)) => {
            problems.push(
                Fault::new("the topic has no field in it, so it needs no list", "leave topics out").at(&origin, &table.key("topics")),
            );
            Vec::new()
        }
        (Some((origin, topics)), None) => {
            for topic in &topics {
                if let Err(fault) = kinds::topic(topic) {
                    problems.push(fault.at(&origin, &table.key("topics")));
                }
            }
            topics
        }
        (None, Some(topic)) => {
            if let Err(fault) = kinds::topic(&topic) {
                problems.push(fault.at(&origin, &key(&table)));
            }
            vec![topic]
        }
        (None, None) if template.is_some() => {
            let right = "add topics = [\"…\", \"…\"] with every topic that may come out of it";
            problems.push(table.blame("the topic has a field in it, and there is no list of the topics that it may be", right));
            Vec::new()
        }
        (None, None) => Vec::new(),
    };
    table.end(&["topic", "topics"], problems);
    Some(Action::Route(Route { topic: template?, topics: topics.into_iter().map(Arc::from).collect() }))
}

/// The one form that is named.
fn parse(mut table: Entries, problems: &mut Vec<Problem>) -> Option<Action> {
    const FORMS: [&str; 6] = ["json", "logfmt", "regex", "docker", "cri", "syslog"];
    let present: Vec<&str> = FORMS.into_iter().filter(|name| table.rest.iter().any(|(key, _)| key == name)).collect();
    let right = format!(
        "write one of {}",
        FORMS.map(|name| if name == "regex" { "{ regex = '…' }".to_owned() } else { format!("{{ {name} = {{}} }}") }).join(", ")
    );
    let name = if let [name] = present.as_slice() { *name } else { "" };
    let Some(node) = table.take(name) else {
        if table.rest.is_empty() || !present.is_empty() {
            problems.push(table.blame("it has to name one form", right));
        }
        for name in present {
            table.take(name);
        }
        table.end(&FORMS, problems);
        return None;
    };
    let key = table.key(name);
    table.end(&FORMS, problems);
    if name == "regex" {
        let regex = regex(&node, &key, problems)?;
        if regex.capture_names().flatten().next().is_none() {
            problems.push(
                Fault::new("the regex has no named group", "write (?<name>…) around what is to become a field").at(&node.origin, &key),
            );
        }
        return Some(Action::Parse(Form::Regex(regex)));
    }
    let mut options = Entries::of(node, &key, problems)?;
    let text = matches!(name, "json" | "logfmt");
    let message = if text { options.text("message", problems).map(|name| name.into_bytes().into()) } else { None };
    options.end(if text { &["message"] } else { &[] }, problems);
    Some(Action::Parse(match name {
        "json" => Form::Json { message },
        "logfmt" => Form::Logfmt { message },
        "docker" => Form::Docker,
        "cri" => Form::Cri,
        _ => Form::Syslog,
    }))
}

/// Each name with its text, in order of the names; a table has no order of its own.
fn pairs(table: Entries, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
    if table.rest.is_empty() {
        problems.push(table.blame("nothing is named", "write { NAME = \"…\" }"));
    }
    let mut pairs = Vec::new();
    for (name, node) in table.rest {
        match node.value {
            Value::Text(text) if !name.is_empty() => pairs.push((name, text)),
            other => problems.push(
                Fault::new(format!("{} is no string", other.what()), "write \"…\"").at(&node.origin, &format!("{}.{name}", table.path)),
            ),
        }
    }
    pairs.sort();
    pairs
}

fn set(table: Entries, problems: &mut Vec<Problem>) -> Option<Action> {
    let (origin, path) = (table.origin.clone(), table.path.clone());
    let mut fields = Vec::new();
    for (name, text) in pairs(table, problems) {
        match Template::read(&text) {
            Ok(template) => fields.push((name.into_bytes().into(), template)),
            Err(words) => problems.push(Fault::new(words, "write \"text {FIELD}\"").at(&origin, &format!("{path}.{name}"))),
        }
    }
    (!fields.is_empty()).then_some(Action::Set(fields))
}

fn remove(node: Node, path: &str, problems: &mut Vec<Problem>) -> Action {
    let origin = node.origin.clone();
    let items = match node.value {
        Value::List(items) => items,
        value => vec![Node { origin: node.origin, value }],
    };
    let names: Vec<_> = super::conditions::texts(items, path, problems).into_iter().map(|(_, name)| name.into_bytes().into()).collect();
    if names.is_empty() {
        problems.push(Fault::new("nothing is named", "write \"FIELD\"").at(&origin, path));
    }
    Action::Remove(names)
}

fn rename(table: Entries, problems: &mut Vec<Problem>) -> Action {
    let (origin, path) = (table.origin.clone(), table.path.clone());
    let pairs = pairs(table, problems);
    for (name, _) in pairs.iter().filter(|(_, to)| to.is_empty()) {
        problems.push(Fault::new("the new name is empty", "write a name").at(&origin, &format!("{path}.{name}")));
    }
    let names = pairs.into_iter().map(|(from, to)| (from.into_bytes().into(), to.into_bytes().into())).collect();
    Action::Rename(names)
}

fn timestamp(mut table: Entries, problems: &mut Vec<Problem>) -> Option<Action> {
    let field = table.text("field", problems);
    if field.is_none() {
        problems.push(table.blame("field is not set", "write { field = \"time\" }"));
    }
    let key = table.key("format");
    let mut formats = Vec::new();
    let named = table.take("format").map_or_else(Vec::new, |node| match node.value {
        Value::List(items) => items,
        value => vec![Node { origin: node.origin, value }],
    });
    for (origin, text) in super::conditions::texts(named, &key, problems) {
        match Format::named(&text) {
            Ok(format) => formats.push(format),
            Err(words) => problems.push(Fault::new(words, "write \"rfc3339\", \"unix\", or a pattern").at(&origin, &key)),
        }
    }
    if formats.is_empty() {
        formats.push(Format::Rfc3339);
    }
    let zone = table.text("timezone", problems).map_or(Some(TimeZone::UTC), |name| {
        let zone = TimeZone::get(&name).ok();
        if zone.is_none() {
            problems.push(table.blame(format!("there is no time zone {name:?}"), "write a name such as \"Europe/Berlin\""));
        }
        zone
    });
    let forget = match table.text("on_error", problems).as_deref() {
        None | Some("keep") => false,
        Some("observed") => true,
        Some(other) => {
            let right = "write \"keep\" (the event's time stays) or \"observed\" (it becomes the time of reading)";
            problems.push(table.blame(format!("on_error can't be {other:?}"), right));
            false
        }
    };
    table.end(&["field", "format", "timezone", "on_error"], problems);
    Some(Action::Timestamp(Time { field: field?.into_bytes().into(), formats, zone: zone?, forget }))
}

fn severity(node: Node, path: &str, problems: &mut Vec<Problem>) -> Option<Action> {
    if let Value::Text(word) = &node.value {
        let words = words("severity");
        let code = words.iter().position(|known| known == word).and_then(|code| u8::try_from(code).ok());
        if code.is_none() {
            problems.push(
                Fault::new(format!("there is no severity {word:?}"), format!("there are {}", words.join(", "))).at(&node.origin, path),
            );
        }
        return code.map(|code| Action::Severity(Severity::Is(code)));
    }
    let mut table = Entries::of(node, path, problems)?;
    let field = table.text("field", problems);
    if field.is_none() {
        problems.push(table.blame("field is not set", "write \"warning\" or { field = \"level\" }"));
    }
    table.end(&["field"], problems);
    field.map(|field| Action::Severity(Severity::Of(field.into_bytes().into())))
}

fn rate_limit(mut table: Entries, problems: &mut Vec<Problem>) -> Option<Action> {
    let events = table.number("events", (1, i64::from(u32::MAX)), problems);
    let per = table.text("per", problems);
    let time = per.as_deref().and_then(units::time).and_then(|time| i64::try_from(time.as_nanos()).ok()).filter(|ns| *ns > 0);
    if events.is_none() && !problems.iter().any(|problem| problem.key == table.key("events")) {
        problems.push(table.blame("events is not set", "write { events = 1000, per = \"1s\" }"));
    }
    if time.is_none() {
        problems.push(table.blame("per is no time", "write { events = 1000, per = \"1s\" }"));
    }
    let by = table.text("by", problems).map(|by| if by.contains('{') { by } else { format!("{{{by}}}") });
    let by = by.and_then(|by| Template::read(&by).map_err(|words| problems.push(table.blame(words, "write by = \"app\""))).ok());
    table.end(&["events", "per", "by"], problems);
    Some(Action::RateLimit(Limit { events: u32::try_from(events?).ok()?, per_ns: time? }, by))
}

fn redact(mut table: Entries, machine: &Machine<'_>, problems: &mut Vec<Problem>) -> Option<Action> {
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
    let replaces = with.is_some();
    let with = with.unwrap_or_else(|| if name.is_empty() { "[redacted]".to_owned() } else { format!("[{name}]") });
    let hash = table.text("hash_with", problems).map(|file| salt(Path::new(&file), &table, machine, problems));
    if hash.is_some() && (replaces || keep.is_some()) {
        problems.push(table.blame("hash_with goes with neither with nor keep_prefix", "leave one out"));
    }
    table.end(&["pattern", "regex", "with", "keep_prefix", "hash_with"], problems);
    Some(Action::Redact(Redact { find: find?, with: with.into_bytes(), hash: hash.flatten() }))
}

/// The secret in this file, at least 16 bytes of it.
fn salt(file: &Path, table: &Entries, machine: &Machine<'_>, problems: &mut Vec<Problem>) -> Option<Salt> {
    let key = table.key("hash_with");
    let mut wrong = |wrong: String, right: &str| problems.push(Fault::new(wrong, right).at(&table.origin, &key));
    let make = "make it with: head -c 32 /dev/urandom | base64 > FILE; and let only logferry read it";
    match (machine.read)(file) {
        Ok((bytes, mode)) if mode & 0o004 != 0 => {
            wrong(
                format!("{} is a secret of {} bytes that everybody may read", file.display(), bytes.len()),
                "take that right away (chmod o-r)",
            );
        }
        Ok((bytes, _)) if bytes.trim_ascii().len() >= 16 => return Some(Salt::new(bytes.trim_ascii())),
        Ok(_) => wrong(format!("{} holds less than 16 bytes", file.display()), make),
        // Systemd and the file's rights keep secrets from those who only ask the daemon.
        Err(_) if !machine.connects => {}
        Err(error) => wrong(format!("{} can't be read: {error}", file.display()), make),
    }
    None
}
