//! A broker that speaks TLS and asks for a password (`SASL_SSL`): what `[kafka.tls]` and `[kafka.sasl]` make of it. The tests of `trouble.rs`
//! share the broker: it has an authorizer, which lets everybody do what no ACL speaks of.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::agent::Plan;
use crate::harness::broker::{Broker, Listener, Setup};
use crate::harness::lines::LineWriter;
use crate::harness::oracle;
use crate::harness::temp_dir;
use crate::harness::topic::Format;

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);

/// The broker, and the folder with its certificate `ca.pem`; one for all tests here and in `trouble.rs`. On the plaintext listener everybody is a
/// super user; on the other the user `ferry` has the password `secret`, and users can be made for SCRAM. Quotas count over two seconds.
pub fn secure() -> &'static (Broker, TempDir) {
    static SECURE: OnceLock<(Broker, TempDir)> = OnceLock::new();
    SECURE.get_or_init(|| {
        let keys = temp_dir("keys");
        let store = keys.path().join("broker.p12");
        let common =
            ["-alias", "broker", "-storetype", "PKCS12", "-storepass", "changeit", "-keystore", store.to_str().expect("a plain path")];
        keytool(
            keys.path(),
            &["-genkeypair", "-keyalg", "RSA", "-keysize", "2048", "-validity", "2", "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1"],
            &common,
        );
        keytool(keys.path(), &["-exportcert", "-rfc", "-file", "ca.pem"], &common);
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_ferry=\"secret\";";
        let properties = [
            ("ssl.keystore.type", "PKCS12"),
            ("ssl.keystore.location", &store.display().to_string()),
            ("ssl.keystore.password", "changeit"),
            ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256"),
            ("plain.sasl.jaas.config", login),
            ("scram-sha-256.sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required;"),
        ];
        let mut properties = properties.map(|(key, value)| (format!("listener.name.second.{key}"), value.to_owned())).to_vec();
        let whole = [
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            ("super.users", "User:ANONYMOUS"),
            ("allow.everyone.if.no.acl.found", "true"),
            ("quota.window.num", "2"),
            ("quota.window.size.seconds", "1"),
        ];
        properties.extend(whole.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let second = Some(Listener { protocol: "SASL_SSL", advertised: None });
        (Broker::start_with(Setup { second, properties, ..Setup::default() }), keys)
    })
}

/// Makes a key and a certificate, or exports one.
pub fn keytool(dir: &std::path::Path, what: &[&str], common: &[&str]) {
    let program = std::env::var_os("JAVA_HOME").map_or_else(|| PathBuf::from("keytool"), |home| PathBuf::from(home).join("bin/keytool"));
    let output = Command::new(program).args(what).args(common).current_dir(dir).output().expect("keytool, which comes with Java");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn plan(topic: &str, password: &str) -> Plan {
    plan_as(topic, "PLAIN", "ferry", password)
}

/// A plan that signs in on the second listener.
pub fn plan_as(topic: &str, mechanism: &str, user: &str, password: &str) -> Plan {
    let (broker, keys) = secure();
    let security = format!(
        "[kafka.tls]\nca_file = \"{}\"\n[kafka.sasl]\nmechanism = {mechanism:?}\nusername = {user:?}\npassword = {{ env = \"SECRET\" }}",
        keys.path().join("ca.pem").display()
    );
    Plan::new(&broker.second(), topic).extra(&security).env("SECRET", password)
}

#[test]
fn events_go_over_tls_with_a_password() {
    let (broker, logs) = (&secure().0, temp_dir("logs"));
    broker.create_topic("secured", 3, &[]);
    let written = LineWriter::new("w", logs.path().join("a.log")).limit(20_000).start().finish();
    let mut agent = plan("secured", "secret").include(logs.path().join("*.log")).arg("--once").start();
    assert!(agent.wait(LATE).success());
    let verdict = oracle::read_when_whole(broker, "secured", Format::Raw, &written, SOON);
    verdict.assert_whole("TLS", 0, &agent);
}

#[test]
fn a_wrong_password_blocks_the_lane_with_words_and_the_right_one_frees_it() {
    let (broker, logs) = (&secure().0, temp_dir("logs"));
    broker.create_topic("refused", 1, &[]);
    let written = LineWriter::new("w", logs.path().join("a.log")).limit(2000).start().finish();
    let mut agent = plan("refused", "wrong").include(logs.path().join("*.log")).start();
    agent.wait_for_log("blocked: ", SOON);
    let log = agent.log();
    assert!(log.contains("authentication") && log.contains("refused the credentials") && log.contains("kafka.sasl"), "{log}");
    assert!(!log.contains("wrong"), "{log}");
    assert_eq!(broker.count("refused"), 0);
    agent.restart_with(|plan| plan.env("SECRET", "secret"));
    let verdict = oracle::read_when_whole(broker, "refused", Format::Raw, &written, LATE);
    verdict.assert_whole("a wrong password", 0, &agent);
}

#[test]
fn an_authority_that_is_not_known_is_named() {
    let (broker, logs) = (&secure().0, temp_dir("logs"));
    let other = logs.path().join("other.pem");
    keytool(
        logs.path(),
        &["-genkeypair", "-keyalg", "RSA", "-dname", "CN=other"],
        &["-alias", "o", "-storepass", "changeit", "-keystore", "o.p12"],
    );
    keytool(logs.path(), &["-exportcert", "-rfc", "-file", "other.pem"], &["-alias", "o", "-storepass", "changeit", "-keystore", "o.p12"]);
    assert!(fs::metadata(&other).is_ok());
    let plan = Plan::new(&broker.second(), "secured-not").extra(&format!("[kafka.tls]\nca_file = {other:?}")).include("/nowhere/*.log");
    let said = crate::harness::agent::ask(&plan.write(logs.path()), &["check", "--connect"]);
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert!(said.text.contains("kafka.tls.ca_file"), "{}", said.text);
}
