//! One lane's producer: batches in, acknowledgements out. Apart because it is the one place that hands librdkafka memory of ours: the fast
//! path is `rd_kafka_produce_batch` without a copy. The rest of the library's `unsafe` is in [`super::queue`] and [`crate::trim`].
//!
//! What makes it sound: a [`Producer`] owns every batch from [`Producer::send`] until all its messages are reported. librdkafka refers to the
//! batch's bytes only until a message is reported (no report comes before its request was answered or its connection closed), exactly once, and on
//! drop the client is destroyed, its threads joined, before the batches go. Each message's opaque is a number, never a pointer.
#![expect(unsafe_code, reason = "rd_kafka_produce_batch has no safe wrapper, and the one of rd_kafka_producev copies every message")]

use std::collections::VecDeque;
use std::ffi::{CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use super::Settings;
use super::calm::{Calm, Steps};
use super::context::Context;
use super::queue::{Listener, Polled, Queue, Report};
use crate::batch::{Batch, StreamId};
use crate::encode::{LineStarts, raw};

/// An event's number within its batch takes the low bits of a message's opaque, the flight's number the rest.
const EVENT_BITS: u32 = 24;

/// For the negative control of the delivery tests, in debug builds alone: messages that librdkafka gave up count as acknowledged, as with
/// agents that trust it. The tests must then see events lost.
const LOSE_FAILED: &str = "LOGFERRY_TEST_LOSE_FAILED";

/// A batch in librdkafka.
#[derive(Debug)]
struct Flight {
    batch: Batch,
    partition: i32,
    /// Events before this one were acknowledged before this flight.
    first: usize,
    /// Events from this one on were held back.
    end: usize,
    /// Messages that librdkafka took and has not reported yet.
    outstanding: usize,
    /// All events before this one are acknowledged.
    prefix: usize,
    failed: bool,
    /// When it was handed to librdkafka.
    since: Instant,
}

/// Why a message failed for good; after it the producer is to be closed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// librdkafka's code.
    pub code: RDKafkaErrorCode,
    /// The message that it is about, where it is about one: its stream, and where in that its event ends.
    pub event: Option<(StreamId, u64)>,
}

/// A producer with what it has in flight.
pub struct Producer {
    topic: NonNull<rd::rd_kafka_topic_t>,
    /// `None` only while it is being polled or dropped.
    queue: Option<Queue>,
    topic_name: String,
    /// `None` only while being dropped.
    client: Option<Arc<BaseProducer<Context>>>,
    flights: VecDeque<Option<Flight>>,
    first_flight: usize,
    touched: Vec<usize>,
    window: usize,
    outstanding: usize,
    failure: Option<Failure>,
    fatal: Option<RDKafkaErrorCode>,
    loses: bool,
    scratch: Vec<rd::rd_kafka_message_t>,
    calm: Calm,
    /// `sasl.username` and `sasl.password`, or nothing: what [`Producer::pause`] gives librdkafka again.
    credentials: [CString; 2],
    /// How long batches took that were acknowledged whole since [`Producer::took`] was asked.
    took: Vec<Duration>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("topic", &self.topic_name).field("outstanding", &self.outstanding).finish_non_exhaustive()
    }
}

// SAFETY: librdkafka's handles may be used from any thread; `scratch` holds raw pointers only during `send`.
unsafe impl Send for Producer {}

