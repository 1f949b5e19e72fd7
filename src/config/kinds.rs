//! Whether a value is of the kind that its key takes. Apart because each kind is judged by itself, whatever the key. Pure.

use std::fmt::Write as _;
use std::net::SocketAddr;

use figment::value::Value as Plain;
use jiff::tz::TimeZone;
use regex::bytes::{Regex, RegexBuilder};

use super::document::{Node, Value};
use super::problem::{Fault, Problem, nearest};
use super::schema::{self, Kind};
use super::units;
use crate::source::file::charset;
use crate::source::file::discover::Pattern;
use crate::source::syslog::listen::address::Address;
use crate::source::syslog::listen::gate::Network;
use crate::spill::KeepFree;

/// What one regex may take compiled, bytes; a larger one is refused.
const REGEX_LIMIT: usize = 1 << 20;

/// Judges a value: what is good comes back as figment takes it, what is not is added to `problems`. Tables are not judged here.
pub fn judge(kind: Kind, key: &str, node: &Node, problems: &mut Vec<Problem>) -> Option<Plain> {
    let before = problems.len();
    let mut blame = |fault: Fault| problems.push(fault.at(&node.origin, key));
    let plain = match (kind, &node.value) {
        // A password may have been written where only its place belongs.
        (_, value) if schema::is_secret(key) => {
            let good = if let Value::Text(text) = value { word(kind, text).is_ok().then_some(text) } else { None };
            let Some(text) = good else {
                blame(Fault::new(format!("the value (not shown) is no {}", noun(kind)), example(kind)));
                return None;
            };
            Plain::from(text.as_str())
        }
        (Kind::Patterns { min }, Value::List(items)) => {
            if items.len() < min {
                blame(Fault::new("the list is empty", "name at least one pattern"));
            }
            list(items, key, problems, pattern)
        }
        (Kind::Addresses, Value::List(items)) => {
            if items.is_empty() {
                blame(Fault::new("the list is empty", example(kind)));
            }
            list(items, key, problems, address)
        }
        (Kind::Words, Value::List(items)) => list(items, key, problems, |text| listed(text, !text.is_empty(), kind)),
        (Kind::Fields, Value::List(items)) => list(items, key, problems, |text| listed(text, is_field(text), kind)),
        (Kind::Matches, Value::List(items)) => {
            list(items, key, problems, |text| listed(text, text.split_once('=').is_some_and(|(field, _)| is_field(field)), kind))
        }
        (Kind::Networks, Value::List(items)) => list(items, key, problems, network),
        (Kind::Servers, Value::List(items)) => {
            if items.is_empty() {
                blame(Fault::new("the list is empty", example(kind)));
            }
            list(items, key, problems, servers)
        }
        (Kind::Servers, Value::Text(text)) if brokers(text).next().is_some() => {
            brokers(text).filter_map(|broker| server(broker).err()).for_each(blame);
            Plain::from(text.as_str())
        }
        (Kind::Count { min, max }, Value::Integer(number)) => {
            if !(min..=max).contains(number) {
                blame(Fault::new(format!("{number} is out of range"), format!("write {min} to {max}")));
            }
            Plain::from(*number)
        }
        (_, Value::Text(text)) => {
            word(kind, text).err().into_iter().for_each(blame);
            Plain::from(text.as_str())
        }
        (_, other) => {
            blame(Fault::new(format!("{} is no {}", describe(other), noun(kind)), example(kind)));
            return None;
        }
    };
    (problems.len() == before).then_some(plain)
}

/// Numbers and truths are short and are shown; of lists and tables only what they are is said.
fn describe(value: &Value) -> String {
    match value {
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Bool(value) => format!("{value}"),
        other => other.what().to_owned(),
    }
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Name | Kind::Topic | Kind::Choice { .. } => "string",
        Kind::Path => "path",
        Kind::Size { .. } => "size",
        Kind::Time { .. } => "time",
        Kind::Free { .. } => "share",
        Kind::Count { .. } => "whole number",
        Kind::Servers => "list of brokers",
        Kind::Patterns { .. } => "list of patterns",
        Kind::Addresses => "list of addresses",
        Kind::Socket => "address with a port",
        Kind::Networks => "list of networks",
        Kind::Words => "list of strings",
        Kind::Matches => "list of matches",
        Kind::Fields => "list of fields",
        Kind::Priority => "priority",
        Kind::Mode => "mode",
        Kind::Zone => "time zone",
        Kind::Regex => "regex",
        Kind::Encoding => "encoding",
        Kind::Texts | Kind::Properties => "table",
    }
}

