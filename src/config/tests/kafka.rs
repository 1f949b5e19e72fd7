//! The Kafka side: librdkafka's properties, the promises' last word, and secrets that nothing prints.

use super::super::{Machine, print};
use super::{PASSWORD, judge, machine, mistakes, with_kafka};

fn properties(more: &str, machine: &Machine<'_>) -> Vec<(String, String)> {
    judge(&[&with_kafka(more)], machine).unwrap().kafka.properties
}

/// The value that librdkafka is left with: of the last time it is set.
fn last<'a>(properties: &'a [(String, String)], name: &str) -> Option<&'a str> {
    properties.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[test]
fn librdkafka_takes_every_property_that_it_is_given() {
    let tls = "[kafka.tls]\n[kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"u\"\npassword.file = \"/secret\"\n";
    let mut config = rdkafka::ClientConfig::new();
    for (name, value) in properties(tls, &machine()) {
        config.set(name, value);
    }
    assert!(config.create_native_config().is_ok());
}

#[test]
fn the_promises_have_the_last_word_and_the_rest_is_the_users() {
    let set = properties("max_event = \"2MiB\"\n[kafka.librdkafka]\n\"linger.ms\" = 5\n\"socket.keepalive.enable\" = false", &machine());
    let expected = [
        ("linger.ms", "5"),
        ("batch.size", "1000000"),
        ("socket.keepalive.enable", "false"),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("message.timeout.ms", "0"),
        ("message.copy.max.bytes", "1000000000"),
        ("message.max.bytes", "2162688"),
        ("compression.codec", "lz4"),
        ("security.protocol", "plaintext"),
        ("statistics.interval.ms", "0"),
    ];
    for (name, value) in expected {
        assert_eq!(last(&set, name), Some(value), "{name}");
    }
    assert!(last(&set, "client.id").unwrap().starts_with("logferry-"));
    assert_eq!(set.iter().filter(|(name, _)| name == "linger.ms").count(), 1);
}

