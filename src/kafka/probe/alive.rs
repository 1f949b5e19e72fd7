//! Whether Kafka answers for a topic, asked by a client of its own: what the watchdog needs to know when a lane stands still.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Ear, connecting};
use crate::kafka::Settings;

/// Whether the leaders of all partitions of this topic answer, and all their replicas are in sync. Blocks for `patience` at most, and a little.
#[must_use]
pub fn answers(settings: &Settings, topic: &str, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let left = || deadline.saturating_duration_since(Instant::now());
    let Ok(client) = connecting(settings).create_with_context::<Ear, BaseConsumer<Ear>>(Ear::default()) else { return false };
    let Ok(metadata) = client.fetch_metadata(Some(topic), left()) else { return false };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none()) else { return false };
    // A leader that waits for a frozen follower answers everybody but those who write.
    let whole = found
        .partitions()
        .iter()
        .all(|partition| partition.leader() >= 0 && partition.error().is_none() && partition.isr().len() >= partition.replicas().len());
    // This question only the leader of the partition answers.
    let leader_answers = |partition: i32| !left().is_zero() && client.fetch_watermarks(topic, partition, left()).is_ok();
    whole && !found.partitions().is_empty() && found.partitions().iter().all(|partition| leader_answers(partition.id()))
}