/// What would be right, for a value of another type.
#[must_use]
pub fn example(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Name | Kind::Topic => "write a string in quotes".to_owned(),
        Kind::Path => "write an absolute path in quotes".to_owned(),
        Kind::Choice { now: [only], .. } => format!("write {only:?}"),
        Kind::Choice { now, .. } => format!("write one of {}", quoted(now)),
        Kind::Size { .. } => "write a number and a unit (B, KB, MB, GB, KiB, MiB, GiB) in quotes, as \"24MiB\"".to_owned(),
        Kind::Time { off: false, .. } => "write a number and a unit (ms, s, m, h, d) in quotes, as \"10s\"".to_owned(),
        Kind::Time { off: true, .. } => "write a number and a unit (ms, s, m, h, d) in quotes, as \"10s\", or \"off\"".to_owned(),
        Kind::Free { most } => format!("write 0% to {most}%, or a size (B, KB, MB, GB, KiB, MiB, GiB), in quotes, as \"10%\" or \"5GiB\""),
        Kind::Count { min, max } => format!("write {min} to {max}, without quotes"),
        Kind::Servers => "write [\"kafka-1:9092\", \"kafka-2:9092\"] or \"kafka-1:9092,kafka-2:9092\"".to_owned(),
        Kind::Patterns { .. } => "write a list, as [\"/var/log/*.log\"]".to_owned(),
        Kind::Addresses => "write a list, as [\"udp://0.0.0.0:514\", \"tcp://0.0.0.0:514\"]".to_owned(),
        Kind::Socket => "write an IP address and a port in quotes, as \"127.0.0.1:9750\" or \"[::1]:9750\"".to_owned(),
        Kind::Networks => "write a list, as [\"10.0.0.0/8\"]".to_owned(),
        Kind::Words => "write a list of strings that are not empty, as [\"nginx.service\"]".to_owned(),
        Kind::Matches => "write a list, as [\"_TRANSPORT=audit\"]".to_owned(),
        Kind::Fields => "write a list of names in capital letters, as [\"_COMM\"]".to_owned(),
        Kind::Priority => "write emerg, alert, crit, err, warning, notice, info or debug, or a range, as \"err..info\"".to_owned(),
        Kind::Mode => "write three or four octal digits in quotes, as \"0660\"".to_owned(),
        Kind::Zone => "write \"UTC\", \"local\" or a name, as \"Europe/Berlin\"".to_owned(),
        Kind::Regex => "write a regex, as '^\\d{4}-\\d\\d-\\d\\d '".to_owned(),
        Kind::Encoding => {
            "write its name in the WHATWG Encoding Standard, as \"utf-16le\", \"latin1\", \"windows-1252\", \"shift_jis\" or \"gbk\""
                .to_owned()
        }
        Kind::Texts => "write a table of strings, as { env = \"prod\" }".to_owned(),
        Kind::Properties => "write a table, as { \"linger.ms\" = 20 }".to_owned(),
    }
}

fn listed(text: &str, good: bool, kind: Kind) -> Result<(), Fault> {
    if good { Ok(()) } else { Err(Fault::new(format!("{text:?} does not belong there"), example(kind))) }
}

