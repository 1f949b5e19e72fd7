//! librdkafka's event queue: what it tells a producer, a request's reports at a time. Apart, with `unsafe`, because rdkafka's own poll holds its
//! whole timeout whatever comes, and clones a reference count per message.
//!
//! What makes it sound: the handle is a reference of its own to the queue, given back once; an event is destroyed once, after everything in it
//! was used; messages and texts live as long as their event.
#![expect(unsafe_code, reason = "rdkafka has no safe way to read events of a producer without a clone per message, or to wake its poll")]

use std::ffi::CStr;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::types::RDKafkaErrorCode;

/// A message's fate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// The number that was given with it.
    pub(super) opaque: usize,
    /// `None`: acknowledged.
    pub(super) error: Option<RDKafkaErrorCode>,
}

/// Takes in what the queue says.
pub(super) trait Listener {
    fn report(&mut self, report: Report);
    fn log(&mut self, level: RDKafkaLogLevel, facility: &str, text: &str);
    fn error(&mut self, code: RDKafkaErrorCode, text: &str);
}

/// What a poll brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// Nothing in time.
    Nothing,
    /// Reports.
    Reports,
    /// Words.
    Words,
}

/// A client's main event queue; also wakes whoever polls it.
#[derive(Debug)]
pub struct Queue(NonNull<rd::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues are thread-safe.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// The queue of a client; it must be dropped before the client is.
    pub(super) fn of<C: ClientContext>(client: &Client<C>) -> Option<Queue> {
        // SAFETY: the client is live; the reference is given back on drop.
        NonNull::new(unsafe { rd::rd_kafka_queue_get_main(client.native_ptr()) }).map(Queue)
    }

    /// Makes the poll that runs now, or else the next one, return at once.
    pub fn wake(&self) {
        // SAFETY: the queue is kept alive by the reference this handle holds.
        unsafe { rd::rd_kafka_queue_yield(self.0.as_ptr()) }
    }

    /// Waits at most `patience` for one event and tells it.
    pub(super) fn poll(&self, patience: Duration, listener: &mut impl Listener) -> Polled {
        let wait = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is live; the event is null or ours to destroy.
        let Some(event) = NonNull::new(unsafe { rd::rd_kafka_queue_poll(self.0.as_ptr(), wait) }) else { return Polled::Nothing };
        let event = Event(event);
        // SAFETY: the event is live.
        match unsafe { rd::rd_kafka_event_type(event.0.as_ptr()) } {
            rd::RD_KAFKA_EVENT_DR => {
                event.reports(listener);
                Polled::Reports
            }
            rd::RD_KAFKA_EVENT_LOG => {
                event.log(listener);
                Polled::Words
            }
            rd::RD_KAFKA_EVENT_ERROR => {
                event.error(listener);
                Polled::Words
            }
            _ => Polled::Words,
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: gives back the one reference that `of` took.
        unsafe { rd::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

struct Event(NonNull<rd::rd_kafka_event_t>);

impl Event {
    fn reports(&self, listener: &mut impl Listener) {
        let mut messages: [*const rd::rd_kafka_message_t; 256] = [ptr::null(); 256];
        loop {
            // SAFETY: the array has the length that is given; the messages live as long as the event.
            let count = unsafe { rd::rd_kafka_event_message_array(self.0.as_ptr(), messages.as_mut_ptr(), messages.len()) };
            for message in messages.iter().take(count) {
                // SAFETY: the first `count` pointers are live messages.
                let message = unsafe { &**message };
                let acknowledged = message.err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
                let error = (!acknowledged).then(|| RDKafkaErrorCode::from(message.err));
                listener.report(Report { opaque: message._private.addr(), error });
            }
            if count < messages.len() {
                return;
            }
        }
    }

    fn log(&self, listener: &mut impl Listener) {
        let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the three places are live; the strings live as long as the event.
        let (facility, text) = unsafe {
            if rd::rd_kafka_event_log(self.0.as_ptr(), &raw mut facility, &raw mut text, &raw mut level) != 0 {
                return;
            }
            (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(text).to_string_lossy())
        };
        // syslog(3): 2 is critical.
        let level = if level <= 2 { RDKafkaLogLevel::Critical } else { RDKafkaLogLevel::Info };
        listener.log(level, &facility, text.trim());
    }

    fn error(&self, listener: &mut impl Listener) {
        // SAFETY: the string lives as long as the event.
        let (error, text) = unsafe {
            let text = CStr::from_ptr(rd::rd_kafka_event_error_string(self.0.as_ptr()));
            (rd::rd_kafka_event_error(self.0.as_ptr()), text.to_string_lossy())
        };
        listener.error(RDKafkaErrorCode::from(error), &text);
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it was ours to destroy, and this is the only place that does.
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}
