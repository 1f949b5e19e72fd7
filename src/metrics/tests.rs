//! The table of metrics, rendered from made-up figures; and what is packaged against it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::control::status::{self, Amount, Doing, Lane, Unread};
use crate::durations::Durations;

/// A host on which everything that can be shown is there.
fn figures() -> Figures {
    let amount = |events| Amount { events, bytes: events * 10 };
    let source = status::Source {
        read: amount(100),
        delivered: amount(60),
        filtered: amount(5),
        dead_lettered: amount(2),
        pending: amount(30),
        lost: BTreeMap::from([("operator".into(), amount(3))]),
        missed: BTreeMap::from([
            ("kernel_drop".into(), Unread { events: 4, ..Unread::default() }),
            ("truncated".into(), Unread { bytes: 123, ..Unread::default() }),
            ("power_loss".into(), Unread { unknown: 1, ..Unread::default() }),
        ]),
        resent: amount(1),
        unprotected: true,
        ..status::Source::default()
    };
    let lane = |condition, reason: Option<&str>| Lane { condition, reason: reason.map(str::to_owned), ..Lane::default() };
    let lanes = [
        ("audit", lane(Doing::Blocked, Some("topic_missing"))),
        ("held", lane(Doing::Paused, None)),
        ("logs", lane(Doing::Open, None)),
        ("slow", lane(Doing::Connecting, None)),
    ];
    let took = Durations::default();
    took.note(Duration::from_millis(7));
    Figures {
        status: Status {
            version: "1.2.3".into(),
            balanced: true,
            sources: BTreeMap::from([("net \"1\"".into(), source)]),
            lanes: lanes.map(|(topic, lane)| (topic.to_owned(), lane)).into(),
            ..Status::default()
        },
        sources: BTreeMap::from([("net \"1\"".into(), Source { lag_seconds: 1.5, last_event: Some(1.7e9), quiet: Some(true) })]),
        produced: BTreeMap::from([("logs".into(), took.took())]),
        rules: BTreeMap::from([("no probes".into(), Done { matched: 5, dropped: 5, changed: 0 })]),
        configured: true,
        process: Process { max_fds: Some(1024), ..Process::default() },
        ..Figures::default()
    }
}

/// The samples of a page without its comments.
fn samples(page: &str) -> String {
    page.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_metric_has_samples() {
    let page = render(&figures(), &mut beginning(&Figures::default()));
    insta::assert_snapshot!(samples(&page), @r#"
    logferry_events_read_total{source="net \"1\""} 100
    logferry_events_delivered_total{source="net \"1\""} 60
    logferry_events_filtered_total{source="net \"1\""} 5
    logferry_events_merged_total{source="net \"1\""} 0
    logferry_events_dead_lettered_total{source="net \"1\""} 2
    logferry_events_lost_total{source="net \"1\"",reason="operator"} 3
    logferry_events_missed_total{source="net \"1\"",reason="kernel_drop"} 4
    logferry_events_resent_total{source="net \"1\""} 1
    logferry_events_pending{source="net \"1\""} 30
    logferry_pending_bytes{source="net \"1\""} 300
    logferry_read_bytes_total{source="net \"1\""} 1000
    logferry_lost_bytes_total{source="net \"1\"",reason="operator"} 30
    logferry_missed_bytes_total{source="net \"1\"",reason="truncated"} 123
    logferry_missed_unknown_total{source="net \"1\"",reason="power_loss"} 1
    logferry_ledger_out_of_balance 0
    logferry_source_lag_bytes{source="net \"1\""} 0
    logferry_source_lag_seconds{source="net \"1\""} 1.5
    logferry_source_last_event_timestamp_seconds{source="net \"1\""} 1700000000
    logferry_source_quiet{source="net \"1\""} 1
    logferry_source_unprotected{source="net \"1\""} 1
    logferry_source_files{source="net \"1\""} 0
    logferry_source_arrivals_bytes{source="net \"1\""} 0
    logferry_files_open{state="live"} 0
    logferry_files_open{state="rotated"} 0
    logferry_files_open{state="deleted"} 0
    logferry_lane_blocked{topic="audit",reason="topic_missing"} 1
    logferry_lane_blocked{topic="held",reason="paused"} 1
    logferry_lane_blocked{topic="logs",reason=""} 0
    logferry_lane_blocked{topic="slow",reason=""} 0
    logferry_lane_connected{topic="audit"} 1
    logferry_lane_connected{topic="held"} 1
    logferry_lane_connected{topic="logs"} 1
    logferry_lane_connected{topic="slow"} 0
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="0.005"} 0
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="0.01"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="0.025"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="0.05"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="0.1"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="0.25"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="1"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="5"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="30"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="300"} 1
    logferry_kafka_produce_duration_seconds_bucket{topic="logs",le="+Inf"} 1
    logferry_kafka_produce_duration_seconds_sum{topic="logs"} 0.007
    logferry_kafka_produce_duration_seconds_count{topic="logs"} 1
    logferry_spill_bytes 0
    logferry_spill_max_bytes 0
    logferry_spill_full_in_seconds +Inf
    logferry_spill_full 0
    logferry_memory_bytes 0
    logferry_memory_max_bytes 0
    logferry_gaps_waiting 0
    logferry_gaps_sent_total 0
    logferry_rule_matched_total{rule="no probes"} 5
    logferry_rule_dropped_total{rule="no probes"} 5
    logferry_rule_changed_total{rule="no probes"} 0
    logferry_config_last_reload_successful 1
    logferry_build_info{version="1.2.3"} 1
    process_cpu_seconds_total 0
    process_open_fds 0
    process_max_fds 1024
    process_threads 0
    process_virtual_memory_bytes 0
    process_resident_memory_bytes 0
    process_start_time_seconds 0
    "#);
    for family in FAMILIES {
        assert!(page.contains(&format!("\n{}", family.name)), "{} has no sample", family.name);
    }
}