/// Whether this can be the name of a field of the journal.
fn is_field(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte == b'_' || byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// The most and the least important priority that are meant.
#[must_use]
pub fn priority(text: &str) -> Option<(u8, u8)> {
    const WORDS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let number = |word: &str| {
        let word = match word {
            "error" => "err",
            "warn" => "warning",
            word => word,
        };
        let at = WORDS.iter().position(|known| *known == word).and_then(|at| u8::try_from(at).ok());
        at.or_else(|| word.parse().ok().filter(|number| *number < 8))
    };
    match text.split_once("..") {
        None => Some((0, number(text)?)),
        Some((one, other)) => {
            let (one, other) = (number(one)?, number(other)?);
            Some((one.min(other), one.max(other)))
        }
    }
}

fn list(items: &[Node], key: &str, problems: &mut Vec<Problem>, judge: impl Fn(&str) -> Result<(), Fault>) -> Plain {
    let mut good = Vec::new();
    for item in items {
        let outcome = match &item.value {
            Value::Text(text) => judge(text).map(|()| good.push(Plain::from(text.as_str()))),
            other => Err(Fault::new(format!("{} is no string", describe(other)), "write strings in quotes")),
        };
        problems.extend(outcome.err().map(|fault| fault.at(&item.origin, key)));
    }
    Plain::from(good)
}

/// Whether Kafka takes a topic of this name.
pub(super) fn topic(text: &str) -> Result<(), Fault> {
    if is_name(text, 249) && text != "." && text != ".." {
        return Ok(());
    }
    Err(Fault::new(format!("Kafka takes no topic {text:?}"), "write 1 to 249 of A-Z a-z 0-9 . _ - (not \".\" or \"..\")"))
}

fn word(kind: Kind, text: &str) -> Result<(), Fault> {
    match kind {
        Kind::Choice { now, later } => choice(text, now, later, example(kind)),
        Kind::Size { min, max } => size(text, min, max),
        Kind::Time { off: true, .. } if units::is_off(text) => Ok(()),
        Kind::Time { min, max, .. } => time(text, min, max).map_err(|wrong| Fault::new(wrong, example_time(kind, min, max))),
        Kind::Free { most } => free(text, most).map_err(|wrong| Fault::new(wrong, example(kind))),
        Kind::Servers => servers(text),
        Kind::Name if is_name(text, 64) => Ok(()),
        Kind::Name => Err(Fault::new(format!("{text:?} can't be a name"), "write 1 to 64 of A-Z a-z 0-9 . _ -")),
        Kind::Topic => topic(text),
        Kind::Priority if priority(text).is_some() => Ok(()),
        Kind::Priority => Err(Fault::new(format!("{text:?} is no priority"), example(kind))),
        Kind::Path if !text.starts_with('/') => Err(Fault::new(format!("{text:?} is not absolute"), "begin the path with /")),
        Kind::Text | Kind::Path if text.is_empty() || text.contains('\0') => {
            Err(Fault::new("the string is empty or holds a NUL", "write something, or leave the key out"))
        }
        Kind::Text | Kind::Path => Ok(()),
        Kind::Regex => regex(text).map(drop),
        Kind::Encoding if charset::Named::of(text).is_some() => Ok(()),
        Kind::Encoding => Err(Fault::new(format!("files can't be read as {text:?}"), example(kind))),
        Kind::Mode if mode(text).is_some() => Ok(()),
        Kind::Zone if zone(text).is_some() => Ok(()),
        Kind::Socket if socket(text).is_some() => Ok(()),
        Kind::Mode | Kind::Zone | Kind::Socket => Err(Fault::new(format!("{text:?} is no {}", noun(kind)), example(kind))),
        Kind::Addresses
        | Kind::Networks
        | Kind::Words
        | Kind::Matches
        | Kind::Fields
        | Kind::Count { .. }
        | Kind::Patterns { .. }
        | Kind::Texts
        | Kind::Properties => Err(Fault::new(format!("a string is no {}", noun(kind)), example(kind))),
    }
}

/// A regex that is not empty and not too large.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn regex(text: &str) -> Result<Regex, Fault> {
    if text.is_empty() {
        return Err(Fault::new("the regex is empty, so it would match everything", "write what to look for"));
    }
    RegexBuilder::new(text).size_limit(REGEX_LIMIT).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => Fault::new(
            "the regex takes more than 1MiB compiled",
            "make its repetitions smaller, or write (?-u) for bytes instead of characters",
        ),
        error => {
            let words = error.to_string();
            let words = words.lines().last().unwrap_or_default().trim();
            Fault::new(format!("not a regex: {words}"), "a \\ before what is to be taken as it is, in '…', may help")
        }
    })
}

fn is_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

fn choice(text: &str, now: &[&str], later: &[&str], right: String) -> Result<(), Fault> {
    if now.contains(&text) {
        return Ok(());
    }
    if later.contains(&text) {
        return Err(Fault::new(format!("{text:?} is not in this version"), right));
    }
    let lower = text.to_ascii_lowercase();
    let meant = now.iter().find(|word| word.eq_ignore_ascii_case(text)).copied().or_else(|| nearest(&lower, now.iter().copied()));
    let hint = meant.map_or_else(|| right.clone(), |meant| format!("did you mean {meant:?}? {right}"));
    Err(Fault::new(format!("{text:?} is not known"), hint))
}

