//! What librdkafka says beside delivery reports: its log and its errors. Apart because the rest of the producer needs care with memory, this doesn't.

use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaErrorCode;

/// The context of a lane's producer; keeps the last error for "what is waited for".
#[derive(Debug, Default)]
pub(super) struct Context {
    last_error: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        // A broker that is away is told once per change by the lane; librdkafka would repeat it for each broker and retry.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(target: "librdkafka", fac, "{text}");
            }
            _ => tracing::debug!(target: "librdkafka", fac, "{text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        // That all brokers are down follows from what was said of each; that tells more.
        if last.is_none() || code != RDKafkaErrorCode::AllBrokersDown {
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;
    // Reports are read from the event queue in `Producer::poll`; only the last ones, when the client is dropped, come here.
    fn delivery(&self, _: &DeliveryResult<'_>, _: usize) {}
}

impl Context {
    /// What the client last said of its connections, code and words.
    pub(super) fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is over.
    pub(super) fn forget_error(&self) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
