//! What logferry logs about itself: levels for a time, entries of a real journal, repeated warnings.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use crate::harness::agent::Plan;
use crate::harness::broker::Broker;
use crate::harness::journald::Journald;
use crate::harness::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_level_of_a_running_daemon_is_another_for_a_time() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("level", 1, &[]);
    let mut agent = Plan::new(&broker.bootstrap(), "level").include(logs.path().join("*.log")).extra("[log]\nlevel = \"warn\"").start();
    agent.wait_for_status("the daemon answers", SOON, |_| true);
    let said = agent.ask(&["log-level"]);
    assert_eq!((said.code, said.text.as_str()), (Some(0), "The log is at level warn (log.level).\n"));
    assert!(!agent.log().contains("INFO"), "{}", agent.log());
    let refused = agent.ask(&["log-level", "debug", "--for", "25h"]);
    assert!(refused.code == Some(2) && refused.text.contains("1s to 24h"), "{}", refused.text);

    let said = agent.ask(&["log-level", "info", "--for", "3s"]);
    assert!(said.code == Some(0) && said.text.contains("at level info until 20"), "{}", said.text);
    assert!(said.text.contains("then warn (log.level) holds again"), "{}", said.text);
    let reloaded = agent.ask(&["reload"]);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.text);
    agent.wait_for_log("INFO reloaded", SOON);
    wait_until("the usual level is back", SOON, || agent.ask(&["log-level"]).text == "The log is at level warn (log.level).\n");
    let before = agent.log().matches("INFO reloaded").count();
    agent.ask(&["reload"]);
    assert_eq!(agent.log().matches("INFO reloaded").count(), before, "{}", agent.log());

    let reloaded = agent.reload_with(|text| text.replace("level = \"warn\"", "level = \"error\"\nformat = \"json\""));
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.text);
    assert_eq!(agent.ask(&["log-level"]).text, "The log is at level error (log.level).\n");
    assert!(agent.terminate(SOON).success());
    let stopped = agent.ask(&["log-level"]);
    assert!(stopped.code == Some(1) && stopped.text.contains("no daemon runs"), "{}", stopped.text);
}

#[test]
fn lines_are_objects_where_that_is_wanted() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("log-json", 1, &[]);
    let mut agent = Plan::new(&broker.bootstrap(), "log-json").include(logs.path().join("*.log")).extra("[log]\nformat = \"json\"").start();
    agent.wait_for_log("runs", SOON);
    assert!(agent.terminate(SOON).success());
    let log = agent.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let runs = lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.ends_with(" runs"))).unwrap();
    assert_eq!((&runs["level"], &runs["host"]), (&Value::from("INFO"), &Value::from("harness")));
}

#[test]
fn entries_of_a_real_journal_have_the_fields_of_events() {
    let (broker, logs, mut journald) = (Broker::shared(), temp_dir("logs"), Journald::start(""));
    broker.create_topic("log-journal", 1, &[]);
    let plan = Plan::new(&broker.bootstrap(), "log-journal").include(logs.path().join("*.log")).extra("[log]\nformat = \"journal\"");
    // The machine's id is another one in the namespace.
    let plan = plan.agent("id = \"journal\"");
    let mut agent = plan.within(journald.namespace()).start();
    let entries = |journald: &Journald| -> Vec<Value> {
        let text = journald.journalctl(&["-t", "logferry", "-o", "json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of_start =
        |entry: &Value| entry["LOGFERRY_HOST"] == "harness" && entry["PRIORITY"] == "6" && entry["LOGFERRY_TARGET"] == "logferry::daemon";
    wait_until("the entry of the start", SOON, || entries(&journald).iter().any(of_start));
    let entry = entries(&journald).into_iter().find(of_start).unwrap();
    assert!(entry["MESSAGE"].as_str().unwrap().contains("runs agent="), "{entry}");
    assert_eq!(entry["_PID"], agent.process_id().to_string());
    assert_eq!(agent.log(), "", "nothing is said twice");

    // While nobody listens it goes to standard error, and back when somebody does.
    journald.signal(rustix::process::Signal::KILL);
    wait_until("a message on standard error", SOON, || {
        agent.ask(&["reload"]);
        agent.log().contains("<6>reloaded")
    });
    let before = entries(&journald).len();
    journald.kill9_and_run();
    wait_until("messages in the journal again", SOON, || {
        agent.ask(&["reload"]);
        entries(&journald).len() > before
    });
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_warning_that_repeats_is_held_back_and_told_with_its_count() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("repeats", 1, &[]);
    for number in 0..50 {
        let path = logs.path().join(format!("{number}.log"));
        fs::write(&path, "secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    }
    let plan = Plan::new(&broker.bootstrap(), "repeats").include(logs.path().join("*.log")).source("rescan_interval = \"200ms\"");
    let mut agent = plan.restricted().start();
    agent.wait_for_log("ermission denied", SOON);
    fs::set_permissions(logs.path().join("0.log"), fs::Permissions::from_mode(0o644)).unwrap();
    agent.settled_books("files", 1);
    assert!(agent.terminate(SOON).success());
    let log = agent.log();
    let denied = log.lines().filter(|line| line.contains("ermission denied") && !line.contains("held back")).count();
    let told = log.lines().find(|line| line.contains("more like this were held back")).unwrap_or_else(|| panic!("{log}"));
    assert!(denied == 30 && told.contains("20 more like this were held back"), "{denied} shown; {told}");
}
