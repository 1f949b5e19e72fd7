//! Rules over the journal of a real systemd-journald: entries are left out, given to another topic, taken apart and blotted, over kills, with the
//! books in balance.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::journald::Journald;
use crate::harness::topic::{Isolation, records};
use crate::harness::wait_until;
use crate::journald::{of_directory, plan};

const LATE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
[[rule]]
name = "numbers"
when = { type = "journald", message = '^user=' }
parse = { logfmt = {} }
[[rule]]
name = "chatter"
when = { app = "chatty", severity = "debug" }
drop = true
[[rule]]
name = "not ours"
when = { fields = { "journal.LOGFERRY_NUMBER" = { exists = false } } }
drop = true
[[rule]]
redact = { pattern = "email" }
[[rule]]
name = "logins"
when = { facility = "authpriv", fields = { user = "ann" } }
route = { topic = "journal-logins" }
"#;

#[test]
fn entries_are_left_out_routed_and_blotted_over_kills() {
    let (broker, journald) = (Broker::shared(), Journald::start("SystemMaxFileSize=1M"));
    for topic in ["journal-rules", "journal-logins"] {
        broker.create_topic(topic, 1, &[]);
    }
    journald.flush();
    let mut agent = plan(&broker.bootstrap(), "journal-rules", &(of_directory(&journald) + RULES)).start();
    let mut sender = journald.sender();
    let mut sent = 0_u64;
    for round in 0..3 {
        for _ in 0..3000 {
            sent += 1;
            let number = sent.to_string();
            let (app, priority) = if sent.is_multiple_of(3) { ("chatty", "7") } else { ("app", "6") };
            let (user, facility) = if sent.is_multiple_of(5) { ("ann", "10") } else { ("bob", "10") };
            let message = format!("user={user} mail=x{number}@example.org");
            let fields = [("MESSAGE", message.as_str()), ("SYSLOG_IDENTIFIER", app), ("PRIORITY", priority), ("SYSLOG_FACILITY", facility)];
            sender.send(&[fields.as_slice(), &[("LOGFERRY_NUMBER", &number), ("OWNER", "y@example.org")]].concat());
        }
        let wanted = sent / 3;
        wait_until("entries to arrive", LATE, || broker.count("journal-rules") >= wanted);
        if round < 2 {
            agent.kill9();
            agent.restart();
        }
    }
    let gone = |number: u64| number.is_multiple_of(3);
    let kept: Vec<u64> = (1..=sent).filter(|number| !gone(*number)).collect();
    let (logins, others): (Vec<u64>, Vec<u64>) = kept.iter().partition(|number| number.is_multiple_of(5));
    wait_until("all entries", LATE, || {
        broker.count("journal-rules") >= others.len() as u64 && broker.count("journal-logins") >= logins.len() as u64
    });
    let status = agent.wait_for_status("nothing to be on its way", LATE, |status| status.source("journal").pending.events == 0);
    status.assert_balanced();
    for (topic, wanted) in [("journal-rules", others), ("journal-logins", logins)] {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        for record in records(&broker.bootstrap(), topic, Isolation::ReadUncommitted) {
            let event: Value = serde_json::from_slice(&record.value).expect("JSON");
            let number = event["journal"]["LOGFERRY_NUMBER"].as_str().expect("only ours").parse().unwrap();
            *seen.entry(number).or_default() += 1;
            let user = if number.is_multiple_of(5) { "ann" } else { "bob" };
            assert_eq!(event["message"], format!("user={user} mail=[email]"), "{event}");
            assert_eq!((&event["fields"]["mail"], &event["journal"]["OWNER"]), (&"[email]".into(), &"[email]".into()), "{event}");
        }
        assert_eq!(seen.into_keys().collect::<Vec<_>>(), wanted, "{topic}");
    }
    let books = status.source("journal");
    assert!(books.filtered.events >= sent / 3, "{books}");
    assert_eq!(books.read.events, books.filtered.events + books.delivered.events, "{books}");
}