impl Producer {
    /// Opens a client and its handle of `topic`. Does not wait for a broker.
    ///
    /// # Errors
    /// A property that librdkafka refuses; `check` finds it first.
    pub fn open(settings: &Settings, topic: &str) -> KafkaResult<Producer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", settings.bootstrap_servers.join(","));
        for (key, value) in &settings.properties {
            config.set(key, value);
        }
        let client: BaseProducer<Context> = config.create_with_context(Context::default())?;
        let name = CString::new(topic)?;
        let property = |name: &str| settings.properties.iter().rev().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        let credentials = [CString::new(property("sasl.username"))?, CString::new(property("sasl.password"))?];
        let native = client.client().native_ptr();
        // SAFETY: `native` is a live client; the name is copied; a null configuration means the default one.
        let handle = unsafe { rd::rd_kafka_topic_new(native, name.as_ptr(), ptr::null_mut()) };
        let handle = NonNull::new(handle).ok_or_else(|| KafkaError::ClientCreation(format!("no handle for topic {topic}")))?;
        let queue = Queue::of(client.client());
        Ok(Producer {
            topic: handle,
            queue,
            topic_name: topic.to_owned(),
            client: Some(Arc::new(client)),
            flights: VecDeque::new(),
            first_flight: 0,
            touched: Vec::new(),
            window: 0,
            outstanding: 0,
            failure: None,
            fatal: None,
            loses: cfg!(debug_assertions) && std::env::var_os(LOSE_FAILED).is_some(),
            scratch: Vec::new(),
            calm: Calm::default(),
            credentials,
            took: Vec::new(),
        })
    }

    /// A handle that wakes [`Producer::poll`] from another thread; it must be dropped before the producer is closed.
    #[must_use]
    pub fn waker(&self) -> Option<Queue> {
        Queue::of(self.client.as_ref()?.client())
    }

    /// Asks how many partitions the topic has, in a thread of its own since the cluster may take `patience` to answer, and tells `answer`: there
    /// may be no broker, no such topic, no permission. Nothing may be sent before.
    pub fn ask_partitions(&self, patience: Duration, answer: impl FnOnce(Result<i32, RDKafkaErrorCode>) + Send + 'static) {
        let Some(client) = self.client.clone() else { return answer(Err(RDKafkaErrorCode::State)) };
        let topic = self.topic_name.clone();
        let ask = move || {
            let count = partitions(&client, &topic, patience);
            // Given back first: when the lane hears the answer the client is its own again.
            drop(client);
            answer(count);
        };
        // Without a thread nobody answers, and the lane asks again after a while.
        drop(std::thread::Builder::new().name("partitions".into()).spawn(ask));
    }

    /// The bytes charged for what is in flight.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
    }

    /// Messages in flight.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Whether something failed for good: nothing may be sent any more.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.failure.is_some() || self.fatal.is_some()
    }

    /// What failed for good; the cause rather than what came of it, once all reports are there.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.clone().or(self.fatal.map(|code| Failure { code, event: None }))
    }

    /// What the client last said of its connections.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        Some(self.client.as_ref()?.client().context().last_error()?.1)
    }

    /// The code of the same.
    #[must_use]
    pub fn last_error_code(&self) -> Option<RDKafkaErrorCode> {
        Some(self.client.as_ref()?.client().context().last_error()?.0)
    }

    /// Frees what is only kept to be used again: for pauses.
    pub fn slim(&mut self) {
        (self.scratch, self.touched, self.took) = (Vec::new(), Vec::new(), Vec::new());
        self.flights.shrink_to_fit();
    }

    /// What was said of connections is over: something was acknowledged.
    pub fn forget_error(&self) {
        if let Some(client) = &self.client {
            client.client().context().forget_error();
        }
    }

    /// Hands the events of `batch` from `first` to before `end` to librdkafka, for `partition`. Never blocks. What librdkafka doesn't take becomes
    /// the failure. Nothing of the batch's stream may follow while some of the batch is held back.
    pub fn send(&mut self, batch: Batch, (first, end): (usize, usize), partition: i32) {
        let number = self.first_flight + self.flights.len();
        let refused = if batch.part_headers || !batch.stream.headers.is_empty() {
            self.send_with_headers(&batch, (first, end), partition, number)
        } else {
            self.send_fast(&batch, (first, end), partition, number)
        };
        let taken = end - first - refused.as_ref().map_or(0, |(_, count)| *count);
        if let Some((code, _)) = refused {
            let event = batch.events.get(first + taken).map(|event| (batch.stream.id, batch.base + u64::from(event.to)));
            self.failure.get_or_insert(Failure { code, event });
        }
        self.window += batch.charge.bytes();
        self.outstanding += taken;
        self.flights.push_back(Some(Flight {
            partition,
            failed: refused.is_some(),
            first,
            end,
            outstanding: taken,
            prefix: first,
            batch,
            since: Instant::now(),
        }));
    }

    /// The batches in flight, in order.
    pub fn waiting(&self) -> impl Iterator<Item = &Batch> {
        self.flights.iter().flatten().map(|flight| &flight.batch)
    }

    /// The batches in flight, in order, each with the index of its first event that is not acknowledged. Only after [`Producer::progress`] does
    /// the settlement know as much.
    pub fn in_flight(&mut self) -> impl DoubleEndedIterator<Item = (&mut Batch, usize)> {
        self.flights.iter_mut().flatten().map(|flight| (&mut flight.batch, flight.prefix))
    }

    /// Without a copy: the messages point into the batch. Returns the first code and how many were refused.
    fn send_fast(
        &mut self,
        batch: &Batch,
        (first, end): (usize, usize),
        partition: i32,
        number: usize,
    ) -> Option<(RDKafkaErrorCode, usize)> {
        let events = batch.events.get(first..end).unwrap_or_default();
        // An empty key is none.
        let key = Some(&batch.stream.key).filter(|key| !key.is_empty());
        let (key, key_len) = key.map_or((ptr::null_mut(), 0), |key| (key.as_ptr().cast_mut().cast::<c_void>(), key.len()));
        self.scratch.clear();
        self.scratch.extend(events.iter().enumerate().map(|(index, event)| {
            let payload = batch.event_bytes(event);
            rd::rd_kafka_message_t {
                err: rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: ptr::null_mut(),
                partition,
                payload: payload.as_ptr().cast_mut().cast::<c_void>(),
                len: payload.len(),
                key,
                key_len,
                offset: 0,
                _private: ptr::without_provenance_mut((number << EVENT_BITS) | (first + index)),
            }
        }));
        let count = i32::try_from(self.scratch.len()).unwrap_or(i32::MAX);
        // SAFETY: topic and messages are live; flags 0 mean that payloads are neither copied nor freed, and the caller keeps the batch in
        // `flights` until all are reported; keys are copied by librdkafka; `count` is the array's length.
        let taken = unsafe { rd::rd_kafka_produce_batch(self.topic.as_ptr(), partition, 0, self.scratch.as_mut_ptr(), count) };
        if taken == count {
            return None;
        }
        let code = self.scratch.iter().map(|message| message.err).find(|err| *err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        Some((code.map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from), usize::try_from(count - taken).unwrap_or(0)))
    }

    /// Parts of raw events carry headers, which the batch call can't; they are rare and large, so they are copied.
    fn send_with_headers(
        &mut self,
        batch: &Batch,
        (first, end): (usize, usize),
        partition: i32,
        number: usize,
    ) -> Option<(RDKafkaErrorCode, usize)> {
        let client = self.client.as_ref()?;
        let mut lines = LineStarts::of(batch);
        for (index, event) in batch.events.iter().enumerate().take(end) {
            let line = lines.next(event);
            let headers = batch.part_headers.then(|| raw::part_headers(batch.stream.id, line, event)).flatten();
            if index < first {
                continue;
            }
            let opaque = (number << EVENT_BITS) | index;
            let mut record = BaseRecord::with_opaque_to(&self.topic_name, opaque).partition(partition).payload(batch.event_bytes(event));
            if !batch.stream.key.is_empty() {
                record = record.key(&*batch.stream.key);
            }
            let own = batch.stream.headers.iter().map(|(name, value)| (&**name, &**value));
            let parts = headers.iter().flatten().map(|(name, value)| (*name, value.as_bytes()));
            let all = own.chain(parts).fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
            record = record.headers(all);
            if let Err((error, _)) = client.send(record) {
                return Some((code_of(&error), end - index));
            }
        }
        None
    }

    /// Waits at most `patience` for reports and takes in those of one request, so that the window is filled again in time. Returns whether
    /// anything came.
    pub fn poll(&mut self, patience: Duration) -> bool {
        let Some(queue) = self.queue.take() else { return false };
        let mut polled = queue.poll(patience, self);
        let came = polled != Polled::Nothing;
        while polled == Polled::Words {
            polled = queue.poll(Duration::ZERO, self);
        }
        self.queue = Some(queue);
        came
    }

    /// Calls `each` with every batch that reports came for since the last call, and the index before which all its events are acknowledged.
    /// Batches of which all that was sent is acknowledged go to `done`, each with the index of its first event that was held back.
    pub fn progress(&mut self, mut each: impl FnMut(&Batch, usize), done: &mut Vec<(Batch, usize)>) {
        let now = Instant::now();
        for number in self.touched.drain(..) {
            let Some(slot) = number.checked_sub(self.first_flight).and_then(|index| self.flights.get_mut(index)) else { continue };
            let Some(flight) = slot else { continue };
            let whole = flight.outstanding == 0 && !flight.failed;
            if whole {
                flight.prefix = flight.end;
            }
            self.calm.moved(flight.partition, now);
            if flight.prefix > flight.first {
                each(&flight.batch, flight.prefix);
            }
            if whole {
                self.window -= flight.batch.charge.bytes();
                self.took.push(now.saturating_duration_since(flight.since));
                done.extend(slot.take().map(|flight| (flight.batch, flight.end)));
            }
        }
        while let Some(None) = self.flights.front() {
            self.flights.pop_front();
            self.first_flight += 1;
        }
        // Nobody looks while nothing is in flight; what comes next must not be taken for something that has waited since then.
        if self.outstanding == 0 {
            let released = self.calm.look(std::iter::empty(), now).release;
            self.pause(&released, false);
        }
    }

    /// How long each batch took, from [`Producer::send`] to the acknowledgement of all of it, that [`Producer::progress`] has met since the last call.
    pub fn took(&mut self) -> impl Iterator<Item = Duration> {
        self.took.drain(..)
    }

    /// Keeps librdkafka from polling without pause while a broker does not answer. Returns when to call it again at the latest.
    pub fn keep_calm(&mut self, now: Instant) -> Option<Instant> {
        if self.calm.is_due(now) {
            let in_flight = self.flights.iter().flatten().filter(|flight| flight.outstanding > 0).map(|flight| flight.partition);
            let Steps { hold, release } = self.calm.look(in_flight, now);
            self.pause(&hold, true);
            self.pause(&release, false);
        }
        self.calm.next()
    }

    fn pause(&self, partitions: &[i32], pause: bool) {
        let (Some(client), false) = (&self.client, partitions.is_empty()) else { return };
        tracing::debug!(topic = self.topic_name, ?partitions, pause, "a broker that does not answer");
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic_name, *partition);
        }
        let native = client.client().native_ptr();
        let [user, password] = &self.credentials;
        // SAFETY: `native` is a live client and `list` a live list, of which librdkafka keeps nothing. The first two calls wait for librdkafka's own
        // thread alone, which no broker holds up. The last copies what it is given, and fails for null pointers alone; it is there because it is
        // the one public call that wakes all brokers' threads: one that has no connection sleeps for a second at a time, and sees only when it
        // wakes up that there is something to connect for. (A flush wakes those that are connected.)
        unsafe {
            if pause {
                rd::rd_kafka_pause_partitions(native, list.ptr());
            } else {
                rd::rd_kafka_resume_partitions(native, list.ptr());
                rd::rd_kafka_sasl_set_credentials(native, user.as_ptr(), password.as_ptr());
            }
        }
    }

    /// Withdraws what librdkafka has not begun to send; its reports come at once. What is in flight is reported when the broker has answered.
    pub fn withdraw(&self) {
        if let Some(client) = &self.client {
            client.purge(PurgeConfig::default().queue());
        }
    }

    /// Ends the client and hands back, in order, the batches that are not acknowledged whole, each with the index of its first unacknowledged event.
    #[must_use]
    pub fn close(mut self) -> Vec<(Batch, usize)> {
        self.destroy();
        std::mem::take(&mut self.flights).into_iter().flatten().map(|flight| (flight.batch, flight.prefix)).collect()
    }

    fn destroy(&mut self) {
        let Some(client) = self.client.take() else { return };
        self.queue = None;
        // SAFETY: the handle is live and used no more; the client outlives it by a line, and with its drop librdkafka's threads have ended. Only
        // while partitions are asked for does another thread have the client, and before the answer nothing is in flight.
        unsafe { rd::rd_kafka_topic_destroy(self.topic.as_ptr()) }
        drop(client);
    }
}

