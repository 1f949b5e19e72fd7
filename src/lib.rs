//! logferry ships a server's logs to Kafka: nothing is dropped while there is room, and nothing is lost in silence.
//!
//! This is the map. Dependencies point one way, `main → cli → daemon → parts`; no part knows [`daemon`] or [`config`]: each has its own
//! `Settings`, built by `config/resolve.rs`. Sources don't know lanes, lanes don't know sources.
//!
//! | way of the data | where |
//! | --- | --- |
//! | what flows: batches of consecutive events of one stream | [`batch`] |
//! | one byte budget from reader to acknowledgement | [`budget`] |
//! | sources that make batches | [`source`] |
//! | events become Kafka messages | [`encode`] |
//! | one queue per topic, and what is sent next | [`lane`], [`delivery`] |
//! | a lane's buffer on disk | [`spill`] |
//! | librdkafka, its errors, its calm, the probe of a cluster | [`kafka`] |
//! | what is settled, and the books | [`settlement`], [`ledger`] |
//! | where an event goes that Kafka refuses for good | [`dead_letters`] |
//! | how fast all lanes together may send | [`rate`] |
//! | what survives a kill | [`snapshot`], [`durable`] |
//! | what an operator sees and does | [`control`], [`operator`], [`forecast`] |
//! | events as they flow, for who looks | [`tap`] |
//! | what systemd is told, and whether the daemon is alive | [`systemd`], [`watchdog`] |
//! | what monitoring sees | [`http`], [`metrics`], [`durations`], [`quiet`] |
//! | how near two words are | [`nearest`] |

pub mod batch;
pub mod bell;
pub mod budget;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dead_letters;
pub mod delivery;
pub mod durable;
pub mod durations;
pub mod encode;
pub mod forecast;
pub mod gaps;
pub mod http;
pub mod kafka;
pub mod lane;
pub mod ledger;
pub mod logging;
pub mod metrics;
pub mod nearest;
pub mod operator;
pub mod pool;
pub mod quiet;
pub mod rate;
pub mod retry;
pub mod rules;
pub mod settlement;
pub mod shutdown;
pub mod snapshot;
pub mod source;
pub mod space;
pub mod spill;
pub mod systemd;
pub mod tap;
pub mod trim;
pub mod watchdog;