fn size(text: &str, min: u64, max: u64) -> Result<(), Fault> {
    let kind = Kind::Size { min, max };
    match units::size(text) {
        None => Err(Fault::new(format!("{text:?} is no size"), example(kind))),
        Some(bytes) if bytes < min => {
            Err(Fault::new(format!("{text:?} is too small"), format!("write at least {:?}", units::show_size(min))))
        }
        Some(bytes) if bytes > max => {
            Err(Fault::new(format!("{text:?} is too large"), format!("write at most {:?}", units::show_size(max))))
        }
        Some(_) => Ok(()),
    }
}

fn millis(number: u64) -> std::time::Duration {
    std::time::Duration::from_millis(number)
}

fn time(text: &str, min: u64, max: u64) -> Result<(), String> {
    match units::time(text) {
        None => Err(format!("{text:?} is no time")),
        Some(time) if time < millis(min) => Err(format!("{text:?} is too short")),
        Some(time) if time > millis(max) => Err(format!("{text:?} is too long")),
        Some(_) => Ok(()),
    }
}

fn example_time(kind: Kind, min: u64, max: u64) -> String {
    let mut text = example(kind);
    if min > 1 {
        let _ = write!(text, ", at least {:?}", units::show_time(millis(min)));
    }
    if max < u64::MAX {
        let _ = write!(text, ", at most {:?}", units::show_time(millis(max)));
    }
    text
}

fn free(text: &str, most: u8) -> Result<(), String> {
    match units::free(text) {
        None => Err(format!("{text:?} is neither per cent nor a size")),
        Some(KeepFree::Percent(share)) if share > most => Err(format!("{text:?} leaves too little")),
        Some(_) => Ok(()),
    }
}

fn address(text: &str) -> Result<(), Fault> {
    Address::parse(text).map(drop).map_err(|(wrong, right)| Fault::new(wrong, right))
}

fn network(text: &str) -> Result<(), Fault> {
    Network::parse(text).map(drop).map_err(|wrong| Fault::new(wrong, "write an address and how many bits of it count, as \"10.0.0.0/8\""))
}

/// A file's mode, of three or four octal digits.
#[must_use]
pub fn mode(text: &str) -> Option<u32> {
    ((3..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit)))
        .then(|| u32::from_str_radix(text, 8).ok())?
}

/// An IP address and a port that can be listened at.
#[must_use]
pub fn socket(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() > 0)
}

/// A time zone by its name.
#[must_use]
pub fn zone(text: &str) -> Option<TimeZone> {
    match text {
        "UTC" => Some(TimeZone::UTC),
        "local" => TimeZone::try_system().ok(),
        name => TimeZone::get(name).ok(),
    }
}

fn pattern(text: &str) -> Result<(), Fault> {
    // Its words say what is wrong and what would be right.
    Pattern::parse(text).map(drop).map_err(|words| {
        let (wrong, right) = words.split_once("; ").unwrap_or((&words, "write an absolute path, as \"/var/log/*.log\""));
        Fault::new(format!("{text:?}: {wrong}"), right)
    })
}

/// The brokers of a comma-separated string.
pub fn brokers(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|broker| !broker.is_empty())
}

fn servers(text: &str) -> Result<(), Fault> {
    if brokers(text).next().is_none() {
        return Err(Fault::new("no broker is named", example(Kind::Servers)));
    }
    brokers(text).try_for_each(server)
}

fn server(broker: &str) -> Result<(), Fault> {
    if let Some((_, rest)) = broker.split_once("://") {
        return Err(Fault::new(
            format!("{broker:?} begins with a protocol"),
            format!("write {rest:?}; TLS is [kafka.tls], SASL [kafka.sasl]"),
        ));
    }
    let Some((host, port)) = broker.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) else {
        return Err(Fault::new(format!("{broker:?} has no port"), "write host:port, as \"kafka-1:9092\" or \"[::1]:9092\""));
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/@\"'".contains(c);
    if host.is_empty() || host.contains(odd) {
        return Err(Fault::new(format!("{broker:?} names no host"), "write host:port, as \"kafka-1:9092\""));
    }
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(Fault::new(format!("{port:?} is no port"), "write 1 to 65535 behind the host"));
    }
    Ok(())
}
