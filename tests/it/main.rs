//! The integration tests, one binary (one link, one shared broker). They run the real logferry against a real Apache Kafka broker; without
//! Java or the broker's jars they fail and say what is missing.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `harness.rs`, `harness/` | the broker, the agent, the writer of numbered lines, the sequence oracle, the books, small disks, waiting |
//! | `delivery.rs` | files arrive: kills, a broker killed, frozen or away, starts and stops, the state; with the negative control |
//! | `rotation.rs` | rename and copytruncate, under load, with kills, while stopped |
//! | `gaps.rs` | what could not be shipped is told, also after a kill |
//! | `bad_input.rs` | what people get wrong: configuration, globs, permissions, topics, addresses; `check` and `explain` |
//! | `journald.rs` | a journald of its own: speed, rotations, deletions, kills of both sides, the flush to disk |
//! | `journald_tools.rs` | the journal and its users: the operator's tools, missing rights, no journal at all |
//! | `journald_boot.rs` | a system that is rebooted, in a container; by `make test-boot` |
//! | `multiline.rs` | lines that are joined: kills and rotation in the middle of an event |
//! | `own_log.rs` | what logferry logs about itself: levels, forms, a real journal, repeats |
//! | `packaging.rs` | the unit and the configuration that packages hold |
//! | `install.rs`, `site.rs` | the packages on Debian machines and in a root: installed, killed, upgraded, removed; by `make test-install` |
//! | `limits.rs` | empty lines, 50 MB lines, 10,000 files, bytes that are no text, messages larger than the topic takes |
//! | `live.rs` | what people see while it runs: tap, top |
//! | `metrics.rs` | what monitoring sees: metrics, health, silence, and what is packaged for Prometheus |
//! | `tools.rs` | the operator's tools, on a running daemon and on a stopped one |
//! | `tls.rs` | a broker with TLS and passwords |
//! | `service.rs` | what systemd hears: ready, at work, alive, stopping |
//! | `rules.rs` | rules leave events out: kills, the spill, the books |
//! | `reload.rs` | another configuration under load: sources, topics, rules, listeners, a bad one, 200 in a row |
//! | `spill.rs` | Kafka away for longer than memory lasts: volume, kills, a frozen broker, a missing topic, damage to the spill |
//! | `encodings.rs` | files in other encodings than UTF-8 |
//! | `full_disk.rs` | the state's file system is full, or takes no writes |
//! | `syslog.rs` | syslog over every transport: kills, floods, a full disk, real senders, hostile ones |
//! | `syslog_tls.rs` | syslog over TLS: right, wrong, expired and missing certificates |
//! | `trouble.rs` | a broker that refuses: rights, quotas, sizes, times, replicas, passwords; dead letters |
//! | `harness_works.rs` | the harness itself can be trusted: above all, it can fail |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on has to stop there, with the place"
)]
#![allow(unreachable_pub, reason = "this crate is a program: nothing of it is reachable from outside")]

mod bad_input;
mod delivery;
mod documents;
mod encodings;
mod full_disk;
mod gaps;
#[allow(dead_code, reason = "a tool box: not every test run uses every tool")]
mod harness;
mod harness_works;
mod install;
mod journald;
mod journald_boot;
mod journald_rules;
mod journald_tools;
mod limits;
mod live;
mod metrics;
mod multiline;
mod own_log;
mod packaging;
mod reload;
mod rotation;
mod routing;
mod rules;
mod service;
mod site;
mod spill;
mod syslog;
mod syslog_tls;
mod tls;
mod tools;
mod trouble;
