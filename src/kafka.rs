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
use std::sync::{Arc, Mutex, PoisonError};

/// What the Kafka client needs to know; built by `config/resolve.rs`.
#[derive(Clone, PartialEq, Eq)]
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

/// The settings that hold now, for all that open clients. A client goes on with those that it was opened with.
#[derive(Debug)]
pub struct Current(Mutex<Arc<Settings>>);

impl Current {
    /// These.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Current> {
        Arc::new(Current(Mutex::new(Arc::new(settings))))
    }

    /// Those that hold; others, as soon as it is another `Arc`.
    #[must_use]
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these.
    pub fn set(&self, settings: Settings) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}
