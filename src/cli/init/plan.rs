//! A configuration for a host, with the reason for everything in it. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::host::{Host, Rotation};
use crate::source::file::discover::Pattern;

/// What the caller says.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub(super) bootstrap_servers: Option<String>,
    pub(super) topic: String,
}

/// Names of files that are no logs, or are written by the system in a form of its own.
const NO_LOGS: [&str; 5] = ["wtmp", "btmp", "lastlog", "faillog", "README"];

/// Logs of one directory that one pattern finds.
#[derive(Debug, Default)]
struct Group {
    /// The pattern, or the path.
    include: String,
    /// Those that are there now.
    files: Vec<PathBuf>,
}

/// The text of the configuration.
pub(super) fn configuration(host: &Host, wishes: &Wishes) -> String {
    let mut text = kafka(wishes);
    journal(host, &mut text);
    files(host, &mut text);
    network(host, &mut text);
    text
}

fn kafka(wishes: &Wishes) -> String {
    let mut text = String::from(
        "# Written by logferry init for this host. logferry.toml(5) has every key; logferry check --connect judges this file.\n\n[kafka]\n",
    );
    match &wishes.bootstrap_servers {
        Some(servers) => {
            let list: Vec<String> = servers.split(',').map(|server| quoted(server.trim())).collect();
            let _ = writeln!(text, "bootstrap_servers = [{}]", list.join(", "));
        }
        None => text.push_str("# Until the address of Kafka stands here, logferry does not start, and says so.\n# bootstrap_servers = [\"kafka-1:9092\", \"kafka-2:9092\"]\n"),
    }
    let _ = writeln!(text, "topic = {}", quoted(&wishes.topic));
    text
}

fn journal(host: &Host, text: &mut String) {
    match host.journal {
        Some(lasting) => {
            text.push_str("\n# Services, the kernel, and what programs hand to syslog(3).\n");
            if !lasting {
                text.push_str("# This journal is kept in memory: what was not shipped before a reboot is gone with it. mkdir /var/log/journal makes it last.\n");
            }
            text.push_str("[[source]]\nname = \"journal\"\ntype = \"journald\"\n");
        }
        None => text.push_str("\n# There is no journal on this host.\n"),
    }
}

fn files(host: &Host, text: &mut String) {
    if host.more {
        text.push_str("\n# There is more below /var/log than was looked at.\n");
    }
    let mut names = BTreeMap::from([("journal".to_owned(), 1), ("net".to_owned(), 1)]);
    let (doubled, own): (Vec<Group>, Vec<Group>) = groups(host)
        .into_iter()
        .partition(|group| host.journal.is_some() && group.files.iter().all(|file| host.rsyslog_files.contains(file)));
    for group in &own {
        text.push('\n');
        source(group, &host.rotations, &mut names, "", text);
    }
    if !doubled.is_empty() {
        text.push_str("\n# rsyslog writes these, out of what is in the journal as well: with them everything would be shipped twice.\n");
        for group in &doubled {
            source(group, &host.rotations, &mut names, "# ", text);
        }
    }
}

fn source(group: &Group, rotations: &[Rotation], names: &mut BTreeMap<String, u32>, mark: &str, text: &mut String) {
    for note in notes(group, rotations) {
        let _ = writeln!(text, "# {note}");
    }
    let name = name(&group.include, names);
    let _ = writeln!(
        text,
        "{mark}[[source]]\n{mark}name = {}\n{mark}type = \"file\"\n{mark}include = [{}]",
        quoted(&name),
        quoted(&group.include)
    );
}

/// What is worth knowing of how logrotate treats these.
fn notes(group: &Group, rotations: &[Rotation]) -> Vec<&'static str> {
    let matches = |rotation: &&Rotation| {
        let patterns = rotation.patterns.iter().filter_map(|pattern| Pattern::parse(pattern).ok());
        patterns.into_iter().any(|pattern| group.files.iter().any(|file| pattern.matches(file)))
    };
    let Some(rotation) = rotations.iter().find(matches) else { return Vec::new() };
    let mut notes = Vec::new();
    if rotation.copytruncate {
        notes.push("logrotate copies and truncates: what is written between the two is lost to everybody; create instead of copytruncate loses nothing.");
    }
    if rotation.compress && !rotation.delaycompress {
        notes.push("logrotate compresses at once: while Kafka is away logferry reads the rest of a log from its compressed form; delaycompress spares that.");
    }
    notes
}

fn network(host: &Host, text: &mut String) {
    text.push_str(if host.rsyslog_listens {
        "\n# rsyslog takes syslog from the network on this host. To take it with logferry, have rsyslog give up the port first.\n"
    } else {
        "\n# Syslog from the network.\n"
    });
    text.push_str("# [[source]]\n# name = \"net\"\n# type = \"syslog\"\n# listen = [\"udp://0.0.0.0:514\", \"tcp://0.0.0.0:514\"]\n");
}

/// The logs that are to be shipped: those of a directory that end with `.log` by one pattern, if rsyslog writes all of them or none.
fn groups(host: &Host) -> Vec<Group> {
    let mut groups: BTreeMap<(String, bool), Group> = BTreeMap::new();
    for file in host.logs.iter().filter(|file| is_log(file)) {
        let (Some(path), Some(dir)) = (file.to_str(), file.parent().and_then(Path::to_str)) else { continue };
        let doubled = host.rsyslog_files.contains(file);
        // A pattern over /var/log itself would find what other directories' programs put there later.
        let alike = file.extension().is_some_and(|end| end == "log") && dir != "/var/log";
        let include = if alike { format!("{}/*.log", escaped(dir)) } else { escaped(path) };
        let group = groups.entry((include.clone(), doubled)).or_default();
        group.include = include;
        group.files.push(file.clone());
    }
    groups.into_values().collect()
}

/// Whether its name is that of a log as it is now, and not of one that was rotated away.
fn is_log(file: &Path) -> bool {
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else { return false };
    let rotated = name.rsplit(['.', '-']).next().is_some_and(|end| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()));
    let packed = [".gz", ".xz", ".bz2", ".zst", ".old"].iter().any(|end| name.ends_with(end));
    !NO_LOGS.contains(&name) && !rotated && !packed
}

/// A path in which nothing is taken for a pattern.
fn escaped(path: &str) -> String {
    path.chars().flat_map(|character| "*?[]{}\\".contains(character).then_some('\\').into_iter().chain([character])).collect()
}

/// A name for the source, out of the path, that no other has.
fn name(include: &str, names: &mut BTreeMap<String, u32>) -> String {
    let path = include.strip_prefix("/var/log/").unwrap_or(include).trim_end_matches("/*.log").trim_end_matches(".log");
    let mut name: String =
        path.chars().map(|character| if character.is_ascii_alphanumeric() || "._".contains(character) { character } else { '-' }).collect();
    name.truncate(56);
    let name = if name.trim_matches('-').is_empty() { "log".to_owned() } else { name };
    let seen = names.entry(name.clone()).or_insert(0);
    *seen += 1;
    if *seen == 1 { name } else { format!("{name}-{seen}") }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