#[test]
fn counters_begin_with_the_start_and_gauges_don_t() {
    let mut growth = beginning(&figures());
    let mut later = figures();
    for source in later.status.sources.values_mut() {
        source.read.events += 7;
        source.delivered.events -= 1;
    }
    let page = render(&later, &mut growth);
    let value = |name: &str| {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let shown = ["logferry_events_read_total", "logferry_events_delivered_total", "logferry_events_pending"].map(value);
    assert_eq!(shown, ["7", "0", "30"]);
}

#[test]
fn names_are_such_as_prometheus_wants_them() {
    let mut names = BTreeSet::new();
    for Family { name, kind, help, .. } in FAMILIES {
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("logferry_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(help.ends_with('.') && !help.contains(['\\', '\n']), "{name}: {help}");
    }
}

/// The names of metrics in a text that are none.
fn unknown(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named = words.filter(|word| word.starts_with("logferry_") || word.starts_with("process_"));
    let is_known = |word: &&str| {
        FAMILIES.iter().any(|family| match family.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].iter().any(|end| word.strip_suffix(end) == Some(family.name)),
            _ => family.name == *word,
        })
    };
    named.filter(|word| !is_known(word)).collect()
}

#[test]
fn what_is_packaged_names_only_metrics_that_there_are() {
    assert_eq!(unknown("rate(logferry_nothing_total[1m]) process_x"), ["logferry_nothing_total", "process_x"], "this test can fail");
    assert_eq!(unknown(include_str!("../../packaging/prometheus/alerts.yml")), [""; 0]);
    let dashboard: Value = serde_json::from_str(include_str!("../../packaging/grafana/logferry.json")).unwrap();
    let (mut ids, mut queries) = (BTreeSet::new(), 0);
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} has another panel's id", panel["title"]);
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(unknown(target["expr"].as_str().unwrap()), [""; 0], "{}", panel["title"]);
            queries += 1;
        }
    }
    assert!(queries > 20);
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        assert_eq!(unknown(&variable["query"].to_string()), [""; 0]);
    }
}

#[test]
fn every_alert_has_a_section_in_the_documentation() {
    let (alerts, docs) = (include_str!("../../packaging/prometheus/alerts.yml"), include_str!("../../docs/operations.md"));
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(docs.contains(&format!("### {name}\n")), "{name} is not in docs/operations.md");
    }
}
