//! The journal and its users: an operator's tools, missing rights, no journal at all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::harness::agent::Agent;
use crate::harness::broker::Broker;
use crate::harness::journald::{Journald, Sender};
use crate::journald::{of_directory, plan, settled};

const SOON: Duration = Duration::from_secs(20);

/// Its answer to a command that must succeed.
#[track_caller]
fn told(agent: &Agent, args: &[&str]) -> String {
    let said = agent.ask(args);
    assert_eq!(said.code, Some(0), "{args:?}: {}", said.text);
    said.text
}

/// A journal of 100 entries that have arrived in the topic.
#[track_caller]
fn shipped(broker: &Broker, topic: &str) -> (Journald, Sender, Agent) {
    let journald = Journald::start("");
    broker.create_topic(topic, 1, &[]);
    journald.flush();
    let agent = plan(&broker.bootstrap(), topic, &of_directory(&journald)).start();
    let mut sender = journald.sender();
    (1..=100).for_each(|number| sender.number(number));
    settled(&agent, broker, topic, 100);
    (journald, sender, agent)
}

#[test]
fn an_operator_sees_where_a_journal_stands() {
    let broker = Broker::shared();
    let (journald, _, mut agent) = shipped(broker, "journal-shown");

    let file = journald.lasting().join("system.journal").display().to_string();
    let explained = told(&agent, &["explain", &file]);
    assert!(explained.contains("it is read, as a file of the journal system") && explained.contains("cursor s="), "{explained}");
    let other = agent.ask(&["explain", "/var/log/journal/elsewhere/system.journal"]);
    assert!(other.code == Some(1) && other.text.contains("none of the directories"), "{}", other.text);

    let stream = journald.lasting().join("system").display().to_string();
    let shown = told(&agent, &["positions", "show", &stream]);
    assert!(shown.contains("cursor         s=") && shown.contains("of the boot") && !shown.contains("inode"), "{shown}");
    assert!(told(&agent, &["positions", "ls"]).contains("entry "));
    let listed: Value = serde_json::from_str(&told(&agent, &["positions", "ls", "--json"])).unwrap();
    let at = &listed.as_array().unwrap().iter().find(|one| one["path"] == stream.as_str()).unwrap()["journal"];
    let cursor = at["cursor"].as_str().unwrap();
    // journalctl takes the cursor: behind it nothing is left.
    let behind = journald.journalctl(&["--after-cursor", cursor, "-o", "cat"]);
    assert!(!behind.contains("message"), "{behind}");
    assert!(agent.terminate(SOON).success());
    assert_eq!(told(&agent, &["positions", "show", &stream]), shown, "stopped");
    let forgotten = agent.ask(&["positions", "forget", &stream]);
    assert!(forgotten.text.contains("from its oldest entry"), "{}", forgotten.text);
    let forgotten = told(&agent, &["positions", "forget", &stream, "--yes"]);
    assert!(forgotten.contains("is forgotten"), "{forgotten}");
}

