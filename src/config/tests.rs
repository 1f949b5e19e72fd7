//! The configuration as a whole: what is accepted, what is refused and in which words. The example file's test is apart, in `tests/example.rs`.

mod example;
mod kafka;
mod layers;
mod lines;
mod rules;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Config, Machine, Problems, Text, build};
use crate::spill::KeepFree;

/// A good configuration in as few lines as there can be.
pub(super) const SMALL: &str = r#"[kafka]
bootstrap_servers = "localhost:9092"
topic = "logs"

[[source]]
name = "app"
type = "file"
include = ["/var/log/app/*.log"]
"#;

/// The password that the files of the test machine hold.
pub(super) const PASSWORD: &str = "hunter2-Gräfin";

/// The files of the test machine.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    match path.to_str() {
        Some("/secret") => Ok((format!("{PASSWORD}\n").into_bytes(), 0o100_600)),
        Some("/open" | "/creds/kafka") => Ok((PASSWORD.as_bytes().to_vec(), 0o100_644)),
        Some("/empty") => Ok((b"\n".to_vec(), 0o100_600)),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A machine that needs no real one.
pub(crate) fn machine() -> Machine<'static> {
    Machine {
        hostname: Some("web-01".to_owned()),
        machine_id: Some("0123456789abcdef0123456789abcdef\n".to_owned()),
        root: true,
        env: BTreeMap::new(),
        overrides: Vec::new(),
        read: &read,
        connects: true,
    }
}

/// The configuration of these texts, named `a.toml`, `b.toml`, ….
pub(crate) fn judge(texts: &[&str], machine: &Machine<'_>) -> Result<Config, Problems> {
    let text = |(name, text): (char, &&str)| Text { name: format!("{name}.toml").into(), text: (*text).to_owned() };
    build(&('a'..='z').zip(texts).map(text).collect::<Vec<_>>(), Vec::new(), machine)
}

/// The mistakes of one text, a line each.
pub(super) fn mistakes(text: &str) -> String {
    judge(&[text], &machine()).map_or_else(|problems| problems.to_string(), |config| format!("good: {config:?}"))
}

/// The small configuration with more below `[kafka]`.
pub(super) fn with_kafka(more: &str) -> String {
    SMALL.replace("\n\n[[source]]", &format!("\n{more}\n\n[[source]]"))
}

#[test]
fn three_keys_and_a_source_are_enough() {
    let config = judge(&[SMALL], &machine()).unwrap();
    assert_eq!(config.kafka.bootstrap_servers, ["localhost:9092"]);
    assert_eq!((&*config.agent.host, config.agent.state_dir.as_path()), ("web-01", Path::new("/var/lib/logferry")));
    assert_eq!((config.agent.memory, config.encode.max_event, config.max_lanes), (24 << 20, 900 << 10, 20));
    assert_eq!((config.topics(), config.default_topic.as_deref()), (vec!["logs"], Some("logs")));
    assert_eq!(config.warnings, [""; 0]);
    let file = &config.files[0];
    assert_eq!((&*file.name, &*file.topic, file.include.len(), file.partial_line_timeout), ("app", "logs", 1, None));
    assert_eq!(file.ignore_older.unwrap().as_secs(), 7 * 86_400);
}

