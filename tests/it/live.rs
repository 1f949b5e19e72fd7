//! What people see of the daemon while it runs: `tap` shows events as they flow, `top` all figures on a terminal.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::topic::Format;
use crate::harness::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const RULES: &str = "[[rule]]\nname = \"noise\"\nwhen = { message = \"healthz\" }\ndrop = true\n[[rule]]\nname = \"emails\"\nredact = { pattern = \"email\" }";

fn logferry(agent: &Agent, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logferry"));
    command.args(args).arg("--config").arg(agent.dir().join("config.toml"));
    command
}

/// Writes three lines again and again until the command has ended, which it must soon; returns how many were written.
#[track_caller]
fn write_until_ended(log: &mut File, command: &mut Child) -> u64 {
    let mut written = 0;
    wait_until("the end of tap", SOON, || {
        log.write_all(b"GET /healthz for ann@example.org\nmail from ann@example.org\nplain\n").unwrap();
        written += 3;
        command.try_wait().unwrap().is_some()
    });
    written
}

#[test]
fn a_tap_shows_what_is_sent_and_which_rule_decided() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("tapped", 1, &[]);
    let plan = Plan::new(&broker.bootstrap(), "tapped").include(logs.path().join("*.log")).format(Format::Json).extra(RULES);
    let mut agent = plan.start();
    let mut log = File::create(logs.path().join("a.log")).unwrap();
    log.write_all(b"first\n").unwrap();
    agent.assert_all_delivered("files", 1);

    let unknown = agent.ask(&["tap", "flies"]);
    assert!(unknown.code == Some(1) && unknown.text.contains("there is no source \"flies\"; there are files"), "{}", unknown.text);
    let out = agent.dir().join("tapped");
    let mut command = logferry(&agent, &["tap", "files", "--count", "6", "--json", "--rate", "1000"]);
    let mut tap = command.stdout(File::create(&out).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let written = write_until_ended(&mut log, &mut tap);
    assert!(tap.wait().unwrap().success());
    let text = fs::read_to_string(&out).unwrap();
    let seen: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(seen.len(), 6, "{text}");
    assert!(!text.contains("ann@"), "a secret is shown: {text}");
    let dropped = seen.iter().find(|one| one["topic"].is_null()).unwrap();
    assert_eq!((&dropped["rule"], &dropped["text"]), (&Value::from("noise"), &Value::from("GET /healthz for [email]")));
    let mail = seen.iter().find(|one| one["text"].as_str().unwrap().contains("mail from [email]")).unwrap();
    assert_eq!((&mail["topic"], &mail["rule"], &mail["rules"][0]["rule"]), (&Value::from("tapped"), &Value::Null, &Value::from("emails")));
    let sent: Value = serde_json::from_str(mail["text"].as_str().unwrap()).unwrap();
    assert_eq!(sent["message"], "mail from [email]", "it is the record as it is sent");
    let untouched = seen.iter().find(|one| one["text"].as_str().unwrap().contains("plain")).unwrap();
    assert_eq!(untouched["rules"][0]["changed"], false);
    let books = agent.settled_books("files", written + 1);
    assert_eq!((books.filtered.events, books.delivered.events), (written / 3, written * 2 / 3 + 1));
    assert!(agent.terminate(SOON).success());
    let stopped = agent.ask(&["tap", "files"]);
    assert!(stopped.code == Some(1) && stopped.text.contains("No daemon runs"), "{}", stopped.text);
}

#[test]
fn who_taps_and_does_not_read_holds_nothing_up_and_is_left() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("tap-stalled", 1, &[]);
    let agent = Plan::new(&broker.bootstrap(), "tap-stalled").include(logs.path().join("*.log")).start();
    let mut log = File::create(logs.path().join("a.log")).unwrap();
    log.write_all(b"first\n").unwrap();
    agent.assert_all_delivered("files", 1);
    let mut stalled = UnixStream::connect(agent.state_dir().join("control.sock")).unwrap();
    stalled.write_all(b"{\"v\":1,\"request\":{\"ask\":\"tap\",\"source\":\"files\",\"rate\":1000}}\n").unwrap();
    wait_until("the tap is open", SOON, || {
        let mut command = logferry(&agent, &["tap", "files", "--count", "1"]);
        let mut tap = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("an answer", SOON, || tap.try_wait().unwrap().is_some());
        let said = std::io::read_to_string(tap.stderr.take().unwrap()).unwrap();
        said.contains("somebody taps source \"files\" already")
    });
    let line = format!("{}\n", "x".repeat(4000));
    let mut written = 1;
    wait_until("the one who does not read is left", SOON, || {
        (0..200).for_each(|_| log.write_all(line.as_bytes()).unwrap());
        written += 200;
        std::thread::sleep(Duration::from_millis(100));
        let mut command = logferry(&agent, &["tap", "files", "--count", "1"]);
        let mut tap = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("an answer", SOON, || {
            log.write_all(line.as_bytes()).unwrap();
            written += 1;
            tap.try_wait().unwrap().is_some()
        });
        tap.wait().unwrap().success()
    });
    log.write_all(line.as_bytes()).unwrap();
    agent.assert_all_delivered("files", written + 1);
    drop(stalled);
}

#[test]
fn top_shows_the_daemon_on_a_terminal_and_says_when_it_is_gone() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("topped", 1, &[]);
    let mut agent = Plan::new(&broker.bootstrap(), "topped").include(logs.path().join("*.log")).start();
    fs::write(logs.path().join("a.log"), "one\ntwo\n").unwrap();
    agent.assert_all_delivered("files", 2);
    let refused = agent.ask(&["top"]);
    assert!(refused.code == Some(1) && refused.text.contains("top needs a terminal: logferry status"), "{}", refused.text);

    // A terminal by script(1), of 30 lines and 100 columns.
    let out = agent.dir().join("screen");
    let line =
        format!("stty rows 30 cols 100; {} top --config {}", env!("CARGO_BIN_EXE_logferry"), agent.dir().join("config.toml").display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh");
    let mut top = command.stdin(Stdio::piped()).stdout(File::create(&out).unwrap()).spawn().expect("script, Debian package bsdutils");
    let screen = || String::from_utf8_lossy(&fs::read(&out).unwrap()).into_owned();
    wait_until("the source and the lane on the screen", SOON, || screen().contains("files") && screen().contains("topped"));
    assert!(screen().contains("runs") && screen().contains("balance"), "{}", screen());
    assert!(agent.terminate(SOON).success());
    wait_until("that the daemon is gone", SOON, || screen().contains("no daemon runs"));
    agent.restart();
    let seen = screen().len();
    wait_until("that it runs again", SOON, || screen().get(seen..).is_some_and(|text| text.contains("runs")));
    top.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    wait_until("the end of top", SOON, || top.try_wait().unwrap().is_some());
    assert!(top.wait().unwrap().success(), "{}", screen());
}