#[test]
fn properties_that_would_break_a_promise_are_refused_with_the_reason() {
    let text = with_kafka(
        r#"[kafka.librdkafka]
acks = 1
"enable.idempotence" = false
"message.timeout.ms" = 3000
"max.in.flight" = 6
"queue.buffering.max.messages" = 10
"queue.buffering.max.ms" = 10
"sasl.password" = "hunter2"
"bootstrap.servers" = "x:1"
"ssl.ca.location" = "/x"
"test.mock.num.brokers" = 1
"linger.millis" = 3
"batch.num.messages" = "many"
"socket.timeout.ms" = [1]
dr_msg_cb = 1
"#,
    );
    insta::assert_snapshot!(mistakes(&text), @r#"
    a.toml:5: kafka.librdkafka.acks: refused; an event counts as delivered when all in-sync replicas have it; less can lose events
    a.toml:6: kafka.librdkafka.enable.idempotence: refused; without it retries can double and reorder events
    a.toml:7: kafka.librdkafka.message.timeout.ms: refused; events wait for Kafka for ever, a limit would drop them
    a.toml:8: kafka.librdkafka.max.in.flight: refused: 6; with more than 5 requests in flight the order of events can't be kept
    a.toml:9: kafka.librdkafka.queue.buffering.max.messages: refused; what may be in memory is bounded by agent.memory
    a.toml:10: kafka.librdkafka.queue.buffering.max.ms: refused; it has another name: set "linger.ms"
    a.toml:11: kafka.librdkafka.sasl.password: refused; it has keys of its own: set [kafka.sasl]
    a.toml:12: kafka.librdkafka.bootstrap.servers: refused; it has a key of its own: set kafka.bootstrap_servers
    a.toml:13: kafka.librdkafka.ssl.ca.location: refused; it has a key of its own: set kafka.tls.ca_file
    a.toml:14: kafka.librdkafka.test.mock.num.brokers: refused; a mock cluster keeps nothing
    a.toml:15: kafka.librdkafka.linger.millis: librdkafka says: No such configuration property: "linger.millis"; see its CONFIGURATION.md
    a.toml:16: kafka.librdkafka.batch.num.messages: librdkafka says: Invalid value for configuration property "batch.num.messages"; see its CONFIGURATION.md
    a.toml:17: kafka.librdkafka.socket.timeout.ms: a list is no property's value; write a string, a number, true or false
    a.toml:18: kafka.librdkafka.dr_msg_cb: refused; logferry does this itself
    "#);
    assert!(last(&properties("librdkafka = { \"max.in.flight\" = 5 }", &machine()), "max.in.flight").is_some());
}

#[test]
fn tls_and_sasl_that_cannot_work_are_refused() {
    insta::assert_snapshot!(mistakes(&with_kafka("[kafka.tls]\ncert_file = \"/gone\"\n[kafka.sasl]\nmechanism = \"plain\"")), @r#"
    a.toml:4: kafka.tls.key_file: not set; cert_file needs the key that belongs to it
    a.toml:5: kafka.tls.cert_file: /gone can't be read: entity not found; name a file that logferry may read
    a.toml:6: kafka.sasl.username: not set; write the user to sign in as
    a.toml:6: kafka.sasl.password: no password is named; write one of { file = "…" }, { credential = "…" } and { env = "…" }
    a.toml:7: kafka.sasl.mechanism: "plain" is not known; did you mean "PLAIN"? write one of "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"
    "#);
    insta::assert_snapshot!(mistakes(&with_kafka("sasl = { mechanism = \"PLAIN\", username = \"u\", password = { file = \"/secret\", env = \"X\" } }")), @r#"
    a.toml:4: kafka.sasl.mechanism: refused: PLAIN without TLS sends the password readable over the network; add [kafka.tls], or use SCRAM-SHA-512
    a.toml:4: kafka.sasl.password: more than one place is named; write one of { file = "…" }, { credential = "…" } and { env = "…" }
    "#);
    insta::assert_snapshot!(mistakes(&with_kafka("tls = {}\nsasl = { mechanism = \"PLAIN\", username = \"u\", password = { credential = \"kafka\" } }")), @r#"a.toml:5: kafka.sasl.password.credential: $CREDENTIALS_DIRECTORY is not set; give the service LoadCredential=, or use { file = "…" }"#);
    insta::assert_snapshot!(mistakes(&with_kafka("tls = true\nsasl = { mechanism = \"PLAIN\", username = \"u\", password = { file = \"/empty\" } }")), @r#"
    a.toml:4: kafka.tls: a boolean is no table; write [kafka.tls]
    a.toml:5: kafka.sasl.password.file: /empty holds no password; it must hold one, as UTF-8 text without NUL
    "#);
    insta::assert_snapshot!(mistakes(&with_kafka("bootstrap_server = []").replace("localhost:9092", "ssl://a:1,b,c:99999,:3")), @r#"
    a.toml:2: kafka.bootstrap_servers: "ssl://a:1" begins with a protocol; write "a:1"; TLS is [kafka.tls], SASL [kafka.sasl]
    a.toml:2: kafka.bootstrap_servers: "b" has no port; write host:port, as "kafka-1:9092" or "[::1]:9092"
    a.toml:2: kafka.bootstrap_servers: "99999" is no port; write 1 to 65535 behind the host
    a.toml:2: kafka.bootstrap_servers: ":3" names no host; write host:port, as "kafka-1:9092"
    a.toml:4: kafka.bootstrap_server: unknown key; did you mean "bootstrap_servers"?
    "#);
}

#[test]
fn servers_come_as_a_list_or_as_one_string() {
    let servers = |text: &str| {
        let whole = with_kafka("").replace("\"localhost:9092\"", text);
        judge(&[&whole], &machine()).unwrap().kafka.bootstrap_servers
    };
    assert_eq!(servers("\"a:1, b:2,\""), ["a:1", "b:2"]);
    assert_eq!(servers("[\"a:1\", \"[::1]:2\"]"), ["a:1", "[::1]:2"]);
}

#[test]
fn a_password_goes_to_librdkafka_and_nowhere_else() {
    let ways = ["file = \"/secret\"", "file = \"/open\"", "credential = \"kafka\"", "env = \"KAFKA_PASSWORD\""];
    for way in ways {
        let text = with_kafka(&format!(
            "[kafka.sasl]\nmechanism = \"SCRAM-SHA-512\"\nusername = \"u\"\npassword = {{ {way} }}\n[kafka.librdkafka]\n\"ssl.key.password\" = \"{PASSWORD}\""
        ));
        let mut machine = machine();
        machine.env.insert("KAFKA_PASSWORD".to_owned(), PASSWORD.to_owned());
        machine.env.insert("CREDENTIALS_DIRECTORY".to_owned(), "/creds".to_owned());
        let config = judge(&[&text], &machine).unwrap();
        assert_eq!(last(&config.kafka.properties, "sasl.password"), Some(PASSWORD), "{way}");
        assert_eq!(last(&config.kafka.properties, "ssl.key.password"), Some(PASSWORD), "{way}");
        let printed = print::text(&config.shown);
        assert!(printed.contains("\"ssl.key.password\" = \"(hidden)\"") && printed.contains(&format!("password.{way}")), "{printed}");
        for text in [printed, format!("{config:?} {config:#?}"), config.warnings.join("\n")] {
            assert!(!text.contains(PASSWORD), "{text}");
        }
        let open = config.warnings.iter().any(|warning| warning.contains("everybody"));
        assert_eq!(open, way.contains("/open") || way.contains("credential"), "{way}");
    }
}

/// Places where a password (`@`) is written, though it does not belong there.
const MISPLACED: &[&str] = &[
    "[kafka.sasl]\npassword = \"@\"",
    "[kafka.sasl]\npassword = \"@",
    "[kafka.sasl]\npassword = \"\"\"\n@\n",
    "[kafka.sasl]\npassword = \"\"\"\n@\n\"\"\"",
    "[kafka.sasl.password]\nvalue = \"@",
    "[kafka.sasl.password]\nvalue = \"@\"",
    "[kafka.sasl]\npassword = { file = \"@\" }",
    "[kafka.sasl]\npassword = { env = \"@\" }",
    "[kafka.sasl]\npassword = { credential = \"@\" }",
    "[kafka.sasl]\npassword = { credential = [\"@\"] }",
    "[kafka.sasl]\npassword = [\"@\"]",
    "[kafka.sasl]\npasswort = \"@\"",
    "[kafka.librdkafka]\n\"sasl.password\" = \"@\"",
    "[kafka.librdkafka]\n\"ssl.key.pasword\" = \"@\"",
    "[kafka.librdkafka]\n\"ssl.key.pem\" = \"@\"\n\"ssl.key.pem\" = \"@\"",
    "[kafka.librdkafka]\n\"ssl.key.password\" = [\"@\"]",
];

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]
    #[test]
    fn a_password_written_where_it_does_not_belong_is_not_repeated(rest in "[A-Za-z0-9=+.,;:#{}*!-]{3,20}") {
        let password = format!("Zq7{rest}");
        let variable = |name: &str| Machine { overrides: vec![(name.to_owned(), password.clone())], ..machine() };
        let credentials = || Machine { env: [("CREDENTIALS_DIRECTORY".to_owned(), "/creds".to_owned())].into(), ..machine() };
        let files = MISPLACED.iter().map(|text| judge(&[&with_kafka(&text.replace('@', &password))], &credentials()));
        let names = ["kafka__sasl__password", "kafka__sasl__password__file", "kafka__librdkafka__sasl_password"];
        for outcome in files.chain(names.iter().map(|name| judge(&[&with_kafka("")], &variable(name)))) {
            let problems = outcome.unwrap_err();
            let told = format!("{problems} {problems:?}");
            proptest::prop_assert!(!told.contains(&password), "{told}");
        }
    }
}

#[test]
fn a_command_that_does_not_connect_needs_no_password() {
    for way in ["credential = \"kafka\"", "env = \"KAFKA_PASSWORD\"", "file = \"/root/only\""] {
        let text = with_kafka(&format!("tls = {{}}\nsasl = {{ mechanism = \"PLAIN\", username = \"u\", password = {{ {way} }} }}"));
        assert!(judge(&[&text], &machine()).is_err(), "{way}");
        let config = judge(&[&text], &Machine { connects: false, ..machine() }).unwrap();
        assert_eq!(last(&config.kafka.properties, "sasl.password"), None);
    }
}

#[test]
fn a_password_written_out_is_told_where_it_belongs() {
    insta::assert_snapshot!(mistakes(&with_kafka("sasl = { mechanism = \"SCRAM-SHA-256\", username = \"u\", password = \"x\" }")), @r#"a.toml:4: kafka.sasl.password: a string is no table; a password never stands here itself: write { file = "…" }, { credential = "…" } or { env = "…" }"#);
    insta::assert_snapshot!(mistakes(&with_kafka("[kafka.sasl]\npassword = \"x\ny = 1")), @r#"a.toml:5: not TOML at column 14: invalid basic string, expected `"`; correct the line: (not shown, it may hold a secret)"#);
}

#[test]
fn the_tests_own_override_is_set_last_and_shouts() {
    let mut machine = machine();
    machine.env.insert("LOGFERRY_TEST_UNSAFE_LIBRDKAFKA".to_owned(), "message.timeout.ms=3000,acks=1".to_owned());
    let config = judge(&[&with_kafka("")], &machine).unwrap();
    assert_eq!((last(&config.kafka.properties, "message.timeout.ms"), last(&config.kafka.properties, "acks")), (Some("3000"), Some("1")));
    assert!(config.warnings.iter().any(|warning| warning.contains("EVENTS CAN BE LOST")), "{:?}", config.warnings);
}
