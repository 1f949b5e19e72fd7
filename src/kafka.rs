//! Kafka through librdkafka: a producer per lane, what its errors mean, and the probe of a cluster.

mod calm;
mod context;
pub mod errors;
pub mod partition;
pub mod probe;
pub mod producer;
pub mod queue;
pub mod single;

use std::fmt;

/// What the Kafka client needs to know; built by `config/resolve.rs`.
#[derive(Clone)]
pub struct Settings {
    /// `host:port` of brokers to begin with.
    pub bootstrap_servers: Vec<String>,
    /// librdkafka's properties, in the order in which they are set, the promises' own last. Secrets are among them: never printed.
    pub properties: Vec<(String, String)>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: a value may be a password.
        let names: Vec<&str> = self.properties.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Settings").field("bootstrap_servers", &self.bootstrap_servers).field("properties", &names).finish()
    }
}