#[test]
fn the_machines_id_makes_the_agents_and_is_not_seen_in_it() {
    let id = judge(&[SMALL], &machine()).unwrap().agent.id;
    assert!(id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    assert!(!machine().machine_id.unwrap().contains(&id));
    let other = Machine { machine_id: Some("ffff".to_owned()), ..machine() };
    assert_ne!(judge(&[SMALL], &other).unwrap().agent.id, id);
    let none = Machine { machine_id: None, hostname: None, root: false, ..machine() };
    insta::assert_snapshot!(judge(&[SMALL], &none).unwrap_err(), @r#"
    a.toml: agent.host: not set; this machine has no name of its own, so write one
    a.toml: agent.id: not set; this machine has no /etc/machine-id, so write a name that no other agent has
    a.toml: agent.state_dir: not set; neither $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is set, so write an absolute path
    "#);
}

#[test]
fn the_state_is_where_systemd_root_or_the_user_has_it() {
    let place = |root: bool, env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        judge(&[SMALL], &Machine { root, env, ..machine() }).unwrap().agent.state_dir.display().to_string()
    };
    assert_eq!(place(true, &[("STATE_DIRECTORY", "/var/lib/private/x:/y")]), "/var/lib/private/x");
    assert_eq!(place(false, &[("XDG_STATE_HOME", "/home/u/.state"), ("HOME", "/home/u")]), "/home/u/.state/logferry");
    assert_eq!(place(false, &[("XDG_STATE_HOME", "relative"), ("HOME", "/home/u")]), "/home/u/.local/state/logferry");
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_their_lines() {
    let text = r#"[agent]
memory = 24
forget_after = "7"
state_dir = "state"
labels = { env = 1 }
stop_timeout = "20sec"

[kafka]
bootstrap_server = "kafka-1:9092"
compresion = "lz4"
compression = "LZ4"
format = "jsn"
delivery = "exactly-once"
max_event = "65MiB"
max_lanes = "20"
memory = "24MiB"
topic = "my logs"

[[source]]
name = "a b"
type = "fiel"
include = [
  "/var/log/*.log",
  "relative/*.log",
  3,
]
rescan_interval = "10ms"
ignore_older = true

[[source]]
name = "second"
exclude = "/x"

[spill]
max_size = "63MiB"
after = "50ms"
sync = "11s"
keep_free = "91%"

[spool]
max_size = "2GiB"
"#;
    insta::assert_snapshot!(mistakes(text), @r#"
    a.toml:2: agent.memory: the number 24 is no size; write a number and a unit (B, KB, MB, GB, KiB, MiB, GiB) in quotes, as "24MiB"
    a.toml:3: agent.forget_after: "7" is no time; write a number and a unit (ms, s, m, h, d) in quotes, as "10s", at least "1s"
    a.toml:4: agent.state_dir: "state" is not absolute; begin the path with /
    a.toml:5: agent.labels.env: a number is no string; write a string in quotes
    a.toml:6: agent.stop_timeout: "20sec" is no time; write a number and a unit (ms, s, m, h, d) in quotes, as "10s"
    a.toml:8: kafka.bootstrap_servers: not set; write ["kafka-1:9092", "kafka-2:9092"] or "kafka-1:9092,kafka-2:9092"
    a.toml:9: kafka.bootstrap_server: unknown key; did you mean "bootstrap_servers"?
    a.toml:10: kafka.compresion: unknown key; did you mean "compression"?
    a.toml:11: kafka.compression: "LZ4" is not known; did you mean "lz4"? write one of "none", "gzip", "snappy", "lz4", "zstd"
    a.toml:12: kafka.format: "jsn" is not known; did you mean "json"? write one of "raw", "json", "ecs", "otlp"
    a.toml:13: kafka.delivery: "exactly-once" is not in this version; write "at-least-once"
    a.toml:14: kafka.max_event: "65MiB" is too large; write at most "64MiB"
    a.toml:15: kafka.max_lanes: a string is no whole number; write 1 to 1000, without quotes
    a.toml:16: kafka.memory: unknown key; there is agent.memory
    a.toml:17: kafka.topic: Kafka takes no topic "my logs"; write 1 to 249 of A-Z a-z 0-9 . _ - (not "." or "..")
    a.toml:20: source.name: "a b" can't be a name; write 1 to 64 of A-Z a-z 0-9 . _ -
    a.toml:21: source.type: "fiel" is not known; write one of "file", "syslog", "journald"
    a.toml:24: source.include: "relative/*.log": the path is relative; write it from the root, such as /var/log/relative/*.log
    a.toml:25: source.include: the number 3 is no string; write strings in quotes
    a.toml:27: source.rescan_interval: "10ms" is too short; write a number and a unit (ms, s, m, h, d) in quotes, as "10s", at least "100ms"
    a.toml:28: source.ignore_older: true is no time; write a number and a unit (ms, s, m, h, d) in quotes, as "10s", or "off"
    a.toml:30: source.type: not set; write one of "file", "syslog", "journald"
    a.toml:30: source.include: not set; write a list, as ["/var/log/*.log"]
    a.toml:32: source.exclude: a string is no list of patterns; write a list, as ["/var/log/*.log"]
    a.toml:35: spill.max_size: "63MiB" is too small; write at least "64MiB"
    a.toml:36: spill.after: "50ms" is too short; write a number and a unit (ms, s, m, h, d) in quotes, as "10s", at least "100ms"
    a.toml:37: spill.sync: "11s" is too long; write a number and a unit (ms, s, m, h, d) in quotes, as "10s", at most "10s"
    a.toml:38: spill.keep_free: "91%" leaves too little; write 0% to 90%, or a size (B, KB, MB, GB, KiB, MiB, GiB), in quotes, as "10%" or "5GiB"
    a.toml:40: spool: unknown key; there are agent, http, kafka, log, rule, source, spill, test
    "#);
}

#[test]
fn monitoring_is_off_until_an_address_is_named_and_silence_until_a_time_is() {
    let config = judge(&[SMALL], &machine()).unwrap();
    assert_eq!((config.http, config.named[0].expect_every), (None, None));
    let text = format!("{SMALL}expect_every = \"15m\"\n[http]\nlisten = \"[::1]:9750\"\n");
    let config = judge(&[&text], &machine()).unwrap();
    assert_eq!(config.http.unwrap().listen, "[::1]:9750".parse().unwrap());
    assert_eq!(config.operator().expect_every["app"].as_secs(), 900);
    for listen in ["localhost:9750", ":9750", "127.0.0.1", "127.0.0.1:0"] {
        let said = mistakes(&format!("{SMALL}[http]\nlisten = {listen:?}\n"));
        assert!(said.contains("is no address with a port; write an IP address and a port in quotes"), "{said}");
    }
}

#[test]
fn text_that_is_not_toml_is_told_with_line_column_and_the_line() {
    insta::assert_snapshot!(mistakes("[kafka]\ntopic = \"logs\n"), @r#"a.toml:2: not TOML at column 14: invalid basic string, expected `"`; correct the line: topic = "logs"#);
    insta::assert_snapshot!(mistakes("[kafka\ntopic = \"logs\"\n"), @r#"a.toml:1: not TOML at column 7: unclosed table, expected `]`; correct the line: [kafka"#);
    insta::assert_snapshot!(mistakes("[kafka]\ntopic = logs\nformat = json\n"), @r#"
    a.toml:2: not TOML at column 9: string values must be quoted, expected literal string; correct the line: topic = logs
    a.toml:3: not TOML at column 10: string values must be quoted, expected literal string; correct the line: format = json
    "#);
    insta::assert_snapshot!(mistakes("[kafka]\ntopic = \"a\"\nformat = \"raw\"\ntopic = \"b\"\n"), @r#"a.toml:4: not TOML at column 1: duplicate key; line 2 sets it already, keep one of them: topic = "b""#);
    insta::assert_snapshot!(mistakes("[agent]\n[kafka]\ntopic = \"a\"\n[agent]\n"), @r#"a.toml:4: not TOML at column 2: duplicate key; line 1 sets it already, keep one of them: [agent]"#);
}

#[test]
fn tables_of_the_wrong_form_are_told_how_to_be_written() {
    insta::assert_snapshot!(mistakes("kafka = 3\nagent = []\nsource = \"x\"\n"), @r#"
    a.toml:1: kafka: a number is no table; write [kafka]
    a.toml:2: agent: a list is no table; write [agent]
    a.toml:3: source: a string is no list of sources; write [[source]]
    "#);
    insta::assert_snapshot!(mistakes("[source]\nname = \"x\"\n[[kafka]]\ntopic = \"x\"\n"), @r#"
    a.toml:1: source: a table is no list of sources; write [[source]]
    a.toml:3: kafka: a list is no table; write [kafka]
    "#);
}

#[test]
fn an_empty_file_is_told_what_it_lacks() {
    insta::assert_snapshot!(mistakes(""), @r#"
    a.toml: kafka.bootstrap_servers: not set; write ["kafka-1:9092", "kafka-2:9092"] or "kafka-1:9092,kafka-2:9092"
    a.toml: source: there is no source; add a [[source]] with name, type and include
    "#);
}

#[test]
fn more_topics_than_lanes_are_refused() {
    let more = "\n[[source]]\nname = \"b\"\ntype = \"file\"\ninclude = [\"/b\"]\ntopic = \"other\"\n";
    insta::assert_snapshot!(mistakes(&(with_kafka("max_lanes = 1") + more)), @r#"a.toml:4: kafka.max_lanes: sources and rules name 2 topics, more than the 1 that may be written to; raise it, or use fewer topics"#);
}

#[test]
fn the_spill_is_judged_with_the_topics_that_need_it() {
    let config = judge(&[SMALL], &machine()).unwrap();
    let spill = &config.spill;
    assert_eq!((spill.dir.as_path(), spill.max_size), (Path::new("/var/lib/logferry/spill"), 2 << 30));
    assert_eq!((spill.after.as_secs(), spill.sync.as_millis(), spill.keep_free), (5, 100, KeepFree::Percent(10)));
    let many = |topics: u32| {
        let source = |n| format!("[[source]]\nname = \"s{n}\"\ntype = \"file\"\ninclude = [\"/{n}\"]\ntopic = \"t{n}\"\n");
        SMALL.to_owned() + "[spill]\nmax_size = \"64MiB\"\nkeep_free = \"5GB\"\n" + &(1..topics).map(source).collect::<String>()
    };
    assert_eq!(judge(&[&many(4)], &machine()).unwrap().spill.keep_free, KeepFree::Bytes(5_000_000_000));
    insta::assert_snapshot!(mistakes(&many(5)), @r#"a.toml:10: spill.max_size: "64MiB" is too small for 5 topics; write at least "80MiB", 16MiB for each"#);
}

#[test]
fn dead_letters_have_a_topic_of_their_own_and_gaps_the_default_one() {
    let config = judge(&[&with_kafka("dead_letter_topic = \"refused\"\nmax_rate = \"10MiB\"")], &machine()).unwrap();
    assert_eq!((config.dead_letters.topic.as_deref(), config.gap_topic.as_deref()), (Some("refused"), Some("logs")));
    assert_eq!((config.max_rate, config.all_topics()), (Some(10 << 20), vec!["logs", "refused"]));
    insta::assert_snapshot!(mistakes(&with_kafka("dead_letter_topic = \"logs\"")), @r#"a.toml:4: kafka.dead_letter_topic: "logs" is written to as well, and what it refuses could not go there; name a topic that nothing else is written to, or leave it out"#);
    insta::assert_snapshot!(mistakes(&with_kafka("dead_letter_topic = \"x\"\ngap_topic = \"x\"")), @r#"a.toml:4: kafka.dead_letter_topic: "x" is written to as well, and what it refuses could not go there; name a topic that nothing else is written to, or leave it out"#);
}

#[test]
fn what_can_lose_data_or_surprise_is_said() {
    let text = with_kafka("max_event = \"9MiB\"").replace("localhost:9092", "kafka-1:9092, 127.0.0.1:9092,web-01:9092,[::1]:9092")
        + "start_at = \"end\"\n[[source]]\nname = \"b\"\ntype = \"file\"\ninclude = [\"/var/log/app/*.log\"]\n";
    insta::assert_snapshot!(judge(&[&text], &machine()).unwrap().warnings.join("\n"), @r#"
    events go to kafka-1:9092 over the network without encryption: add [kafka.tls] if the brokers have TLS
    source "app": start_at = "end": what its files hold when it first runs is not shipped
    source "b": "/var/log/app/*.log" is in source "app" too: these files are shipped twice
    agent.memory is less than four times kafka.max_event: few large events fit, and Kafka is used in small steps
    "#);
}