impl Listener for Producer {
    fn report(&mut self, report: Report) {
        let number = report.opaque >> EVENT_BITS;
        let event = report.opaque & ((1 << EVENT_BITS) - 1);
        let Some(Some(flight)) = number.checked_sub(self.first_flight).and_then(|index| self.flights.get_mut(index)) else {
            tracing::error!(number, event, "a report for a batch that is not in flight; please report this as a defect of logferry");
            return;
        };
        flight.outstanding -= 1;
        self.outstanding -= 1;
        if self.touched.last() != Some(&number) {
            self.touched.push(number);
        }
        match report.error {
            Some(code) if !self.loses => {
                flight.failed = true;
                if self.failure.as_ref().is_none_or(|failure| is_consequence(failure.code)) {
                    let event =
                        flight.batch.events.get(event).map(|event| (flight.batch.stream.id, flight.batch.base + u64::from(event.to)));
                    self.failure = Some(Failure { code, event });
                }
            }
            _ if event == flight.prefix => flight.prefix += 1,
            _ => {}
        }
    }

    fn log(&mut self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if let Some(client) = &self.client {
            client.client().context().log(level, facility, text);
        }
    }

    fn error(&mut self, code: RDKafkaErrorCode, text: &str) {
        let Some(client) = &self.client else { return };
        client.client().context().error(KafkaError::Global(code), text);
        if code == RDKafkaErrorCode::Fatal {
            self.fatal = Some(client.client().fatal_error().map_or(code, |(code, _)| code));
        }
    }
}

/// How many partitions a topic has.
fn partitions(client: &BaseProducer<Context>, topic: &str, patience: Duration) -> Result<i32, RDKafkaErrorCode> {
    let metadata = client.client().fetch_metadata(Some(topic), patience).map_err(|error| code_of(&error))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
    };
    if let Some(error) = found.error() {
        return Err(error.into());
    }
    match i32::try_from(found.partitions().len()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(RDKafkaErrorCode::UnknownTopicOrPartition),
    }
}

/// Whether a message failed only because another one had.
pub(crate) fn is_consequence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{Fatal, GaplessGuarantee, PurgeInflight, PurgeQueue};
    matches!(code, Fatal | GaplessGuarantee | PurgeInflight | PurgeQueue)
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.destroy();
    }
}

/// librdkafka's code in an error of rdkafka.
pub(super) fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}
