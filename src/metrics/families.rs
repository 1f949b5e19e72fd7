//! Every metric there is. Names, help and labels are promised to dashboards and alerts: `packaging/prometheus`, `packaging/grafana`.

use super::text::{Kind, Text};
use super::{Family, Figures};
use crate::control::status::{Amount, Doing, Source, Unread};
use crate::source::pulse::Files;

use Kind::{Counter, Gauge, Histogram};

const fn family(name: &'static str, kind: Kind, help: &'static str, samples: fn(&Figures, &mut Text<'_>)) -> Family {
    Family { name, kind, help, samples }
}

/// A sample for each source.
fn of_sources(figures: &Figures, text: &mut Text<'_>, figure: fn(&Source) -> u64) {
    for (name, source) in &figures.status.sources {
        text.whole(&[("source", name)], figure(source));
    }
}

/// A sample for each source and reason for which there is something.
fn missed(figures: &Figures, text: &mut Text<'_>, figure: fn(&Unread) -> u64) {
    for (name, source) in &figures.status.sources {
        for (reason, missed) in source.missed.iter().filter(|(_, missed)| figure(missed) > 0) {
            text.whole(&[("source", name), ("reason", reason)], figure(missed));
        }
    }
}

fn lost(figures: &Figures, text: &mut Text<'_>, figure: fn(&Amount) -> u64) {
    for (name, source) in &figures.status.sources {
        for (reason, lost) in source.lost.iter().filter(|(_, lost)| !lost.is_none()) {
            text.whole(&[("source", name), ("reason", reason)], figure(lost));
        }
    }
}

fn of_rules(figures: &Figures, text: &mut Text<'_>, figure: fn(&crate::rules::Done) -> u64) {
    for (name, done) in &figures.rules {
        text.whole(&[("rule", name)], figure(done));
    }
}

/// 1 for each lane that waits for a person, with the reason; 0 without one for the others.
fn blocked(figures: &Figures, text: &mut Text<'_>) {
    for (topic, lane) in &figures.status.lanes {
        match lane.condition {
            Doing::Blocked => text.whole(&[("topic", topic), ("reason", lane.reason.as_deref().unwrap_or("unknown"))], 1),
            Doing::Paused => text.whole(&[("topic", topic), ("reason", "paused")], 1),
            _ => text.whole(&[("topic", topic), ("reason", "")], 0),
        }
    }
}

fn full_in(figures: &Figures, text: &mut Text<'_>) {
    match figures.status.spill.full_in_seconds {
        Some(seconds) => text.whole(&[], seconds),
        None => text.real(&[], f64::INFINITY),
    }
}

fn files_open(figures: &Figures, text: &mut Text<'_>) {
    let Files { live, rotated, deleted } = figures.files;
    for (state, open) in [("live", live), ("rotated", rotated), ("deleted", deleted)] {
        text.whole(&[("state", state)], open);
    }
}

/// In the order in which they are shown.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = &[
    family("logferry_events_read_total", Counter, "Events that were read.", |f, text| of_sources(f, text, |s| s.read.events)),
    family("logferry_events_delivered_total", Counter, "Events that Kafka has acknowledged.", |f, text| of_sources(f, text, |s| s.delivered.events)),
    family("logferry_events_filtered_total", Counter, "Events that rules have left out.", |f, text| of_sources(f, text, |s| s.filtered.events)),
    family("logferry_events_merged_total", Counter, "Events that were joined into others.", |f, text| of_sources(f, text, |s| s.merged.events)),
    family("logferry_events_dead_lettered_total", Counter, "Events that Kafka refused for their size or content: they are in the dead letters.", |f, text| of_sources(f, text, |s| s.dead_lettered.events)),
    family("logferry_events_lost_total", Counter, "Events that were read and lost; a gap record says so too.", |f, text| lost(f, text, |lost| lost.events)),
    family("logferry_events_missed_total", Counter, "Events that were never read, where they can be counted.", |f, text| missed(f, text, |missed| missed.events)),
    family("logferry_events_resent_total", Counter, "Events that were given to Kafka once more: they may be there twice.", |f, text| of_sources(f, text, |s| s.resent.events)),
    family("logferry_events_pending", Gauge, "Events that were read and whose fate is open: in memory, in the spill, in an arrival log.", |f, text| of_sources(f, text, |s| s.pending.events)),
    family("logferry_pending_bytes", Gauge, "Bytes of the source of the events that are pending.", |f, text| of_sources(f, text, |s| s.pending.bytes)),
    family("logferry_read_bytes_total", Counter, "Bytes of the sources that were read as events.", |f, text| of_sources(f, text, |s| s.read.bytes)),
    family("logferry_lost_bytes_total", Counter, "Bytes of the source of the events that were lost.", |f, text| lost(f, text, |lost| lost.bytes)),
    family("logferry_missed_bytes_total", Counter, "Bytes that were never read, where events can not be counted.", |f, text| missed(f, text, |missed| missed.bytes)),
    family("logferry_missed_unknown_total", Counter, "Times that something was missed and nobody knows how much.", |f, text| missed(f, text, |missed| missed.unknown)),
    family("logferry_ledger_out_of_balance", Gauge, "1 while events are unaccounted for, which is a defect of logferry; else 0.", |f, text| text.whole(&[], (!f.status.balanced).into())),
    family("logferry_source_lag_bytes", Gauge, "Bytes that are there and not settled.", |f, text| of_sources(f, text, |s| s.lag_bytes)),
    family("logferry_source_lag_seconds", Gauge, "For how long the oldest event that was read and is not acknowledged has been waiting.", |f, text| for (name, source) in &f.sources {
        text.real(&[("source", name)], source.lag_seconds);
    }),
    family("logferry_source_last_event_timestamp_seconds", Gauge, "When an event was read last, since the start; seconds since 1970.", |f, text| for (name, source) in &f.sources {
        source.last_event.into_iter().for_each(|at| text.real(&[("source", name)], at));
    }),
    family("logferry_source_quiet", Gauge, "1 while a source has been silent for longer than its expect_every, else 0.", |f, text| for (name, source) in &f.sources {
        source.quiet.into_iter().for_each(|quiet| text.whole(&[("source", name)], quiet.into()));
    }),
    family("logferry_source_unprotected", Gauge, "1 while what a source accepts is in memory alone, since its arrival log can not be written; else 0.", |f, text| of_sources(f, text, |s| s.unprotected.into())),
    family("logferry_source_files", Gauge, "Files of the source that are there.", |f, text| of_sources(f, text, |s| s.files)),
    family("logferry_source_arrivals_bytes", Gauge, "What the arrival log of a source takes of the disk; part of logferry_spill_bytes.", |f, text| of_sources(f, text, |s| s.arrivals_bytes)),
    family("logferry_files_open", Gauge, "Log files that are held open, at the last search.", files_open),
    family("logferry_lane_blocked", Gauge, "1 while a topic gets nothing until a person acts, with the reason; else 0.", blocked),
    family("logferry_lane_connected", Gauge, "0 while a topic has something to send and no broker answers, else 1.", |f, text| for (topic, lane) in &f.status.lanes {
        text.whole(&[("topic", topic)], (lane.condition != Doing::Connecting).into());
    }),
    family("logferry_kafka_produce_duration_seconds", Histogram, "From giving a batch to the Kafka client to the acknowledgement of all of it.", |f, text| for (topic, took) in &f.produced {
        text.histogram(&[("topic", topic)], took.buckets.iter().copied(), took.seconds);
    }),
    family("logferry_spill_bytes", Gauge, "What spills and arrival logs take of the disk.", |f, text| text.whole(&[], f.status.spill.bytes)),
    family("logferry_spill_max_bytes", Gauge, "What they may take: spill.max_size.", |f, text| text.whole(&[], f.status.spill.max_bytes)),
    family("logferry_spill_full_in_seconds", Gauge, "When that is reached at the rate of the last minute; +Inf while they do not grow.", full_in),
    family("logferry_spill_full", Gauge, "1 while nothing more can be written to a spill, so that sources wait; else 0.", |f, text| text.whole(&[], f.status.spill.full.is_some().into())),
    family("logferry_memory_bytes", Gauge, "Memory that events take.", |f, text| text.whole(&[], f.status.memory.used)),
    family("logferry_memory_max_bytes", Gauge, "Memory that events may take: agent.memory.", |f, text| text.whole(&[], f.status.memory.limit)),
    family("logferry_gaps_waiting", Gauge, "Records of loss that Kafka has not acknowledged.", |f, text| text.whole(&[], f.status.gaps.waiting)),
    family("logferry_gaps_sent_total", Counter, "Records of loss that Kafka has acknowledged.", |f, text| text.whole(&[], f.status.gaps.sent)),
    family("logferry_rule_matched_total", Counter, "Events whose condition in a rule held.", |f, text| of_rules(f, text, |done| done.matched)),
    family("logferry_rule_dropped_total", Counter, "Events that a rule has left out.", |f, text| of_rules(f, text, |done| done.dropped)),
    family("logferry_rule_changed_total", Counter, "Events whose message, fields, time or severity a rule has changed.", |f, text| of_rules(f, text, |done| done.changed)),
    family("logferry_rule_errors_total", Counter, "Events on which a rule could not do what it is for.", |f, text| of_rules(f, text, |done| done.errors)),
    family("logferry_config_last_reload_successful", Gauge, "1 while the configuration that was read last is the one that holds, else 0.", |f, text| text.whole(&[], f.configured.into())),
    family("logferry_build_info", Gauge, "Always 1; the release is in a label.", |f, text| text.whole(&[("version", &f.status.version)], 1)),
    family("process_cpu_seconds_total", Counter, "Processor time, user and system.", |f, text| text.real(&[], f.process.cpu_seconds)),
    family("process_open_fds", Gauge, "Open file descriptors.", |f, text| text.whole(&[], f.process.open_fds)),
    family("process_max_fds", Gauge, "File descriptors that may be open.", |f, text| f.process.max_fds.into_iter().for_each(|max| text.whole(&[], max))),
    family("process_threads", Gauge, "Threads.", |f, text| text.whole(&[], f.process.threads)),
    family("process_virtual_memory_bytes", Gauge, "Virtual memory.", |f, text| text.whole(&[], f.process.virtual_bytes)),
    family("process_resident_memory_bytes", Gauge, "Memory that is really there.", |f, text| text.whole(&[], f.process.resident_bytes)),
    family("process_start_time_seconds", Gauge, "When the process was started, seconds since 1970.", |f, text| text.real(&[], f.process.started)),
];