#[test]
fn an_operator_moves_where_a_journal_stands_by_cursors() {
    let (broker, topic) = (Broker::shared(), "journal-moved");
    let (journald, mut sender, mut agent) = shipped(broker, topic);
    let stream = journald.lasting().join("system").display().to_string();
    let cursors: Vec<String> = journald
        .journalctl(&["-t", "numbers", "-o", "json", "--output-fields=LOGFERRY_NUMBER"])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["__CURSOR"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(cursors.len(), 100);

    let running = agent.ask(&["positions", "seek", &stream, "--to", &cursors[89], "--yes"]);
    assert!(running.code == Some(1) && running.text.contains("stop it first"), "{}", running.text);
    assert!(agent.terminate(SOON).success());
    let seek = |agent: &Agent, to: &str| agent.ask(&["positions", "seek", &stream, "--to", to, "--yes"]);
    for (wrong, why) in [("line:3", "is a journal"), ("s=00ff;i=1", "of another stream"), ("s=;i=zz", "no cursor")] {
        let said = seek(&agent, wrong);
        assert!(said.code == Some(1) && said.text.contains(why), "{}", said.text);
    }
    let back = seek(&agent, &cursors[89]);
    assert!(back.code == Some(0) && back.text.contains("entries in between are read and sent again"), "{}", back.text);
    agent.restart();
    sender.number(101);
    let found = settled(&agent, broker, topic, 101);
    assert_eq!((found.numbers.len(), found.gaps.len()), (101, 0), "{:?}", found.told);
    assert!((10..20).contains(&found.doubled()), "{}", found.doubled());

    assert!(agent.terminate(SOON).success());
    (102..=150).for_each(|number| sender.number(number));
    journald.journalctl(&["--sync"]);
    let forward = seek(&agent, "end");
    assert!(forward.code == Some(0) && forward.text.contains("49 entries are skipped"), "{}", forward.text);
    agent.restart();
    sender.number(151);
    let found = settled(&agent, broker, topic, 151);
    assert_eq!(found.numbers[100..], [101, 151]);
    assert_eq!(found.gaps, BTreeMap::from([("operator".to_owned(), 49)]));
    assert!(agent.status().source("journal").missed["operator"].events == 49);

    assert!(agent.terminate(SOON).success());
    let start = seek(&agent, "start");
    assert!(start.code == Some(0), "{}", start.text);
    agent.restart();
    sender.number(152);
    let found = settled(&agent, broker, topic, 152);
    assert_eq!((found.numbers.len(), found.missing()), (152, 0), "from the oldest entry on, the 49 included");
}

/// What `systemd-journal-remote` makes of one entry.
fn write_journal(file: &std::path::Path, number: u64) {
    let mut child = std::process::Command::new("/lib/systemd/systemd-journal-remote")
        .arg("-o")
        .arg(file)
        .arg("-")
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("systemd-journal-remote is there: Debian package systemd-journal-remote");
    let entry = format!(
        "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={:032x}\nMESSAGE=one\nLOGFERRY_NUMBER={number}\n\n",
        1_700_000_000_000_000 + number,
        1
    );
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), entry.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn without_the_right_to_read_it_is_said_which_group_to_join_and_tried_again() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let (broker, dir) = (Broker::shared(), crate::harness::temp_dir("journal-rights"));
    broker.create_topic("journal-rights", 1, &[]);
    let file = dir.path().join("system.journal");
    write_journal(&file, 1);
    // Somebody else's: for a logferry without root's rights it is what a journal is without the group.
    chown(&file, Some(65_534), Some(65_534)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let source = format!("start_at = \"beginning\"\ndirectory = {:?}\n", dir.path().display().to_string());
    let mut agent = plan(&broker.bootstrap(), "journal-rights", &source).restricted().start();
    agent.wait_for_log("join the group systemd-journal", SOON);
    let said = agent.log();
    assert!(said.contains("system.journal") && said.contains("usermod -aG systemd-journal"), "{said}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    settled(&agent, broker, "journal-rights", 1);
    assert_eq!(agent.log().matches("join the group").count(), 1, "it is said once");
}

#[test]
fn that_there_is_no_journal_is_said_and_it_is_waited_for() {
    let (broker, dir) = (Broker::shared(), crate::harness::temp_dir("journal-none"));
    broker.create_topic("journal-none", 1, &[]);
    let journal = dir.path().join("journal");
    let source = format!("start_at = \"end\"\ndirectory = {:?}\n", journal.display().to_string());
    let mut agent = plan(&broker.bootstrap(), "journal-none", &source).start();
    agent.wait_for_log("there is no journal in", SOON);
    assert!(agent.log().contains(&journal.display().to_string()), "{}", agent.log());
    std::fs::create_dir(&journal).unwrap();
    write_journal(&journal.join("system.journal"), 7);
    // It came after the first look, so it is read from its first entry.
    let found = settled(&agent, broker, "journal-none", 7);
    assert_eq!((found.count(), found.gaps.len()), (1, 0));
    agent.wait_for_log("there is a journal now", SOON);
}
