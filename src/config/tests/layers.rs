//! Several files, the environment, and what `--print` says of where a value comes from.

use super::super::{Machine, load, print};
use super::{SMALL, judge, machine};

fn with(overrides: &[(&str, &str)]) -> Machine<'static> {
    Machine { overrides: overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), ..machine() }
}

#[test]
fn sources_of_several_files_add_up_and_other_tables_join() {
    let second = "[agent]\nhost = \"x\"\n[kafka]\nformat = \"raw\"\n[[source]]\nname = \"b\"\ntype = \"file\"\ninclude = [\"/b\"]\n";
    let config = judge(&[SMALL, second], &machine()).unwrap();
    assert_eq!(config.files.iter().map(|file| &*file.name).collect::<Vec<_>>(), ["app", "b"]);
    assert_eq!((&*config.encode.host, config.encode.format), ("x", crate::encode::Format::Raw));
}

#[test]
fn what_is_set_twice_is_told_with_both_places() {
    let second = "[kafka]\nbootstrap_servers = [\"x:1\"]\ntopic = \"other\"\n[kafka.librdkafka]\n\"linger.ms\" = 1\n\n[[source]]\nname = \"app\"\ntype = \"file\"\ninclude = [\"/b\"]\n";
    let third = "kafka.librdkafka.\"linger.ms\" = 2\n[agent]\nlabels = { a = \"1\" }\n";
    let fourth = "[agent.labels]\na = \"2\"\nb = \"2\"\n";
    insta::assert_snapshot!(judge(&[SMALL, second, third, fourth], &machine()).unwrap_err(), @r#"
    b.toml:2: kafka.bootstrap_servers: set twice, first at a.toml:2; keep one of the two
    b.toml:3: kafka.topic: set twice, first at a.toml:3; keep one of the two
    b.toml:8: source.name: a source "app" is there already, at a.toml:6; give each source a name of its own
    c.toml:1: kafka.librdkafka.linger.ms: set twice, first at b.toml:5; keep one of the two
    d.toml:2: agent.labels.a: set twice, first at c.toml:3; keep one of the two
    "#);
}

#[test]
fn a_file_that_is_not_toml_makes_nothing_missing_and_hides_no_other_mistake() {
    insta::assert_snapshot!(judge(&["[kafka", "[agent]\nmemmory = \"1MiB\"\n"], &machine()).unwrap_err(), @r#"
    a.toml:1: not TOML at column 7: unclosed table, expected `]`; correct the line: [kafka
    b.toml:2: agent.memmory: unknown key; did you mean "memory"?
    "#);
}

#[test]
fn the_environment_wins_over_files() {
    let overrides = [
        ("kafka__topic", "123"),
        ("kafka__bootstrap_servers", "[\"a:1\", \"b:2\"]"),
        ("kafka__max_lanes", "7"),
        ("kafka__librdkafka__linger_ms", "50"),
        ("kafka__tls", "{}"),
        ("agent__memory", "32MiB"),
        ("agent__labels__env", "true"),
    ];
    let text = format!("[agent]\nmemory = \"16MiB\"\nlabels = {{ env = \"x\", dc = \"y\" }}\n{SMALL}");
    let config = judge(&[&text], &with(&overrides)).unwrap();
    assert_eq!((config.topics(), config.max_lanes, config.agent.memory), (vec!["123"], 7, 32 << 20));
    assert_eq!(config.kafka.bootstrap_servers, ["a:1", "b:2"]);
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config.agent.labels, [label("dc", "y"), label("env", "true")]);
    assert!(
        config.kafka.properties.contains(&label("linger.ms", "50")) && config.kafka.properties.contains(&label("security.protocol", "ssl"))
    );
}

#[test]
fn a_password_from_the_environment_replaces_the_files() {
    let sasl = format!("{SMALL}[kafka.sasl]\nmechanism = \"SCRAM-SHA-512\"\nusername = \"u\"\npassword = {{ file = \"/gone\" }}\n");
    let config = judge(&[&sasl], &with(&[("kafka__sasl__password__file", "/secret")])).unwrap();
    assert!(config.kafka.properties.iter().any(|(name, value)| name == "sasl.password" && value == super::PASSWORD));
}

#[test]
fn a_variable_that_is_no_key_or_has_no_good_value_is_told_by_its_name() {
    let overrides =
        [("kafka__topik", "x"), ("source__name", "x"), ("agent__memory", "24"), ("kafka____topic", "x"), ("kafka__librdkafka__acks", "1")];
    insta::assert_snapshot!(judge(&[SMALL], &with(&overrides)).unwrap_err(), @r#"
    environment variable LOGFERRY__AGENT__MEMORY: agent.memory: "24" is no size; write a number and a unit (B, KB, MB, GB, KiB, MiB, GiB) in quotes, as "24MiB"
    environment variable LOGFERRY__KAFKA__LIBRDKAFKA__ACKS: kafka.librdkafka.acks: refused; an event counts as delivered when all in-sync replicas have it; less can lose events
    environment variable LOGFERRY__KAFKA__TOPIK: kafka.topik: unknown key; did you mean "topic"?
    environment variable LOGFERRY__KAFKA____TOPIC: kafka.: unknown key; there are bootstrap_servers, compression, dead_letter_topic, delivery, format, gap_topic, headers, key, librdkafka, max_event, max_lanes, max_rate, sasl, tls, topic
    environment variable LOGFERRY__SOURCE__NAME: source: sources can't be set by variables; set them in the file or in conf.d
    "#);
}

#[test]
fn what_is_printed_names_each_origin_and_reads_as_the_same_configuration() {
    let text = format!(
        "{SMALL}exclude = [\"/var/log/app/x\\\"y\\n.log\"]\n[agent]\nlabels = {{ \"a b\" = \"c # d\" }}\n[kafka.tls]\n[kafka.librdkafka]\n\"linger.ms\" = 3\n"
    );
    let config = judge(&[&text], &with(&[("agent__host", "h")])).unwrap();
    let printed = print::text(&config.shown);
    insta::assert_snapshot!(printed, @r#"
    [agent]
    host = "h"  # environment variable LOGFERRY__AGENT__HOST
    id = "00ee142b4b5233ba"  # default, from the machine's id
    state_dir = "/var/lib/logferry"  # default
    memory = "24MiB"  # default
    forget_after = "7d"  # default
    snapshot_interval = "1s"  # default
    stop_timeout = "20s"  # default
    hold_deleted = "10GiB"  # default

    [agent.labels]
    "a b" = "c # d"  # a.toml:11

    [kafka]
    bootstrap_servers = "localhost:9092"  # a.toml:2
    topic = "logs"  # a.toml:3
    delivery = "at-least-once"  # default
    compression = "lz4"  # default
    format = "json"  # default
    max_event = "900KiB"  # default
    max_lanes = 20  # default
    key = "stream"  # default

    [kafka.tls]

    [kafka.librdkafka]
    "linger.ms" = "3"  # a.toml:14

    [spill]
    max_size = "2GiB"  # default
    after = "5s"  # default
    sync = "100ms"  # default
    keep_free = "10%"  # default

    [log]
    level = "info"  # default

    [[source]]
    name = "app"  # a.toml:6
    type = "file"  # a.toml:7
    include = ["/var/log/app/*.log"]  # a.toml:8
    exclude = ["""
    /var/log/app/x"y
    .log"""]  # a.toml:9
    topic = "logs"  # default, from kafka.topic
    expect_every = "off"  # default
    start_at = "beginning"  # default
    ignore_older = "7d"  # default
    partial_line_timeout = "off"  # default
    rescan_interval = "30s"  # default
    compressed = "continue"  # default
    "#);
    let again = judge(&[&printed], &machine()).unwrap();
    assert_eq!(
        format!("{:?}{:?}{:?}", config.agent, config.kafka.properties, config.files),
        format!("{:?}{:?}{:?}", again.agent, again.kafka.properties, again.files)
    );
}

#[test]
fn files_are_read_in_byte_order_and_each_unreadable_one_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    std::fs::create_dir_all(base.join("conf.d/dir.toml")).unwrap();
    let source = |name: &str| format!("[[source]]\nname = \"{name}\"\ntype = \"file\"\ninclude = [\"/{name}\"]\n");
    let write = |name: &str, text: &[u8]| std::fs::write(base.join(name), text).unwrap();
    let told = |main: &str| load(&base.join(main)).unwrap_err().to_string().replace(&base.display().to_string(), "BASE");
    write("config.toml", format!("[agent]\nid = \"x\"\nhost = \"x\"\nstate_dir = \"/x\"\n{SMALL}").as_bytes());
    write("conf.d/bad.toml", b"[agent]\n\xff\n");
    insta::assert_snapshot!(told("gone.toml"), @r#"
    BASE/gone.toml: can't be read: No such file or directory (os error 2); create it (config.example.toml shows every key), or name another with --config or $LOGFERRY_CONFIG
    BASE/conf.d/bad.toml: can't be read: line 2 is not UTF-8; put a readable TOML file there
    BASE/conf.d/dir.toml: can't be read: Is a directory (os error 21); put a readable TOML file there
    "#);

    std::fs::remove_dir(base.join("conf.d/dir.toml")).unwrap();
    for name in ["b", "a", "B"] {
        write(&format!("conf.d/{name}.toml"), source(name).as_bytes());
    }
    std::fs::remove_file(base.join("conf.d/bad.toml")).unwrap();
    write("conf.d/.hidden.toml", b"not TOML");
    write("conf.d/a.toml.bak", b"not TOML");
    let config = load(&base.join("config.toml")).unwrap();
    assert_eq!(config.files.iter().map(|file| &*file.name).collect::<Vec<_>>(), ["app", "B", "a", "b"]);
}

#[test]
fn the_real_environment_is_read() {
    const INNER: &str = "LOGFERRY_TEST_INNER";
    if std::env::var_os(INNER).is_some() {
        let expected = [("kafka__librdkafka__linger_ms", "5"), ("kafka__topic", "from-env")];
        assert_eq!(super::super::read::machine().overrides, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        return;
    }
    // A process of its own, since a process can't safely change its environment while threads run.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "config::tests::layers::the_real_environment_is_read"])
        .envs([(INNER, "1"), ("LOGFERRY__KAFKA__TOPIC", "from-env"), ("LOGFERRY__KAFKA__LIBRDKAFKA__LINGER_MS", "5")])
        .output()
        .unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}
