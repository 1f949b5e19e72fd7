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
        rules: BTreeMap::from([("no probes".into(), Done { matched: 5, dropped: 5, changed: 0, errors: 2 })]),
        configured: true,
        process: Process { max_fds: Some(1024), ..Process::default() },
        ..Figures::default()
    }
}

/// The samples of a page without its comments.
fn samples(page: &str) -> String {
    page.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn every_metric_has_samples() {
    let page = render(&figures(), &mut beginning(&Figures::default()));
    assert_eq!(samples(&page), include_str!("tests/samples.txt"));
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
