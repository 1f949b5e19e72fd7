//! What monitoring sees: the pages over HTTP agree with the books and pass Prometheus' own tool, files add no series, health does not depend on
//! Kafka, and silence is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::topic::{Isolation, records};
use crate::harness::{free_port, temp_dir, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);

/// An agent's pages.
struct Pages {
    port: u16,
}

impl Pages {
    fn of(plan: Plan) -> (Agent, Pages) {
        let port = free_port();
        (plan.extra(&format!("[http]\nlisten = \"127.0.0.1:{port}\"")).start(), Pages { port })
    }

    /// Status and body of a page; `None` while nobody listens.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    #[track_caller]
    fn metrics(&self) -> String {
        let (code, text) = wait_for("metrics to be served", SOON, || self.get("/metrics"));
        assert_eq!(code, 200, "{text}");
        text
    }

    /// The figure of a series, by its whole name.
    fn figure(&self, series: &str) -> Option<f64> {
        self.metrics().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

/// Runs promtool with this on its standard input: whether it is content, and what it said.
fn promtool(args: &[&str], dir: &Path, input: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(args).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = command.spawn().expect("promtool, of Debian's package prometheus (packaging/setup.sh test)");
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// The series of a page, without those whose presence hangs on what Kafka and the disk just did.
fn series(page: &str) -> BTreeSet<String> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

fn plan(broker: &Broker, topic: &str, logs: &Path) -> Plan {
    Plan::new(&broker.bootstrap(), topic).include(logs.join("*.log")).source("rescan_interval = \"200ms\"")
}

fn events(status: &Value, term: &str) -> u64 {
    status["sources"]["files"][term]["events"].as_u64().unwrap()
}

#[test]
fn metrics_pass_promtool_and_are_the_figures_of_the_status() {
    let broker = Broker::shared();
    broker.create_topic("measured", 2, &[]);
    let logs = temp_dir("logs");
    fs::write(logs.path().join("a.log"), "one\ntwo\nGET /healthz\nthree\nhalf").unwrap();
    let rule = "[[rule]]\nname = \"no \\\"probes\\\"\"\nwhen = { message = \"healthz\" }\ndrop = true";
    let (mut agent, pages) = Pages::of(plan(broker, "measured", logs.path()).extra(rule));
    let settled = |status: &Value| events(status, "read") == 4 && events(status, "pending") == 0;
    let status: Value = wait_for("four events to be settled", SOON, || {
        let status = serde_json::from_str(&pages.get("/status")?.1).ok()?;
        settled(&status).then_some(status)
    });
    let asked: Value = serde_json::from_str(&agent.ask(&["status", "--json"]).text).unwrap();
    assert_eq!((&asked["sources"], &asked["version"]), (&status["sources"], &status["version"]), "the page and the command");

    let text = pages.metrics();
    let (good, said) = promtool(&["check", "metrics"], logs.path(), &text);
    assert!(good && said.trim().is_empty(), "{said}\n{text}");
    let (good, said) = promtool(&["check", "metrics"], logs.path(), &text.replace("events_read_total", "events_read"));
    assert!(!good || !said.trim().is_empty(), "this check can fail");

    let told = |term: &str, unit: &str| status["sources"]["files"][term][unit].as_f64().unwrap();
    let of_source = [
        ("logferry_events_read_total", told("read", "events")),
        ("logferry_events_delivered_total", told("delivered", "events")),
        ("logferry_events_filtered_total", told("filtered", "events")),
        ("logferry_events_pending", 0.0),
        ("logferry_read_bytes_total", told("read", "bytes")),
        ("logferry_source_lag_bytes", 4.0),
        ("logferry_source_lag_seconds", 0.0),
        ("logferry_source_files", 1.0),
    ];
    for (name, value) in of_source {
        assert_eq!(pages.figure(&format!("{name}{{source=\"files\"}}")), Some(value), "{name}");
    }
    assert_eq!((events(&status, "delivered"), events(&status, "filtered")), (3, 1));
    assert_eq!(pages.figure("logferry_rule_dropped_total{rule=\"no \\\"probes\\\"\"}"), Some(1.0));
    assert_eq!(pages.figure("logferry_files_open{state=\"live\"}"), Some(1.0));
    assert!(pages.figure("logferry_kafka_produce_duration_seconds_count{topic=\"measured\"}").unwrap() >= 1.0);
    let heard = wait_for("the event to be dated", SOON, || pages.figure("logferry_source_last_event_timestamp_seconds{source=\"files\"}"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - heard).abs() < 120.0, "{heard} and now {now}");
    assert_eq!(pages.get("/readyz"), Some((200, "ready\n".into())));
    assert_eq!(pages.get("/nothing").unwrap().0, 404);

    // What was counted before a restart is in the books, and no growth.
    assert!(agent.terminate(SOON).success());
    agent.restart();
    assert_eq!(pages.figure("logferry_events_read_total{source=\"files\"}"), Some(0.0));
    let again: Value = serde_json::from_str(&pages.get("/status").unwrap().1).unwrap();
    assert_eq!(events(&again, "read"), 4);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn ten_thousand_files_add_no_series() {
    let broker = Broker::shared();
    broker.create_topic("series", 2, &[]);
    let logs = temp_dir("logs");
    fs::write(logs.path().join("0.log"), "one\n").unwrap();
    let (mut agent, pages) = Pages::of(plan(broker, "series", logs.path()));
    let delivered = |count: f64| {
        wait_until(&format!("{count} events to be delivered"), LATE, || {
            pages.figure("logferry_events_delivered_total{source=\"files\"}") == Some(count)
                && pages.figure("logferry_source_files{source=\"files\"}") == Some(count)
        });
    };
    delivered(1.0);
    wait_until("the event to be dated", SOON, || pages.metrics().contains("\nlogferry_source_last_event_timestamp_seconds{"));
    let one = series(&pages.metrics());
    (1..10_000).for_each(|number| fs::write(logs.path().join(format!("{number}.log")), "one\n").unwrap());
    delivered(10_000.0);
    assert_eq!(series(&pages.metrics()), one);
    assert!(one.len() < 100, "{one:#?}");
    assert!(agent.terminate(SOON).success());
}

#[test]
fn health_does_not_depend_on_kafka_and_what_waits_is_seen() {
    let logs = temp_dir("logs");
    fs::write(logs.path().join("a.log"), "one\ntwo\n").unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let syslog = format!("[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = [\"tcp://{}\"]", taken.local_addr().unwrap());
    let plan = Plan::new(&nobody, "away").include(logs.path().join("*.log")).agent("stop_timeout = \"1s\"");
    let (mut agent, pages) = Pages::of(plan.extra(&syslog).extra("[spill]\nafter = \"200ms\""));
    wait_until("it to live", SOON, || pages.get("/healthz") == Some((200, "alive\n".into())));

    // The port of a source is another program's: not ready, until that lets it go. Kafka has no part in it.
    let (code, why) = wait_for("readiness to be told", SOON, || pages.get("/readyz").filter(|(_, why)| !why.contains("source files")));
    assert!(code == 503 && why.contains("source net is not open yet"), "{code} {why}");
    drop(taken);
    wait_until("it to be ready", SOON, || pages.get("/readyz") == Some((200, "ready\n".into())));

    wait_until("what waits to be seen", LATE, || {
        pages.figure("logferry_events_pending{source=\"files\"}") == Some(2.0)
            && pages.figure("logferry_source_lag_seconds{source=\"files\"}") > Some(1.0)
            && pages.figure("logferry_spill_bytes") > Some(0.0)
            && pages.figure("logferry_events_delivered_total{source=\"files\"}") == Some(0.0)
    });
    let (good, said) = promtool(&["check", "metrics"], logs.path(), &pages.metrics());
    assert!(good, "{said}");
    assert!(agent.terminate(SOON).success());
}

#[test]
fn an_address_in_use_is_a_warning_and_the_daemon_runs_on() {
    let broker = Broker::shared();
    broker.create_topic("unseen", 1, &[]);
    let logs = temp_dir("logs");
    fs::write(logs.path().join("a.log"), "one\n").unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = format!("[http]\nlisten = \"{}\"", taken.local_addr().unwrap());
    let mut agent = plan(broker, "unseen", logs.path()).extra(&listen).start();
    agent.wait_for_log("neither metrics nor health are served; another program listens there", SOON);
    agent.assert_all_delivered("files", 1);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_silent_source_is_told_once_in_the_log_the_metric_and_kafka() {
    let broker = Broker::shared();
    broker.create_topic("silent", 1, &[]);
    let logs = temp_dir("logs");
    let file = logs.path().join("a.log");
    fs::write(&file, "one\n").unwrap();
    let (mut agent, pages) = Pages::of(plan(broker, "silent", logs.path()).source("expect_every = \"3s\""));
    let quiet = || pages.figure("logferry_source_quiet{source=\"files\"}");
    wait_until("silence to be seen", SOON, || quiet() == Some(1.0));
    agent.wait_for_log("no event came: silent for", SOON);
    let told = || -> Vec<Value> {
        let values = records(&broker.bootstrap(), "silent", Isolation::ReadUncommitted).into_iter();
        let quiet = values.filter(|record| record.headers == [("logferry-type".to_owned(), b"quiet".to_vec())]);
        quiet.map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
    };
    let record = wait_for("the record of type quiet", SOON, || told().pop());
    assert_eq!([&record["type"], &record["reason"], &record["source"], &record["of"]], ["quiet", "quiet", "files", "file"]);
    assert_eq!(["events", "bytes", "unknown"].map(|key| record[key].as_u64()), [Some(0); 3]);
    assert!(record["first_time"].as_str() < record["last_time"].as_str(), "{record}");

    fs::write(&file, "one\ntwo\n").unwrap();
    wait_until("the end of the silence", SOON, || quiet() == Some(0.0));
    agent.wait_for_log("events come again", SOON);
    assert_eq!(told().len(), 1, "once for each silence");
    agent.assert_all_delivered("files", 2);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn what_is_packaged_for_prometheus_is_what_promtool_takes() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus");
    let (good, said) = promtool(&["check", "rules", "alerts.yml"], &dir, "");
    assert!(good, "{said}");
    let (good, said) = promtool(&["test", "rules", "alerts_test.yml"], &dir, "");
    assert!(good, "{said}");
    // Every alert has been made to ring.
    let [alerts, tests] = ["alerts.yml", "alerts_test.yml"].map(|name| fs::read_to_string(dir.join(name)).unwrap());
    let rung: BTreeMap<&str, bool> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(|name| (name, tests.contains(name))).collect();
    assert!(rung.len() > 10 && rung.values().all(|tested| *tested), "{rung:?}");

    // Each query of the dashboard, as rules, since promtool knows no dashboards.
    let dashboard = fs::read_to_string(dir.join("../grafana/logferry.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries = panels.flat_map(|panel| panel["targets"].as_array().unwrap()).map(|target| target["expr"].as_str().unwrap());
    let rules = queries.enumerate().map(|(number, query)| {
        let query = query.replace("$__rate_interval", "1m");
        format!("  - {{ record: q{number}, expr: {} }}\n", serde_json::to_string(&query).unwrap())
    });
    let written = temp_dir("queries");
    fs::write(written.path().join("queries.yml"), format!("groups:\n- name: q\n  rules:\n{}", rules.collect::<String>())).unwrap();
    let (good, said) = promtool(&["check", "rules", "queries.yml"], written.path(), "");
    assert!(good, "{said}");
}
