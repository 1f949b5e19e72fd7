//! The text of `check --connect`: what the probe saw, and what of it is not as it should be.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::kafka;
use crate::kafka::errors::reason;
use crate::kafka::probe::judge::{Facts, Node, Severity, TopicSettings, TopicState, trouble};
use crate::kafka::probe::{self, Report};

/// How long each step of the probe may take: longer than a lost packet or a slow name server, shorter than a person's patience.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the cluster and says what it saw, for a person to read, and whether events can be delivered.
#[must_use]
pub fn run(settings: &kafka::Settings, topics: &[Arc<str>], max_event: usize) -> (String, bool) {
    let report = probe::cluster(settings, topics, max_event, PATIENCE);
    (text(&report), good(&report))
}

fn good(report: &Report) -> bool {
    report.findings.iter().all(|finding| finding.severity < Severity::Error)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a string can't fail.
    let _ = write_facts(&mut text, &report.facts);
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let _ = writeln!(text, "{severity}: {}", finding.what);
    }
    let _ = writeln!(text, "{}", if good(report) { "Events can be delivered." } else { "Events can't be delivered as it is." });
    text
}

fn write_facts(text: &mut String, facts: &Facts) -> std::fmt::Result {
    write_nodes(text, "bootstrap servers", &facts.servers)?;
    if let Some(brokers) = &facts.brokers {
        write_nodes(text, "brokers, as they advertise themselves", brokers)?;
    }
    for topic in &facts.topics {
        write!(text, "topic {}: ", topic.name)?;
        match &topic.state {
            TopicState::NotSeen => writeln!(text, "not asked, no broker answers")?,
            TopicState::Refused(code) => writeln!(text, "{}", reason(*code).replace('_', " "))?,
            TopicState::Exists { partitions, replication, settings, .. } => {
                write!(text, "{partitions} partitions, replication {replication}")?;
                write_settings(text, settings.as_ref())?;
            }
        }
    }
    Ok(())
}

fn write_nodes(text: &mut String, what: &str, nodes: &[Node]) -> std::fmt::Result {
    writeln!(text, "{what}:")?;
    let width = nodes.iter().map(|node| node.address.len()).max().unwrap_or(0);
    for node in nodes {
        writeln!(text, "  {:width$}  {}", node.address, trouble(&node.reach).unwrap_or_else(|| "answers".to_owned()))?;
    }
    Ok(())
}

fn write_settings(text: &mut String, settings: Option<&TopicSettings>) -> std::fmt::Result {
    let Some(settings) = settings else { return writeln!(text, ", settings not readable") };
    let numbers = [
        ("min.insync.replicas", settings.min_insync.map(|n| n.to_string())),
        ("max.message.bytes", settings.max_message_bytes.map(|n| n.to_string())),
        ("retention.ms", settings.retention_ms.map(|n| n.to_string())),
        ("retention.bytes", settings.retention_bytes.map(|n| n.to_string())),
        ("cleanup.policy", settings.cleanup_policy.clone()),
    ];
    for (name, value) in numbers {
        write!(text, ", {name} {}", value.as_deref().unwrap_or("unknown"))?;
    }
    writeln!(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::probe::judge::{Reach, Topic, findings};

    #[test]
    fn the_report_names_every_address_topic_and_finding() {
        let node = |address: &str, reach| Node { address: address.to_owned(), reach };
        let settings =
            TopicSettings { max_message_bytes: Some(1000), cleanup_policy: Some("delete".to_owned()), ..TopicSettings::default() };
        let there = TopicState::Exists { partitions: 6, leaderless: 0, replication: 3, settings: Some(settings) };
        let facts = Facts {
            servers: vec![node("kafka-1:9092", Reach::Answers), node("k2:9092", Reach::Refused)],
            brokers: Some(vec![node("kafka:29092", Reach::Unresolved("no".to_owned()))]),
            said: Vec::new(),
            topics: vec![Topic { name: "logs".into(), state: there }],
        };
        let report = Report { findings: findings(&facts, 2000), facts };
        let text = text(&report);
        let expected = "\
bootstrap servers:
  kafka-1:9092  answers
  k2:9092       refuses connections
brokers, as they advertise themselves:
  kafka:29092  does not resolve
topic logs: 6 partitions, replication 3, min.insync.replicas unknown, max.message.bytes 1000, retention.ms unknown, retention.bytes unknown, cleanup.policy delete
warning: k2:9092 refuses";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("\nerror: kafka-1:9092 answers, but advertises kafka:29092, which does not resolve: "), "{text}");
        assert!(text.contains("max.message.bytes=3024") && text.ends_with("Events can't be delivered as it is.\n"), "{text}");
        assert!(!good(&report));
    }
}
